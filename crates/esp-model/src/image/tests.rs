use std::fmt::Write as _;

use super::hex::Part;
use super::merge::{self, FlashSettings, MergeError};
use super::size::{self, treemap};
use super::*;
use crate::testing::mutate;

#[path = "../../../../tests/support/elf.rs"]
mod elf_file;
use elf_file::elf;

fn chip(name: &str) -> &'static Chip {
    chip::by_name(name).expect("a chip")
}

fn app_desc() -> Vec<u8> {
    let mut desc = vec![0; AppDesc::LEN];
    desc[..4].copy_from_slice(&AppDesc::MAGIC.to_le_bytes());
    desc[16..21].copy_from_slice(b"1.2.3");
    desc
}

/// An app with a mapped description, code in flash and in RAM.
fn app() -> Vec<u8> {
    elf(&[
        (".flash.appdesc", 0x3c00_0020, app_desc()),
        (".flash.text", 0x4201_0020, vec![0x11; 0x300]),
        (".iram0.text", 0x4038_0000, vec![0x22; 0x120]),
        (".dram0.data", 0x3fc9_0000, vec![0x33; 0x81]),
    ])
}

fn one(built: Built) -> Vec<u8> {
    match built {
        Built::One(bytes) => bytes,
        Built::Split { ram, .. } => ram,
    }
}

fn image(chip_name: &str, elf: &[u8], settings: &Settings) -> Vec<u8> {
    one(build(chip(chip_name), elf, settings).expect("an image"))
}

/// Images of several chips, with and without SHA-256.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let elf = app();
    let plain = Settings { append_digest: false, ..Settings::default() };
    vec![image("esp32c3", &elf, &Settings::default()), image("esp32c3", &elf, &plain)]
}

#[test]
fn a_built_image_is_read_back() {
    let elf = app();
    let settings =
        Settings { flash_size: "4MB".into(), flash_mode: FlashMode::Dio, min_rev_full: 3, ..Settings::default() };
    let bytes = image("esp32c3", &elf, &settings);
    let image = parse(&bytes).expect("readable");
    assert_eq!(image.chip.id, "esp32c3");
    assert_eq!(image.header.mode(), Some(FlashMode::Dio));
    assert_eq!(image.header.size_name(image.chip), Some("4MB"));
    assert_eq!(image.checksum, image.computed_checksum());
    assert!(image.digest().expect("a digest").is_valid());
    let desc = image.app_desc().expect("a description");
    assert_eq!(desc.version, "1.2.3");
    let hash: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &elf)).into();
    assert_eq!(desc.elf_sha256, hash, "the ELF's SHA-256 is filled in");
    assert_eq!(image.len(), bytes.len());
}

#[test]
fn mapped_segments_stand_where_their_addresses_ask() {
    let bytes = image("esp32c3", &app(), &Settings::default());
    let image = parse(&bytes).expect("readable");
    for segment in image.segments.iter().filter(|segment| chip("esp32c3").image.is_flash(segment.addr)) {
        assert_eq!((segment.offset + SEGMENT_HEADER_LEN) % 0x1_0000, segment.addr as usize % 0x1_0000);
    }
}

#[test]
fn debug_information_is_not_needed_for_an_image() {
    let mut whole = app();
    let used = whole.len();
    whole.resize(used + 5000, 0xdb);
    let mut read =
        |range: std::ops::Range<u64>| whole.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
    let needed = elf::needed(&mut read).expect("a usual file");
    let mut sparse = vec![0; whole.len()];
    for range in needed {
        let range = range.start as usize..range.end as usize;
        sparse[range.clone()].copy_from_slice(&whole[range]);
    }
    assert_ne!(sparse, whole);
    for use_segments in [false, true] {
        let settings = Settings { use_segments, ..Settings::default() };
        let hash = || [7; 32];
        let built = |bytes: &[u8]| super::build_hashed(chip("esp32c3"), bytes, &settings, hash);
        assert_eq!(built(&sparse), built(&whole));
    }
    assert_eq!(elf::needed(&mut |_| None), None);
}

#[test]
fn padding_without_a_digest_keeps_the_image() {
    let settings = Settings { append_digest: false, ..Settings::default() };
    let plain = image("esp32c3", &app(), &settings);
    let padded = image("esp32c3", &app(), &Settings { pad_to_size: Some(0x4_0000), ..settings });
    assert_eq!(padded.len(), 0x4_0000);
    assert_eq!(&padded[..plain.len()], &plain, "the image itself stays");
    assert!(padded[plain.len()..].iter().all(|byte| *byte == 0xff));
}

