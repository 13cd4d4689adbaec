//! Loops that wait for a time: they read a clock, compare, and begin again. Nothing else comes of a round, so rounds are passed
//! over: time goes on as if they had been executed.
//!
//! A round is executed once under observation. It is one to pass over when no register that it reads before it writes it has
//! another value at its end, memory holds what it held, and of the blocks' registers only those were written that hand out a
//! clock's count. What such a round does depends on the time alone. Time is moved by a small share of what the loop has waited
//! so far, so that its end is met as closely, and a wait costs a number of rounds that hardly grows with its length. An event
//! of a block, or an input, ends it: the share does not depend on how a run is cut into pieces, and the same inputs give the same run.

use super::RiscV;
use super::decode::{Kind, Op};
use crate::soc::Soc;

/// A place that was not read at for so many cycles is given up for another one.
const STALE: u64 = 20_000;
/// Instructions of a round at most.
const LONGEST: u64 = 256;
/// Rounds before one is looked at.
const PATIENCE: u32 = 64;
/// The share of the time waited by which time is moved at once.
const SHARE: u64 = 1024;

/// Reads of a clock, or of anything that may change with time, at the same place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Polls {
    pc: u32,
    first: u64,
    last: u64,
    /// Cycles from one to the next: another distance is another wait.
    distance: u64,
    count: u32,
    /// A round is to be looked at.
    pub due: bool,
    /// One is being looked at.
    watching: bool,
    /// Cycles that are still to be passed over.
    pub left: u64,
}

impl RiscV {
    /// Notes a read; true when the slice is to end so that a round can be looked at.
    #[inline]
    pub(super) fn polled(&mut self, pc: u32, cycles: u64) -> bool {
        let polls = &mut self.polls;
        if polls.watching {
            return false;
        }
        let distance = cycles.saturating_sub(polls.last);
        if pc == polls.pc && distance == polls.distance {
            (polls.last, polls.count) = (cycles, polls.count.saturating_add(1));
            polls.due = polls.count >= PATIENCE;
            return polls.due;
        }
        // Another read of the same round does not begin a new wait.
        if pc == polls.pc || distance > STALE {
            *polls = Polls { pc, first: cycles, last: cycles, distance, ..Polls::default() };
        }
        false
    }

    /// Looks at a round, and passes over as many as time is to move by.
    pub(super) fn pass_rounds(&mut self, soc: &mut Soc) {
        self.polls.due = false;
        // Other cores, and whoever stops at addresses, see every round.
        if !soc.alone || !self.breakpoints.is_empty() || self.stepped {
            return;
        }
        // Looking takes time: not right before something happens.
        if soc.cycles_until(self.cycles, soc.next_deadline()) <= 2 * LONGEST {
            return;
        }
        self.polls.watching = true;
        let to_the_read =
            (0..LONGEST).any(|_| self.pc == self.polls.pc || !self.watched_step(soc, &mut Round::default()));
        let period = if to_the_read && self.pc == self.polls.pc { self.round(soc) } else { None };
        self.polls.watching = false;
        let Some(period) = period.filter(|period| *period == self.polls.distance) else {
            // Not such a loop: it is not looked at again for a while.
            self.polls = Polls::default();
            return;
        };
        let waited = self.cycles.saturating_sub(self.polls.first);
        self.polls.left = waited / SHARE / period * period;
        self.polls.last = (self.cycles + self.polls.left).saturating_sub(period);
    }

    /// Something has happened: the loop looks for itself.
    pub(super) fn stop_passing(&mut self) {
        if std::mem::take(&mut self.polls.left) > 0 {
            self.polls.last = self.cycles.saturating_sub(self.polls.distance);
        }
    }

