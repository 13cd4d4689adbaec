use sha2::{Digest, Sha256};

use super::*;
use crate::chip::by_name;
use crate::partition::otadata::{Entry, State};
use crate::partition::{Options, preset};

const APP: usize = 0x1_0000;

/// An image for `chip` with one segment of data mapped to flash and one in RAM.
fn image(chip: &Chip, segments: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xe9, segments.len() as u8, 2, 0x2f];
    out.extend_from_slice(&0x4037_0000u32.to_le_bytes());
    let mut extended = [0; 16];
    extended[0] = 0xee;
    extended[4..6].copy_from_slice(&chip.chip_id.unwrap_or_default().to_le_bytes());
    extended[9..11].copy_from_slice(&u16::MAX.to_le_bytes());
    extended[15] = 1;
    out.extend_from_slice(&extended);
    let mut sum = 0xef;
    for (address, data) in segments {
        out.extend_from_slice(&address.to_le_bytes());
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        out.extend_from_slice(data);
        sum = data.iter().fold(sum, |sum, byte| sum ^ byte);
    }
    out.resize(out.len() | 15, 0);
    out.push(sum);
    out.extend_from_slice(&Sha256::digest(&out));
    out
}

fn app(chip: &Chip, secure_version: u32) -> Vec<u8> {
    let mut data = vec![0; 512];
    data[..4].copy_from_slice(&0xabcd_5432u32.to_le_bytes());
    data[4..8].copy_from_slice(&secure_version.to_le_bytes());
    data[16..21].copy_from_slice(b"1.2.3");
    let ram = chip.memory.iter().find(|region| region.name == "DRAM").unwrap().start;
    image(chip, &[(chip.image.drom[0] + 0x20, data), (ram, vec![7; 64])])
}

fn flash(chip: &Chip, layout: &str) -> Vec<u8> {
    let mut flash = vec![0xff; 4 << 20];
    let ram = chip.memory.iter().find(|region| region.name == "DRAM").unwrap().start;
    put(&mut flash, chip.flash.bootloader_offset as usize, &image(chip, &[(ram, vec![1; 100])]));
    let table = preset(layout).unwrap().table(&Options::default()).unwrap();
    put(&mut flash, 0x8000, &table.to_binary(true).unwrap());
    for partition in table.partitions.iter().filter(|partition| partition.kind == 0) {
        put(&mut flash, partition.offset as usize, &app(chip, 1));
    }
    flash
}

fn put(flash: &mut [u8], at: usize, bytes: &[u8]) {
    flash[at..at + bytes.len()].copy_from_slice(bytes);
}

fn run(chip: &'static Chip, flash: &[u8]) -> BootReport {
    let device = Device { revision: Some(100), ..Device::default() };
    walk(chip, &flash.to_vec(), &device, &Config::default())
}

fn modern() -> &'static Chip {
    by_name("esp32c3").unwrap()
}

#[test]
fn a_whole_chain_starts_on_every_chip() {
    for chip in crate::chip::all().iter().filter(|chip| chip.image.format == ImageFormat::Esp32) {
        let report = run(chip, &flash(chip, "single_app"));
        assert_eq!(
            report.outcome,
            Outcome::Starts { partition: Some("factory".into()), address: APP as u32 },
            "{}: {:#?}",
            chip.id,
            report.steps
        );
        assert_eq!(report.app.as_ref().and_then(|app| app.description.as_ref()).unwrap().version, "1.2.3");
        assert!(report.log.contains("Loaded app from partition at offset 0x10000"), "{}", report.log);
        assert!(report.log.ends_with("Disabling RNG early entropy source...\r\n"));
    }
}

#[test]
fn a_blank_chip_stops_in_the_rom() {
    let report = run(modern(), &[0xff; 0x10000]);
    assert_eq!(report.outcome, Outcome::Stops(Stage::Rom));
    assert_eq!(report.log, "invalid header: 0xffffffff\r\n");
    assert!(report.failure().unwrap().text.contains("erased"));
}

