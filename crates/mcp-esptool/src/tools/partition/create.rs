//! `esp_partition_create`: a partition table from a layout, byte for byte as ESP-IDF's generator.

use esp_model::job::Job;
use esp_model::partition::Table;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::partition::rows::{Layout, RowOut, TableOptions};
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Create;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Preset (single_app, two_ota, two_ota_large …), CSV text, CSV or binary file, or rows; {"partitions": [{"name": "nvs",
    /// "type": "data", "subtype": "nvs", "size": "24K"}]}.
    layout: Layout,
    /// File to write: .csv for the CSV form, any other name for binary.
    output_file: String,
    /// Second file for the CSV form.
    #[schemars(extend("x-rare" = true))]
    csv_file: Option<String>,
    #[serde(flatten)]
    options: TableOptions,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The file.
    output_file: String,
    /// The CSV file, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    csv_file: Option<String>,
    /// The partitions with their final addresses.
    partitions: Vec<RowOut>,
    /// Where the table itself belongs in flash.
    table_offset: u32,
    /// First address after the last partition: the flash must be at least this large.
    end: u64,
    /// Things that look like mistakes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Tool for Create {
    const NAME: &'static str = "esp_partition_create";
    const TITLE: &'static str = "Create a partition table";
    const ABOUT: &'static str = "Create a partition table (binary, CSV) from a preset, CSV or rows, byte for byte \
         as ESP-IDF's generator, with all its checks. Errors name the row.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let options = input.options.read()?;
        let table = Table::read(&input.layout.source(ctx)?, &options)?;
        let binary = table.to_binary(options.md5)?;
        let csv = table.to_csv(false, &options.subtypes);
        let is_csv = |path: &str| path.to_ascii_lowercase().ends_with(".csv");
        let bytes = if is_csv(&input.output_file) { csv.as_bytes() } else { &binary };
        let output_file = ctx.files.write(&input.output_file, bytes)?.display().to_string();
        let csv_file = match &input.csv_file {
            Some(path) => Some(ctx.files.write(path, csv.as_bytes())?.display().to_string()),
            None => None,
        };
        Ok(Out {
            output_file,
            csv_file,
            partitions: RowOut::of(&table, &options.subtypes),
            table_offset: options.table_offset,
            end: table.end(),
            warnings: table.warnings(&options).iter().map(ToString::to_string).collect(),
        })
    }

    fn summary(out: &Out) -> String {
        let warnings = if out.warnings.is_empty() { String::new() } else { format!("\n{}", out.warnings.join("; ")) };
        let count = out.partitions.len();
        let place = format!("for {:#x}; the flash must have {:#x} bytes", out.table_offset, out.end);
        format!("{} in {}, {place}{warnings}", counted(count, "partition"), out.output_file)
    }
}
