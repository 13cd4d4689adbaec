//! What a whole process costs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::reference::{self, Stop};

/// Seconds of wall clock and of processor for one whole process.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
}

impl Cost {
    /// What this one cost more than another.
    pub fn less(self, other: Self) -> Self {
        Self { wall: self.wall - other.wall, cpu: self.cpu - other.cpu }
    }

    /// The share of one in `count`.
    pub fn over(self, count: f64) -> Self {
        Self { wall: self.wall / count, cpu: self.cpu / count }
    }
}

/// Runs one process through the shell's `times`, which accounts for the finished child to the millisecond.
pub fn cost(command: &mut Command) -> Result<Cost, Stop> {
    Ok(with_output(command)?.0)
}

/// The same, with what it printed.
pub fn with_output(command: &mut Command) -> Result<(Cost, String), Stop> {
    let mut shell = Command::new("bash");
    shell.args(["-c", r#""$@"; s=$?; times >&2; exit $s"#, "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let began = Instant::now();
    let output = reference::run(&mut shell)?;
    let wall = began.elapsed().as_secs_f64();
    let errors = String::from_utf8_lossy(&output.stderr);
    let children = errors.lines().rev().find(|line| line.contains('m')).unwrap_or_default();
    let cpu = children.split_whitespace().filter_map(minutes).sum();
    Ok((Cost { wall, cpu }, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// `0m1.234s` in seconds.
fn minutes(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

/// The median of three by wall clock.
pub fn median(mut run: impl FnMut() -> Result<Cost, Stop>) -> Result<Cost, Stop> {
    let mut costs = [run()?, run()?, run()?];
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    Ok(costs[1])
}

/// Megabytes (10^6 bytes) that a process held at most.
pub fn peak_memory(command: &mut Command) -> Result<f64, Stop> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut most = 0.0;
    while child.try_wait()?.is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        most = kib.map_or(most, |kib| kib * 1024.0 / 1e6);
        std::thread::sleep(Duration::from_millis(5));
    }
    if child.wait()?.success() { Ok(most) } else { reference::fail(format!("{command:?} failed")) }
}
