use std::collections::BTreeSet;
use std::convert::Infallible;

use super::*;
use crate::efuse::Field;
use crate::mac::Mac;

/// Who a chip with these factory words says it is.
fn identified(chip: &Chip, state: &FactoryState) -> Identified {
    let Ok(identified) = identify(chip, |address| Ok::<_, Infallible>(state.word(chip, address)));
    identified
}

#[test]
fn every_chip_folder_is_valid() {
    assert!(all().len() >= 15);
    for chip in all() {
        chip.validate().unwrap_or_else(|error| panic!("{}: {error}", chip.id));
        let data: &ChipData = chip;
        let searched_by = (data.chip_id, data.flash.bootloader_offset);
        assert_eq!((chip.chip_id, chip.bootloader_offset), searched_by, "{}: the build script's index", chip.id);
        let table = chip.efuse();
        let security = chip.security.secure_boot.iter().map(|scheme| scheme.enable.as_str());
        let encryption = chip.security.flash_encryption.iter();
        let encryption = encryption
            .flat_map(|encryption| [Some(encryption.count.as_str()), encryption.no_manual_encrypt.as_deref()])
            .flatten();
        let power = chip.flash.power_on.iter().flat_map(|step| step.when.keys()).map(String::as_str);
        let factory = chip.factory.efuses.keys().map(String::as_str);
        for field in chip.identity.fields().chain(security).chain(encryption).chain(power).chain(factory) {
            assert!(table.field(field).is_some(), "{}: no eFuse field {field}", chip.id);
        }
    }
}

#[test]
fn efuse_fields_fit_their_blocks_and_overlap_only_when_composed() {
    for chip in all() {
        let revisions = chip.efuse().overlays.iter().flat_map(|overlay| [overlay.min_revision, overlay.max_revision]);
        for revision in revisions.chain([chip.factory.revision, u16::MAX]) {
            check_fields(chip.id, chip.efuse_at(revision));
        }
    }
}

fn check_fields(id: &str, table: &EfuseTable) {
    let mut names = BTreeSet::new();
    for field in &table.fields {
        assert!((3..=150).contains(&field.about.len()), "{id}: {} says {:?}", field.name, field.about);
        for name in field.aliases.iter().chain([&field.name]) {
            assert!(names.insert(name), "{id}: {name} is said twice");
        }
        let block = table.block(field.block).unwrap_or_else(|| panic!("{id}: {}: no such block", field.name));
        for range in &field.bits {
            let end = range.0 + range.1;
            assert!(range.1 > 0 && end <= u16::from(block.words) * 32, "{id}: {} does not fit", field.name);
        }
    }
    let plain: Vec<_> = table.fields.iter().filter(|field| !field.composed).map(|field| (field, bits(field))).collect();
    for (at, (one, ones)) in plain.iter().enumerate() {
        for (other, others) in plain.iter().skip(at + 1).filter(|(other, _)| other.block == one.block) {
            // Fields share no bit, or one is a part of the other (a MAC in user data, half of a key).
            let shared: [u128; 3] = std::array::from_fn(|part| ones[part] & others[part]);
            let fine = shared == [0; 3] || shared == *ones || shared == *others;
            assert!(fine, "{id}: {} and {} overlap", one.name, other.name);
        }
    }
}

/// The field's bits in its block.
fn bits(field: &Field) -> [u128; 3] {
    let mut mask = [0; 3];
    for bit in field.bits.iter().flat_map(|range| range.0..range.0 + range.1) {
        mask[usize::from(bit / 128)] |= 1 << (bit % 128);
    }
    mask
}

#[test]
fn key_blocks_name_fields_and_purposes_that_exist() {
    for chip in all() {
        let table = chip.efuse();
        for block in &table.blocks {
            if let Some(field) = &block.purpose_field {
                assert!(block.is_key && table.field(field).is_some(), "{}: {}", chip.id, block.name);
            }
        }
        for half in table.key_purposes.iter().flat_map(|purpose| &purpose.split) {
            assert!(table.key_purposes.iter().any(|purpose| purpose.name == *half), "{}: {half}", chip.id);
        }
    }
}

#[test]
fn a_new_chip_identifies_itself() {
    for chip in all() {
        let mac = Mac([0x02, 0x11, 0x22, 0x33, 0x44, 0x55]);
        let state = default_efuses(chip, Some(mac), None);
        let who = identified(chip, &state);
        assert_eq!(who.mac, mac, "{}", chip.id);
        assert_eq!(who.revision_number(), chip.factory.revision, "{}", chip.id);
        assert!(!who.package.contains("nknown"), "{}: {}", chip.id, who.package);
        let stub = chip.stub_for(who.revision_number());
        assert!(chip.stub.is_empty() || stub.is_some(), "{}: no stub for a new chip", chip.id);
    }
}

#[test]
fn revisions_can_be_chosen() {
    for (name, revision, description) in [
        ("esp32", 300, "ESP32-D0WDQ6-V3 (revision v3.0)"),
        ("esp32", 100, "ESP32-D0WDQ6 (revision v1.0)"),
        ("esp32c3", 4, "ESP32-C3 (QFN32) (revision v0.4)"),
        ("esp32c3", 11, "ESP32-C3 (QFN32) (revision v0.11)"),
        ("esp32p4", 102, "ESP32-P4 (revision v1.2)"),
        ("esp32p4", 401, "ESP32-P4 (revision v4.1)"),
    ] {
        let chip = by_name(name).unwrap();
        assert_eq!(identified(chip, &default_efuses(chip, None, Some(revision))).description, description);
    }
}

