//! `esp_performance_profile`: how fast the link and the flash are.

use std::time::Duration;

use esp_link::flash::{Part, WriteOptions};
use esp_model::flash::SECTOR;
use esp_model::job::Job;
use esp_ops::args::{PortUrl, parse_number};
use esp_ops::boot::evidence::{self, NotMeasurable};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct PerformanceProfile;

/// Largest scratch region, in bytes.
const MOST: u32 = 1 << 20;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Seconds to measure (default 5).
    #[schemars(extend("x-rare" = true))]
    duration: Option<f64>,
    /// Region to erase and write: a partition name or 0xADDRESS+SIZE (default: none).
    scratch: Option<String>,
    /// File that keeps the region's content; required with scratch, restored at the end.
    #[schemars(extend("x-rare" = true))]
    backup_file: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Line rate.
    baud: u32,
    /// Round trip of one command.
    round_trip: RoundTrip,
    /// What was moved and how fast.
    transfers: Vec<Transfer>,
    /// Commands that failed while measuring.
    errors: u32,
    /// What cannot be measured from here.
    not_measurable: Vec<NotMeasurable>,
}

/// Round trips.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct RoundTrip {
    /// Measured.
    count: usize,
    /// Shortest, in microseconds.
    min_us: u64,
    /// Half are shorter.
    p50_us: u64,
    /// 95 of 100 are shorter.
    p95_us: u64,
    /// Longest.
    max_us: u64,
}

/// One transfer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Transfer {
    /// read, md5, erase or write.
    what: &'static str,
    /// Bytes.
    bytes: u64,
    /// Seconds on the port's clock.
    seconds: f64,
    /// Bytes a second.
    bytes_per_s: f64,
}

impl Tool for PerformanceProfile {
    const NAME: &'static str = "esp_performance_profile";
    const TITLE: &'static str = "Profile link and flash";
    const ABOUT: &'static str = "Measure link and flash speed: round trips, read, hash and, on a named scratch \
         region with backup, erase and write. Not for CPU profiling.";
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let seconds = input.duration.unwrap_or(5.0);
        if !(0.1..=300.0).contains(&seconds) {
            return Err(ToolError::new(Code::BadParameter, "duration must be between 0.1 and 300 seconds"));
        }
        if input.scratch.is_some() && input.backup_file.is_none() {
            return Err(ToolError::new(Code::MissingParameter, "scratch needs backup_file: its content is kept there"));
        }
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let mut out = Out {
                device,
                baud: connected.loader.port().baud(),
                round_trip: RoundTrip::default(),
                transfers: Vec::new(),
                errors: 0,
                not_measurable: vec![NotMeasurable::new(
                    "CPU load and function times",
                    "the application does not run while the loader does",
                    "ESP-IDF's application tracing with SEGGER SystemView, or esp_timer stamps on the console",
                )],
            };
            let half = Duration::from_secs_f64(seconds / 2.0);
            round_trips(connected, job, half, &mut out)?;
            read_and_hash(connected, job, half, &mut out)?;
            if let (Some(scratch), Some(file)) = (&input.scratch, &input.backup_file) {
                let (address, length) = region(connected, job, scratch)?;
                write_and_restore(ctx, connected, job, address, length, file, &mut out)?;
            }
            Ok(out)
        })
    }

    fn summary(out: &Out) -> String {
        let shown = out.transfers.iter().map(|t| format!("{} {:.0} kB/s", t.what, t.bytes_per_s / 1000.0));
        let trip = format!("round trip {} µs at {} baud", out.round_trip.p50_us, out.baud);
        format!("{}\n{trip}; {}", out.device, shown.collect::<Vec<_>>().join(", "))
    }
}

fn round_trips(connected: &mut Connected, job: &Job, time: Duration, out: &mut Out) -> Result<(), ToolError> {
    let date = connected.loader.chip().uart.date;
    let begin = connected.loader.port().now();
    let mut trips = Vec::new();
    while trips.len() < 5000 && connected.loader.port().now().saturating_sub(begin) < time {
        job.check()?;
        let sent = connected.loader.port().now();
        match connected.loader.read_reg(job, date) {
            Ok(_) => trips.push(connected.loader.port().now().saturating_sub(sent).as_micros() as u64),
            Err(error) => {
                out.errors += 1;
                if out.errors > 3 {
                    return Err(error.into());
                }
            }
        }
    }
    trips.sort_unstable();
    let at = |part: usize| trips.get(trips.len() * part / 100).or(trips.last()).copied().unwrap_or(0);
    out.round_trip = RoundTrip { count: trips.len(), min_us: at(0), p50_us: at(50), p95_us: at(95), max_us: at(100) };
    Ok(())
}

