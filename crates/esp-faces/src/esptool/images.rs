//! Texts about images that several commands print.

use esp_model::chip::Chip;
use esp_model::image::merge::{self, FlashSettings, Patched};
use esp_model::image::{Header, ParseError, parse};

use super::options::Piece;
use crate::fault::Fault;
use crate::terminal::Terminal;

/// A chip's name as titles have it: `ESP32-S3`.
pub fn title_name(chip: &Chip) -> String {
    chip.name.to_uppercase()
}

/// Why bytes are not an image.
pub fn not_an_image(error: &ParseError) -> Fault {
    Fault::Fatal(match error {
        ParseError::Empty => "Image is empty.".into(),
        ParseError::Magic(magic) => format!("This is not a valid image (invalid magic number: {magic:#x})."),
        error => error.to_string(),
    })
}

/// Puts the flash settings into the header of a bootloader and says so.
pub fn patch(terminal: &Terminal, chip: &'static Chip, piece: &mut Piece, flash: &FlashSettings) -> Result<(), Fault> {
    let part = &mut piece.part;
    let before = Header::decode(&part.data);
    match merge::set_flash(chip, part.address, &mut part.data, flash).map_err(Fault::fatal)? {
        Patched::NotAsked => {}
        Patched::NotAnImage if before.is_some_and(|header| header.magic == esp_model::image::MAGIC) => {
            let text = format!(
                "Image file at {:#x} is not a valid {} image, so not changing any flash settings.",
                part.address, chip.name
            );
            terminal.warn(text);
        }
        Patched::NotAnImage => {
            let at = part.address;
            let text =
                format!("Image file at {at:#x} doesn't look like an image file, so not changing any flash settings.");
            terminal.warn(text);
        }
        Patched::Done => say_patched(terminal, before, &part.data),
    }
    Ok(())
}

fn say_patched(terminal: &Terminal, before: Option<Header>, data: &[u8]) {
    let now = Header::decode(data);
    if let Some(now) = now.filter(|now| Some(*now) != before) {
        let settings = u16::from_be_bytes([now.flash_mode, now.flash_size_freq]);
        terminal.say(format_args!("Flash parameters set to {settings:#06x}."));
    }
    let digest = parse(data).is_ok_and(|image| image.digest().is_some());
    if digest {
        terminal.say("SHA digest in image updated.");
    }
}
