//! Small images made by hand; other tools' images are compared in `tests/reference/fs.rs`.

use super::*;
use crate::testing::mutate;

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Four blocks with one file of `size` bytes.
fn spiffs_image(size: usize) -> Vec<u8> {
    let mut image = vec![0xff; 4 * 4096];
    for block in 0..4 {
        let magic = (0x2014_0529u32 ^ 256 ^ (4 - block as u32)) as u16;
        put(&mut image, block * 4096 + 252, &magic.to_le_bytes());
    }
    put(&mut image, 0, &0x8001u16.to_le_bytes());
    put(&mut image, 256, &[0x01, 0x80, 0, 0, 0xf8]);
    put(&mut image, 256 + 8, &(size as u32).to_le_bytes());
    put(&mut image, 256 + 12, b"\x01/hello.txt\0");
    for span in 0..size.div_ceil(251) {
        put(&mut image, 2 + span * 2, &1u16.to_le_bytes());
        let at = 512 + span * 256;
        put(&mut image, at, &[1, 0, span as u8, 0, 0xfc]);
        image[at + 5..at + 256].fill(b'a' + span as u8);
    }
    image
}

/// FAT12 with 512-byte sectors: a folder, and a file with a long name of two clusters.
fn fat_image() -> Vec<u8> {
    let mut image = vec![0; 64 * 512];
    put(&mut image, 0, &[0xeb, 0xfe, 0x90]);
    put(&mut image, 11, &[0, 2, 1, 1, 0, 1, 16, 0, 64, 0, 0xf8, 1, 0]);
    put(&mut image, 510, &[0x55, 0xaa]);
    // FAT: cluster 2 is the folder, 3 leads to 4, 4 ends.
    put(&mut image, 512, &[0xf8, 0xff, 0xff, 0xff, 0x4f, 0x00, 0xff, 0x0f]);
    let entry = |name: &[u8; 11], attributes: u8, cluster: u8, size: u32| {
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(name);
        (entry[11], entry[26]) = (attributes, cluster);
        entry[28..].copy_from_slice(&size.to_le_bytes());
        entry
    };
    put(&mut image, 1024, &entry(b"MY DISK    ", 0x08, 0, 0));
    put(&mut image, 1056, &entry(b"SUB        ", 0x10, 2, 0));
    let short = entry(b"LONGNA~1TXT", 0x20, 3, 600);
    let mut long = [0xff; 32];
    (long[0], long[11], long[12], long[13]) = (0x41, 0x0f, 0, names::checksum(&short));
    let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    for (at, unit) in places.iter().zip("long name.txt".encode_utf16()) {
        long[*at..at + 2].copy_from_slice(&unit.to_le_bytes());
    }
    (long[26], long[27]) = (0, 0);
    put(&mut image, 1536, &entry(b".          ", 0x10, 2, 0));
    put(&mut image, 1568, &entry(b"..         ", 0x10, 0, 0));
    put(&mut image, 1600, &long);
    put(&mut image, 1632, &short);
    image[2048..2560].fill(b'x');
    image[2560..2648].fill(b'y');
    image
}

/// A metadata block: revision, tags with their data, CRC.
fn log(revision: u32, tags: &[(u32, &[u8])]) -> Vec<u8> {
    let mut bytes = revision.to_le_bytes().to_vec();
    let mut last = u32::MAX;
    for (tag, data) in tags {
        bytes.extend((tag ^ last).to_be_bytes());
        bytes.extend(*data);
        last = *tag;
    }
    let tag = 0x500 << 20 | 0x3ff << 10 | 4;
    bytes.extend((tag ^ last).to_be_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes);
    bytes.extend((!crc.finalize()).to_le_bytes());
    bytes.resize(512, 0xff);
    bytes
}

fn tag(kind: u32, id: u32, len: usize) -> u32 {
    kind << 20 | id << 10 | len as u32
}

/// LittleFS with blocks of 512 bytes: an inline file, and one of three blocks that has 1,030 bytes.
fn littlefs_image(size: u32) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let superblock = words(&[0x2_0001, 512, 8, 255, 0x7fff_ffff, 1022]);
    let root = log(
        7,
        &[
            (tag(0x401, 0, 0), &[]),
            (tag(0x0ff, 0, 8), b"littlefs"),
            (tag(0x201, 0, 24), &superblock),
            (tag(0x401, 1, 0), &[]),
            (tag(0x001, 1, 3), b"big"),
            (tag(0x202, 1, 8), &words(&[4, size])),
            (tag(0x401, 2, 0), &[]),
            (tag(0x001, 2, 5), b"small"),
            (tag(0x201, 2, 2), b"hi"),
        ],
    );
    let mut image = vec![0xff; 8 * 512];
    put(&mut image, 0, &log(6, &[]));
    put(&mut image, 512, &root);
    image[1024..1536].fill(b'0');
    image[1536..2048].fill(b'1');
    put(&mut image, 1536, &2u32.to_le_bytes());
    image[2048..2560].fill(b'2');
    put(&mut image, 2048, &words(&[3, 2]));
    image
}

