#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing;

/// The area of a Winbond W25Q32JV, as parts answer it: header, one parameter header, the table at 0x80.
fn w25q32() -> Vec<u8> {
    let mut area = vec![0xff; 0x80];
    area[..16].copy_from_slice(b"SFDP\x06\x01\x00\xff\x00\x06\x01\x10\x80\x00\x00\xff");
    let words: [u32; 16] = [
        0xfff9_20e5,
        0x01ff_ffff,
        0x6b08_eb44,
        0xbb42_3b08,
        0xffff_fffe,
        0x0000_ffff,
        0xeb40_ffff,
        0x520f_200c,
        0x0000_d810,
        0x00a6_0236,
        0xb314_ea82,
        0x3376_63e9,
        0x757a_757a,
        0x5cd5_a2f7,
        0xff4d_f719,
        0x80f8_30e9,
    ];
    area.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    area
}

#[test]
fn a_usual_part_is_decoded() {
    let area = w25q32();
    let sfdp = Sfdp::read(&area).unwrap();
    assert_eq!((sfdp.major, sfdp.minor, sfdp.length()), (1, 6, 0xc0));
    assert_eq!(sfdp.headers[0].name(), "basic flash parameters");
    let basic = sfdp.basic(&area).unwrap();
    assert_eq!(basic.size(), Some(4 << 20));
    assert_eq!((basic.page_size(), basic.page_program_us()), (Some(256), Some((704, 4224))));
    assert_eq!(basic.quad_enable(), Some(QuadEnable::Sr2Bit1Kept));
    assert_eq!((basic.address_bytes(), basic.double_rate()), (Some("3"), true));
    assert_eq!(basic.suspend(), Some(true));
    assert_eq!(basic.deep_power_down(), Some((0xb9, 0xab)));
    assert_eq!(basic.soft_reset(), Some(true));
    let erase: Vec<_> = basic.erase_types().iter().map(|kind| (kind.size, kind.opcode, kind.typical_ms)).collect();
    assert_eq!(erase, [(4096, 0x20, Some(64)), (32768, 0x52, Some(128)), (65536, 0xd8, Some(160))]);
    let reads: Vec<_> = basic.fast_reads().iter().map(|read| (read.lines, read.opcode, read.dummy_clocks)).collect();
    assert_eq!(
        reads,
        [("1-1-2", 0x3b, 8), ("1-2-2", 0xbb, 2), ("1-1-4", 0x6b, 8), ("1-4-4", 0xeb, 4), ("4-4-4", 0xeb, 0)]
    );
    assert_eq!(basic.chip_erase_ms(), Some((5120, 30720)));
}

#[test]
fn old_and_broken_areas_say_what_they_can() {
    let mut area = w25q32();
    area[11] = 9;
    area.truncate(0x80 + 36);
    let basic = Sfdp::read(&area).unwrap().basic(&area).unwrap();
    assert_eq!((basic.size(), basic.page_size(), basic.quad_enable()), (Some(4 << 20), None, None));
    assert!(basic.erase_types().iter().all(|kind| kind.typical_ms.is_none()));
    assert_eq!(Sfdp::read(&[0xff; 64]), Err(SfdpError::NoSignature));
    assert_eq!(Sfdp::read(b"SFDP"), Err(SfdpError::Short(4)));
    area.truncate(0x90);
    assert_eq!(Sfdp::read(&area).unwrap().basic(&area), Err(SfdpError::Short(0x90)));
    let large = Basic::new(vec![0, 0x8000_0020, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(large.size(), Some(1 << 29));
    assert_eq!(Basic::new(vec![0, 0xffff_ffff]).size(), None);
}

#[test]
fn mutated_areas_are_survived() {
    testing::mutate(&[w25q32()], 20_000, |area| {
        if let Ok(sfdp) = Sfdp::read(area) {
            assert!(sfdp.length() <= LONGEST.max(HEADER + 256 * 8));
            if let Ok(basic) = sfdp.basic(area) {
                let _ = (basic.size(), basic.erase_types(), basic.fast_reads(), basic.page_program_us());
                let _ = (basic.chip_erase_ms(), basic.quad_enable(), basic.deep_power_down(), basic.page_size());
            }
        }
    });
}
