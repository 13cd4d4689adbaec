//! `esp_test_connection`: how good the line is.

use std::time::Duration;

use esp_link::{LoaderError, Mode};
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct TestConnection;

/// Rates that are tried, in baud.
const RATES: [u32; 5] = [115_200, 230_400, 460_800, 921_600, 2_000_000];
/// Bytes moved at each rate.
const SAMPLE: u32 = 16 * 1024;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Round trips at each rate (default 50, at most 1000).
    #[schemars(extend("x-rare" = true))]
    rounds: Option<u32>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Each rate.
    rates: Vec<Rate>,
    /// The fastest rate without an error; remembered for this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    recommended_baud: Option<u32>,
}

/// What was measured at one rate.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Rate {
    /// The rate.
    baud: u32,
    /// Round trips that worked.
    rounds: u32,
    /// Questions without a right answer.
    errors: u32,
    /// Shortest, middle, 95 % and longest round trip.
    round_trip_ms: Vec<f64>,
    /// Flash read over the line; left out where the loader cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_s: Option<f64>,
}

impl Tool for TestConnection {
    const NAME: &'static str = "esp_test_connection";
    const TITLE: &'static str = "Test connection";
    const ABOUT: &'static str = "Measure the serial link: round trips, throughput and errors at each baud rate the \
         bridge supports. Recommends and remembers a rate.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let rounds = input.rounds.unwrap_or(50).clamp(1, 1000);
        let mut lost = false;
        let out = ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let before = connected.loader.port().baud();
            let mut rates: Vec<Rate> = Vec::new();
            let allowed = RATES.into_iter().filter(|baud| ctx.policy.allows_baud(*baud).is_ok());
            for (index, baud) in allowed.enumerate() {
                job.progress(index as u64, RATES.len() as u64, format!("testing {baud} baud"));
                if baud != connected.loader.port().baud() {
                    match connected.loader.change_baud(job, baud) {
                        Ok(()) => {}
                        Err(error @ (LoaderError::Line(_) | LoaderError::Cancelled)) => return Err(error.into()),
                        Err(_) => {
                            // Nobody is heard at this rate, nor at the one before: only a reset helps.
                            rates.push(Rate {
                                baud,
                                rounds: 0,
                                errors: 1,
                                round_trip_ms: Vec::new(),
                                bytes_per_s: None,
                            });
                            lost = true;
                            break;
                        }
                    }
                }
                let rate = measure(connected, job, baud, rounds)?;
                let bad = rate.errors > 0;
                rates.push(rate);
                if bad {
                    break;
                }
            }
            let recommended_baud = rates.iter().rev().find(|rate| rate.errors == 0).map(|rate| rate.baud);
            // Beyond its limit the line carries nothing: the call fails there, and the next one begins anew.
            if rates.last().is_some_and(|rate| rate.errors == 0) {
                connected.loader.change_baud(job, recommended_baud.unwrap_or(before))?;
            }
            Ok(Out { device, rates, recommended_baud })
        })?;
        if let (Some(baud), Ok(url)) = (out.recommended_baud, out.device.port.parse()) {
            ctx.remember_baud(&url, baud);
        }
        if lost || out.rates.last().is_some_and(|rate| rate.errors > 0) {
            ctx.devices.sessions.forget(&out.device.port);
        }
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let best = out.recommended_baud.map_or("no rate worked".into(), |baud| format!("recommended: {baud} baud"));
        let lines = out.rates.iter().map(|rate| {
            let speed = rate.bytes_per_s.map_or(String::new(), |speed| format!(", {:.0} KB/s", speed / 1000.0));
            let middle = rate.round_trip_ms.get(1).copied().unwrap_or(0.0);
            format!("{} baud: {middle:.1} ms{speed}, {}", rate.baud, counted(rate.errors, "error"))
        });
        format!("{}\n{}\n{best}", out.device, lines.collect::<Vec<_>>().join("; "))
    }
}

fn measure(connected: &mut Connected, job: &Job, baud: u32, rounds: u32) -> Result<Rate, ToolError> {
    let loader = &mut connected.loader;
    let secure = loader.mode() == Mode::SecureDownload;
    let address = loader.chip().uart.date;
    let (mut times, mut errors, mut first) = (Vec::new(), 0, None);
    for _ in 0..rounds {
        job.check()?;
        let began = loader.port().now();
        let answer =
            if secure { loader.security_info(job).map(|info| info.flags) } else { loader.read_reg(job, address) };
        match answer {
            Ok(value) if *first.get_or_insert(value) == value => times.push(loader.port().now().saturating_sub(began)),
            Ok(_) => errors += 1,
            Err(error) if error.is_final() => return Err(error.into()),
            Err(_) => errors += 1,
        }
        if errors >= 3 {
            break;
        }
    }
    times.sort();
    let at = |share: usize| times.get((times.len().saturating_sub(1)) * share / 100).copied().unwrap_or_default();
    let round_trip_ms = [0, 50, 95, 100].map(|share| at(share).as_micros() as f64 / 1000.0).to_vec();
    let mut bytes_per_s = None;
    if errors == 0 && loader.mode() == Mode::Stub {
        let began = loader.port().now();
        loader.read_flash_bytes(job, 0, SAMPLE)?;
        let time = loader.port().now().saturating_sub(began).max(Duration::from_micros(1));
        bytes_per_s = Some((f64::from(SAMPLE) / time.as_secs_f64()).round());
    }
    Ok(Rate { baud, rounds: times.len() as u32, errors, round_trip_ms, bytes_per_s })
}
