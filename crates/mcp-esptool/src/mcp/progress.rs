//! Progress of a call: one strictly increasing count over all phases, not more often than a client can use.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use esp_model::job::Progress;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::Notify;

/// Shortest time between two progress notifications of a call.
const PROGRESS_STEP: Duration = Duration::from_millis(50);
/// Longest time between two: a client that hears nothing for long gives up, also where the chip is just erasing.
const STILL_ALIVE: Duration = Duration::from_secs(1);
/// What a notification adds to the count that only says that the work goes on; less than a unit altogether.
const BEAT: f64 = 1.0 / 1024.0;

/// Turns a job's progress, which starts anew with each phase, into one strictly increasing count.
pub(super) struct ProgressSender {
    token: ProgressToken,
    state: Mutex<Counted>,
    changed: Notify,
}

#[derive(Default)]
struct Counted {
    base: u64,
    done: u64,
    total: u64,
    message: String,
    sent: Option<f64>,
    waiting: bool,
    /// Notifications without progress since the last one with it.
    beats: u16,
}

impl Counted {
    fn note(&mut self, progress: Progress) {
        if progress.done < self.done || progress.total != self.total {
            self.base += self.done.max(self.total.min(self.done + 1));
        }
        (self.done, self.total, self.message) = (progress.done, progress.total, progress.message);
        self.waiting = true;
    }

    /// What to send now, if it is more than what was sent before.
    fn take(&mut self) -> Option<(f64, Option<f64>, String)> {
        self.waiting = false;
        let value = (self.base + self.done) as f64;
        if self.sent.is_some_and(|sent| value <= sent) {
            return None;
        }
        self.sent = Some(value);
        self.beats = 0;
        let total = (self.total > 0).then(|| (self.base + self.total.max(self.done)) as f64);
        Some((value, total, self.message.clone()))
    }

    /// What says that the work goes on without having come further; the count grows by less than a unit.
    fn beat(&mut self) -> Option<(f64, Option<f64>, String)> {
        let value = self.sent.unwrap_or(0.0) + BEAT;
        self.beats += 1;
        if f64::from(self.beats) * BEAT >= 1.0 {
            return None;
        }
        self.sent = Some(value);
        let total = (self.total > 0).then(|| (self.base + self.total.max(self.done)) as f64).filter(|t| *t >= value);
        let message = if self.message.is_empty() { "working".into() } else { self.message.clone() };
        Some((value, total, message))
    }
}

impl ProgressSender {
    pub(super) fn new(token: ProgressToken) -> Self {
        Self { token, state: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn note(&self, progress: Progress) {
        self.lock().note(progress);
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn send_latest(&self, context: &RequestContext<RoleServer>) {
        let taken = {
            let mut state = self.lock();
            if state.waiting { state.take() } else { None }
        };
        self.send(taken, context).await;
    }

    async fn send_beat(&self, context: &RequestContext<RoleServer>) {
        let beat = self.lock().beat();
        self.send(beat, context).await;
    }

    async fn send(&self, taken: Option<(f64, Option<f64>, String)>, context: &RequestContext<RoleServer>) {
        let Some((value, total, message)) = taken else { return };
        let mut param = ProgressNotificationParam::new(self.token.clone(), value).with_message(message);
        param.total = total;
        if let Err(error) = context.peer.notify_progress(param).await {
            tracing::debug!("progress was not sent: {error}");
        }
    }
}

/// Waits for progress, lets a little more gather, sends the newest; says so when the work goes on without any.
pub(super) async fn forward(sender: Option<&ProgressSender>, context: &RequestContext<RoleServer>) {
    let Some(sender) = sender else { return std::future::pending().await };
    match tokio::time::timeout(STILL_ALIVE, sender.changed.notified()).await {
        Ok(()) => sender.send_latest(context).await,
        Err(_) => sender.send_beat(context).await,
    }
    tokio::time::sleep(PROGRESS_STEP).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_strictly_increasing_over_phases() {
        let mut counted = Counted::default();
        let mut last = -1.0;
        for (done, total) in [(0, 10), (5, 10), (10, 10), (0, 100), (100, 100), (100, 100), (0, 0), (3, 0), (1, 4)] {
            counted.note(Progress { done, total, message: String::new() });
            if let Some((value, total, _)) = counted.take() {
                assert!(value > last, "{value} after {last}");
                assert!(total.is_none_or(|total| total >= value));
                last = value;
            }
        }
        assert!(last >= 113.0, "{last}");
    }

    #[test]
    fn beats_grow_by_less_than_a_unit_and_end() {
        let mut counted = Counted::default();
        counted.note(Progress { done: 7, total: 10, message: "erasing".into() });
        let first = counted.take().unwrap().0;
        let (mut last, mut count) = (first, 0);
        while let Some((value, total, message)) = counted.beat() {
            assert!(value > last && value < first + 1.0 && message == "erasing", "{value}");
            assert!(total.is_none_or(|total| total >= value));
            (last, count) = (value, count + 1);
        }
        assert!(count > 600, "{count}: ten minutes at one a second");
        counted.note(Progress { done: 8, total: 10, message: "erasing".into() });
        assert!(counted.take().unwrap().0 > last);
    }
}
