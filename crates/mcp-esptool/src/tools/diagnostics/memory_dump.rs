//! `esp_memory_dump`: RAM, ROM and registers as the loader sees them.

use std::fmt::Write as _;

use esp_model::chip::Chip;
use esp_model::job::Job;
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct MemoryDump;

/// Most bytes of one dump.
const MOST: u32 = 1 << 20;
/// Bytes shown in the result.
const SHOWN: usize = 256;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// First address.
    address: Number,
    /// Bytes, at most 1 MB.
    size: Number,
    /// File for all bytes.
    output_file: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// First address.
    address: String,
    /// Bytes read.
    size_bytes: u32,
    /// Memory regions that the range lies in; empty for peripherals and gaps.
    regions: Vec<String>,
    /// What to bear in mind.
    note: String,
    /// SHA-256 of the bytes.
    sha256: String,
    /// The first 256 bytes.
    hexdump: String,
    /// The file with all bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_file: Option<String>,
}

impl Tool for MemoryDump {
    const NAME: &'static str = "esp_memory_dump";
    const TITLE: &'static str = "Dump memory";
    const ABOUT: &'static str = "Read RAM, ROM or peripheral registers by address. Refuses flash-mapped addresses: \
         use esp_flash_read.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let bad = |what: &str| ToolError::new(Code::BadParameter, what);
        let address = input.address.as_u32().ok_or_else(|| bad("an address has at most 32 bits"))?;
        let size = input.size.as_u32().filter(|size| (1..=MOST).contains(size));
        let size = size.ok_or_else(|| bad("the size must be between 1 byte and 1 MB"))?;
        let end = address.checked_add(size - 1).ok_or_else(|| bad("the range wraps around"))?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let chip = connected.loader.chip();
            let regions = regions(chip, address, end);
            if chip.image.is_flash(address) || chip.image.is_flash(end) {
                return Err(ToolError::new(
                    Code::AddressUnreadable,
                    format!("{address:#010x} shows flash through the cache, which the loader does not set up"),
                ));
            }
            let first = address & !3;
            let mut bytes = Vec::new();
            for word in (first..=end).step_by(4) {
                if (word - first) % 1024 == 0 {
                    job.progress(u64::from(word - first), u64::from(size), format!("reading {word:#010x}"));
                }
                bytes.extend(connected.loader.read_reg(job, word)?.to_le_bytes());
            }
            let skip = (address - first) as usize;
            let bytes = bytes.get(skip..skip + size as usize).unwrap_or_default();
            let output_file = match &input.output_file {
                Some(file) => Some(ctx.files.keep(file, bytes)?.display().to_string()),
                None => None,
            };
            let note = if regions.is_empty() {
                "not a memory region of this chip: registers may change by being read"
            } else {
                "memory as it is in the loader: the loader and its stub have overwritten parts of RAM"
            };
            Ok(Out {
                device,
                address: format!("{address:#010x}"),
                size_bytes: size,
                regions,
                note: note.into(),
                sha256: esp_model::hex::encode(Sha256::digest(bytes)),
                hexdump: hexdump(address, bytes.get(..SHOWN).unwrap_or(bytes)),
                output_file,
            })
        })
    }

    fn summary(out: &Out) -> String {
        let regions = if out.regions.is_empty() { "no memory region".into() } else { out.regions.join(", ") };
        let first = out.hexdump.lines().next().unwrap_or_default();
        format!("{}\n{} bytes at {} ({regions})\n{first}", out.device, out.size_bytes, out.address)
    }
}

/// Names of the regions that the range touches.
fn regions(chip: &Chip, first: u32, last: u32) -> Vec<String> {
    let touched = chip.memory.iter().filter(|region| region.start <= last && first < region.end);
    let mut names: Vec<String> = touched.map(|region| region.name.clone()).collect();
    names.dedup();
    names
}

/// Sixteen bytes a line, with their characters.
pub fn hexdump(address: u32, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, line) in (0u32..).zip(bytes.chunks(16)) {
        let hex = esp_model::hex::joined(line, " ");
        let shown: String =
            line.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(text, "{:08x}  {:<47}  {shown}", address.wrapping_add(i * 16), hex);
    }
    text
}
