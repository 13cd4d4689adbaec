//! A watchdog with four stages: the part that timer groups and the RTC share.

use crate::device::NEVER;

/// What a stage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Interrupt,
    ResetCpu,
    ResetSystem,
    ResetAll,
}

impl Action {
    /// As the stage fields have it.
    pub fn from_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Interrupt,
            2 => Self::ResetCpu,
            3 => Self::ResetSystem,
            // Headers name 4; esptool restarts chips with 5.
            4.. => Self::ResetAll,
            0 => Self::Nothing,
        }
    }
}

/// The stages and where it is.
#[derive(Debug, Clone, Default)]
pub struct Watchdog {
    /// Since when the current stage runs; `None` when it does not.
    since: Option<u64>,
    stage: usize,
}

impl Watchdog {
    /// Turns it on or off; on a change it begins with stage 0.
    pub fn enable(&mut self, on: bool, now: u64) {
        if on != self.since.is_some() {
            self.since = on.then_some(now);
            self.stage = 0;
        }
    }

    /// Fed: it begins anew.
    pub fn feed(&mut self, now: u64) {
        if self.since.is_some() {
            self.since = Some(now);
            self.stage = 0;
        }
    }

    /// When the current stage ends, given the stages' lengths in picoseconds.
    pub fn deadline(&self, lengths: &[u64; 4]) -> u64 {
        match (self.since, lengths.get(self.stage)) {
            (Some(since), Some(length)) => since.saturating_add((*length).max(1)),
            _ => NEVER,
        }
    }

    /// What is due; the next stage begins.
    pub fn expire(&mut self, lengths: &[u64; 4], actions: &[Action; 4], now: u64) -> Action {
        if self.deadline(lengths) > now {
            return Action::Nothing;
        }
        let action = actions.get(self.stage).copied().unwrap_or(Action::Nothing);
        self.stage += 1;
        self.since = Some(now);
        action
    }
}
