//! Flash size, mode and frequency in the header of the bootloader that is written, as `esptool write-flash` sets them.

use esp_model::chip::Chip;
use esp_model::image::Header;
use esp_model::image::merge::{self, FlashSettings, Patched};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::args::{Number, parse_number};
use crate::error::ToolError;
use crate::firmware::common::{self, mode_named};
use crate::flash::files::Piece;

/// A flash size, or what to do about it.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SizeChoice {
    /// Bytes.
    Bytes(Number),
    /// detect or keep.
    Word(SizeWord),
}

/// What to do about the size in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizeWord {
    /// The size of the flash that is there.
    Detect,
    /// The size that the file names.
    Keep,
}

impl SizeChoice {
    /// The size that was given as a number.
    pub fn bytes(self) -> Option<u32> {
        match self {
            Self::Bytes(number) => number.as_u32(),
            Self::Word(_) => None,
        }
    }
}

/// Settings as a build or a caller spells them; `keep` and nothing mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Wanted {
    /// qio, qout, dio or dout.
    #[serde(rename = "flash_mode")]
    pub mode: Option<String>,
    /// A size in the chip's spelling, or `detect`.
    #[serde(rename = "flash_size")]
    pub size: Option<String>,
    /// A frequency in the chip's spelling.
    #[serde(rename = "flash_freq")]
    pub frequency: Option<String>,
}

impl Wanted {
    /// From the arguments of `esptool write-flash`: `--flash_mode dio --flash-size detect`.
    pub fn from_arguments(arguments: &[String]) -> Self {
        // `--flash-size=detect` is two words.
        let split = |word: &String| match word.split_once('=') {
            Some((name, value)) if name.starts_with('-') => vec![name.to_owned(), value.to_owned()],
            _ => vec![word.clone()],
        };
        let arguments: Vec<String> = arguments.iter().flat_map(split).collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|word| word.replace('-', "_").trim_start_matches('_') == name)?;
            arguments.get(at + 1).cloned()
        };
        let short = |long: &str, short: &str| {
            value(long).or_else(|| {
                let at = arguments.iter().position(|word| word == short)?;
                arguments.get(at + 1).cloned()
            })
        };
        Self {
            mode: short("flash_mode", "-fm"),
            size: short("flash_size", "-fs"),
            frequency: short("flash_freq", "-ff"),
        }
    }

    /// What the caller says counts more.
    #[must_use]
    pub fn or(self, build: &Self) -> Self {
        Self {
            mode: self.mode.or_else(|| build.mode.clone()),
            size: self.size.or_else(|| build.size.clone()),
            frequency: self.frequency.or_else(|| build.frequency.clone()),
        }
    }

    fn settings(&self, chip: &Chip, flash_size: u32) -> Result<FlashSettings, ToolError> {
        let given = |text: &Option<String>| text.clone().filter(|text| text != "keep");
        let size = match given(&self.size) {
            Some(word) if word == "detect" => name_of(chip, flash_size.into()),
            Some(text) => parse_number(&text).and_then(|bytes| name_of(chip, bytes)).or(Some(text)),
            None => None,
        };
        let mode = given(&self.mode).map(|name| mode_named(&name)).transpose()?;
        Ok(FlashSettings { mode, size, frequency: given(&self.frequency) })
    }
}

/// The chip's name for a size.
pub fn name_of(chip: &Chip, bytes: u64) -> Option<String> {
    chip.flash.sizes.keys().find(|name| parse_number(name) == Some(bytes)).cloned()
}

/// Sets the header of the bootloader among the pieces. Returns what was done and what was not.
pub fn apply(
    pieces: &mut [Piece],
    chip: &'static Chip,
    flash_size: u32,
    wanted: &Wanted,
) -> Result<Vec<String>, ToolError> {
    let settings = wanted.settings(chip, flash_size)?;
    let place = chip.flash.bootloader_offset;
    let Some(piece) = pieces.iter_mut().find(|piece| piece.address == place).filter(|_| !settings.is_keep()) else {
        return Ok(Vec::new());
    };
    let before = Header::decode(piece.head());
    // A file that is held on the disk is read whole only when its header becomes another one.
    let mut head = piece.at(0, 1 << 20)?;
    let path = piece.path.clone();
    if common::is_signed(&head) {
        return Ok(vec![format!("`{path}` is signed: flash size, mode and frequency in its header stay as they are")]);
    }
    let patched = merge::set_flash(chip, place, &mut head, &settings)?;
    let after = Header::decode(&head);
    match (patched, before, after) {
        (Patched::NotAnImage, ..) => Ok(vec![format!(
            "`{path}` is not an image of {}: its flash size, mode and frequency stay as they are",
            chip.name
        )]),
        (Patched::Done, Some(before), Some(after)) if before != after => {
            piece.convert(|bytes| {
                let mut bytes = bytes.to_vec();
                merge::set_flash(chip, place, &mut bytes, &settings)?;
                Ok(bytes)
            })?;
            Ok(vec![format!(
                "header of `{path}` set for this flash: {} (checksums made anew)",
                change(chip, before, after)
            )])
        }
        _ => Ok(Vec::new()),
    }
}

/// What became another one.
fn change(chip: &Chip, before: Header, after: Header) -> String {
    let named = |header: Header| {
        [
            ("size", header.size_name(chip).unwrap_or("unknown").to_owned()),
            ("mode", header.mode().map_or("unknown", |mode| mode.name()).to_owned()),
            ("frequency", header.frequency_name(chip).unwrap_or("unknown").to_owned()),
        ]
    };
    let pairs = named(before).into_iter().zip(named(after)).filter(|(old, new)| old != new);
    pairs.map(|((what, old), (_, new))| format!("{what} {old} to {new}")).collect::<Vec<_>>().join(", ")
}
