//! What the firmware tools share.

use std::path::Path;

use esp_model::chip::{self, Chip};
use esp_model::image::hex::hex;
use esp_model::image::merge::FlashSettings;
use esp_model::image::{self, BuildError, Built, FlashMode, ParseError, merge};
use esp_model::secure::boot_v2;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::Call;
use crate::args::Number;
use crate::error::{Code, ToolError};

/// A file that a tool wrote.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Written {
    /// Its full path.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its SHA-256 in hex; not of files above 1 MB, of which it takes longer than writing them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The flash address it is for, where it has one.
    pub flash_address: Option<u32>,
}

/// Writes a file below the project roots.
pub fn write(call: &Call, path: &str, bytes: &[u8], flash_address: Option<u32>) -> Result<Written, ToolError> {
    write_parts(call, path, &[bytes], flash_address)
}

/// The same, of a file that is put together from parts.
pub fn write_parts(call: &Call, path: &str, parts: &[&[u8]], flash_address: Option<u32>) -> Result<Written, ToolError> {
    const HASHED: u64 = 1 << 20;
    let path = call.files.write_parts(path, parts.iter().copied())?.display().to_string();
    let size_bytes = parts.iter().map(|part| part.len() as u64).sum();
    let digest = || {
        let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
        hex(&hash.finalize())
    };
    let sha256 = (size_bytes <= HASHED).then(digest);
    Ok(Written { path, size_bytes, sha256, flash_address })
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The chip of this name.
pub fn chip_named(name: &str) -> Result<&'static Chip, ToolError> {
    chip::by_name(name).ok_or_else(|| {
        let known = chip::all().iter().map(|chip| chip.id).collect::<Vec<_>>().join(", ");
        ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`")).seen("known", known)
    })
}

/// Flash settings from their texts; `keep` and nothing mean the same.
pub fn flash_settings(
    mode: Option<&str>,
    frequency: Option<&str>,
    size: Option<&str>,
) -> Result<FlashSettings, ToolError> {
    let given = |text: Option<&str>| text.filter(|text| *text != "keep").map(str::to_owned);
    let mode = given(mode).map(|name| mode_named(&name)).transpose()?;
    Ok(FlashSettings { mode, frequency: given(frequency), size: given(size) })
}

/// The flash mode of this name.
pub fn mode_named(name: &str) -> Result<FlashMode, ToolError> {
    FlashMode::from_name(name)
        .ok_or_else(|| ToolError::new(Code::BadParameter, format!("flash_mode `{name}` is not qio, qout, dio or dout")))
}

/// A number that must fit 32 bits.
pub fn word(name: &str, number: Number) -> Result<u32, ToolError> {
    number
        .as_u32()
        .ok_or_else(|| ToolError::new(Code::BadParameter, format!("{name} does not fit 32 bits: {:#x}", number.0)))
}

/// A path without its ending.
pub fn stem(path: &str) -> String {
    Path::new(path).with_extension("").to_string_lossy().into_owned()
}

/// The flash app images of a built ELF: bytes and flash offset from the image's place.
pub fn app_image(built: Built) -> Result<Vec<u8>, ToolError> {
    match built {
        Built::One(bytes) => Ok(bytes),
        Built::Split { .. } => {
            Err(ToolError::new(Code::Internal, "an image of version 1 consists of two files and is not prepared here"))
        }
    }
}

/// The image carries a signature (secure boot v2 blocks, or a v1 signature behind it).
pub fn is_signed(bytes: &[u8]) -> bool {
    image::parse(bytes).is_ok_and(|image| signature(&image, bytes).is_some())
}

/// What kind of signature stands behind an image.
pub fn signature(image: &image::Image<'_>, bytes: &[u8]) -> Option<Signature> {
    let sector = image.len().next_multiple_of(esp_model::secure::SECTOR);
    let signed = bytes.get(..sector + esp_model::secure::SECTOR);
    if let Some(blocks) = signed.and_then(|signed| boot_v2::check(signed).ok()).filter(|blocks| !blocks.is_empty()) {
        return Some(Signature::V2(blocks));
    }
    // Version word 0 and an ECDSA signature, which is never empty.
    let v1 = image.trailer().get(..68)?;
    let behind = |byte: &u8| !matches!(byte, 0 | 0xff);
    let filled = v1.get(4..).is_some_and(|rest| rest.iter().filter(|byte| behind(byte)).count() > 32);
    (v1.starts_with(&[0; 4]) && filled).then_some(Signature::V1)
}

/// A signature behind an image.
pub enum Signature {
    /// Secure boot v1: ECDSA P-256 behind the image.
    V1,
    /// Secure boot v2: blocks in a sector of their own.
    V2(Vec<boot_v2::Checked>),
}

impl From<BuildError> for ToolError {
    fn from(error: BuildError) -> Self {
        let code = match &error {
            BuildError::Elf(_) => Code::ElfInvalid,
            BuildError::Frequency { .. } | BuildError::Size { .. } | BuildError::MmuPage { .. } => Code::BadParameter,
            _ => Code::ImageNotPossible,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ParseError> for ToolError {
    fn from(error: ParseError) -> Self {
        Self::new(Code::ImageInvalid, error.to_string())
    }
}

impl From<merge::MergeError> for ToolError {
    fn from(error: merge::MergeError) -> Self {
        let code = match &error {
            merge::MergeError::Overlap { .. } => Code::Overlap,
            merge::MergeError::Hex(_) => Code::FileDamaged,
            _ => Code::BadParameter,
        };
        Self::new(code, error.to_string())
    }
}
