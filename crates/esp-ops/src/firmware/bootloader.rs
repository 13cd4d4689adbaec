//! Second-stage bootloaders: built with ESP-IDF or taken from stock, with their header set.

use std::collections::BTreeMap;
use std::time::Duration;

use esp_link::bootloaders::{StockBootloader, Wanted};
use esp_model::chip::Chip;
use esp_model::image::merge::{self, FlashSettings, Patched};
use esp_model::image::{self, FlashMode};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Call;
use crate::error::{Code, ToolError};
use crate::firmware::common::{flash_settings, is_signed};
use crate::firmware::idf;

/// Where the bootloader comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// ESP-IDF when it is installed, else stock.
    #[default]
    Auto,
    /// Build it with the installed ESP-IDF.
    Idf,
    /// The one that comes with this program.
    Stock,
}

/// What the bootloader shall be like.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// qio, qout, dio (default) or dout.
    pub flash_mode: Option<String>,
    /// 80m, 40m … (default: the chip's).
    pub flash_freq: Option<String>,
    /// 2MB, 4MB … (default: as the bootloader comes).
    pub flash_size: Option<String>,
    /// Crystal in MHz, where it is not the usual one: 26.
    pub crystal_mhz: Option<u32>,
    /// Chip revision, major × 100 + minor (default: the newest).
    pub chip_revision: Option<u16>,
    /// Further options of ESP-IDF, for example {"CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE": "y"}; they need ESP-IDF.
    #[serde(default)]
    pub sdkconfig: BTreeMap<String, String>,
}

/// A bootloader before its header is set.
pub struct Made {
    /// The image.
    pub bytes: Vec<u8>,
    /// Where it comes from.
    pub origin: String,
    /// What to write to its header.
    pub settings: FlashSettings,
}

/// Flash settings as names.
pub fn settings(config: &BootConfig) -> Result<FlashSettings, ToolError> {
    flash_settings(config.flash_mode.as_deref(), config.flash_freq.as_deref(), config.flash_size.as_deref())
}

/// Builds a bootloader or takes a stock one.
pub fn make(
    ctx: &Call,
    job: &Job,
    chip: &'static Chip,
    config: &BootConfig,
    source: Source,
    limit: Duration,
) -> Result<Made, ToolError> {
    let installed = idf::find(ctx).filter(|_| source != Source::Stock);
    let no_idf = |what: &str| {
        ToolError::new(Code::IdfMissing, format!("{what} needs an installed ESP-IDF, and none is configured"))
    };
    match installed {
        Some(idf) => {
            let bytes = idf.bootloader(job, chip, &sdkconfig(config)?, limit)?;
            let origin = format!("a build with ESP-IDF {}", idf.version);
            // The build has set the mode that its code is made for.
            Ok(Made { bytes, origin, settings: FlashSettings { mode: None, ..settings(config)? } })
        }
        None if source == Source::Idf => Err(no_idf("building a bootloader")),
        None if !config.sdkconfig.is_empty() => Err(no_idf("a bootloader with sdkconfig options")),
        None => stock(chip, config),
    }
}

fn stock(chip: &'static Chip, config: &BootConfig) -> Result<Made, ToolError> {
    let settings = settings(config)?;
    let mode = settings.mode.unwrap_or(FlashMode::Dio);
    let wanted = Wanted { mode, crystal_mhz: config.crystal_mhz, revision: config.chip_revision };
    let found = StockBootloader::find(chip, wanted).ok_or_else(|| {
        ToolError::new(Code::NotSupportedByChip, format!("there is no stock bootloader for {} like this", chip.name))
            .next("build one with ESP-IDF or the chip's own SDK and give it as input_file")
    })?;
    Ok(Made {
        bytes: found.bytes.to_vec(),
        origin: found.origin(),
        settings: FlashSettings { mode: Some(found.header_mode), ..settings },
    })
}

/// Lines of `sdkconfig` for the wanted flash settings and options.
fn sdkconfig(config: &BootConfig) -> Result<Vec<String>, ToolError> {
    let mut lines = Vec::new();
    let option = |text: &str| text.to_ascii_uppercase();
    if let Some(mode) = &config.flash_mode {
        lines.push(format!("CONFIG_ESPTOOLPY_FLASHMODE_{}=y", option(mode)));
    }
    if let Some(frequency) = &config.flash_freq {
        lines.push(format!("CONFIG_ESPTOOLPY_FLASHFREQ_{}=y", option(frequency)));
    }
    if let Some(size) = &config.flash_size {
        lines.push(format!("CONFIG_ESPTOOLPY_FLASHSIZE_{}=y", option(size)));
    }
    if let Some(crystal) = config.crystal_mhz {
        lines.push(format!("CONFIG_XTAL_FREQ_{crystal}=y"));
    }
    for (name, value) in &config.sdkconfig {
        let fits = |text: &str| !text.contains(['\n', '\r']);
        if !name.starts_with("CONFIG_") || !fits(name) || !fits(value) {
            return Err(ToolError::new(Code::BadParameter, format!("`{name}` is not an option of ESP-IDF (CONFIG_…)")));
        }
        lines.push(format!("{name}={value}"));
    }
    Ok(lines)
}

/// Sets the header; the bootloader must be one of the chip's, and unsigned when something is to be changed.
pub fn finish(chip: &'static Chip, mut bytes: Vec<u8>, settings: &FlashSettings) -> Result<Vec<u8>, ToolError> {
    let image = image::parse::parse_for(chip, &bytes)?;
    if image.chip.chip_id != image.extended.map(|extended| extended.chip_id) {
        return Err(ToolError::new(Code::ChipMismatch, format!("the bootloader is not one for {}", chip.name)));
    }
    if settings.is_keep() {
        return Ok(bytes);
    }
    if is_signed(&bytes) {
        return Err(ToolError::new(Code::ImageSigned, "the bootloader is signed: its header cannot be changed"));
    }
    match merge::set_flash(chip, chip.flash.bootloader_offset, &mut bytes, settings)? {
        Patched::Done | Patched::NotAsked => Ok(bytes),
        Patched::NotAnImage => Err(ToolError::new(Code::ImageInvalid, "the bootloader is not a whole image")),
    }
}
