//! `esp_partition_read`: the partition table of a device.

use esp_model::job::Job;
use esp_model::partition::{Recognised, Subtypes};
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::partition::on_device;
use esp_ops::partition::rows::RowOut;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Read;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Flash address of the table (default 0x8000).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Where the table stands.
    table_offset: u32,
    /// The partitions.
    partitions: Vec<RowOut>,
    /// The same as CSV.
    csv: String,
    /// A signature (secure boot version 1) stands behind the table.
    signed: bool,
    /// First address after the last partition.
    end: u64,
}

impl Tool for Read {
    const NAME: &'static str = "esp_partition_read";
    const TITLE: &'static str = "Read the partition table";
    const ABOUT: &'static str = "Read and decode the device's partition table, MD5 checked. Says what is there if \
         there is none.";
    const RISK: Risk = Risk::Reads;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let table_offset = esp_ops::args::table_offset(input.table_offset)?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let sector = on_device::read(connected, job, table_offset)?;
            let signed = matches!(sector.kind, Recognised::Table { signature } if signature > 0);
            let table = sector.into_table(table_offset)?;
            let names = Subtypes::default();
            let (partitions, csv) = (RowOut::of(&table, &names), table.to_csv(false, &names));
            Ok(Out { device, table_offset, partitions, csv, signed, end: table.end() })
        })
    }

    fn summary(out: &Out) -> String {
        let names: Vec<&str> = out.partitions.iter().map(|row| row.name.as_str()).collect();
        format!(
            "{}\n{} at {:#x}: {}",
            out.device,
            counted(names.len(), "partition"),
            out.table_offset,
            names.join(", ")
        )
    }
}
