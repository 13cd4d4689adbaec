//! Looks at a round of a loop that may only wait for a time; see [`crate::waits`].

use super::Xtensa;
use super::kind::{Kind, Op};
use crate::soc::Soc;
use crate::waits::LONGEST;

/// Special registers.
const SAR: i32 = 3;
const INTERRUPT: i32 = 226;
const PS: i32 = 230;

impl Xtensa {
    /// Looks at a round, and finds out over how many of them time is to move.
    pub(super) fn pass_rounds(&mut self, soc: &mut Soc) {
        self.polls.due = false;
        // Other cores, and whoever stops at addresses, see every round.
        if self.watching || self.watching_data || self.stepped {
            return;
        }
        // Looking takes time: not right before something happens.
        let deadline = soc.cycles_until(self.cycles, soc.next_deadline()).saturating_add(self.cycles);
        if deadline.min(soc.alone_until).min(self.next_match()) <= self.cycles + 2 * LONGEST {
            return;
        }
        self.polls.watching = true;
        let to_the_read =
            (0..LONGEST).any(|_| self.pc == self.polls.pc || !self.watched_step(soc, &mut Round::default()));
        let period = if to_the_read && self.pc == self.polls.pc { self.round(soc) } else { None };
        self.polls.looked(self.cycles, period);
    }

    /// Notes a read at this instruction, which counts as executed already.
    #[inline]
    pub(super) fn polled(&mut self) {
        self.attention |= self.polls.read_at(self.pc, self.cycles.wrapping_sub(1));
    }

    /// Time passes as if rounds were executed.
    pub(super) fn pass(&mut self) {
        let passed = self.polls.left.min(self.limit.saturating_sub(self.cycles));
        self.polls.left -= passed;
        self.idle += passed;
        self.cycles += passed;
    }

    /// Executes a round from the read on; its length when nothing comes of it.
    fn round(&mut self, soc: &mut Soc) -> Option<u64> {
        let (registers, others, began, mut round) = (self.ar, self.others(), self.cycles, Round::default());
        for _ in 0..LONGEST {
            if !self.watched_step(soc, &mut round) {
                return None;
            }
            if self.pc == self.polls.pc {
                let kept = (0..64).all(|index| round.read >> index & 1 == 0 || registers[index] == self.ar[index]);
                let same = kept && !round.changes && others == self.others();
                return same.then(|| (self.cycles - began).max(1));
            }
        }
        None
    }

    /// What else an instruction of such a round may set.
    fn others(&self) -> [u32; 7] {
        let window = self.window_base() << 16 | u32::from(self.window_start);
        [self.ps, window, self.shift, self.loop_begin, self.loop_end, self.loop_count, self.booleans]
    }

    /// Executes one instruction; false when something has happened that ends the slice.
    fn watched_step(&mut self, soc: &mut Soc, round: &mut Round) -> bool {
        let pc = self.pc;
        let Ok(frame) = soc.code(pc) else { return false };
        let mut page = self.take_page(frame);
        let known = page[pc as usize & 4095];
        let op =
            if known.kind == Kind::Undecoded { self.decode_at(soc, &mut page, frame, pc).ok() } else { Some(known) };
        let goes_on = op.is_some_and(|op| {
            self.note(soc, op, round);
            soc.shared.stop = false;
            self.attention = false;
            self.limit = self.cycles + 1;
            let exit = self.run_page(soc, &mut page, frame);
            exit.is_none() && !soc.shared.stop && !self.attention && soc.watched_access.is_none()
        });
        if let Some(slot) = self.decoded.get_mut(frame as usize) {
            *slot = Some(page);
        }
        goes_on
    }