#[test]
fn each_damage_is_named() {
    let chip = modern();
    let damage = |at: usize, bytes: &[u8]| {
        let mut flash = flash(chip, "single_app");
        put(&mut flash, at, bytes);
        run(chip, &flash)
    };
    let cases: [(usize, &[u8], Stage, &str); 8] = [
        (0x20, &[9], Stage::Rom, "checksum"),
        (0x1, &[99], Stage::Rom, "99 segments"),
        (0xc, &[1], Stage::Bootloader, "mismatch chip ID, expected 5, found 1"),
        (0x8000 + 40, &[9], Stage::PartitionTable, "Incorrect MD5 checksum"),
        (0x8000, &[0xff; 32], Stage::PartitionTable, "partition 0 invalid magic number 0xffff"),
        (APP, &[0], Stage::App, "invalid magic byte"),
        (APP + 12, &[2], Stage::App, "mismatch chip ID"),
        (APP + 100, &[2], Stage::App, "Checksum failed"),
    ];
    for (at, bytes, stage, text) in cases {
        let report = damage(at, bytes);
        assert_eq!(report.outcome, Outcome::Stops(stage), "{text}");
        assert!(report.failure().unwrap().text.contains(text), "{:?}", report.failure());
    }
    // The same change twice in one 4-byte column leaves the checksum right; the hash notices it.
    let report = damage(APP + 33 + 100, &[1]);
    assert_eq!(report.outcome, Outcome::Stops(Stage::App));
    let report = damage(APP + 100, &[3, 3]);
    assert!(report.failure().unwrap().text.contains("Image hash failed"), "{:?}", report.failure());
}

#[test]
fn otadata_selects_and_rollback_falls_back() {
    let chip = modern();
    let mut flash = flash(chip, "two_ota");
    assert_eq!(run(chip, &flash).app.unwrap().partition, "factory");
    put(&mut flash, 0xd000, &Entry::new(2, State::Valid).bytes());
    assert_eq!(run(chip, &flash).app.unwrap().partition, "ota_1");
    put(&mut flash, 0xe000, &Entry::new(3, State::New).bytes());
    assert_eq!(run(chip, &flash).app.unwrap().partition, "ota_0");
    // ota_0 is broken: downwards from it comes factory.
    put(&mut flash, 0x11_0000, &[0]);
    let report = run(chip, &flash);
    assert_eq!(report.app.as_ref().unwrap().partition, "factory");
    assert!(report.log.contains("OTA app partition slot 0 is not bootable"));
    put(&mut flash, 0x1_0000, &[0]);
    assert_eq!(run(chip, &flash).app.unwrap().partition, "ota_1");
}

#[test]
fn without_factory_the_first_slot_is_written_down() {
    let chip = modern();
    let report = run(chip, &flash(chip, "two_ota_large"));
    assert_eq!(report.app.unwrap().partition, "ota_0");
    let (_, after) = report.otadata.unwrap();
    assert_eq!((after.entries[0].sequence, after.entries[0].state), (1, State::Valid));
    assert!(report.log.contains("Set actual ota_seq=1 in otadata[0]"));
}

#[test]
fn anti_rollback_and_revisions() {
    let chip = modern();
    let flash = flash(chip, "two_ota_large");
    let config = Config { anti_rollback: true, ..Config::default() };
    let device = Device { revision: Some(3), secure_version: Some(2), ..Device::default() };
    let report = walk(chip, &flash, &device, &config);
    assert_eq!(report.outcome, Outcome::Stops(Stage::AntiRollback));
    let device = Device { secure_version: Some(1), ..device };
    assert!(walk(chip, &flash, &device, &config).starts());
    let mut newer = flash;
    put(&mut newer, 0x2_0000 + 15, &400u16.to_le_bytes());
    let report = walk(chip, &newer, &device, &Config::default());
    assert!(report.log.contains("chip revision check failed. Required >= v4.0, found v0.3."), "{}", report.log);
}

#[test]
fn secure_boot_wants_a_signature() {
    let chip = modern();
    let trust = Trust { scheme: crate::chip::SecureBootScheme::V2Rsa, digests: vec![vec![1; 32]] };
    let device = Device { secure_boot: Some(SecureBootState { enabled: Some(trust) }), ..Device::default() };
    let report = walk(chip, &flash(chip, "single_app"), &device, &Config::default());
    assert_eq!(report.outcome, Outcome::Stops(Stage::BootloaderSignature));
}

