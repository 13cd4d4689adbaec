//! `esp_recover_chip`: a ladder that stops at the first success. Nothing here writes.

use esp_link::connect::Before;
use esp_link::reset::Sequence;
use esp_link::stub::StubSource;
use esp_link::{ConnectOptions, LoaderError};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ctx::device::{Connected, Warm};
use crate::tool::{Risk, Tool};
use crate::tools::args::PortUrl;
use crate::tools::device::Device;
use crate::tools::error::ToolError;

/// The tool.
pub struct Recover;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The port.
    port: String,
    /// recovered (a loader answers and the flash is readable), flash_dead, needs_hands or locked.
    verdict: String,
    /// Each rung: what was tried and what came of it.
    steps: Vec<Step>,
    /// The device, if it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// What to do now.
    next: Vec<String>,
}

/// One rung.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Step {
    /// What was tried.
    tried: String,
    /// It worked.
    worked: bool,
    /// What was seen.
    seen: String,
}

impl Tool for Recover {
    const NAME: &'static str = "esp_recover_chip";
    const TITLE: &'static str = "Recover chip";
    const ABOUT: &'static str = "A device that does not answer or boot: tries the port, reset variants, then the ROM alone at 115200 baud, looks at flash and \
         bootloader, and says what is broken and which call repairs it. Writes nothing itself.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let (mut lease, url) = ctx.lease_port(input.port.as_ref(), job)?;
        drop(lease.warm.take());
        let mut steps = Vec::new();
        drop(ctx.ports.open(&url)?);
        steps.push(Step { tried: "open the port".into(), worked: true, seen: "it opens".into() });
        let mut last = None;
        for (name, options) in rungs(ctx) {
            job.progress(steps.len() as u64, 7, name);
            match ctx.connect(&url, options, job) {
                Ok(mut connected) => {
                    steps.push(Step {
                        tried: name.into(),
                        worked: true,
                        seen: connected.loader.mode().describe().into(),
                    });
                    let out = examine(&mut connected, job, url.to_string(), steps)?;
                    lease.keep(Warm::new(connected));
                    return Ok(out);
                }
                Err(error) if matches!(error.code, "cancelled" | "port_lost") => return Err(error),
                Err(error) => {
                    steps.push(Step { tried: name.into(), worked: false, seen: error.message.clone() });
                    last = Some(error);
                }
            }
        }
        let code = last.as_ref().map_or("no_serial_data", |error| error.code);
        let next = last.map(|error| error.next_step).into_iter().collect();
        let verdict = if code == "not_in_download_mode" { "locked" } else { "needs_hands" };
        Ok(Out { port: url.to_string(), verdict: verdict.into(), steps, device: None, next })
    }

    fn summary(out: &Out) -> String {
        let who = out.device.as_ref().map_or_else(|| out.port.clone(), Device::to_string);
        format!("{who}: {}\nnext: {}", out.verdict, out.next.join("; "))
    }
}

fn rungs(ctx: &Ctx) -> Vec<(&'static str, ConnectOptions)> {
    let usual = ctx.usual_options();
    let rom = ConnectOptions { baud: 115_200, stub: StubSource::None, ..usual.clone() };
    let with = |options: &ConnectOptions, before| ConnectOptions { before, attempts: 3, ..options.clone() };
    vec![
        ("all reset sequences, stub", usual.clone()),
        ("ROM only, 115200 baud", rom.clone()),
        ("ROM only, long classic reset", with(&rom, Before::Only(Sequence::classic(2000)))),
        ("ROM only, no reset (BOOT held by hand)", with(&rom, Before::NoReset)),
    ]
}

/// A loader answers: look at what keeps the device from booting.
fn examine(connected: &mut Connected, job: &Job, port: String, mut steps: Vec<Step>) -> Result<Out, ToolError> {
    let device = Device::read(connected, job)?;
    let chip = connected.loader.chip();
    let mut next = Vec::new();
    let verdict = match connected.loader.flash_id(job) {
        Ok(id) => {
            steps.push(Step { tried: "flash id".into(), worked: true, seen: id.to_string() });
            look_at_boot(connected, job, &mut steps, &mut next)?;
            "recovered"
        }
        Err(error @ (LoaderError::Line(_) | LoaderError::Cancelled)) => return Err(error.into()),
        Err(LoaderError::Unsupported { .. }) => {
            next.push("secure download mode: write signed or encrypted images with esp_flash_firmware".into());
            "recovered"
        }
        Err(error) => {
            steps.push(Step { tried: "flash id".into(), worked: false, seen: error.to_string() });
            next.push(format!("check supply and flash voltage, and what is wired to the flash pins of {}", chip.name));
            "flash_dead"
        }
    };
    if next.is_empty() {
        next.push("esp_run_firmware capture_s=5 shows whether it boots now".into());
    }
    Ok(Out { port, verdict: verdict.into(), steps, device: Some(device), next })
}

fn look_at_boot(
    connected: &mut Connected,
    job: &Job,
    steps: &mut Vec<Step>,
    next: &mut Vec<String>,
) -> Result<(), ToolError> {
    let offset = connected.loader.chip().flash.bootloader_offset;
    let head = connected.loader.read_flash_bytes(job, offset, 32)?;
    let blank = head.iter().all(|byte| *byte == 0xff);
    let good = head.first() == Some(&esp_model::image::MAGIC);
    let seen = if blank {
        "blank"
    } else if good {
        "an image header"
    } else {
        "something else (encrypted or damaged)"
    };
    steps.push(Step { tried: format!("bootloader at {offset:#x}"), worked: good, seen: seen.into() });
    if !good {
        next.push(format!("write the bootloader at {offset:#x} (esp_flash_firmware project=… writes all parts)"));
    }
    let table = connected.loader.read_flash_bytes(job, esp_model::partition::DEFAULT_TABLE_OFFSET, 32)?;
    let good = esp_model::partition::Table::is_binary(&table);
    steps.push(Step {
        tried: "partition table at 0x8000".into(),
        worked: good,
        seen: if good { "there" } else { "none" }.into(),
    });
    if !good {
        next.push("write the partition table (esp_partition_flash)".into());
    }
    Ok(())
}
