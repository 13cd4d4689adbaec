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

/// The basic table: 4 KiB erase 0x20, fast, dual and quad reads, density, 32 and 64 KiB erase, 256-byte pages.
fn basic(size: u32) -> [u32; 16] {
    let density = u64::from(size) * 8 - 1;
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
        0x0233_4a36,
        0x2082_9f82,
        0x6314_61e9,
        0x7a75_7a75,
        0xb2a2_d5f7,
        0x3fe6_f519,
        0x0000_0000,
    ]
}

fn put(out: &mut [u8], at: usize, words: &[u32]) {
    for (slot, word) in out[at..].chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
}
