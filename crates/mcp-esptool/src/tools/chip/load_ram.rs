//! `esp_load_ram`: run a program from RAM, without wearing the flash.

use esp_model::chip::Chip;
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::boot::log::{self, BootLog};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::firmware::ram;
use esp_ops::flash::belongs;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct LoadRam;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// RAM image or ELF file.
    firmware: String,
    /// Seconds to capture the console afterwards (default 0); at the rate the loader used.
    #[serde(default)]
    capture_s: f64,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Segments that were loaded.
    segments: Vec<SegmentView>,
    /// Where the program starts, hexadecimal.
    entry: String,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<BootLog>,
}

/// A segment.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SegmentView {
    /// Load address, hexadecimal.
    address: String,
    /// Its size.
    size_bytes: u64,
}

impl Tool for LoadRam {
    const NAME: &'static str = "esp_load_ram";
    const TITLE: &'static str = "Run from RAM";
    const ABOUT: &'static str = "Load a RAM image or ELF into RAM and run it without writing flash. Refuses \
         programs with segments in flash.";
    // The program may do anything that the chip can, also to its flash.
    const RISK: Risk = Risk::Destroys;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let bytes = ctx.files.read_some(&input.firmware)?;
        belongs::check_ram(&input.firmware, &bytes)?;
        let (_lease, mut connected) = ctx.take_device(input.port.as_ref(), job)?;
        let device = Device::read(&mut connected, job)?;
        let chip = connected.loader.chip();
        let (segments, entry) = ram::program(&input.firmware, &bytes, chip)?;
        let in_flash = segments.iter().find(|(address, _)| is_flash(chip, *address));
        if let Some((address, _)) = in_flash {
            let text = format!("`{}` has a segment at {address:#010x}, which is mapped to flash", input.firmware);
            return Err(ToolError::new(Code::ImageNotForRam, text).touched(FlashState::Unchanged));
        }
        let views = segments.iter().map(|(address, bytes)| SegmentView {
            address: format!("{address:#010x}"),
            size_bytes: bytes.len() as u64,
        });
        let segments_shown = views.collect();
        let mut port = connected.loader.run_in_ram(job, &segments, entry)?;
        let console = match input.capture_s > 0.0 {
            // The program finds the line at the loader's rate, and most leave it there.
            true => {
                let baud = Some(port.baud());
                Some(log::capture(&mut *port, chip, input.capture_s, None, None, baud, job)?)
            }
            false => None,
        };
        Ok(Out { device, segments: segments_shown, entry: format!("{entry:#010x}"), console })
    }

    fn summary(out: &Out) -> String {
        let bytes: u64 = out.segments.iter().map(|segment| segment.size_bytes).sum();
        let console = out.console.as_ref().map_or_else(String::new, |log| format!("\n{}", log.line()));
        format!(
            "{}\n{bytes} bytes in {}, started at {}{console}",
            out.device,
            counted(out.segments.len(), "segment"),
            out.entry
        )
    }
}

fn is_flash(chip: &Chip, address: u32) -> bool {
    let within = |range: [u32; 2]| (range[0]..range[1]).contains(&address);
    within(chip.image.irom) || within(chip.image.drom)
}
