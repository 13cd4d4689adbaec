//! Stock second-stage bootloaders, for projects without an ESP-IDF build of their own.
//!
//! They are ESP-IDF's (Apache-2.0) with default options, built in from the published `espflash` package (version 4.7.0,
//! MIT OR Apache-2.0). Names are the chip's id, then `_26` for a 26 MHz crystal, `-vMAJOR[.MINOR]` for the lowest chip
//! revision, and `-qio` for the variant that turns on quad mode in the flash chip.

use esp_model::chip::Chip;
use esp_model::image::{self, FlashMode};

static BUILT_IN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bootloaders.rs"));

/// A stock bootloader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockBootloader {
    /// Its name in the package, without `-bootloader.bin`.
    pub name: &'static str,
    /// The image as published.
    pub bytes: &'static [u8],
    /// The mode to write to its header: a quad bootloader is loaded in dual mode and switches by itself.
    pub header_mode: FlashMode,
}

/// What a bootloader is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How the app shall use the flash.
    pub mode: FlashMode,
    /// Crystal in MHz; None: the chip's usual one.
    pub crystal_mhz: Option<u32>,
    /// Chip revision, major × 100 + minor; None: the newest.
    pub revision: Option<u16>,
}

impl StockBootloader {
    /// The bootloader for a chip; None when there is none.
    pub fn find(chip: &Chip, wanted: Wanted) -> Option<Self> {
        let quad = wanted.mode == FlashMode::Qio;
        let fitting = BUILT_IN.iter().filter_map(|(name, bytes)| {
            let rest = name.strip_prefix(chip.id)?;
            let rest = if quad { rest.strip_suffix("-qio")? } else { rest };
            let rest = if wanted.crystal_mhz == Some(26) { rest.strip_prefix("_26")? } else { rest };
            let revision = if rest.is_empty() { 0 } else { revision(rest)? };
            let new_enough = wanted.revision.is_none_or(|actual| revision <= actual);
            new_enough.then_some((revision, *name, *bytes))
        });
        let (_, name, bytes) = fitting.max_by_key(|(revision, ..)| *revision)?;
        let header_mode = if quad { FlashMode::Dio } else { wanted.mode };
        Some(Self { name, bytes, header_mode })
    }

    /// Where it comes from, for people.
    pub fn origin(&self) -> String {
        let desc = image::parse(self.bytes).ok().and_then(|image| image.boot_desc());
        let built = desc.map_or_else(String::new, |desc| format!(", built from ESP-IDF {}", desc.idf_version));
        format!("{}-bootloader.bin of the espflash 4.7.0 package (MIT OR Apache-2.0){built}", self.name)
    }
}

/// `-v0`, `-v3`, `-v0.2` as major × 100 + minor.
fn revision(text: &str) -> Option<u16> {
    let text = text.strip_prefix("-v")?;
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some(major.parse::<u16>().ok()?.checked_mul(100)? + minor.parse::<u16>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(chip: &str, mode: FlashMode, crystal_mhz: Option<u32>, revision: Option<u16>) -> Option<&'static str> {
        let chip = esp_model::chip::by_name(chip).expect("a chip");
        StockBootloader::find(chip, Wanted { mode, crystal_mhz, revision }).map(|found| found.name)
    }

    #[test]
    fn the_fitting_one_is_found() {
        assert_eq!(find("esp32", FlashMode::Dio, None, None), Some("esp32"));
        assert_eq!(find("esp32", FlashMode::Qio, Some(26), None), Some("esp32_26-qio"));
        assert_eq!(find("esp32c6", FlashMode::Dout, Some(40), Some(1)), Some("esp32c6"));
        assert_eq!(find("esp32p4", FlashMode::Dio, None, Some(103)), Some("esp32p4-v0"));
        assert_eq!(find("esp32p4", FlashMode::Dio, None, None), Some("esp32p4-v3"));
        assert_eq!(find("esp32h4", FlashMode::Qio, None, Some(1)), Some("esp32h4-v0.0-qio"));
        assert_eq!(find("esp8266", FlashMode::Dio, None, None), None);
    }

    #[test]
    fn every_one_is_a_whole_image_of_its_chip() {
        assert!(BUILT_IN.len() > 30);
        for (name, bytes) in BUILT_IN {
            let image = image::parse(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(name.starts_with(image.chip.id), "{name}: {}", image.chip.id);
            let prevents: Vec<_> = image::checks::check(&image, None);
            assert!(!prevents.iter().any(image::checks::Finding::prevents_boot), "{name}: {prevents:?}");
            assert!(image.boot_desc().is_some_and(|desc| desc.idf_version.starts_with('v')), "{name}");
        }
    }
}
