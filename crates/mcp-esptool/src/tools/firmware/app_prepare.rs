//! `esp_app_prepare`: an ELF file to a set that can be flashed as it is.

use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::firmware::app_set::{Plan, make_set, write_set};
use esp_ops::firmware::common::{Written, chip_named, stem};
use esp_ops::firmware::facts::{PartitionFacts, partition_facts};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct AppPrepare;

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The chip.
    chip: String,
    /// What to flash, by address, then the merged file and flasher_args.json.
    files: Vec<Written>,
    /// The merged file, for address 0.
    merged_file: String,
    /// The description of the set, as ESP-IDF writes it; esp_flash_firmware takes its folder as `project`.
    flasher_args: String,
    /// Where the bootloader comes from.
    bootloader_origin: String,
    /// The partition table.
    partitions: Vec<PartitionFacts>,
    /// Bytes of the app.
    app_bytes: u64,
    /// Bytes left in its partition.
    app_free_bytes: u64,
}

impl Tool for AppPrepare {
    const NAME: &'static str = "esp_app_prepare";
    const TITLE: &'static str = "Prepare app";
    const ABOUT: &'static str = "Make all that a chip needs to run an ELF file (also Rust): app image, bootloader, \
         partition table, otadata, merged file, flasher_args.json for esp_flash_firmware.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = Plan;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: Plan) -> Result<Out, ToolError> {
        let chip = chip_named(&input.chip_type)?;
        let set = make_set(ctx, job, chip, &input)?;
        let folder = input.output_dir.clone().unwrap_or_else(|| format!("{}-flash", stem(&input.elf_file)));
        let written = write_set(ctx, chip, &set.flash, &folder, set.items)?;
        Ok(Out {
            chip: chip.id.to_owned(),
            merged_file: written.merged,
            flasher_args: written.args,
            files: written.files,
            bootloader_origin: set.bootloader_origin,
            partitions: set.table.partitions.iter().map(partition_facts).collect(),
            app_bytes: set.app_bytes,
            app_free_bytes: set.app_free_bytes,
        })
    }

    fn summary(out: &Out) -> String {
        format!(
            "{}: {} files, merged in {}; app of {} bytes, {} free in its partition\nbootloader: {}",
            out.chip,
            out.files.len(),
            out.merged_file,
            out.app_bytes,
            out.app_free_bytes,
            out.bootloader_origin
        )
    }
}