fn files(image: &[u8]) -> Vec<(String, Vec<u8>)> {
    let found = identify(image).unwrap();
    assert_eq!(found.findings, Vec::<String>::new());
    found.entries.iter().filter(|entry| !entry.is_folder).map(|entry| (entry.path.clone(), entry.read(image))).collect()
}

#[test]
fn spiffs_files_are_read() {
    let image = spiffs_image(600);
    let [(path, data)] = &files(&image)[..] else { panic!("{:?}", identify(&image)) };
    assert_eq!((path.as_str(), data.len(), data[0], data[251], data[599]), ("hello.txt", 600, b'a', b'b', b'c'));
    assert_eq!(identify(&image).unwrap().form, "page 256");
}

#[test]
fn a_file_with_a_lost_page_says_so() {
    let mut image = spiffs_image(600);
    image[512 + 256 + 4] = 0x7c;
    let found = identify(&image).unwrap();
    assert_eq!((found.entries[0].present(), found.findings.len()), (251, 1), "{found:?}");
}

#[test]
fn fat_files_are_read() {
    let image = fat_image();
    let found = identify(&image).unwrap();
    assert_eq!((found.form.as_str(), found.label.as_deref()), ("FAT12", Some("MY DISK")));
    let [(path, data)] = &files(&image)[..] else { panic!("{found:?}") };
    assert_eq!(path, "SUB/long name.txt");
    assert_eq!((data.len(), data[511], data[512]), (600, b'x', b'y'));
}

#[test]
fn littlefs_files_are_read() {
    let image = littlefs_image(1030);
    let found = identify(&image).unwrap();
    assert_eq!((found.form.as_str(), found.block_bytes, found.size_bytes), ("2.1", 512, 4096));
    let files = files(&image);
    assert_eq!(files[1], ("small".into(), b"hi".to_vec()));
    assert_eq!((files[0].0.as_str(), files[0].1.len()), ("big", 1030));
    assert_eq!((files[0].1[0], files[0].1[512], files[0].1[1020], files[0].1[1029]), (b'0', b'1', b'2', b'2'));
}

#[test]
fn the_beginning_of_a_partition_tells_its_kind() {
    let spared = [vec![0xff; 4096], fat_image()].concat();
    for (image, kind) in [
        (spiffs_image(600), Kind::Spiffs),
        (fat_image(), Kind::Fat),
        (spared, Kind::Fat),
        (littlefs_image(1030), Kind::Littlefs),
    ] {
        assert_eq!(peek(&image[..image.len() / 2], image.len()), Some(kind));
    }
    assert_eq!(peek(&[0xff; 4096], 0x10000), None);
}

#[test]
fn folders_in_a_circle_end() {
    let mut image = fat_image();
    // The folder's entry for a file becomes a folder that is the folder itself.
    (image[1632 + 11], image[1632 + 26]) = (0x10, 2);
    let found = identify(&image).unwrap();
    assert!(found.findings.iter().any(|finding| finding.contains("contains itself")), "{found:?}");
}

#[test]
fn sizes_that_nothing_holds_allocate_nothing() {
    let mut fat = fat_image();
    put(&mut fat, 1632 + 28, &u32::MAX.to_le_bytes());
    let mut spiffs = spiffs_image(600);
    put(&mut spiffs, 256 + 8, &(u32::MAX - 1).to_le_bytes());
    for image in [fat, spiffs, littlefs_image(u32::MAX - 1)] {
        let found = identify(&image).unwrap();
        let file = found.entries.iter().find(|entry| !entry.is_folder).unwrap();
        assert!(file.size > 0xffff_fff0 && file.read(&image).capacity() < 1 << 16, "{file:?}");
        assert_eq!(found.findings.len(), 1);
    }
}

#[test]
fn what_is_no_file_system_is_not_taken_for_one() {
    for image in [vec![], vec![0xff; 0x10000], vec![0; 0x10000], b"littlefs".repeat(100), vec![0xe9; 8192]] {
        assert_eq!(identify(&image), None);
    }
}

#[test]
fn mutated_images_do_no_harm() {
    for image in [spiffs_image(600), fat_image(), littlefs_image(1030)] {
        let mut recognised = 0;
        mutate(&[image], 10_000, |bytes| {
            let Some(found) = identify(bytes) else { return };
            recognised += 1;
            let total: usize = found.entries.iter().map(|entry| entry.read(bytes).len()).sum();
            assert!(total <= bytes.len() * 4 + 4096, "{total} bytes out of {}", bytes.len());
        });
        assert!(recognised > 1000, "{recognised}");
    }
}
