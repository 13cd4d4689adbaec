//! How far a transfer has come: bytes, rate and remaining time, on the port's clock.

use std::fmt::Display;
use std::time::Duration;

use esp_model::job::Job;

/// Time that must have passed before a rate says anything.
const MEASURED: Duration = Duration::from_millis(400);
const KIB: f64 = 1024.0;

/// One transfer of a known number of bytes.
pub(crate) struct Meter {
    began: Duration,
    total: u64,
    /// Most bytes reported so far: a piece that is sent again takes nothing back.
    done: u64,
}

impl Meter {
    /// A transfer of `total` bytes that begins at `now`.
    pub fn new(now: Duration, total: u64) -> Self {
        Self { began: now, total, done: 0 }
    }

    /// Reports that `done` bytes are through at `now`; `what` says what happens: "writing 0x10000".
    pub fn report(&mut self, job: &Job, now: Duration, done: u64, what: impl Display) {
        self.done = done.clamp(self.done, self.total.max(self.done));
        job.progress(self.done, self.total, format!("{what}{}", self.flow(now)));
    }

    /// `, 512 of 900 KiB, 42 KiB/s, 9 s left`; without what cannot be said yet.
    fn flow(&self, now: Duration) -> String {
        let (done, total) = (self.done as f64, self.total as f64);
        let amounts = format!(", {:.0} of {:.0} KiB", done / KIB, total / KIB);
        let took = now.saturating_sub(self.began);
        if took < MEASURED || self.done == 0 {
            return amounts;
        }
        let rate = done / took.as_secs_f64();
        format!("{amounts}, {:.0} KiB/s, {:.0} s left", rate / KIB, ((total - done) / rate).ceil())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn rate_and_remaining_time_follow_the_clock() {
        let seen: Arc<Mutex<Vec<(u64, String)>>> = Arc::default();
        let sink = seen.clone();
        let job = Job::with_progress(move |progress| sink.lock().unwrap().push((progress.done, progress.message)));
        let second = Duration::from_secs(1);
        let mut meter = Meter::new(second, 100 * 1024);
        meter.report(&job, second, 0, "reading");
        meter.report(&job, 2 * second, 20 * 1024, "reading");
        meter.report(&job, 3 * second, 10 * 1024, "reading");
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen[0], (0, "reading, 0 of 100 KiB".into()));
        assert_eq!(seen[1], (20 * 1024, "reading, 20 of 100 KiB, 20 KiB/s, 4 s left".into()));
        assert_eq!(seen[2].0, 20 * 1024, "a piece that is sent again takes nothing back");
    }
}
