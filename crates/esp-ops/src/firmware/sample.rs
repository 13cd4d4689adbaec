//! Firmware of our own making: well-formed images with headers, checksums and hashes. [`make`]'s hold no code; [`program`]
//! is a program that runs.

use esp_link::bootloaders::{StockBootloader, Wanted};
use esp_model::chip::{self, Chip};
use esp_model::image::hex;
use esp_model::image::merge::{self, FlashSettings};
use esp_model::image::{AppDesc, CHECKSUM_SEED, Extended, FlashMode, Header, MAGIC, checksum};
use esp_model::partition::{DEFAULT_TABLE_OFFSET, Options, Table, preset};
use sha2::{Digest, Sha256};

/// Bytes of made-up code in the application.
const APP_CODE: usize = 300 * 1024;

/// A file and its flash address.
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Where it goes.
    pub address: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The chip that [`program`] is for, by the id that image headers have.
const PROGRAM_CHIP: u16 = 5;
/// `program.S`, assembled.
pub const PROGRAM: &[u8] = include_bytes!("program.bin");
/// Bytes behind the program that are never reached: an application of a usual size.
const FILLING: usize = 200 * 1024;

/// ESP-IDF's stock bootloader, a partition table, and a program of ours that greets and then says a line twice a second.
pub fn program() -> Result<(&'static Chip, Vec<Part>), String> {
    let chip = chip::by_chip_id(PROGRAM_CHIP).ok_or("the program's chip is missing")?;
    let (table, app_address) = table()?;
    let wanted = Wanted { mode: FlashMode::Dio, crystal_mhz: None, revision: None };
    let stock = StockBootloader::find(chip, wanted).ok_or("this build has no bootloaders")?;
    let flash = FlashSettings { mode: None, size: Some("4MB".into()), frequency: None };
    let bootloader = hex::Part { address: chip.flash.bootloader_offset, data: stock.bytes.to_vec() };
    let bootloader = merge::prepare(chip, vec![bootloader], &flash).map_err(|error| error.to_string())?;
    let bootloader = bootloader.into_iter().next().ok_or("no bootloader came back")?;
    let drom = chip.image.drom[0] + 0x20;
    let data = app_desc();
    // Segments that are mapped to flash lie at the same offset within a page in flash and in memory.
    let before = 24 + 8 + data.len() as u32 + 8;
    let irom = chip.image.irom[0] + before;
    let mut text = PROGRAM.to_vec();
    text.extend(code(FILLING, 5));
    let app = image(chip, &[(drom, data), (irom, text)], irom);
    Ok((
        chip,
        vec![
            Part { name: "bootloader.bin", address: bootloader.address, bytes: bootloader.data },
            Part { name: "partition-table.bin", address: DEFAULT_TABLE_OFFSET, bytes: table },
            Part { name: "app.bin", address: app_address, bytes: app },
        ],
    ))
}

/// The usual partition table for one application, and where that goes.
fn table() -> Result<(Vec<u8>, u32), String> {
    let layout = preset("single_app").ok_or("there is no such layout")?;
    let options = Options { flash_size: 4 << 20, ..Options::default() };
    let table = Table::from_csv(layout.csv, &options).map_err(|error| error.to_string())?;
    let app_address = table.find("factory").map(|partition| partition.offset).ok_or("the layout has no app")?;
    Ok((table.to_binary(true).map_err(|error| error.to_string())?, app_address))
}

/// Bootloader, partition table and application.
pub fn make(chip: &Chip) -> Result<Vec<Part>, String> {
    let (table, app_address) = table()?;
    let ram = |name: &str| {
        let region = chip.memory.iter().find(|region| region.name == name);
        region.map(|region| region.start).ok_or(format!("the chip has no {name}"))
    };
    let (iram, dram) = (ram("IRAM")?, ram("DRAM")?);
    let bootloader = image(chip, &[(dram, code(7 * 1024, 1)), (iram, code(16 * 1024, 2))], iram);
    let mut data = app_desc();
    data.extend(code(48 * 1024, 3));
    // Segments that are mapped to flash lie at the same offset within a page in flash and in memory.
    let drom = chip.image.drom[0] + 0x20;
    let mut segments = vec![(drom, data), (iram, code(64 * 1024, 4))];
    let before: usize = 24 + segments.iter().map(|(_, bytes)| bytes.len() + 8).sum::<usize>() + 8;
    segments.push((chip.image.irom[0] + (before % 0x1_0000) as u32, code(APP_CODE, 5)));
    let app = image(chip, &segments, iram);
    Ok(vec![
        Part { name: "bootloader.bin", address: chip.flash.bootloader_offset, bytes: bootloader },
        Part { name: "partition-table.bin", address: DEFAULT_TABLE_OFFSET, bytes: table },
        Part { name: "app.bin", address: app_address, bytes: app },
    ])
}

/// An image: header, segments, checksum at the end of a 16-byte line, SHA-256.
fn image(chip: &Chip, segments: &[(u32, Vec<u8>)], entry: u32) -> Vec<u8> {
    let size = chip.flash.sizes.get("4MB").copied().unwrap_or(0);
    let frequency = chip.flash.frequencies.get(&chip.flash.default_frequency).copied().unwrap_or(0);
    let header = Header {
        magic: MAGIC,
        segments: segments.len() as u8,
        flash_mode: 2,
        flash_size_freq: size | frequency,
        entry,
    };
    let extended = Extended {
        wp_pin: Extended::WP_PIN_DISABLED,
        drive: [0; 3],
        chip_id: chip.chip_id.unwrap_or(0),
        min_rev: 0,
        min_rev_full: 0,
        max_rev_full: u16::MAX,
        reserved: [0; 4],
        append_digest: 1,
    };
    let mut out = [&header.encode()[..], &extended.encode()[..]].concat();
    let mut sum = CHECKSUM_SEED;
    for (address, bytes) in segments {
        out.extend(address.to_le_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
        sum = checksum(bytes, sum);
    }
    out.resize(out.len() | 0xf, 0);
    out.push(sum);
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out
}

/// `esp_app_desc_t` with our name.
fn app_desc() -> Vec<u8> {
    let mut out = vec![0; AppDesc::LEN];
    let mut put = |at: usize, text: &[u8]| {
        for (slot, byte) in out.iter_mut().skip(at).zip(text) {
            *slot = *byte;
        }
    };
    put(0, &AppDesc::MAGIC.to_le_bytes());
    put(16, env!("CARGO_PKG_VERSION").as_bytes());
    put(48, b"mcp-esptool-demo");
    put(112, b"none");
    out
}

/// Bytes that compress about as code does: words of which every second one is new.
fn code(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut out = Vec::with_capacity(len);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        out.extend(state.to_le_bytes());
        out.extend([0x36, 0x41, 0, (state >> 28) as u8]);
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_are_well_formed() {
        let chip = esp_model::chip::by_name("ESP32").unwrap();
        for part in make(chip).unwrap().iter().filter(|part| part.name != "partition-table.bin") {
            let image = esp_model::image::parse::parse(&part.bytes).unwrap();
            assert_eq!(image.chip.id, chip.id);
            assert_eq!(image.checksum, image.computed_checksum());
            assert!(image.digest().unwrap().is_valid());
        }
    }
}
