//! What goes on at this station just now: one slot a port.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use esp_model::job::Job;
use serde::Serialize;

use crate::report::Report;

/// All slots, and what they did since the program started.
#[derive(Default)]
pub struct Floor(Mutex<State>);

#[derive(Default)]
struct State {
    slots: BTreeMap<String, Slot>,
    totals: Totals,
    /// The recipe of the last batch: name and version.
    recipe: String,
    version: u64,
}

/// Every device that was worked on since the program started, also those that no record in the ledger has.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Units that passed.
    pub passed: u32,
    /// Units that did not: failed, unknown or aborted.
    pub not_passed: u32,
    /// When the first of them began, in milliseconds since 1970; 0 for none.
    pub since_ms: u64,
    /// Why, by error code or the name of a step, with the number of units.
    pub failures: BTreeMap<String, u32>,
}

/// What the floor shows at once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct View {
    /// A number that grows with every change.
    pub version: u64,
    /// The slots by their numbers.
    pub slots: Vec<Slot>,
    /// All devices since the program started.
    pub totals: Totals,
    /// The recipe of the last batch: name and version.
    pub recipe: String,
}

/// One place for a device.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Slot {
    /// The port's URL.
    pub port: String,
    /// From 1: the place in the setting `slots`, else in the order in which the ports were first used.
    pub number: u32,
    /// Its name in the setting `slots`; empty for none.
    pub name: String,
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
    /// What to do about it.
    pub next: String,
    /// What to print, once the unit passed.
    pub label: String,
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
        let number = state.slots.values().map(|slot| slot.number).max().unwrap_or(0) + 1;
        let slot =
            state.slots.entry(port.into()).or_insert_with(|| Slot { port: port.into(), number, ..Slot::default() });
        change(slot);
        state.version += 1;
    }

    /// A new unit is in this slot.
    pub fn begin(&self, port: &str, waiting: bool) {
        let state = if waiting { "waiting" } else { "running" };
        self.change(port, |slot| {
            let (port, name) = (std::mem::take(&mut slot.port), std::mem::take(&mut slot.name));
            let (number, passed, failed) = (slot.number, slot.passed, slot.failed);
            let fresh = Slot { state: state.into(), started_ms: now_ms(), ..Slot::default() };
            *slot = Slot { port, name, number, passed, failed, ..fresh };
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
    pub fn end(&self, report: &Report) {
        let passed = report.passed();
        if self.has_ended(&report.port) {
            // It was left behind, and counted, before.
            return;
        }
        self.change(&report.port, |slot| {
            slot.state = report.verdict.name().into();
            slot.error = report.reason();
            slot.next = if passed { String::new() } else { report.next_step() };
            slot.label = report.label.clone().unwrap_or_default();
            slot.ended_ms = now_ms();
            slot.percent = 100;
            *(if passed { &mut slot.passed } else { &mut slot.failed }) += 1;
        });
        let mut state = self.lock();
        let began = state.slots.get(&report.port).map_or(0, |slot| slot.started_ms);
        let totals = &mut state.totals;
        totals.since_ms = if totals.since_ms == 0 { began } else { totals.since_ms };
        if passed {
            totals.passed += 1;
        } else {
            totals.not_passed += 1;
            *totals.failures.entry(report.failed_at()).or_default() += 1;
        }
    }

    fn has_ended(&self, port: &str) -> bool {
        self.lock().slots.get(port).is_some_and(|slot| slot.ended_ms != 0)
    }

    /// The slots of this station in their order, each as `PORT` or `PORT=NAME`.
    pub fn name_slots(&self, slots: &[String]) {
        for (place, slot) in slots.iter().enumerate() {
            // A port may hold `=` itself (by-id links do not, URLs may): the name is behind the last one.
            let (port, name) = slot.rsplit_once('=').unwrap_or((slot, ""));
            self.change(port.trim(), |slot| {
                slot.number = place as u32 + 1;
                slot.name = name.trim().into();
                slot.state = "empty".into();
            });
        }
    }

    /// Another recipe is followed from now on.
    pub fn follow(&self, recipe: &str) {
        let mut state = self.lock();
        state.recipe = recipe.into();
        state.version += 1;
    }

    /// Takes a slot away.
    pub fn forget(&self, port: &str) {
        let mut state = self.lock();
        state.slots.remove(port);
        state.version += 1;
    }

    /// What is to be seen just now.
    pub fn look(&self) -> View {
        let state = self.lock();
        let mut slots: Vec<Slot> = state.slots.values().cloned().collect();
        slots.sort_by_key(|slot| slot.number);
        View { version: state.version, slots, totals: state.totals.clone(), recipe: state.recipe.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::UnitVerdict;

    fn report(port: &str, verdict: UnitVerdict, error: Option<&str>) -> Report {
        let mut report = Report::new(port);
        report.verdict = verdict;
        report.error = error.map(str::to_owned);
        report
    }

    #[test]
    fn totals_count_every_device_and_why_it_did_not_pass() {
        let floor = Floor::default();
        for (port, verdict, error) in [
            ("a", UnitVerdict::Pass, None),
            ("b", UnitVerdict::Fail, Some("no_serial_data: no loader answered")),
            ("b", UnitVerdict::Fail, Some("no_serial_data: no loader answered")),
            ("c", UnitVerdict::Aborted, Some("unit_timeout: not done within 5 s")),
        ] {
            floor.begin(port, false);
            floor.end(&report(port, verdict, error));
        }
        let view = floor.look();
        assert_eq!((view.totals.passed, view.totals.not_passed), (1, 3));
        assert_eq!(view.totals.failures["no_serial_data"], 2);
        assert_eq!(view.totals.failures["unit_timeout"], 1);
        assert!(view.totals.since_ms > 0);
    }

    #[test]
    fn slots_are_numbered_by_the_setting_and_then_as_they_come() {
        let floor = Floor::default();
        floor.name_slots(&["/dev/ttyUSB1=left".into(), "/dev/ttyUSB0".into()]);
        floor.begin("/dev/ttyUSB9", true);
        floor.begin("/dev/ttyUSB0", true);
        let slots = floor.look().slots;
        let shown: Vec<_> = slots.iter().map(|slot| (slot.number, slot.port.as_str(), slot.name.as_str())).collect();
        assert_eq!(shown, [(1, "/dev/ttyUSB1", "left"), (2, "/dev/ttyUSB0", ""), (3, "/dev/ttyUSB9", "")]);
    }
}
