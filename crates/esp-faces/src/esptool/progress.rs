//! How far a transfer has come: a bar as esptool 5 prints it, a percentage as version 4 did, or lines of JSON.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use esp_model::job::{Job, Progress};

use super::connecting::DOTS;
use crate::terminal::Terminal;

/// Cells of the bar.
const CELLS: u64 = 30;

/// Which form of progress is wanted: `ESPTOOL_PROGRESS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    V5,
    V4,
    Json,
}

/// What is under way.
#[derive(Debug, Clone)]
enum Phase {
    /// Nothing is shown.
    Quiet,
    /// Dots for each attempt.
    Connecting,
    /// Bytes at an address; `Writing at` or `Reading from`.
    Transfer { verb: &'static str, address: u32, total: u64, last: Option<u64>, began: Instant },
}

/// Shows the progress of a job.
#[derive(Clone)]
pub struct Meter {
    phase: Arc<Mutex<Phase>>,
    style: Style,
    line: bool,
    silent: bool,
}

impl Meter {
    /// A meter that shows nothing yet.
    pub fn new(terminal: &Terminal) -> Self {
        let style = match std::env::var("ESPTOOL_PROGRESS").as_deref() {
            Ok("v4") => Style::V4,
            Ok("json") => Style::Json,
            _ => Style::V5,
        };
        let line = !io::stdout().is_terminal() || style == Style::Json;
        Self { phase: Arc::new(Mutex::new(Phase::Quiet)), style, line, silent: terminal.is_silent() }
    }

    /// A job that reports here.
    pub fn job(&self) -> Job {
        let meter = self.clone();
        Job::with_progress(move |progress| meter.show(&progress))
    }

    /// Attempts to connect follow.
    pub fn connecting(&self) {
        self.set(Phase::Connecting);
    }

    /// A transfer of so many bytes at an address follows.
    pub fn transfer(&self, verb: &'static str, address: u32, total: u64) {
        self.set(Phase::Transfer { verb, address, total, last: None, began: Instant::now() });
    }

    /// The transfer is complete.
    pub fn complete(&self) {
        let total = match &*self.lock() {
            Phase::Transfer { total, .. } => Some(*total),
            _ => None,
        };
        if let Some(total) = total {
            self.show(&Progress { done: total, total, message: String::new() });
            if !self.line && !self.silent {
                let _ = writeln!(io::stdout());
            }
        }
        self.end();
    }

    /// Nothing is shown from here on.
    pub fn end(&self) {
        self.set(Phase::Quiet);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.lock() = phase;
    }

    fn show(&self, progress: &Progress) {
        // Comparing and erasing report too; the bar is about the transfer.
        let counts = ["writing", "written", "reading"].iter().any(|word| progress.message.starts_with(word));
        let connects = matches!(&*self.lock(), Phase::Connecting);
        if self.silent || !(counts || connects || progress.message.is_empty()) {
            return;
        }
        let mut out = io::stdout().lock();
        // A closed pipe is the reader's wish.
        let _ = match &mut *self.lock() {
            Phase::Connecting if progress.done > 0 => write!(out, "{DOTS}").and_then(|()| out.flush()),
            Phase::Transfer { verb, address, total, last, began } => {
                let done = scaled(progress, *total);
                let percent = (done * 100).checked_div(*total).unwrap_or(100);
                if done == 0 || last.is_some_and(|last| last >= percent) {
                    return;
                }
                *last = Some(percent);
                let at = u64::from(*address) + done;
                let text = self.text(verb, at, (done, *total), began.elapsed().as_secs());
                if self.line { writeln!(out, "{text}") } else { write!(out, "\r{text}").and_then(|()| out.flush()) }
            }
            _ => Ok(()),
        };
    }

    fn text(&self, verb: &str, at: u64, (done, total): (u64, u64), seconds: u64) -> String {
        let tenths = (done * 1000).checked_div(total).unwrap_or(1000);
        match self.style {
            Style::V4 => format!("{verb} {at:#010x}... ({} %)", tenths / 10),
            Style::Json => format!(
                "{{\"event\":\"progress\",\"action\":\"{}\",\"address\":{at},\"done_bytes\":{done},\"total_bytes\":{total}}}",
                verb.split(' ').next().unwrap_or_default().to_lowercase()
            ),
            Style::V5 => {
                let halves = (done * CELLS * 2).checked_div(total).unwrap_or(CELLS * 2);
                let full = "━".repeat((halves / 2) as usize);
                let half = if halves % 2 == 1 { "╸" } else { "" };
                let bar = format!("{full}{half}");
                let (done, total) = (amount(done), amount(total));
                format!("{verb} {at:#010x} {bar:<30} {:>3}.{}% {done}/{total} [{seconds}s] ", tenths / 10, tenths % 10)
            }
        }
    }
}

/// The loader counts what it has to send; the bar counts the file.
fn scaled(progress: &Progress, total: u64) -> u64 {
    match progress.total {
        0 => 0,
        of => (progress.done.min(of)).saturating_mul(total) / of,
    }
}

fn amount(bytes: u64) -> String {
    let units = [(1 << 20, "MB"), (1 << 10, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.2}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_say_address_part_and_amount() {
        let meter = Meter { phase: Arc::new(Mutex::new(Phase::Quiet)), style: Style::V5, line: true, silent: false };
        let text = meter.text("Writing at", 0x14000, (16384, 100_000), 0);
        assert!(text.starts_with("Writing at 0x00014000 ━━━━╸ "), "{text}");
        assert!(text.ends_with("16.3% 16.00kB/97.66kB [0s] "), "{text}");
        let old = Meter { style: Style::V4, ..meter };
        assert_eq!(old.text("Writing at", 0x14000, (16384, 100_000), 0), "Writing at 0x00014000... (16 %)");
    }
}
