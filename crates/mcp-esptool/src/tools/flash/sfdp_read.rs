//! `esp_flash_sfdp_read`: the flash part's description of itself.

use esp_model::flash::sfdp::{Basic, Header};
use esp_model::image::hex::hex;
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::part::{self, Description};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct SfdpRead;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// File for the raw bytes.
    #[schemars(extend("x-rare" = true))]
    output_file: Option<String>,
}

/// A parameter header.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HeaderOut {
    /// Its id, such as 0xff00.
    id: u16,
    /// What the table is.
    name: String,
    /// Revision of the table, such as 1.6.
    revision: String,
    /// Where it stands in the area.
    address: u32,
    /// Its length.
    size_bytes: u32,
}

/// A kind of erase.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EraseOut {
    /// Bytes that are erased.
    size_bytes: u64,
    /// The opcode.
    opcode: u8,
    /// Typical time.
    #[serde(skip_serializing_if = "Option::is_none")]
    typical_ms: Option<u32>,
    /// Longest time.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ms: Option<u32>,
}

/// A fast read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReadOut {
    /// Lines for opcode, address and data, such as 1-4-4.
    lines: String,
    /// The opcode.
    opcode: u8,
    /// Mode clocks.
    mode_clocks: u8,
    /// Dummy clocks.
    dummy_clocks: u8,
}

/// The basic flash parameter table.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BasicOut {
    /// Size of the flash; left out where the word makes no sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    /// 3, 3 or 4, or 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    address_bytes: Option<String>,
    /// Kinds of erase, the smallest first.
    erase: Vec<EraseOut>,
    /// Fast reads.
    reads: Vec<ReadOut>,
    /// Data can move on both edges of the clock.
    double_rate: bool,
    /// Bytes of a program page.
    #[serde(skip_serializing_if = "Option::is_none")]
    page_size_bytes: Option<u32>,
    /// Typical and longest time to program a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    page_program_us: Option<(u32, u32)>,
    /// Typical and longest time to erase all.
    #[serde(skip_serializing_if = "Option::is_none")]
    chip_erase_ms: Option<(u32, u32)>,
    /// How four data lines are switched on: none, sr1_bit6, sr2_bit1_own …
    #[serde(skip_serializing_if = "Option::is_none")]
    quad_enable: Option<String>,
    /// Erase and program can be suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspend: Option<bool>,
    /// Opcodes that enter and leave deep power-down.
    #[serde(skip_serializing_if = "Option::is_none")]
    deep_power_down: Option<(u8, u8)>,
    /// 0x66 and 0x99 reset the part.
    #[serde(skip_serializing_if = "Option::is_none")]
    soft_reset: Option<bool>,
    /// The table's words.
    words: Vec<u32>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// JEDEC id: manufacturer, type, capacity.
    jedec_id: String,
    /// Revision of SFDP, such as 1.6.
    revision: String,
    /// The parameter headers.
    headers: Vec<HeaderOut>,
    /// The basic table; left out where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    basic: Option<BasicOut>,
    /// Why the basic table cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The area as far as its tables reach, in hex.
    raw_hex: String,
    /// The file with the area.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Tool for SfdpRead {
    const NAME: &'static str = "esp_flash_sfdp_read";
    const TITLE: &'static str = "Read SFDP";
    const ABOUT: &'static str = "Read the flash chip's SFDP table: size, erase sizes and times, fast reads, page \
         size, quad enable, raw bytes.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let (device, id, found) = ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let id = connected.loader.flash_id(job)?;
            Ok((device, id, part::sfdp(connected, job)?))
        })?;
        let no_table = |error| ToolError::new(Code::NoSfdp, format!("flash {id}: {error}"));
        let Description { area, sfdp, basic } = found.map_err(no_table)?;
        let file = match &input.output_file {
            Some(path) => Some(ctx.files.keep(path, &area)?.display().to_string()),
            None => None,
        };
        Ok(Out {
            device,
            jedec_id: id.to_string(),
            revision: format!("{}.{}", sfdp.major, sfdp.minor),
            headers: sfdp.headers.iter().map(header).collect(),
            problem: basic.as_ref().err().map(ToString::to_string),
            basic: basic.ok().map(|table| describe(&table)),
            raw_hex: hex(&area),
            file,
        })
    }

    fn summary(out: &Out) -> String {
        let Some(basic) = &out.basic else {
            return format!(
                "{}\nSFDP {}: {}",
                out.device,
                out.revision,
                out.problem.as_deref().unwrap_or("no basic table")
            );
        };
        let size = basic.size_bytes.map_or("unknown size".into(), |size| format!("{} KB", size / 1024));
        let erase: Vec<String> = basic.erase.iter().map(|erase| format!("{} KB", erase.size_bytes / 1024)).collect();
        let reads: Vec<&str> = basic.reads.iter().map(|read| read.lines.as_str()).collect();
        let (erase, reads) = (erase.join(", "), reads.join(", "));
        format!("{}\nflash {}, SFDP {}: {size}; erase {erase}; reads {reads}", out.device, out.jedec_id, out.revision)
    }
}

fn header(header: &Header) -> HeaderOut {
    HeaderOut {
        id: header.id,
        name: header.name().into(),
        revision: format!("{}.{}", header.major, header.minor),
        address: header.address,
        size_bytes: u32::from(header.words) * 4,
    }
}

fn describe(table: &Basic) -> BasicOut {
    let erase = table.erase_types().into_iter().map(|erase| EraseOut {
        size_bytes: erase.size,
        opcode: erase.opcode,
        typical_ms: erase.typical_ms,
        max_ms: erase.max_ms,
    });
    let reads = table.fast_reads().into_iter().map(|read| ReadOut {
        lines: read.lines.into(),
        opcode: read.opcode,
        mode_clocks: read.mode_clocks,
        dummy_clocks: read.dummy_clocks,
    });
    let quad = table.quad_enable().and_then(|quad| serde_json::to_value(quad).ok());
    BasicOut {
        size_bytes: table.size(),
        address_bytes: table.address_bytes().map(str::to_owned),
        erase: erase.collect(),
        reads: reads.collect(),
        double_rate: table.double_rate(),
        page_size_bytes: table.page_size(),
        page_program_us: table.page_program_us(),
        chip_erase_ms: table.chip_erase_ms(),
        quad_enable: quad.and_then(|quad| quad.as_str().map(str::to_owned)),
        suspend: table.suspend(),
        deep_power_down: table.deep_power_down(),
        soft_reset: table.soft_reset(),
        words: table.words().to_vec(),
    }
}
