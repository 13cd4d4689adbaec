//! What the fuzz targets do with a parser's input. Nothing here may panic or take much memory.

use esp_model::chip;
use esp_model::image::merge::{self, FlashSettings};
use esp_model::image::{self, FlashMode, Settings, checks, hex, kind, size, uf2, waste};

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
    let Some((choice, elf)) = data.split_first() else { return };
    let chips = chip::all();
    let chip = &chips[usize::from(choice & 0x1f) % chips.len()];
    let settings = Settings { version: choice >> 6, ram_only_header: choice & 0x20 != 0, ..Settings::default() };
    let _ = image::build(chip, elf, &settings);
    let _ = size::from_elf(chip, elf);
}

/// Anything that may be a file for flash: HEX, UF2, merged flash, and what else is recognised.
pub fn flash_file(data: &[u8]) {
    let _ = (kind::recognise(data), kind::flash_layout(data));
    let _ = (hex::read(data), uf2::read(data), merge::parts_of(0, data.to_vec()));
    let _ = (waste::runs(data), waste::texts(data, 6).count());
}

/// Linker maps.
pub fn linker_map(data: &[u8]) {
    let _ = size::from_map(&String::from_utf8_lossy(data), None);
}

#[cfg(test)]
mod tests {
    /// The targets take what a fuzzer begins with.
    #[test]
    fn small_inputs_pass() {
        for data in [&[][..], &[0xe9], &[0xea, 4], b"\x7fELF", b":00000001FF\n", b"UF2\n", b"Memory Configuration\n"] {
            for target in [super::image, super::elf, super::flash_file, super::linker_map] {
                target(data);
            }
        }
    }
}