#[test]
fn the_first_s3_has_no_revision_fields() {
    let chip = by_name("esp32s3").unwrap();
    let mut state = default_efuses(chip, None, Some(300));
    let mut set = |name: &str| {
        let field = chip.efuse().field(name).unwrap();
        field.store(state.efuses.get_mut(&field.block).unwrap(), &[1]);
    };
    set("BLK_VERSION_MAJOR");
    set("BLK_VERSION_MINOR");
    assert_eq!(identified(chip, &state).revision, Some((0, 0)));
}

#[test]
fn older_silicon_has_other_data() {
    let p4 = by_name("esp32p4").unwrap();
    assert_ne!(p4.at(102).uart.buf_no, p4.at(300).uart.buf_no);
    assert_eq!(p4.at(102).uart.clkdiv, p4.uart.clkdiv);
    let h2 = by_name("esp32h2").unwrap();
    assert!(h2.efuse_at(101).field("ECDSA_FORCE_USE_HARDWARE_K").is_some());
    assert!(h2.efuse_at(102).field("ECDSA_FORCE_USE_HARDWARE_K").is_none());
}

#[test]
fn boot_lines_are_those_of_the_rom() {
    let line = |name: &str, reset, strap| by_name(name).unwrap().boot.line_for(reset, strap);
    assert_eq!(line("esp32", 1, 0x13), "rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)");
    assert_eq!(line("esp32c3", 0x15, 4), "rst:0x15 (USB_UART_CHIP_RESET),boot:0x4 (DOWNLOAD(USB/UART0/1))");
    assert_eq!(line("esp8266", 2, 3), ",rst cause:2, boot mode:(3,6)");
}

#[test]
fn boot_messages_come_slower_on_another_crystal_than_the_rom_believes_in() {
    for (name, mhz, rate) in [("esp8266", 26, 74_880), ("esp8266", 40, 115_200), ("esp32c2", 26, 74_880)] {
        assert_eq!(by_name(name).unwrap().boot_rate(mhz), rate);
    }
    assert_eq!(by_name("esp32").unwrap().boot_rate(26), 115_200);
}

#[test]
fn the_boot_pin_tells_download_mode_from_flash_boot() {
    for chip in all() {
        let boot = &chip.boot;
        let pin = 1 << boot.pin_bit;
        assert_eq!((boot.flash_strap & pin, boot.download_strap & pin), (pin, 0), "{}", chip.id);
        let named = boot.strap_pins.get(usize::from(boot.pin_bit));
        assert_eq!(named, Some(&boot.pin), "{}", chip.id);
    }
}

#[test]
fn chips_are_found_in_any_spelling() {
    for name in ["esp32c3", "ESP32-C3", "Esp32_C3"] {
        assert_eq!(by_name(name).map(|chip| chip.id), Some("esp32c3"));
    }
    assert!(by_name("esp99").is_none());
}

#[test]
fn ids_and_magic_words_name_one_chip() {
    for chip in all() {
        if let Some(id) = chip.chip_id {
            assert_eq!(by_chip_id(id).map(|found| found.id), Some(chip.id));
        }
        for magic in chip.detect.magic.iter().filter(|_| chip.detect.by_magic) {
            assert_eq!(by_magic(*magic).map(|found| found.id), Some(chip.id));
        }
    }
    assert_eq!(by_magic(0x0000_07c6).map(|chip| chip.id), Some("esp32s2"));
}

#[test]
fn the_mac_check_byte_is_that_of_a_real_chip() {
    // A published ESP32 eFuse dump: MAC 24:0a:c4:00:c8:70, check byte 0x5d is not in it; the CRC of zeros is zero.
    assert_eq!(Mac([0; 6]).crc8(), 0);
    assert_ne!(Mac([0x24, 0x0a, 0xc4, 0, 0xc8, 0x70]).crc8(), 0);
}

/// Field case K13: BOOT was held, and the chip waits on SPI all the same.
#[test]
fn second_strap_of_download_mode_is_judged() {
    let wrong = |name: &str, strap: u32| by_name(name).unwrap().boot.wrong_strap(strap);
    assert_eq!(wrong("esp32c3", 0x1).unwrap(), "GPIO8 was 0 and must be high");
    assert_eq!(wrong("esp32s3", 0x4).unwrap(), "GPIO46 was 1 and must be low");
    assert_eq!(wrong("esp32", 0x0b).unwrap(), "GPIO2 was 1 and must be low or floating");
    assert_eq!(wrong("esp32p4", 0x0).unwrap(), "GPIO36 was 0 and must be high");
    assert_eq!(wrong("esp8266", 0x5).unwrap(), "GPIO15 was 1 and must be low");
    // Right, or not asked for.
    assert_eq!(wrong("esp32c3", 0x4), None);
    assert_eq!(wrong("esp32c3", 0x8), None);
    for chip in all() {
        assert_eq!(chip.boot.wrong_strap(chip.boot.download_strap), None, "{}", chip.id);
    }
}
