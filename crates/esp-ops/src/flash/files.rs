//! Files on their way to flash: raw bytes, images, Intel HEX and UF2; and what is checked before the first byte.

use esp_model::chip::Chip;
use esp_model::image::content::Content;
use esp_model::image::{self, dfu, hex, uf2};

use crate::Call;
use crate::args::FileAt;
use crate::error::{Code, ToolError};
pub use crate::flash::piece::{Piece, PieceView};

/// Reads the files. HEX and UF2 files carry their own addresses, to which the given one is added.
pub fn load(call: &Call, files: &[FileAt]) -> Result<Vec<Piece>, ToolError> {
    if files.is_empty() {
        return Err(ToolError::new(Code::NothingToDo, "no files were given"));
    }
    let mut pieces = Vec::new();
    for file in files {
        let base = file.address.as_u32().ok_or_else(|| too_far(&file.path, file.address.0))?;
        pieces.extend(split(Piece::open(call, &file.path, base)?)?);
    }
    Ok(pieces)
}

/// The parts of an Intel HEX, UF2 or DFU file, each at its own address; anything else as it is.
pub fn split(piece: Piece) -> Result<Vec<Piece>, ToolError> {
    let invalid = |error: String| ToolError::new(Code::ImageInvalid, format!("`{}`: {error}", piece.path));
    let parts = if hex::is_hex(piece.head()) {
        hex::read(&piece.bytes()?).map_err(|error| invalid(error.to_string()))?
    } else if uf2::is_uf2(piece.head()) {
        uf2::read(&piece.bytes()?).map_err(|error| invalid(error.to_string()))?.parts
    } else if dfu::is_dfu(piece.head()) {
        let parts = dfu::read(&piece.bytes()?).map_err(|error| invalid(error.to_string()))?;
        parts.into_iter().map(|(_, part)| part).collect()
    } else {
        return Ok(vec![piece]);
    };
    let placed = parts.into_iter().map(|part| {
        let at = u64::from(piece.address) + u64::from(part.address);
        let address = u32::try_from(at).map_err(|_| too_far(&piece.path, at))?;
        Ok(Piece::new(&piece.path, address, part.data))
    });
    placed.collect()
}

/// An address that no flash has.
pub fn too_far(path: &str, address: u64) -> ToolError {
    ToolError::new(Code::AddressOutOfRange, format!("`{path}`: the address {address:#x} is beyond 32 bits"))
}

/// Sorts by address and refuses pieces that overlap.
pub fn no_overlap(pieces: &mut [Piece]) -> Result<(), ToolError> {
    pieces.sort_by_key(|piece| piece.address);
    for pair in pieces.windows(2) {
        if let [first, second] = pair
            && first.end() > u64::from(second.address)
        {
            let text = format!(
                "`{}` ends at {:#x}, `{}` begins at {:#x}",
                first.path,
                first.end(),
                second.path,
                second.address
            );
            return Err(ToolError::new(Code::Overlap, text));
        }
    }
    Ok(())
}

/// The flash addresses where chips look for their bootloader.
fn is_a_bootloader_address(address: u32) -> bool {
    esp_model::chip::all().iter().any(|chip| chip.bootloader_offset == address)
}

/// Refuses images that this chip would not run, before anything is written.
pub fn check_images(pieces: &[Piece], chip: &Chip, revision: Option<u16>, flash_size: u32) -> Result<(), ToolError> {
    for piece in pieces {
        if piece.end() > u64::from(flash_size) {
            let text = format!("`{}` would end at {:#x}, the flash ends at {flash_size:#x}", piece.path, piece.end());
            return Err(ToolError::new(Code::AddressOutOfRange, text));
        }
        // Raw data is free to begin with the magic byte: only what reads as an image is judged as one.
        let Some(found) = piece.image() else { continue };
        check_image(piece, &found, chip, revision, flash_size)?;
    }
    Ok(())
}

fn check_image(
    piece: &Piece,
    found: &image::parse::Image,
    chip: &Chip,
    revision: Option<u16>,
    flash_size: u32,
) -> Result<(), ToolError> {
    if found.chip.id != chip.id {
        let text = format!("`{}` is an image for {}, the chip is {}", piece.path, found.chip.name, chip.name);
        let chip_id = found.extended.as_ref().map(|header| header.chip_id);
        return Err(ToolError::new(Code::ChipMismatch, text).seen("image_chip_id", chip_id));
    }
    if let (Some(header), Some(revision)) = (&found.extended, revision) {
        let range = header.min_rev_full..=if header.max_rev_full == 0 { u16::MAX } else { header.max_rev_full };
        if !range.contains(&revision) {
            let text = format!(
                "`{}` allows chip revisions {} to {}, the chip has {}",
                piece.path,
                revision_text(*range.start()),
                revision_text(*range.end()),
                revision_text(revision)
            );
            return Err(ToolError::new(Code::RevisionMismatch, text));
        }
    }
    let wanted = chip.flash.bootloader_offset;
    if matches!(piece.content(), Content::Merged { base, .. } if base != piece.address) {
        // Where it belongs is told with its own words.
        return Ok(());
    }
    let is_bootloader =
        found.boot_desc().is_some() || (found.app_desc().is_none() && is_a_bootloader_address(piece.address));
    if is_bootloader && found.extended.is_some() && is_a_bootloader_address(piece.address) && piece.address != wanted {
        let text = format!("`{}` goes to {:#x}, but {} boots from {wanted:#x}", piece.path, piece.address, chip.name);
        let next =
            format!("give the bootloader with address {wanted:#x}, and the other files with their own (files=[…])");
        return Err(ToolError::new(Code::WrongBootloaderOffset, text).next(next));
    }
    let named = found.header.size_name(chip).and_then(crate::args::parse_number);
    match named {
        Some(named) if piece.address == wanted && named > u64::from(flash_size) => {
            let text = format!("`{}` is built for {named:#x} bytes of flash, there are {flash_size:#x}", piece.path);
            Err(ToolError::new(Code::FlashTooSmall, text))
        }
        _ => Ok(()),
    }
}

fn revision_text(revision: u16) -> String {
    if revision == u16::MAX { "any".into() } else { format!("v{}.{}", revision / 100, revision % 100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(address: u32, len: usize) -> Piece {
        Piece::new(format!("{address:x}"), address, vec![0; len])
    }

    #[test]
    fn overlaps_are_refused() {
        assert!(no_overlap(&mut [piece(0x1000, 0x1000), piece(0, 0x1000)]).is_ok());
        assert_eq!(no_overlap(&mut [piece(0x1000, 1), piece(0, 0x1001)]).unwrap_err().code, Code::Overlap);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let chip = &esp_model::chip::all()[0];
        let error = check_images(&[piece(0x3f_f000, 0x1001)], chip, None, 0x40_0000).unwrap_err();
        assert_eq!(error.code, Code::AddressOutOfRange);
        assert!(check_images(&[piece(0x3f_f000, 0x1000)], chip, None, 0x40_0000).is_ok());
    }
}