#[test]
fn a_ram_image_counts_only_ram_segments() {
    let settings = Settings { ram_only_header: true, ..Settings::default() };
    let elf = elf(&[
        (".flash.text", 0x4201_0020, vec![0x11; 0x300]),
        (".iram0.text", 0x4038_0000, vec![0x22; 0x120]),
        (".dram0.data", 0x3fc9_0000, vec![0x33; 0x81]),
    ]);
    let bytes = image("esp32c3", &elf, &settings);
    let image = parse(&bytes).expect("readable");
    assert_eq!(image.header.segments, 2);
    assert!(image.digest().is_none());
}

#[test]
fn sections_that_share_a_page_keep_their_distance() {
    let elf = elf(&[
        (".rodata_desc", 0x3c00_0020, vec![1; 0x100]),
        (".iram0.text", 0x4038_0000, vec![2; 0x20]),
        (".rodata", 0x3c00_0120, vec![3; 0x41]),
        (".more", 0x3c00_8000, vec![4; 8]),
    ]);
    let bytes = image("esp32c3", &elf, &Settings::default());
    let image = parse(&bytes).expect("readable");
    let mapped: Vec<_> = image.segments.iter().filter(|segment| segment.addr >> 24 == 0x3c).collect();
    assert_eq!(mapped.iter().map(|segment| segment.addr).collect::<Vec<_>>(), [0x3c00_0020, 0x3c00_8000]);
    assert_eq!(mapped[0].data.len(), 0x144);
    assert_eq!(mapped[1].offset - mapped[0].offset, 0x7fe0);
    assert!(checks::check(&image, None).iter().all(|finding| !finding.prevents_boot()));
}

#[test]
fn refusals_name_what_is_wrong() {
    let c3 = chip("esp32c3");
    let refused = |sections: &[(&str, u32, Vec<u8>)]| build(c3, &elf(sections), &Settings::default()).unwrap_err();
    let same_page = [(".a", 0x4201_0020, vec![1; 0x100]), (".b", 0x4201_0080, vec![1; 8])];
    assert!(matches!(refused(&same_page), BuildError::SharedPage { .. }));
    let many: Vec<_> = (0..17).map(|n| (".x", 0x3fc8_0000 + n * 0x100, vec![1; 8])).collect();
    assert_eq!(refused(&many), BuildError::TooManySegments(17));
    assert_eq!(build(c3, b"\x7fELF", &Settings::default()), Err(BuildError::Elf(elf::ElfError::Header)));
    let fast = Settings { flash_frequency: Some("48m".into()), ..Settings::default() };
    assert!(matches!(build(c3, &app(), &fast), Err(BuildError::Frequency { .. })));
}

#[test]
fn a_claim_of_4_gb_allocates_nothing() {
    let mut bytes = image("esp32c3", &app(), &Settings::default());
    bytes[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(parse(&bytes), Err(ParseError::SegmentData { len: u32::MAX, .. })));
    let mut file = app();
    let table = u32::from_le_bytes(file[32..36].try_into().expect("4 bytes")) as usize;
    file[table + 40 + 20..table + 40 + 24].copy_from_slice(&u32::MAX.to_le_bytes());
    let parsed = elf::Elf::parse(&file).expect("lengths are cut at the end of the file");
    assert!(parsed.sections[0].data.len() < file.len());
}

#[test]
fn the_esp8266_has_three_formats() {
    let elf = elf(&[(".text", 0x4010_0000, vec![1; 40]), (".irom0.text", 0x4020_1010, vec![2; 100])]);
    let esp8266 = chip("esp8266");
    let of = |version| build(esp8266, &elf, &Settings { version, ..Settings::default() }).expect("an image");
    let Built::Split { ram, mapped } = of(1) else { panic!("two files") };
    assert_eq!(parse(&ram).expect("readable").layout, Layout::V1);
    assert_eq!(mapped.map(|(offset, data)| (offset, data.len())), Some((0x1010, 100)));
    let second = one(of(2));
    let image = parse(&second).expect("readable");
    assert_eq!((image.layout, image.segments.len()), (Layout::V2, 2));
    assert_eq!(image.checksum, image.computed_checksum());
    assert!(one(of(3)).len() > 140);
}

fn parts() -> Vec<Part> {
    vec![Part { address: 0x8000, data: vec![7; 100] }, Part { address: 0xfff0, data: vec![9; 40] }]
}

