//! Many units side by side: one thread a device, and nobody waits for one that hangs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use esp_model::job::Job;
use schemars::JsonSchema;
use serde::Serialize;

use super::desk::Desk;
use super::report::{Report, UnitVerdict};
use super::unit::{self, Order};
use crate::Station;
use esp_ops::error::{Code, ToolError};

/// How long a unit that was told to stop may take before it is left behind.
const GRACE: Duration = Duration::from_secs(5);
/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How a batch is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Longest time for a unit.
    pub timeout: Duration,
    /// Units at once; the others wait for a place.
    pub parallel: usize,
}

/// Numbers of a batch.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Stats {
    /// Units.
    pub units: usize,
    /// Units that passed.
    pub passed: usize,
    /// Passed at the first try, without a new connection, in percent.
    pub first_pass_yield_percent: f64,
    /// Seconds for all of them.
    pub seconds: f64,
    /// At this pace.
    pub units_per_hour: f64,
    /// Median and 95th percentile of seconds by phase.
    pub phases_s: BTreeMap<String, [f64; 2]>,
    /// What failed most, with the number of units.
    pub top_failures: Vec<(String, usize)>,
}

/// A unit that is being produced.
struct Running {
    job: Job,
    until: Instant,
    told: Option<Instant>,
}

/// Produces all units. The reports are in the order of the ports.
pub fn run(
    station: &Station,
    desk: &Arc<Desk>,
    job: &Job,
    ports: &[String],
    order: &Arc<Order>,
    options: Options,
) -> Vec<Report> {
    let (send, receive) = mpsc::channel::<Report>();
    let mut waiting = ports.iter();
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    let mut done: BTreeMap<String, Report> = BTreeMap::new();
    let recipe = &order.prepared.recipe.recipe;
    station.floor.follow(&format!("{} {}", recipe.name, recipe.version));
    ports.iter().for_each(|port| station.floor.begin(port, true));
    loop {
        while running.len() < options.parallel.max(1) && !job.is_cancelled() {
            let Some(port) = waiting.next() else { break };
            let started = start(station, desk, order, port, send.clone(), options.timeout);
            match started {
                Ok(unit) => drop(running.insert(port.clone(), unit)),
                Err(error) => drop(done.insert(port.clone(), given_up(station, port, &error))),
            }
        }
        if running.is_empty() {
            break;
        }
        match receive.recv_timeout(TICK) {
            Ok(report) => {
                // One that was left behind has its verdict already.
                if running.remove(&report.port).is_some() {
                    done.insert(report.port.clone(), report);
                    tell(job, &done, ports.len());
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let now = Instant::now();
        for unit in running.values_mut().filter(|unit| unit.told.is_none()) {
            if job.is_cancelled() || now >= unit.until {
                unit.job.cancel();
                unit.told = Some(now);
            }
        }
        let hung = |unit: &Running| unit.told.is_some_and(|told| now >= told + GRACE);
        let left: Vec<String> = running.iter().filter(|(_, unit)| hung(unit)).map(|(port, _)| port.clone()).collect();
        for port in left {
            running.remove(&port);
            let error = ToolError::new(Code::UnitHangs, "the device did not release its port; abandoned");
            done.insert(port.clone(), given_up(station, &port, &error));
        }
    }
    let cancelled = ToolError::new(Code::Cancelled, "the batch was cancelled before this unit");
    ports.iter().map(|port| done.remove(port).unwrap_or_else(|| given_up(station, port, &cancelled))).collect()
}

fn start(
    station: &Station,
    desk: &Arc<Desk>,
    order: &Arc<Order>,
    port: &str,
    send: mpsc::Sender<Report>,
    timeout: Duration,
) -> Result<Running, ToolError> {
    let job = station.floor.job(port);
    let (station, desk, order, own) = (station.clone(), desk.clone(), order.clone(), job.clone());
    let name = port.to_owned();
    let work = move || {
        let produced = std::panic::AssertUnwindSafe(|| unit::work_on(&station, &desk, &own, &name, &order));
        let mut report = std::panic::catch_unwind(produced).unwrap_or_else(|_| {
            not_done(&name, &ToolError::new(Code::Internal, "processing of this unit was aborted"))
        });
        if own.is_cancelled() && report.verdict == UnitVerdict::Aborted {
            report.error = Some(format!("unit_timeout: not done within {} s, or cancelled", timeout.as_secs_f64()));
        }
        station.floor.end(&report);
        // Nobody listens any more to one that was left behind.
        let _ = send.send(report);
    };
    let failed = |error: std::io::Error| ToolError::new(Code::Internal, error.to_string());
    thread::Builder::new().name(format!("unit {port}")).spawn(work).map_err(failed)?;
    Ok(Running { job, until: Instant::now() + timeout, told: None })
}

fn given_up(station: &Station, port: &str, error: &ToolError) -> Report {
    let report = not_done(port, error);
    station.floor.end(&report);
    report
}

fn not_done(port: &str, error: &ToolError) -> Report {
    let mut report = Report::new(port);
    report.error = Some(format!("{}: {}", error.code, error.message));
    report.failure = Some(error.clone());
    report
}

fn tell(job: &Job, done: &BTreeMap<String, Report>, total: usize) {
    let bad = done.values().filter(|report| !report.passed()).count();
    let text = format!("{} of {total} done, {bad} not passed", done.len());
    job.progress(done.len() as u64, total as u64, text);
}

/// The numbers of a finished batch.
pub fn stats(reports: &[Report], took: Duration) -> Stats {
    let passed = reports.iter().filter(|report| report.passed()).count();
    let first = reports.iter().filter(|report| report.passed() && report.retries == 0).count();
    let seconds = took.as_secs_f64();
    let mut phases: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (phase, seconds) in reports.iter().flat_map(|report| &report.phases_s) {
        phases.entry(phase.clone()).or_default().push(*seconds);
    }
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for report in reports.iter().filter(|report| !report.passed()) {
        *failures.entry(report.failed_at()).or_default() += 1;
    }
    let mut top: Vec<(String, usize)> = failures.into_iter().collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    top.truncate(10);
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    Stats {
        units: reports.len(),
        passed,
        first_pass_yield_percent: rounded(first as f64 * 100.0 / reports.len().max(1) as f64),
        seconds: rounded(seconds),
        units_per_hour: (passed as f64 * 3600.0 / seconds.max(0.001)).round(),
        phases_s: phases.into_iter().map(|(phase, values)| (phase, quantiles(values).map(rounded))).collect(),
        top_failures: top,
    }
}

fn quantiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((values.len() as f64 * share).ceil() as usize).saturating_sub(1);
        values.get(index).copied().unwrap_or(0.0)
    };
    [at(0.5), at(0.95)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        assert_eq!(quantiles((1..=100).map(f64::from).collect()), [50.0, 95.0]);
        assert_eq!(quantiles(vec![7.0]), [7.0, 7.0]);
        assert_eq!(quantiles(Vec::new()), [0.0, 0.0]);
    }
}
