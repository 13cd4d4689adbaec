//! `esptool`: images as files, and chips behind a port.

mod chip_id;
mod config;
mod connecting;
mod elf2image;
mod erase_flash;
mod flash_id;
mod image_info;
mod images;
mod load_ram;
mod memory;
mod merge_bin;
mod options;
mod pins;
mod progress;
mod read_flash;
mod security;
mod security_info;
pub mod session;
mod sizes;
mod trace;
mod verify_flash;
mod version;
mod write_flash;

use crate::command::{Entry, Face};

pub use config::value as config_value;

/// The face.
pub static FACE: Face = Face {
    name: "esptool",
    about: "Flash, read and inspect Espressif chips and their firmware images",
    options: options::globals,
    fatal_prefix: "",
    prepare: Some(config::announce),
    raises: false,
    of_chip: None,
    usage_of_chip: None,
    chain: None,
    single: None,
    commands: &[
        Entry { spec: write_flash::spec, run: write_flash::run },
        Entry { spec: read_flash::spec, run: read_flash::run },
        Entry { spec: verify_flash::spec, run: verify_flash::run },
        Entry { spec: erase_flash::spec, run: erase_flash::run },
        Entry { spec: erase_flash::spec_region, run: erase_flash::run_region },
        Entry { spec: chip_id::spec_mac, run: chip_id::run_mac },
        Entry { spec: flash_id::spec, run: flash_id::run },
        Entry { spec: elf2image::spec, run: elf2image::run },
        Entry { spec: image_info::spec, run: image_info::run },
        Entry { spec: merge_bin::spec, run: merge_bin::run },
        Entry { spec: version::spec, run: version::run },
        Entry { spec: load_ram::spec, run: load_ram::run },
        Entry { spec: memory::spec_dump, run: memory::dump },
        Entry { spec: memory::spec_read, run: memory::read },
        Entry { spec: memory::spec_write, run: memory::write },
        Entry { spec: flash_id::spec_status, run: flash_id::run_status },
        Entry { spec: flash_id::spec_write_status, run: flash_id::run_write_status },
        Entry { spec: flash_id::spec_sfdp, run: flash_id::run_sfdp },
        Entry { spec: security_info::spec, run: security_info::run },
        Entry { spec: chip_id::spec, run: chip_id::run },
        Entry { spec: load_ram::spec_run, run: load_ram::run_app },
    ],
    renamed: &[
        ("make_image", "make-image"),
        ("--ignore_flash_encryption_efuse_setting", "--ignore-flash-enc-efuse"),
        ("--fill-flash-size", "--pad-to-size"),
        ("--no-diff-verify", "--trust-flash-content"),
    ],
    shorts: &[
        ("-ff", "--flash-freq"),
        ("-fm", "--flash-mode"),
        ("-fs", "--flash-size"),
        ("-sc", "--spi-connection"),
        ("-ft", "--flash-type"),
    ],
};