    /// Executes a round from the read on; its length when nothing comes of it.
    fn round(&mut self, soc: &mut Soc) -> Option<u64> {
        let (before, began, mut round) = (self.x, self.cycles, Round::default());
        for _ in 0..LONGEST {
            if !self.watched_step(soc, &mut round) {
                return None;
            }
            if self.pc == self.polls.pc {
                let kept = (1..32).all(|index| round.read >> index & 1 == 0 || before[index] == self.x[index]);
                return (kept && !round.changes).then(|| (self.cycles - began).max(1));
            }
        }
        None
    }

    /// Executes one instruction; false when something has happened that ends the slice.
    fn watched_step(&mut self, soc: &mut Soc, round: &mut Round) -> bool {
        let Ok(frame) = soc.code(self.pc) else { return false };
        let mut page = self.take_page(frame);
        let known = page[(self.pc >> 1) as usize & 0x7ff];
        let op = if known.kind == Kind::Undecoded { self.decode(soc, &mut page, frame, self.pc) } else { Some(known) };
        let goes_on = op.is_some_and(|op| {
            self.note(soc, op, round);
            soc.shared.stop = false;
            let end = self.cycles + 1;
            let exit = self.run_page(soc, &mut page, frame, end);
            exit.is_none() && !soc.shared.stop && soc.watched_access.is_none()
        });
        if let Some(slot) = self.decoded.get_mut(frame as usize) {
            *slot = Some(page);
        }
        goes_on
    }

    /// What an instruction is about to do.
    fn note(&self, soc: &Soc, op: Op, round: &mut Round) {
        let (first, second) = sources(op.kind);
        let read = u32::from(first) << (op.rs1 & 31) | u32::from(second) << (op.rs2 & 31);
        round.read |= read & !round.written;
        round.written |= 1u32.checked_shl(op.rd.into()).unwrap_or(0);
        round.changes |= match op.kind {
            Kind::Sb => self.store_changes(soc, op, 1),
            Kind::Sh => self.store_changes(soc, op, 2),
            Kind::Sw => self.store_changes(soc, op, 4),
            // Reading a control register changes nothing, writing one may.
            Kind::Csrrs => op.rs1 != 0,
            Kind::Csrrw | Kind::Csrrc | Kind::CsrrwI | Kind::CsrrsI | Kind::CsrrcI => true,
            Kind::Lr | Kind::Sc | Kind::AmoSwap | Kind::AmoAdd | Kind::AmoXor | Kind::AmoAnd | Kind::AmoOr => true,
            Kind::AmoMin | Kind::AmoMax | Kind::AmoMinu | Kind::AmoMaxu => true,
            // Registers of floating point are not compared.
            Kind::Float | Kind::Flw | Kind::Fsw => true,
            Kind::Ecall | Kind::Ebreak | Kind::Mret | Kind::Wfi | Kind::FenceI | Kind::Illegal => true,
            _ => false,
        };
    }

    fn store_changes(&self, soc: &Soc, op: Op, size: u32) -> bool {
        let register = |number: u8| self.x[number as usize & 31];
        let (address, value) = (register(op.rs1).wrapping_add(op.imm), register(op.rs2));
        if soc.is_register(address) {
            return !soc.hands_out_clock(address);
        }
        (0..size).any(|index| soc.memory.byte(address.wrapping_add(index)) != Some((value >> (8 * index)) as u8))
    }
}

/// Whether an instruction reads its first and its second source register.
fn sources(kind: Kind) -> (bool, bool) {
    match kind {
        Kind::Lui | Kind::Auipc | Kind::Jal => (false, false),
        Kind::Jalr | Kind::Lb | Kind::Lh | Kind::Lw | Kind::Lbu | Kind::Lhu => (true, false),
        Kind::AddI | Kind::SltI | Kind::SltuI | Kind::XorI | Kind::OrI | Kind::AndI => (true, false),
        Kind::SllI | Kind::SrlI | Kind::SraI | Kind::Csrrs => (true, false),
        _ => (true, true),
    }
}

/// What a round does.
#[derive(Debug, Default)]
struct Round {
    /// Registers that it reads before it writes them, and those that it writes.
    read: u32,
    written: u32,
    /// It changes something.
    changes: bool,
}
