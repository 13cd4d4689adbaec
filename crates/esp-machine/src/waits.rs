//! Loops that wait for a time: they read a clock, compare, and begin again. Nothing else comes of a round, so rounds are passed
//! over: time goes on as if they had been executed.
//!
//! A round is executed once under observation (each kind of core does that for its own instructions). It is one to pass over
//! when no register that it reads before it writes it has another value at its end, memory holds what it held, and of the
//! blocks' registers only those were written that hand out a clock's count. What such a round does depends on the time alone.
//! Time is moved by a small share of what the loop has waited so far, so that its end is met as closely, and a wait costs a
//! number of rounds that hardly grows with its length. An event of a block, or an input, ends it: the share does not depend on
//! how a run is cut into pieces, and the same inputs give the same run.

/// A place that was not read at for so many cycles is given up for another one.
const STALE: u64 = 20_000;
/// Instructions of a round at most.
pub const LONGEST: u64 = 256;
/// Rounds before one is looked at.
const PATIENCE: u32 = 64;
/// The share of the time waited by which time is moved at once.
const SHARE: u64 = 1024;

/// Reads of a clock, or of anything that may change with time, at the same place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Polls {
    /// The place.
    pub pc: u32,
    first: u64,
    last: u64,
    /// Cycles from one to the next: another distance is another wait.
    distance: u64,
    count: u32,
    /// A round is to be looked at.
    pub due: bool,
    /// One is being looked at.
    pub watching: bool,
    /// Cycles that are still to be passed over.
    pub left: u64,
}

impl Polls {
    /// Notes a read; true when a round is to be looked at now.
    #[inline]
    pub fn read_at(&mut self, pc: u32, cycles: u64) -> bool {
        if self.watching {
            return false;
        }
        let distance = cycles.saturating_sub(self.last);
        if pc == self.pc && distance == self.distance {
            (self.last, self.count) = (cycles, self.count.saturating_add(1));
            self.due = self.count >= PATIENCE;
            return self.due;
        }
        // Another read of the same round does not begin a new wait.
        if pc == self.pc || distance > STALE {
            *self = Self { pc, first: cycles, last: cycles, distance, ..Self::default() };
        }
        false
    }

    /// A round was looked at and takes so many cycles; `None` when something comes of it.
    pub fn looked(&mut self, cycles: u64, period: Option<u64>) {
        self.watching = false;
        let Some(period) = period.filter(|period| *period == self.distance) else {
            // Not such a loop: it is not looked at again for a while.
            *self = Self::default();
            return;
        };
        let waited = cycles.saturating_sub(self.first);
        self.left = waited / SHARE / period * period;
        self.last = (cycles + self.left).saturating_sub(period);
    }

    /// Something has happened: the loop looks for itself.
    pub fn stop(&mut self, cycles: u64) {
        if std::mem::take(&mut self.left) > 0 {
            self.last = cycles.saturating_sub(self.distance);
        }
    }
}