#[test]
fn ciphertext_is_not_judged() {
    let device = Device { encrypted: Some(true), ciphertext: true, ..Device::default() };
    let report = walk(modern(), &vec![0x5a; 0x20000], &device, &Config::default());
    assert_eq!(report.outcome, Outcome::Unknown(Stage::Rom));
}

#[test]
fn another_table_offset_is_found() {
    let chip = modern();
    let mut flash = flash(chip, "single_app");
    let table = flash[0x8000..0x8c00].to_vec();
    flash[0x8000..0x9000].fill(0xff);
    put(&mut flash, 0xc000, &table);
    assert_eq!(run(chip, &flash).table_offset, Some(0xc000));
    let config = Config { table_offset: Some(0x8000), ..Config::default() };
    let report = walk(chip, &flash, &Device::default(), &config);
    assert_eq!(report.outcome, Outcome::Stops(Stage::PartitionTable));
}

#[test]
fn mutated_flash_does_no_harm() {
    let chip = modern();
    let whole = flash(chip, "two_ota_large");
    // Enough flash for bootloader, table, otadata and one app.
    let seed = whole[..0x21000].to_vec();
    let places = [0..0x100usize, 0x8000..0x8100, 0xf000..0xf040, 0x20000..0x20300];
    let mut random = crate::testing::Random::new(7);
    let (mut ended, mut bytes) = ([0; 3], seed.clone());
    for round in 0..10_000 {
        let place = &places[round % places.len()];
        let changed: Vec<usize> = (0..=random.below(3)).map(|_| place.start + random.below(place.len())).collect();
        for at in &changed {
            bytes[*at] = random.next() as u8;
        }
        let report = walk(chip, &bytes, &Device::default(), &Config { rollback: true, ..Config::default() });
        ended[match report.outcome {
            Outcome::Starts { .. } => 0,
            Outcome::Stops(_) => 1,
            Outcome::Unknown(_) => 2,
        }] += 1;
        changed.iter().for_each(|at| bytes[*at] = seed[*at]);
    }
    assert!(ended[0] > 100 && ended[1] > 100, "{ended:?}");
}

#[test]
fn an_app_in_the_bootloaders_place_is_named() {
    for chip in crate::chip::all().iter().filter(|chip| chip.image.format == ImageFormat::Esp32) {
        let mut bytes = flash(chip, "single_app");
        put(&mut bytes, chip.flash.bootloader_offset as usize, &app(chip, 1));
        let report = run(chip, &bytes);
        assert_eq!(report.outcome, Outcome::Stops(Stage::Rom), "{}", chip.id);
        let text = &report.failure().unwrap().text;
        assert!(text.contains("an app image is at the bootloader's address") && text.contains("0x10000"), "{text}");
        put(&mut bytes, chip.flash.bootloader_offset as usize, b"<!doctype html><html><head>");
        assert!(run(chip, &bytes).failure().unwrap().text.contains("a web page"), "{}", chip.id);
    }
}

#[test]
fn an_app_for_newer_efuse_blocks_is_not_started() {
    let chip = modern();
    let mut data = vec![0; 512];
    data[..4].copy_from_slice(&0xabcd_5432u32.to_le_bytes());
    // min_efuse_blk_rev_full and max_efuse_blk_rev_full stand behind the ELF's SHA-256.
    data[176..178].copy_from_slice(&101u16.to_le_bytes());
    data[178..180].copy_from_slice(&199u16.to_le_bytes());
    let ram = chip.memory.iter().find(|region| region.name == "DRAM").unwrap().start;
    let mut bytes = flash(chip, "single_app");
    put(&mut bytes, APP, &image(chip, &[(chip.image.drom[0] + 0x20, data), (ram, vec![7; 64])]));
    let walk_with = |block_revision, ignores_block_limit| {
        let device = Device { revision: Some(100), block_revision, ignores_block_limit, ..Device::default() };
        walk(chip, &bytes, &device, &Config::default())
    };
    assert!(walk_with(Some(101), false).starts() && walk_with(None, false).starts());
    let old = walk_with(Some(0), false);
    assert!(old.failure().unwrap().text.contains("efuse blk rev >= v1.1, but chip is v0.0"), "{:?}", old.failure());
    assert!(walk_with(Some(200), false).failure().unwrap().text.contains("<= v1.99"));
    assert!(walk_with(Some(200), true).starts());
}
