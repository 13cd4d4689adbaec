//! `esp_connect_advanced`: a connection as wanted, kept warm for the next calls.

use esp_link::ConnectOptions;
use esp_link::options::StubSource;
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{ToolError, attempt_text};
use esp_ops::guard::Risk;
use esp_ops::session::device::Warm;
use esp_ops::session::identity::Device;
use esp_ops::session::overrides;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Connect;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Baud rate (default 460800, or the best rate known for this line).
    baud: Option<u32>,
    /// Reset attempts (default 7).
    #[schemars(extend("x-rare" = true))]
    retries: Option<u32>,
    /// ladder (default), no-reset, classic, tight, usb-serial-jtag, or a sequence (D0|R1|W0.1|…).
    before: Option<String>,
    /// When the connection goes: hard-reset (default) or no-reset.
    #[schemars(extend("x-rare" = true))]
    after: Option<String>,
    /// auto (default) or none: the ROM loader alone.
    stub: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Each attempt: reset sequence, bytes seen, boot mode.
    attempts: Vec<String>,
    /// What answers.
    loader: String,
    /// Where the stub came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    stub: Option<String>,
    /// Line rate now.
    baud: u32,
    /// Time of a command and its answer, the middle of nine.
    round_trip_ms: f64,
    /// How long the connection stays open without a call.
    idle_timeout_s: f64,
}

impl Tool for Connect {
    const NAME: &'static str = "esp_connect_advanced";
    const TITLE: &'static str = "Connect";
    const ABOUT: &'static str = "Connect with a chosen baud rate, reset sequence and loader, and keep the \
         connection for the next calls. Reports each attempt. Only needed when a normal call cannot connect.";
    const RISK: Risk = Risk::Resets;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let before = overrides::before(input.before.as_deref().unwrap_or("ladder"))?;
        let no_stub = overrides::no_stub(input.stub.as_deref().unwrap_or("auto"))?;
        let reset_at_end = overrides::reset_at_end(input.after.as_deref().unwrap_or("hard-reset"))?;
        let (mut lease, url) = ctx.lease_port(input.port.as_ref(), job)?;
        let mut options = ConnectOptions { before, attempts: input.retries.unwrap_or(7), ..ctx.options_for(&url) };
        if no_stub {
            options.stub = StubSource::None;
        }
        if let Some(baud) = input.baud {
            ctx.policy.allows_baud(baud)?;
            options.baud = baud;
        }
        // The old connection goes first: it holds the port.
        drop(lease.warm.take());
        let mut connected = ctx.connect(&url, options, job)?;
        connected.reset_at_end = reset_at_end;
        let device = Device::read(&mut connected, job)?;
        let mut times = Vec::new();
        for _ in 0..9 {
            let began = connected.loader.port().now();
            if connected.loader.mode() == esp_link::Mode::SecureDownload {
                connected.loader.security_info(job)?;
            } else {
                let address = connected.loader.chip().uart.date;
                connected.loader.read_reg(job, address)?;
            }
            times.push(connected.loader.port().now().saturating_sub(began));
        }
        times.sort();
        let out = Out {
            device,
            attempts: connected.report.attempts.iter().map(attempt_text).collect(),
            loader: connected.loader.mode().describe().into(),
            stub: connected.report.stub.clone(),
            baud: connected.loader.port().baud(),
            round_trip_ms: times.get(4).map_or(0.0, |time| time.as_micros() as f64 / 1000.0),
            idle_timeout_s: ctx.config.session_idle().as_secs_f64(),
        };
        lease.keep(Warm::new(connected));
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        format!(
            "{}\n{} at {} baud, round trip {:.1} ms\n{}",
            out.device,
            out.loader,
            out.baud,
            out.round_trip_ms,
            out.attempts.join("; ")
        )
    }
}
