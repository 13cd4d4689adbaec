//! Progress of a call: one strictly increasing count over all phases, not more often than a client can use.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use esp_model::job::Progress;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::Notify;

/// Shortest time between two progress notifications of a call.
const PROGRESS_STEP: Duration = Duration::from_millis(50);

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
        let total = (self.total > 0).then(|| (self.base + self.total.max(self.done)) as f64);
        Some((value, total, self.message.clone()))
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
        let Some((value, total, message)) = taken else { return };
        let mut param = ProgressNotificationParam::new(self.token.clone(), value).with_message(message);
        param.total = total;
        if let Err(error) = context.peer.notify_progress(param).await {
            tracing::debug!("progress was not sent: {error}");
        }
    }
}

/// Waits for progress, lets a little more gather, sends the newest.
pub(super) async fn forward(sender: Option<&ProgressSender>, context: &RequestContext<RoleServer>) {
    let Some(sender) = sender else { return std::future::pending().await };
    sender.changed.notified().await;
    sender.send_latest(context).await;
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
}
