//! What the fuzz targets do with a parser's input. Nothing here may panic or take much memory.

use std::ops::Range;
use std::time::Duration;

use esp_debug::symbols::Program;
use esp_model::boot::{self, Config, Device};
use esp_model::console::Decoder;
use esp_model::coredump::{Check, CoreDump};
use esp_model::image::merge::{self, FlashSettings};
use esp_model::image::{self, FlashMode, Settings, checks, elf, hex, kind, size, uf2, waste};
use esp_model::partition::otadata::Otadata;
use esp_model::partition::{Options, Table};
use esp_model::wire::{reply::Reply, request::Request, slip};
use esp_model::{chip, fs, nvs, ota};

/// A target: its name is that of its file in `fuzz_targets/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("image", image),
    ("elf", elf),
    ("flash_file", flash_file),
    ("hex_uf2", hex_uf2),
    ("linker_map", linker_map),
    ("partition", partition),
    ("nvs", nvs),
    ("boot_walk", boot_walk),
    ("core_dump", core_dump),
    ("symbols", symbols),
    ("console", console),
    ("log_splice", log_splice),
    ("file_system", file_system),
    ("ota", ota),
    ("wire", wire),
];

/// Firmware images: read, checked, and their header changed.
pub fn image(data: &[u8]) {
    let Ok(image) = image::parse(data) else { return };
    let _ = (image.digest(), image.app_desc(), image.boot_desc(), image.trailer());
    let _ = (checks::check(&image, None), waste::overhead(&image));
    let flash = FlashSettings { mode: Some(FlashMode::Dio), ..FlashSettings::default() };
    let _ = merge::set_flash(image.chip, image.chip.flash.bootloader_offset, &mut data.to_vec(), &flash);
}

/// ELF files, built to images for a chip that the first byte chooses.
pub fn elf(data: &[u8]) {
    let Some((choice, file)) = data.split_first() else { return };
    let chips = chip::all();
    let chip = &chips[usize::from(choice & 0x1f) % chips.len()];
    let settings = Settings { version: choice >> 6, ram_only_header: choice & 0x20 != 0, ..Settings::default() };
    let _ = image::build(chip, file, &settings);
    let _ = size::from_elf(chip, file);
    // What is read of a file in parts gives the same image.
    let place = |range: &Range<u64>| range.start as usize..(range.end as usize).min(file.len());
    let Some(needed) = elf::needed(&mut |range| file.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec))
    else {
        return;
    };
    let mut parts = vec![0; file.len()];
    for range in needed.iter().map(place).filter(|range| range.start < range.end) {
        parts[range.clone()].copy_from_slice(&file[range]);
    }
    let hash = || [0; 32];
    let built = |bytes: &[u8]| image::build_hashed(chip, bytes, &settings, hash);
    assert_eq!(built(file), built(&parts));
}

/// Anything that may be a file for flash: what it is recognised as, and what is wasted in it.
pub fn flash_file(data: &[u8]) {
    let _ = (kind::recognise(data), kind::flash_layout(data));
    let _ = (waste::runs(data), waste::texts(data, 6).count());
}

/// Intel HEX and UF2.
pub fn hex_uf2(data: &[u8]) {
    let _ = (image::dfu::read(data), image::zip::names(data));
    let _ = (hex::read(data), uf2::read(data), merge::parts_of(0, data.to_vec()));
}

/// Linker maps.
pub fn linker_map(data: &[u8]) {
    let _ = size::from_map(&String::from_utf8_lossy(data), None);
}

/// Partition tables, as CSV and binary, and otadata.
pub fn partition(data: &[u8]) {
    let options = Options::default();
    if let Ok(table) = Table::read(data, &options) {
        let _ = (table.to_binary(true), table.to_csv(false, &options.subtypes), table.verify(&options));
        let _ = table.warnings(&options).len();
    }
    let otadata = Otadata::read(data);
    let _ = (otadata.active(|entry| entry.is_valid()), otadata.switch_to(1, 2, otadata.entries[0].state));
}

/// NVS images, and the CSV files that they are made of.
pub fn nvs(data: &[u8]) {
    let contents = nvs::read(data);
    let _ = (contents.to_csv(), nvs::diff(&contents, &contents).len());
    let _ = nvs::generate(&[data], 0x3000, nvs::Version::V2, None, &mut |_| Err(String::new()));
}

/// The boot chain on whatever is in flash; the first byte chooses the chip.
pub fn boot_walk(data: &[u8]) {
    let Some((choice, flash)) = data.split_first() else { return };
    let chips = chip::all();
    let chip = &chips[usize::from(*choice) % chips.len()];
    let _ = boot::walk(chip, &flash.to_vec(), &Device::default(), &Config { rollback: true, ..Config::default() });
}

/// Core dumps, with their tasks unwound.
pub fn core_dump(data: &[u8]) {
    if let Ok(dump) = CoreDump::parse(data, Check::Report) {
        let _ = esp_debug::coredump::analyse(&dump, None, None);
    }
}

/// DWARF of ELF files.
pub fn symbols(data: &[u8]) {
    let Ok(program) = Program::parse(data) else { return };
    for (start, size) in program.code().iter().take(8) {
        let _ = (program.locate(*start), program.locate(start.wrapping_add(size / 2)), program.symbol(*start));
    }
}

/// Console output, in pieces as a line delivers it.
pub fn console(data: &[u8]) {
    let mut decoder = Decoder::new(None);
    for (at, piece) in data.chunks(61).enumerate() {
        decoder.feed(Duration::from_millis(at as u64), piece);
    }
    let _ = (decoder.finish(), decoder.summary());
}

/// Lines of a log in another order, cut and joined: the first bytes choose which follow each other.
pub fn log_splice(data: &[u8]) {
    let (order, text) = data.split_at(data.len().min(16));
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let mut spliced = Vec::new();
    for choice in order {
        let line = lines[usize::from(*choice) % lines.len()];
        let cut = line.len() * usize::from(choice & 7) / 7;
        spliced.extend_from_slice(&line[..cut]);
        if choice & 0x80 == 0 {
            spliced.push(b'\n');
        }
    }
    let mut decoder = Decoder::new(None);
    decoder.feed(Duration::ZERO, &spliced);
    decoder.finish();
    for finding in decoder.findings() {
        assert!(!finding.code.is_empty() && finding.evidence.chars().count() <= 240);
    }
}

/// File systems, all files read.
pub fn file_system(data: &[u8]) {
    let Some(found) = fs::identify(data) else { return };
    for entry in &found.entries {
        let _ = entry.read(data);
    }
}

/// Updates and their deltas.
pub fn ota(data: &[u8]) {
    let (base, delta) = data.split_at(data.len().min(64));
    let _ = (ota::delta::apply(base, delta), ota::manifest::Manifest::of(data, "1.0"));
}

/// Frames, requests and replies of the serial protocol.
pub fn wire(data: &[u8]) {
    let mut frames = slip::Decoder::new(0x1_0000);
    frames.push(data, |_| ());
    let _ = (Request::decode(data), Reply::decode(data));
}

#[cfg(test)]
mod tests {
    /// The targets take what a fuzzer begins with.
    #[test]
    fn small_inputs_pass() {
        for data in [&[][..], &[0xe9], &[0xea, 4], b"\x7fELF", b":00000001FF\n", b"UF2\n", b"Memory Configuration\n"] {
            super::TARGETS.iter().for_each(|(_, target)| target(data));
        }
    }
}