#[test]
fn merged_files_are_split_again() {
    let c3 = chip("esp32c3");
    let prepared = merge::prepare(c3, parts(), &FlashSettings::default()).expect("apart");
    assert_eq!(hex::read(merge::to_hex(&prepared).as_bytes()).expect("HEX"), prepared);
    let file = uf2::read(&merge::to_uf2(c3, &prepared, None, true).expect("UF2")).expect("UF2");
    assert_eq!((&file.parts, file.md5), (&prepared, true));
    assert_eq!(merge::chip_of_family(file.family.expect("a family")).map(|chip| chip.id), Some("esp32c3"));
    let raw = merge::raw(&prepared, 0x8000, Some(0x2_0000)).expect("raw").concat();
    assert_eq!(raw.len(), 0x1_8000);
    let split = merge::split_blank(0x8000, &raw);
    assert_eq!(split[0], prepared[0]);
    assert_eq!(split[1].end(), prepared[1].end());
}

#[test]
fn overlap_is_refused() {
    let c3 = chip("esp32c3");
    let near = vec![Part { address: 0x1000, data: vec![0; 10] }, Part { address: 0x1800, data: vec![0; 10] }];
    let refused = merge::prepare(c3, near, &FlashSettings::default());
    assert!(matches!(refused, Err(MergeError::Overlap { address: 0x1800, .. })));
    assert_eq!(merge::raw(&parts(), 0x9000, None), Err(MergeError::BeforeStart { address: 0x8000, start: 0x9000 }));
}

#[test]
fn a_bootloader_takes_new_flash_settings() {
    let c3 = chip("esp32c3");
    let mut bytes = image("esp32c3", &elf(&[(".iram0.text", 0x4038_0000, vec![0x22; 0x120])]), &Settings::default());
    let flash = FlashSettings { mode: Some(FlashMode::Dout), size: Some("8MB".into()), frequency: Some("80m".into()) };
    assert_eq!(merge::set_flash(c3, 0x1000, &mut bytes, &flash), Ok(merge::Patched::NotAsked));
    assert_eq!(merge::set_flash(c3, 0, &mut bytes, &flash), Ok(merge::Patched::Done));
    let patched = parse(&bytes).expect("readable");
    assert_eq!(patched.header.size_name(c3), Some("8MB"));
    assert!(patched.digest().expect("a digest").is_valid());
    assert_eq!(merge::set_flash(c3, 0, &mut vec![0xe9; 64], &flash), Ok(merge::Patched::NotAnImage));
}

const MAP: &str = "Memory Configuration

Name             Origin             Length             Attributes
iram0_0_seg      0x40380000         0x00010000         xr
dram0_0_seg      0x3fc80000         0x00010000         rw
irom_seg         0x42000020         0x007fffe0         xr
*default*        0x00000000         0xffffffff

Linker script and memory map

                0x00000000                IDF_TARGET_ESP32C3 = 0x0
.iram0.text     0x40380000       0x30
 .iram1.0       0x40380000       0x10 esp-idf/a/liba.a(one.c.obj)
 .iram1.1_with_long_name
                0x40380010       0x1c esp-idf/a/liba.a(two.c.obj)
 *fill*         0x4038002c        0x4 

.flash.text     0x42000020       0x20
 .text.f        0x42000020       0x20 CMakeFiles/app.dir/main.c.obj

.dram0.dummy    0x3fc80000       0x30

Cross Reference Table
";

#[test]
fn sizes_come_from_the_map() {
    let sizes = size::from_map(MAP, None).expect("a map");
    assert_eq!((sizes.chip.as_str(), sizes.image_bytes), ("esp32c3", 0x50));
    assert_eq!(
        sizes.largest(size::Level::Archive, 9),
        [("esp-idf/a/liba.a".to_owned(), 0x2c), ("(exe)".to_owned(), 0x20)]
    );
    let flash = &sizes.memory["Flash Code"];
    assert_eq!((flash.used_bytes, flash.total_bytes, flash.free_bytes()), (0x20, 0, None));
    let iram = &sizes.memory["DRAM"];
    assert_eq!(iram.used_bytes, 0x30);
    assert_eq!(size::diff::changes(&sizes, &sizes, size::Level::Symbol), []);
}

