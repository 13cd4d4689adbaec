//! What goes into a virtual device's flash: files, a build, or an ELF.

use esp_model::chip::Chip;
use esp_model::image::build::{Built, Settings, build};

use crate::Call;
use crate::args::{FileAt, Number};
use crate::error::{Code, ToolError};
use crate::flash::files::{self, Piece};
use crate::flash::{belongs, project};

/// Where an app goes that does not say where: the first partition behind the usual table (ESP-IDF's default).
const APP: u32 = 0x1_0000;

/// Reads files and a build for `chip`; an ELF becomes an image.
pub fn gather(
    call: &Call,
    chip: &Chip,
    files: &[FileAt],
    build_folder: Option<&str>,
    size: u64,
    accept_wrong_place: bool,
) -> Result<Vec<Piece>, ToolError> {
    let mut list = files.to_vec();
    let mut made = Vec::new();
    if let Some(path) = build_folder {
        let project = project::read(call, path)?;
        if let Some(other) =
            project.chip.as_deref().filter(|name| esp_model::chip::by_name(name).is_none_or(|c| c.id != chip.id))
        {
            let text = format!("the project is for {other}, the virtual device is an {}", chip.name);
            return Err(ToolError::new(Code::ChipMismatch, text));
        }
        list.extend(project.files);
        // An ELF without an address goes where apps usually go.
        list.extend(project.elf.map(|path| FileAt { path, address: Number(0) }));
        made = project.made;
    }
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut pieces = files::load(call, &list)?;
    for piece in &mut pieces {
        if project::is_elf(piece.head()) {
            let path = piece.path.clone();
            piece.convert(|elf| image_of(chip, &path, elf, size))?;
            if piece.address == 0 {
                piece.address = APP;
            }
        }
    }
    pieces.extend(made);
    files::no_overlap(&mut pieces)?;
    if !accept_wrong_place {
        belongs::check(&pieces, chip, None)?;
    }
    if let Some(piece) = pieces.iter().find(|piece| piece.end() > size) {
        let text = format!("`{}` ends at {:#x}, the flash at {size:#x}", piece.path, piece.end());
        return Err(ToolError::new(Code::AddressOutOfRange, text));
    }
    Ok(pieces)
}

fn image_of(chip: &Chip, path: &str, elf: &[u8], size: u64) -> Result<Vec<u8>, ToolError> {
    let settings = Settings { flash_size: format!("{}MB", size >> 20), ..Settings::default() };
    let failed = |what: String| ToolError::new(Code::ImageInvalid, format!("`{path}`: {what}"));
    match build(chip, elf, &settings).map_err(|error| failed(error.to_string()))? {
        Built::One(image) => Ok(image),
        _ => Err(failed("this chip's images are two files: convert it with esp_elf_to_binary first".into())),
    }
}

/// The whole content up to the last piece; what is between is erased.
pub fn joined(pieces: &[Piece]) -> Result<Vec<u8>, ToolError> {
    let end = pieces.iter().map(Piece::end).max().unwrap_or(0);
    let mut all = vec![0xff; usize::try_from(end).unwrap_or(0)];
    for piece in pieces {
        put(&mut all, piece)?;
    }
    Ok(all)
}

/// Lays a piece over a content that is long enough.
pub fn put(all: &mut [u8], piece: &Piece) -> Result<(), ToolError> {
    let (at, bytes) = (piece.address as usize, piece.bytes()?);
    if let Some(place) = all.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(&bytes);
    }
    Ok(())
}
