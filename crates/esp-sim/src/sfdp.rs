//! The part's self description (JEDEC JESD216).

/// The SFDP area of a part of `size` bytes: header, one parameter header, basic flash parameter table at 0x30.
pub fn table(size: u32) -> Vec<u8> {
    let mut out = vec![0xff; 0x30 + 16 * 4];
    put(&mut out, 0x00, &[0x5044_4653, 0xff00_0106]);
    // Parameter id 0xff00, revision 1.6, 16 words, at 0x30.
    put(&mut out, 0x08, &[0x1001_0600, 0xff00_0030]);
    put(&mut out, 0x30, &basic(size));
    out
}

/// The basic table: 4 KiB erase 0x20, fast, dual and quad reads, density, 32 and 64 KiB erase, 256-byte pages. Times and
/// what follows them are those that Winbond's W25Q..JV parts tell: 64, 128 and 160 ms (at most 14 times as much) for
/// sector, half block and block, 0.7 ms for a page, quad enable in bit 1 of status register 2.
fn basic(size: u32) -> [u32; 16] {
    let density = u64::from(size) * 8 - 1;
    // 10 s for 4 MiB, as the parts need it: units of 256 ms for small ones, of 4 s for large ones.
    let chip_erase_ms = (size >> 10) * 10_000 / 4096;
    let (unit, in_unit) = if chip_erase_ms > 32 * 256 { (2, 4000) } else { (1, 256) };
    let chip_erase = unit << 29 | (chip_erase_ms.div_ceil(in_unit).clamp(1, 32) - 1) << 24;
    [
        0xfff9_20e5,
        density as u32,
        0x6b08_eb44,
        0xbb42_3b08,
        0xffff_fffe,
        0x0000_ffff,
        0x0000_ffff,
        0x520f_200c,
        0x0000_d810,
        0x00a6_0236,
        0x8014_ea82 | chip_erase,
        0x3376_63e9,
        0x757a_757a,
        0x5cd5_a2f7,
        0xff4d_f719,
        0x80f8_30e9,
    ]
}

fn put(out: &mut [u8], at: usize, words: &[u32]) {
    for (slot, word) in out[at..].chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
}
