//! `esp_bootloader_build`: a second-stage bootloader, built, taken from stock, or with its header changed.

use std::time::Duration;

use esp_model::image::{self, FlashMode};
use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::firmware::bootloader::{BootConfig, Made, Source, finish, make, settings};
use esp_ops::firmware::common::{Written, chip_named, write};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct BootloaderBuild;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The chip: esp32, esp32c6 …
    chip_type: String,
    /// Settings to put into the bootloader.
    #[serde(default)]
    config: BootConfig,
    /// Where it comes from (default auto).
    #[serde(default)]
    source: Source,
    /// Change the header of this bootloader instead of making one.
    input_file: Option<String>,
    /// Output file (default: bootloader-CHIP.bin).
    output_file: Option<String>,
    /// Longest build in seconds (default 600).
    #[schemars(extend("x-rare" = true))]
    timeout_s: Option<u64>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The chip.
    chip: String,
    /// The file.
    file: Written,
    /// Where the bootloader comes from.
    origin: String,
    /// Mode in its header; a quad bootloader is loaded in dual mode and switches by itself.
    flash_mode: String,
    /// Size in its header.
    flash_size: String,
    /// Frequency in its header.
    flash_freq: String,
    /// ESP-IDF's version in its description.
    idf_version: Option<String>,
}

impl Tool for BootloaderBuild {
    const NAME: &'static str = "esp_bootloader_build";
    const TITLE: &'static str = "Build bootloader";
    const ABOUT: &'static str = "Provide a second-stage bootloader with flash mode, frequency and size set: built \
         with ESP-IDF if installed, else stock. Never changes signed ones.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let chip = chip_named(&input.chip_type)?;
        let limit = Duration::from_secs(input.timeout_s.unwrap_or(600));
        let made = match &input.input_file {
            Some(path) => Made {
                bytes: ctx.files.read_some(path)?,
                origin: format!("`{path}`"),
                settings: settings(&input.config)?,
            },
            None => make(ctx, job, chip, &input.config, input.source, limit)?,
        };
        let bytes = finish(chip, made.bytes, &made.settings)?;
        let path = input.output_file.unwrap_or_else(|| format!("bootloader-{}.bin", chip.id));
        let image = image::parse::parse_for(chip, &bytes)?;
        let code = |name: Option<&str>| name.unwrap_or("unknown").to_owned();
        Ok(Out {
            chip: chip.id.to_owned(),
            file: write(ctx, &path, &bytes, Some(chip.flash.bootloader_offset))?,
            origin: made.origin,
            flash_mode: code(image.header.mode().map(FlashMode::name)),
            flash_size: code(image.header.size_name(chip)),
            flash_freq: code(image.header.frequency_name(chip)),
            idf_version: image.boot_desc().map(|desc| desc.idf_version),
        })
    }

    fn summary(out: &Out) -> String {
        let address = out.file.flash_address.unwrap_or(0);
        format!(
            "{} ({} bytes, for {address:#x}), {} {} {}\nfrom {}",
            out.file.path, out.file.size_bytes, out.flash_mode, out.flash_freq, out.flash_size, out.origin
        )
    }
}
