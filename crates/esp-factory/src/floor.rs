//! What goes on at this station just now: one slot a port.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use esp_model::job::Job;
use serde::Serialize;

/// All slots, and what they did since the program started.
#[derive(Default)]
pub struct Floor(Mutex<State>);

#[derive(Default)]
struct State {
    slots: BTreeMap<String, Slot>,
    version: u64,
}

/// One place for a device.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Slot {
    /// The port's URL.
    pub port: String,
    /// waiting, running, pass, fail, unknown or aborted.
    pub state: String,
    /// What happens now, or happened last: connect, reserve, write …
    pub phase: String,
    /// More about it.
    pub message: String,
    /// Share of the phase that is done, 0…100.
    pub percent: u32,
    /// The unit's base MAC.
    pub mac: String,
    /// Its identities.
    pub identities: BTreeMap<String, String>,
    /// What went wrong, as a code and a sentence.
    pub error: String,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// Milliseconds since 1970; 0 while it runs.
    pub ended_ms: u64,
    /// Connections that had to be made again.
    pub retries: u32,
    /// Units that passed and that did not, in this slot since the program started.
    pub passed: u32,
    /// See `passed`.
    pub failed: u32,
}

impl Floor {
    /// Changes a slot.
    pub fn change(&self, port: &str, change: impl FnOnce(&mut Slot)) {
        let mut state = self.lock();
        let slot = state.slots.entry(port.into()).or_insert_with(|| Slot { port: port.into(), ..Slot::default() });
        change(slot);
        state.version += 1;
    }

    /// A new unit is in this slot.
    pub fn begin(&self, port: &str, waiting: bool) {
        let state = if waiting { "waiting" } else { "running" };
        self.change(port, |slot| {
            let (passed, failed) = (slot.passed, slot.failed);
            let port = std::mem::take(&mut slot.port);
            *slot = Slot { port, state: state.into(), started_ms: now_ms(), passed, failed, ..Slot::default() };
        });
    }

    /// A phase begins.
    pub fn phase(&self, port: &str, phase: &str) {
        self.change(port, |slot| {
            slot.state = "running".into();
            slot.phase = phase.into();
            slot.message.clear();
            slot.percent = 0;
        });
    }

    /// The unit is done.
    pub fn end(&self, port: &str, verdict: &str, error: Option<&str>) {
        self.change(port, |slot| {
            slot.state = verdict.into();
            slot.error = error.unwrap_or_default().into();
            slot.ended_ms = now_ms();
            slot.percent = 100;
            let count = if verdict == "pass" { &mut slot.passed } else { &mut slot.failed };
            *count += 1;
        });
    }

    /// Takes a slot away.
    pub fn forget(&self, port: &str) {
        let mut state = self.lock();
        state.slots.remove(port);
        state.version += 1;
    }

    /// Slots by port, and a number that grows with every change.
    pub fn look(&self) -> (u64, Vec<Slot>) {
        let state = self.lock();
        (state.version, state.slots.values().cloned().collect())
    }

    /// The number that grows with every change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// A job whose progress is shown in the slot.
    pub fn job(self: &Arc<Self>, port: &str) -> Job {
        let (floor, port) = (self.clone(), port.to_owned());
        Job::with_progress(move |progress| {
            floor.change(&port, |slot| {
                slot.percent = (progress.done * 100).checked_div(progress.total).unwrap_or(0).min(100) as u32;
                slot.message = progress.message;
            });
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