/// Runs one transfer and notes how long it took.
fn timed<T>(
    connected: &mut Connected,
    what: &'static str,
    bytes: u64,
    out: &mut Out,
    work: impl FnOnce(&mut Connected) -> Result<T, ToolError>,
) -> Result<T, ToolError> {
    let begin = connected.loader.port().now();
    let result = work(connected)?;
    let seconds = connected.loader.port().now().saturating_sub(begin).as_secs_f64();
    let bytes_per_s = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
    out.transfers.push(Transfer { what, bytes, seconds, bytes_per_s });
    Ok(result)
}

fn read_and_hash(connected: &mut Connected, job: &Job, time: Duration, out: &mut Out) -> Result<(), ToolError> {
    // As much as the line carries in the time: ten bits a byte.
    let line = f64::from(connected.loader.port().baud()) / 10.0 * time.as_secs_f64();
    let length = (line as u32).clamp(SECTOR, 1 << 20) & !(SECTOR - 1);
    timed(connected, "read", length.into(), out, |connected| Ok(connected.loader.read_flash_bytes(job, 0, length)?))?;
    if connected.loader.can_verify() {
        timed(connected, "md5", length.into(), out, |connected| Ok(connected.loader.flash_md5(job, 0, length)?))?;
    }
    Ok(())
}

/// The named region, in whole sectors.
fn region(connected: &mut Connected, job: &Job, text: &str) -> Result<(u32, u32), ToolError> {
    let bad = |what: String| ToolError::new(Code::BadParameter, what);
    let (address, length) = match text.split_once('+') {
        Some((address, size)) => {
            let number = |text: &str| parse_number(text).and_then(|number| u32::try_from(number).ok());
            number(address).zip(number(size)).ok_or_else(|| bad(format!("`{text}` is not 0xADDRESS+SIZE")))?
        }
        None => {
            let table = evidence::partition_table(connected, job)?.map_err(&bad)?;
            let found = table.find(text).ok_or_else(|| bad(format!("there is no partition `{text}`")))?;
            (found.offset, found.size)
        }
    };
    if address % SECTOR != 0 || length % SECTOR != 0 || length == 0 {
        return Err(ToolError::new(Code::NotAligned, "the scratch region must be whole sectors of 4096 bytes"));
    }
    if length > MOST {
        return Err(bad("the scratch region may have at most 1 MB".into()));
    }
    Ok((address, length))
}

/// Keeps the region, erases it, writes a pattern, and writes the old content back, whatever happens in between.
fn write_and_restore(
    ctx: &Ctx,
    connected: &mut Connected,
    job: &Job,
    address: u32,
    length: u32,
    file: &str,
    out: &mut Out,
) -> Result<(), ToolError> {
    let old = connected.loader.read_flash_bytes(job, address, length)?;
    ctx.files.keep(file, &old)?;
    let measured = write_pattern(connected, job, address, length, out);
    // A cancel in the middle must not leave the pattern there.
    let shielded = job.shielded();
    let mut parts = [Part::bytes(address, old)];
    let restored = connected.loader.write_flash(&shielded, &mut parts, &WriteOptions::default());
    let failed = |error: esp_link::LoaderError| {
        let text = format!("the region was not restored: {error}");
        ToolError::new(Code::FlashWriteFailed, text).touched(FlashState::Partial).seen("backup_file", file)
    };
    restored.map_err(failed)?;
    measured
}

fn write_pattern(
    connected: &mut Connected,
    job: &Job,
    address: u32,
    length: u32,
    out: &mut Out,
) -> Result<(), ToolError> {
    timed(connected, "erase", length.into(), out, |connected| {
        Ok(connected.loader.erase_region(job, address, length)?)
    })?;
    // Bytes that do not compress, the same in each run.
    let mut state = 0x2545_f491u32;
    let noise: Vec<u8> = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u8
        })
        .collect();
    timed(connected, "write", length.into(), out, |connected| {
        let mut parts = [Part::bytes(address, noise)];
        connected.loader.write_flash(job, &mut parts, &WriteOptions { all: true, ..WriteOptions::default() })?;
        Ok(())
    })
}
