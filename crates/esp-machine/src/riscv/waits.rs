//! Looks at a round of a loop that may only wait for a time; see [`crate::waits`].

use super::RiscV;
use super::decode::{Kind, Op};
use crate::soc::Soc;
use crate::waits::LONGEST;

impl RiscV {
    /// Looks at a round, and passes over as many as time is to move by.
    pub(super) fn pass_rounds(&mut self, soc: &mut Soc) {
        self.polls.due = false;
        // Other cores, and whoever stops at addresses, see every round.
        if soc.alone_until <= self.cycles + 2 * LONGEST || !self.breakpoints.is_empty() || self.stepped {
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
        self.polls.looked(self.cycles, period);
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
            Kind::Float | Kind::Flw | Kind::Fsw | Kind::Loop | Kind::Zc => true,
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