#[test]
fn a_picture_is_drawn() {
    let sizes = size::from_map(MAP, None).expect("a map");
    let svg = treemap::svg(&sizes, 400, 300);
    assert!(svg.contains("<title>liba.a: 44 bytes</title>"), "{svg}");
    let png = treemap::png(&sizes, 400, 300);
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xae\x42\x60\x82"));
    let area: f64 = treemap::layout(&treemap::tree(&sizes), 400, 300)
        .iter()
        .filter(|tile| !tile.frame)
        .map(|tile| tile.rect.w * tile.rect.h)
        .sum();
    assert!(area > 0.6 * 400.0 * 300.0, "the leaves cover the picture: {area}");
}

#[test]
fn labels_of_a_picture_fit_or_are_left_out() {
    let leaf = |name: &str, bytes| treemap::Node::leaf(name, 1, bytes);
    let names = ["libesp_driver_gpio.a", "port.c.obj", "x", "a_name_that_is_far_too_long_for_its_place"];
    let parts = names.iter().zip([400_000, 60_000, 3_000, 2_000]).map(|(name, bytes)| leaf(name, bytes)).collect();
    let picture = treemap::Node::inner("esp32".into(), 0, parts).picture(400, 200);
    let texts: Vec<(f64, &str)> = picture
        .shapes
        .iter()
        .filter_map(|shape| match shape {
            crate::picture::Shape::Text { x, text, .. } => Some((*x, text.as_str())),
            crate::picture::Shape::Area { .. } => None,
        })
        .collect();
    assert!(texts.iter().any(|(_, text)| *text == "libesp_driver_gpio.a 391 KB"), "{texts:?}");
    assert!(!texts.iter().any(|(_, text)| text.starts_with("a_name")), "{texts:?}");
    for (x, text) in texts {
        let whole =
            names.iter().any(|name| text == *name || text.strip_prefix(name).is_some_and(|rest| rest.ends_with('B')));
        assert!(whole || text.starts_with("esp32"), "{text}");
        assert!(x + text.len() as f64 * crate::picture::ADVANCE <= 400.0, "{text}");
    }
}

#[test]
fn damaged_images_do_not_panic() {
    let esp8266 = elf(&[(".text", 0x4010_0000, vec![1; 40]), (".irom0.text", 0x4020_1010, vec![2; 100])]);
    let second = Settings { version: 2, ..Settings::default() };
    let seeds = vec![
        image("esp32c3", &elf(&[(".dram0.data", 0x3fc8_0000, vec![0x50; 100])]), &Settings::default()),
        image("esp8266", &esp8266, &second),
        image("esp32", &elf(&[(".flash.rodata", 0x3f40_0020, app_desc())]), &Settings::default()),
    ];
    let mut read = 0;
    mutate(&seeds, 12_000, |bytes| {
        if let Ok(image) = parse(bytes) {
            read += 1;
            let _ = (image.digest(), image.app_desc(), image.boot_desc(), image.trailer(), image.computed_checksum());
            let mut copy = bytes.to_vec();
            let flash = FlashSettings { mode: Some(FlashMode::Dio), ..FlashSettings::default() };
            let _ = merge::set_flash(image.chip, image.chip.flash.bootloader_offset, &mut copy, &flash);
        }
    });
    assert!(read > 100, "some stay readable: {read}");
}

#[test]
fn damaged_elf_files_do_not_panic() {
    let seeds = vec![app(), elf(&[(".irom0.text", 0x4020_1010, vec![2; 100])])];
    let esp8266 = Settings { version: 3, ram_only_header: true, ..Settings::default() };
    mutate(&seeds, 12_000, |bytes| {
        let _ = build(chip("esp32c3"), bytes, &Settings::default());
        let _ = build(chip("esp32c6"), bytes, &Settings { ram_only_header: true, ..Settings::default() });
        let _ = build(chip("esp8266"), bytes, &esp8266);
        let _ = size::from_elf(chip("esp32c3"), bytes);
    });
}

#[test]
fn damaged_hex_uf2_and_map_files_do_not_panic() {
    let seeds = vec![merge::to_hex(&parts()).into_bytes()];
    mutate(&seeds, 12_000, |bytes| {
        let _ = merge::parts_of(0, bytes.to_vec());
        let _ = hex::read(bytes);
    });
    let seeds = vec![uf2::write(&parts(), 1, None, true).expect("UF2")];
    mutate(&seeds, 12_000, |bytes| {
        let _ = uf2::read(bytes);
    });
    let mut long = String::from(MAP);
    let _ = write!(long, "{}", MAP.replace("0x30", "0x100000"));
    mutate(&[MAP.as_bytes().to_vec(), long.into_bytes()], 12_000, |bytes| {
        let _ = size::from_map(&String::from_utf8_lossy(bytes), None);
    });
}
