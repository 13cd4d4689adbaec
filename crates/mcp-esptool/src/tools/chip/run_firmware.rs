//! `esp_run_firmware`: leave the loader, run the application, look at its start.

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::boot::capture::Names;
use esp_ops::boot::findings::known_line;
use esp_ops::boot::log::{self, BootLog};
use esp_ops::boot::radio::{self, Watch};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct RunFirmware;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Seconds to capture the console from its first byte (default 0: none).
    #[serde(default)]
    capture_s: f64,
    /// Stop capturing when this regular expression matches.
    until: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// The reset that was sent to start the application.
    started_by: String,
    /// What it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<BootLog>,
}

impl Tool for RunFirmware {
    const NAME: &'static str = "esp_run_firmware";
    const TITLE: &'static str = "Run firmware";
    const ABOUT: &'static str = "Start the application and, with capture_s, record its console from the first byte \
         and judge the start: app banner, panic, boot loop.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let (_lease, mut connected) = ctx.take_device(input.port.as_ref(), job)?;
        let device = Device::read(&mut connected, job)?;
        let chip = connected.loader.chip();
        let reset = log::start_by(&mut connected, job)?;
        let started_by = if reset.is_some() { "hard-reset" } else { "soft-reset" };
        let mut port = connected.loader.into_port();
        if input.capture_s > 0.0 || input.until.is_some() {
            let seconds = if input.capture_s > 0.0 { input.capture_s } else { 10.0 };
            let watch = Watch::begin(ctx, &device.port);
            let mut log = log::capture(&mut *port, chip, seconds, input.until.as_deref(), reset, None, job)?;
            if let Some(watch) = watch
                && let Some(known) = watch.finding(ctx, &mut Names::new(ctx, None, &[]), log.app.as_deref(), false)?
            {
                log.findings.insert(0, known_line(&known));
                log.codes.insert(0, known.code);
            }
            return Ok(Out { device, started_by: started_by.into(), console: Some(log) });
        }
        if let Some(reset) = reset {
            let failed = |error: std::io::Error| ToolError::new(Code::PortLost, error.to_string());
            reset.run(&mut *port).map_err(failed)?;
        }
        Ok(Out { device, started_by: started_by.into(), console: None })
    }

    fn summary(out: &Out) -> String {
        let console = match &out.console {
            Some(log) => log.line(),
            None => "start not checked (capture_s records the console)".into(),
        };
        let radio = out.console.iter().flat_map(|log| &log.findings).find(|finding| finding.starts_with(radio::CODE));
        let radio = radio.map_or(String::new(), |radio| format!("\n{radio}"));
        format!("{}\n{} sent; {console}{radio}", out.device, out.started_by)
    }
}
