//! `esp_reset_chip`: start the application, or the loader.

use esp_link::Mode;
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::device::{Connected, Warm};
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Reset;

/// How to reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResetMode {
    /// A pulse on EN, into the application.
    #[default]
    HardReset,
    /// The loader jumps to the application.
    SoftReset,
    /// The watchdog resets the chip.
    WatchdogReset,
    /// Into the loader, and stay there.
    Download,
    /// Only give the port back.
    NoReset,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// How to reset (default hard-reset); download enters the bootloader.
    #[serde(default)]
    reset_mode: ResetMode,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The port.
    port: String,
    /// What was done.
    reset_mode: ResetMode,
    /// The device, where it had to be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
}

impl Tool for Reset {
    const NAME: &'static str = "esp_reset_chip";
    const TITLE: &'static str = "Reset chip";
    const ABOUT: &'static str = "Reset the device into its application or its bootloader and release the port. Does \
         not check that the application starts: see esp_run_firmware.";
    const RISK: Risk = Risk::Resets;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let reset_mode = input.reset_mode;
        if matches!(reset_mode, ResetMode::HardReset | ResetMode::NoReset) {
            return without_loader(ctx, job, &input);
        }
        let (mut lease, mut connected) = ctx.take_device(input.port.as_ref(), job)?;
        let device = Device::read(&mut connected, job)?;
        let port = device.port.clone();
        match reset_mode {
            ResetMode::SoftReset => connected.loader.soft_reset(job)?,
            ResetMode::WatchdogReset => watchdog(&mut connected, job)?,
            _ => {
                connected.reset_at_end = false;
                lease.keep(Warm::new(connected));
            }
        }
        Ok(Out { port, reset_mode, device: Some(device) })
    }

    fn summary(out: &Out) -> String {
        match out.reset_mode {
            ResetMode::Download => format!("{}: the loader runs", out.port),
            ResetMode::NoReset => format!("{}: port given back, no reset", out.port),
            _ => format!("{}: reset sent; start not checked (esp_console_capture shows the start)", out.port),
        }
    }
}

/// A pulse on EN needs no loader that answers.
fn without_loader(ctx: &Ctx, job: &Job, input: &In) -> Result<Out, ToolError> {
    let (mut lease, url) = ctx.lease_port(input.port.as_ref(), job)?;
    if ctx.must_identify(&url) {
        drop(lease);
        let (again, connected) = ctx.take_device(input.port.as_ref(), job)?;
        lease = again;
        lease.keep(Warm::new(connected));
    }
    let warm = lease.warm.take();
    let port = url.to_string();
    if input.reset_mode == ResetMode::NoReset {
        if let Some(warm) = warm {
            warm.leave();
        }
        return Ok(Out { port, reset_mode: input.reset_mode, device: None });
    }
    if let Some(warm) = warm {
        warm.leave();
    }
    let mut line = ctx.ports.open(&url)?;
    let info = line.info();
    let Some(reset) = esp_link::reset::Sequence::start(&info) else {
        let known = "soft-reset, watchdog-reset, no-reset";
        let error = ToolError::new(Code::ResetUnsupported, format!("{port} carries no reset line"));
        return Err(error.seen("possible", known));
    };
    let failed = |error: std::io::Error| ToolError::new(Code::PortLost, error.to_string());
    reset.run(&mut *line).map_err(failed)?;
    Ok(Out { port, reset_mode: input.reset_mode, device: None })
}

fn watchdog(connected: &mut Connected, job: &Job) -> Result<(), ToolError> {
    let chip = connected.loader.chip();
    if chip.reset.by_watchdog && connected.loader.mode() != Mode::SecureDownload {
        return Ok(connected.loader.watchdog_reset(job)?);
    }
    let modem = connected.loader.port().info().modem_lines;
    let possible = if modem { "hard-reset, soft-reset, no-reset" } else { "soft-reset, no-reset" };
    let text = format!("{} has no watchdog reset here", chip.name);
    Err(ToolError::new(Code::ResetUnsupported, text).seen("possible", possible).touched(FlashState::Unchanged))
}
