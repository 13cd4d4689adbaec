//! `esp_flash_erase`: all, a partition, or a region; with a copy of what cannot be rebuilt.

use esp_link::Mode;
use esp_model::job::Job;
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::keep::{self, Copy, Found, Region};
use esp_ops::flash::region;
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Erase;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// `all` (default), a partition's name, or ADDRESS+SIZE such as "0x9000+0x6000".
    region: Option<String>,
    /// Widen the region to whole sectors of 4096 bytes.
    #[serde(default)]
    align: bool,
    /// Folder for the copies (default: esp-backup/MAC).
    #[schemars(extend("x-rare" = true))]
    backup_dir: Option<String>,
    /// Make no copies: the data may be lost.
    #[serde(default)]
    no_backup: bool,
    /// Flash address of the partition table (default: found).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
    /// Overrides detection; needed in secure download mode.
    flash_size: Option<Number>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// First address that was erased.
    address: u32,
    /// Bytes that were erased.
    size_bytes: u32,
    /// Copies that were made before.
    copies: Vec<Copy>,
}

impl Tool for Erase {
    const NAME: &'static str = "esp_flash_erase";
    const TITLE: &'static str = "Erase flash";
    const ABOUT: &'static str = "Erase the whole flash, a partition or a region. First copies data that cannot be \
         rebuilt (NVS, file systems) to files, unless no_backup.";
    const RISK: Risk = Risk::Destroys;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let flash_size = connected.loader.attach_flash(job, input.flash_size.and_then(Number::as_u32))?;
            let wanted = input.region.as_deref().unwrap_or(region::ALL);
            let place = region::Place { text: wanted, widen: input.align, table_offset: table_offset(&input)? };
            let region = region::find(connected, job, &place, flash_size)?;
            whole_steps(connected, &region)?;
            let copies =
                if input.no_backup { Vec::new() } else { copies(ctx, job, connected, &input, &device, &region)? };
            let partial = |error| ToolError::from(error).touched(FlashState::Partial);
            if region.address == 0 && region.size == flash_size && connected.loader.mode() != Mode::SecureDownload {
                connected.loader.erase_all(job).map_err(partial)?;
            } else {
                connected.loader.erase_region(job, region.address, region.size).map_err(partial)?;
            }
            Ok(Out { device, address: region.address, size_bytes: region.size, copies })
        })
    }

    fn summary(out: &Out) -> String {
        let copies: Vec<&str> = out.copies.iter().map(|copy| copy.file.as_str()).collect();
        let kept = if copies.is_empty() { String::new() } else { format!("; copies: {}", copies.join(", ")) };
        format!("{}\n{:#x} bytes at {:#x} erased{kept}", out.device, out.size_bytes, out.address)
    }
}

fn copies(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    input: &In,
    device: &Device,
    region: &Region,
) -> Result<Vec<Copy>, ToolError> {
    if !connected.loader.can_read() {
        return Err(unread(connected));
    }
    let flash_size = connected.loader.attach_flash(job, None)?;
    let found = keep::table(connected, job, table_offset(input)?)?;
    let unique = keep::unique(&Found::areas(found.as_ref(), connected, flash_size), region);
    keep::copy(ctx, job, connected, &unique, &keep::folder(device, input.backup_dir.as_deref()))
}

/// A ROM that erases more than it is told to takes its neighbour along: only what is asked for may go.
fn whole_steps(connected: &Connected, region: &Region) -> Result<(), ToolError> {
    let (address, reach) = (region.address, connected.loader.erase_reach(region.address, region.size));
    if reach <= region.size {
        return Ok(());
    }
    let text = format!(
        "the ROM loader of {} erases two sectors at a time here: {:#x} bytes at {address:#x} would take the sector at {:#x} \
         along",
        connected.loader.chip().name,
        region.size,
        address + region.size
    );
    Err(ToolError::new(Code::NotAligned, text)
        .touched(FlashState::Unchanged)
        .next(format!("if that sector may go too: region=\"{address:#x}+{reach:#x}\"")))
}

/// Nothing can be copied: only the caller knows whether the data may go.
fn unread(connected: &Connected) -> ToolError {
    if connected.loader.mode() == Mode::SecureDownload {
        let text = "flash cannot be read in secure download mode, so not copied";
        return ToolError::new(Code::DataWouldBeLost, text);
    }
    let chip = &connected.loader.chip().name;
    let text = format!("the ROM loader of {chip} cannot read flash, so nothing was copied and nothing erased");
    ToolError::new(Code::DataWouldBeLost, text).next(
        "pass no_backup=true if the data may go; to have it copied first, the server needs the chip's flasher stub \
         (setting stub_dir)",
    )
}

/// The table's place, where it is given.
fn table_offset(input: &In) -> Result<Option<u32>, ToolError> {
    input.table_offset.map(|number| esp_ops::args::table_offset(Some(number))).transpose()
}
