//! Programs that run from RAM.

use esp_model::chip::Chip;
use esp_model::image;

use crate::error::{Code, ToolError};

/// Load addresses with bytes, and the entry point.
pub type Program = (Vec<(u32, Vec<u8>)>, u32);

/// The program of an image or an ELF.
pub fn program(path: &str, bytes: &[u8], chip: &Chip) -> Result<Program, ToolError> {
    let invalid = |error: String| ToolError::new(Code::ImageInvalid, format!("`{path}`: {error}"));
    if bytes.starts_with(b"\x7fELF") {
        let built =
            image::build(chip, bytes, &image::Settings::default()).map_err(|error| invalid(error.to_string()))?;
        return match built {
            image::Built::One(image) | image::Built::Split { ram: image, mapped: None } => program(path, &image, chip),
            image::Built::Split { mapped: Some((offset, _)), .. } => {
                let text = format!("`{path}` has a part that is mapped to flash at {offset:#x}");
                Err(ToolError::new(Code::ImageNotForRam, text))
            }
        };
    }
    let found = image::parse::parse(bytes).map_err(|error| invalid(error.to_string()))?;
    if found.chip.id != chip.id {
        let text = format!("`{path}` is an image for {}, the chip is {}", found.chip.name, chip.name);
        return Err(ToolError::new(Code::ChipMismatch, text));
    }
    let segments = found.segments.iter().filter(|segment| segment.addr != 0);
    Ok((segments.map(|segment| (segment.addr, segment.data.to_vec())).collect(), found.header.entry))
}