    /// What an instruction is about to do.
    fn note(&self, soc: &Soc, op: Op, round: &mut Round) {
        let Some((reads, writes)) = general(op) else {
            round.changes = true;
            return;
        };
        let mask = |registers: &[Option<u8>]| {
            let bit = |number: &u8| 1u64 << ((self.base + usize::from(*number)) & 63);
            registers.iter().flatten().map(bit).fold(0, |all, bit| all | bit)
        };
        round.read |= mask(&reads) & !round.written;
        round.written |= mask(&writes);
        round.changes |= match op.kind {
            Kind::S8i => self.store_changes(soc, op, 1),
            Kind::S16i => self.store_changes(soc, op, 2),
            Kind::S32i | Kind::S32ri | Kind::S32nb => self.store_changes(soc, op, 4),
            // A look at the lines: a timer's match, which nothing else waits for, may show there.
            Kind::Rsr => op.imm == INTERRUPT,
            Kind::Wsr => op.imm != PS && op.imm != SAR,
            // The callee's stack pointer lies beyond the window.
            Kind::Entry => {
                let callee = self.base + 4 * (self.ps >> 16 & 3) as usize + usize::from(op.s);
                round.written |= 1 << (callee & 63);
                false
            }
            _ => false,
        };
    }

    fn store_changes(&self, soc: &Soc, op: Op, size: u32) -> bool {
        let (address, value) = (self.a(op.s).wrapping_add(op.imm as u32), self.a(op.t));
        if soc.is_register(address) {
            return !soc.hands_out_clock(address);
        }
        (0..size).any(|index| soc.memory.byte(address.wrapping_add(index)) != Some((value >> (8 * index)) as u8))
    }
}

/// Registers of the window.
type Named<const COUNT: usize> = [Option<u8>; COUNT];

/// Registers of the window that an instruction reads, and those that it writes; `None` for one that is not looked at: it may
/// change what is not compared.
fn general(op: Op) -> Option<(Named<3>, Named<1>)> {
    use Kind::*;
    let (r, s, t) = (Some(op.r), Some(op.s), Some(op.t));
    let (reads, writes) = match op.kind {
        L8ui | L16ui | L16si | L32i | L32ai | Addi | Addmi | Mov | Nsa | Nsau => ([s, None], t),
        S8i | S16i | S32i | S32ri | S32nb => ([s, t], None),
        L32r | Movi | Rsil | Rsr => ([None, None], t),
        Rur => ([None, None], r),
        Wsr => ([t, None], None),
        Neg | Abs | Srai | Srli | Srl | Sra | Extui => ([t, None], r),
        Slli | Sll | Sext | Clamps => ([s, None], r),
        Add | Addx2 | Addx4 | Addx8 | Sub | Subx2 | Subx4 | Subx8 | And | Or | Xor | Min | Max | Minu | Maxu | Salt
        | Saltu | Src | Mull | Muluh | Mulsh | Mul16u | Mul16s | Quou | Quos | Remu | Rems => ([s, t], r),
        // The target keeps its value, or gets the other one's.
        Moveqz | Movnez | Movltz | Movgez => return Some(([r, s, t], [r])),
        Movf | Movt => return Some(([r, s, None], [r])),
        Ssr | Ssl | Ssa8l | Ssa8b | Jx | Beqz | Bnez | Bltz | Bgez | Beqi | Bnei | Blti | Bgei | Bltui | Bgeui
        | Bbci | Bbsi | Loop | Loopnez | Loopgtz | Entry => ([s, None], None),
        Bnone | Beq | Blt | Bltu | Ball | Bbc | Bany | Bne | Bge | Bgeu | Bnall | Bbs => ([s, t], None),
        Ssai | J | Nop | Isync | Rsync | Esync | Dsync | Excw | Memw | Extw | Bf | Bt => ([None, None], None),
        Ret | Retw => ([Some(0), None], None),
        Call0 => ([None, None], Some(0)),
        Callx0 => ([s, None], Some(0)),
        Call4 => ([None, None], Some(4)),
        Call8 => ([None, None], Some(8)),
        Call12 => ([None, None], Some(12)),
        Callx4 => ([s, None], Some(4)),
        Callx8 => ([s, None], Some(8)),
        Callx12 => ([s, None], Some(12)),
        _ => return None,
    };
    Some(([reads[0], reads[1], None], [writes]))
}

/// What a round does.
#[derive(Debug, Default)]
struct Round {
    /// Registers (of all 64) that it reads before it writes them, and those that it writes.
    read: u64,
    written: u64,
    /// It changes something.
    changes: bool,
}
