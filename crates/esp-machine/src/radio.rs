//! The radio, which is not there: who waits for it is seen, and by a setting let through.
//!
//! The program that calibrates a radio is Espressif's and closed: it starts something, polls a register until bits say that it is
//! done, and goes on. No data tells which bits. With [`Radio::lets_through`], a register that is read again and again at one place
//! gives other values in turn, until the program goes on: all bits set, none, and the time in microseconds, for what counts.
//! What has helped at a place helps at once the next time. The same run gives the same values.

use std::collections::BTreeMap;

/// A program that polls the radio for this long (picoseconds) waits for what will not come.
const PATIENCE: u64 = 50_000_000_000;
/// Polls that are further apart belong to different waits.
const PAUSE: u64 = 1_000_000_000;
/// Fewer polls are a program that looks now and then.
const POLLS: u32 = 1000;
/// Reads of one register at one place before it gives another value.
const READS: u32 = 40;
/// As many where a value has helped before.
const READS_AGAIN: u32 = 4;
/// Reads for which a value stays.
const TURN: u32 = 8;
/// Places that are kept.
const MOST_PLACES: usize = 4096;

/// How long a program has been polling the radio's registers, and what was given to it.
#[derive(Debug, Clone, Default)]
pub struct Radio {
    first: u64,
    last: u64,
    count: u32,
    told: bool,
    let_through: bool,
    /// A program that waits is given the values that it waits for.
    pub lets_through: bool,
    waits: BTreeMap<(u32, u32), Wait>,
}

/// Reads of one register at one place.
#[derive(Debug, Clone, Copy, Default)]
struct Wait {
    last: u64,
    count: u32,
    /// What the register holds: one that changes by itself is not waited for in vain.
    holds: u32,
    /// Which value it gives now, or gave when the program went on.
    choice: Option<u32>,
}

/// What there is to say after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// A program waits for what will not come.
    Waits,
    /// It waited, and was given another value, for the first time.
    LetThrough,
}

impl Radio {
    /// All begins anew, but for the setting.
    pub fn reset(&mut self) {
        *self = Self { lets_through: self.lets_through, ..Self::default() };
    }

    /// A program reads a register that holds `value`: what it is given.
    pub fn read(&mut self, now: u64, pc: u32, address: u32, value: u32) -> (u32, Told) {
        if now.saturating_sub(self.last) > PAUSE {
            (self.first, self.count) = (now, 0);
        }
        (self.last, self.count) = (now, self.count.saturating_add(1));
        let given = if self.lets_through { self.given(now, (pc, address), value) } else { value };
        let waits = self.count > POLLS && now.saturating_sub(self.first) > PATIENCE;
        if waits && !self.told && (!self.lets_through || self.is_stuck((pc, address))) {
            self.told = true;
            return (given, Told::Waits);
        }
        if given != value && !self.let_through {
            self.let_through = true;
            return (given, Told::LetThrough);
        }
        (given, Told::Nothing)
    }

    /// A program reads a register of the analog parts, through their bus.
    pub fn read_analog(&mut self, now: u64, part: (u8, u8), value: u8) -> u8 {
        if !self.lets_through {
            return value;
        }
        self.given(now, (part.0.into(), part.1.into()), value.into()) as u8
    }

    /// All values were given, and none has helped.
    fn is_stuck(&self, place: (u32, u32)) -> bool {
        self.waits.get(&place).is_some_and(|wait| wait.count > POLLS)
    }

    fn given(&mut self, now: u64, place: (u32, u32), value: u32) -> u32 {
        if self.waits.len() >= MOST_PLACES && !self.waits.contains_key(&place) {
            return value;
        }
        let wait = self.waits.entry(place).or_default();
        if now.saturating_sub(wait.last) > PAUSE || wait.holds != value {
            wait.count = 0;
        }
        (wait.last, wait.holds, wait.count) = (now, value, wait.count.saturating_add(1));
        let patience = if wait.choice.is_some() { READS_AGAIN } else { READS };
        if wait.count <= patience {
            return value;
        }
        let since = wait.count - patience - 1;
        // The value that stood when the program went on comes first.
        let choice = match wait.choice {
            Some(choice) if !since.is_multiple_of(TURN) || since == 0 => choice,
            Some(choice) => choice + 1,
            None => 0,
        };
        wait.choice = Some(choice);
        match choice % 3 {
            0 => u32::MAX,
            1 => 0,
            _ => (now / 1_000_000) as u32,
        }
    }

    /// A program writes a register: what it reads next is the begin of another wait.
    pub fn write(&mut self) {
        for wait in self.waits.values_mut() {
            wait.count = 0;
        }
    }
}
