//! Executes decoded instructions of one page.

use super::decode::{self, Kind, Op};
use super::{BREAKPOINT, CALL, ILLEGAL, LOAD_FAULT, RiscV, STORE_FAULT};
use super::{bits, float, loops, zc};
use crate::cpu::Exit;
use crate::soc::Soc;

/// Ends the slice of a page: why, or `None` to go on with the next page.
type Left = Option<Exit>;
/// A place of the register file that no instruction names.
const SPARE: u8 = 33;

impl RiscV {
    #[inline(always)]
    fn get(&self, register: u8) -> u32 {
        self.x[register as usize & 31]
    }

    #[inline(always)]
    fn set(&mut self, register: u8, value: u32) {
        self.x[register as usize & 63] = value;
    }

    /// Runs from `self.pc` on while execution stays on its page, in at most the cycles up to `end`.
    #[allow(clippy::too_many_lines, reason = "one arm for each instruction")]
    pub(super) fn run_page(&mut self, soc: &mut Soc, page: &mut [Op; 2048], frame: u32, end: u64) -> Left {
        let first = self.pc & !0xfff;
        let mut pc = self.pc;
        let mut cycles = self.cycles;
        let checked = !self.breakpoints.is_empty();
        macro_rules! leave {
            ($left:expr) => {{
                self.pc = pc;
                self.cycles = cycles;
                return $left;
            }};
        }
        macro_rules! trap {
            ($cause:expr, $value:expr) => {{
                self.cycles = cycles + 1;
                self.trap($cause, pc, $value);
                return None;
            }};
        }
        macro_rules! load {
            ($op:expr, $fast:ident, $size:expr, $as:expr) => {{
                let address = self.get($op.rs1).wrapping_add($op.imm);
                let value = match soc.memory.$fast(address) {
                    Some(value) => u32::from(value),
                    None => {
                        soc.cycle = cycles;
                        soc.shared.pc = pc;
                        match soc.load(address, $size) {
                            Ok(value) => {
                                soc.shared.stop |= soc.is_register(address) && self.polls.read_at(pc, cycles);
                                value
                            }
                            Err(_) => trap!(LOAD_FAULT, address),
                        }
                    }
                };
                self.set($op.rd, $as(value));
            }};
        }
        macro_rules! store {
            ($op:expr, $fast:ident, $size:expr, $as:ty) => {
                store!($op, $fast, $size, $as, self.get($op.rs2))
            };
            ($op:expr, $fast:ident, $size:expr, $as:ty, $value:expr) => {{
                let address = self.get($op.rs1).wrapping_add($op.imm);
                let value: u32 = $value;
                if !soc.memory.$fast(address, value as $as) {
                    soc.cycle = cycles;
                    soc.shared.pc = pc;
                    if soc.store(address, $size, value).is_err() {
                        trap!(STORE_FAULT, address);
                    }
                }
            }};
        }
        macro_rules! branch {
            ($op:expr, $taken:expr) => {{
                cycles += 1;
                pc = pc.wrapping_add(if $taken { $op.imm } else { $op.length() });
                continue;
            }};
        }
        macro_rules! compute {
            ($op:expr, |$a:ident, $b:ident| $value:expr) => {{
                let ($a, $b) = (self.get($op.rs1), self.get($op.rs2));
                let value: u32 = $value;
                self.set($op.rd, value);
            }};
        }
        macro_rules! immediate {
            ($op:expr, |$a:ident, $b:ident| $value:expr) => {{
                let ($a, $b) = (self.get($op.rs1), $op.imm);
                let value: u32 = $value;
                self.set($op.rd, value);
            }};
        }
        macro_rules! change {
            ($op:expr, |$old:ident, $new:ident| $value:expr) => {{
                let address = self.get($op.rs1);
                let $new = self.get($op.rs2);
                soc.cycle = cycles;
                soc.shared.pc = pc;
                let Ok($old) = soc.load(address, 4) else { trap!(STORE_FAULT, address) };
                if soc.store(address, 4, $value).is_err() {
                    trap!(STORE_FAULT, address);
                }
                self.set($op.rd, $old);
            }};
        }
        loop {
            if cycles >= end || soc.shared.stop || (pc ^ first) & !0xfff != 0 {
                leave!(None);
            }
            if checked && self.breakpoints.contains(&pc) && self.resume_at.take() != Some(pc) {
                self.resume_at = Some(pc);
                leave!(Some(Exit::Breakpoint));
            }
            let mut op = page[(pc >> 1) as usize & 0x7ff];
            if op.kind == Kind::Undecoded {
                match self.decode(soc, page, frame, pc) {
                    Some(decoded) => op = decoded,
                    None => trap!(super::FETCH_FAULT, pc.wrapping_add(2)),
                }
            }
            match op.kind {
                Kind::Lui => self.set(op.rd, op.imm),
                Kind::Bits => compute!(op, |a, b| bits::apply(op, a, b)),
                Kind::Auipc => self.set(op.rd, pc.wrapping_add(op.imm)),
                Kind::Jal => {
                    if op.imm == 0 {
                        // `j .`: nothing but an interrupt ends it.
                        cycles += 1;
                        leave!(Some(Exit::Idle));
                    }
                    self.set(op.rd, pc.wrapping_add(op.length()));
                    cycles += 1;
                    pc = pc.wrapping_add(op.imm);
                    continue;
                }
                Kind::Jalr => {
                    let target = self.get(op.rs1).wrapping_add(op.imm) & !1;
                    self.set(op.rd, pc.wrapping_add(op.length()));
                    cycles += 1;
                    pc = target;
                    continue;
                }
                Kind::Beq => branch!(op, self.get(op.rs1) == self.get(op.rs2)),
                Kind::Bne => branch!(op, self.get(op.rs1) != self.get(op.rs2)),
                Kind::Blt => branch!(op, (self.get(op.rs1) as i32) < self.get(op.rs2) as i32),
                Kind::Bge => branch!(op, self.get(op.rs1) as i32 >= self.get(op.rs2) as i32),
                Kind::Bltu => branch!(op, self.get(op.rs1) < self.get(op.rs2)),
                Kind::Bgeu => branch!(op, self.get(op.rs1) >= self.get(op.rs2)),
                Kind::Lb => load!(op, load8, 1, |v| v as i8 as u32),
                Kind::Lh => load!(op, load16, 2, |v| v as i16 as u32),
                Kind::Lw => load!(op, load32, 4, |v| v),
                Kind::Lbu => load!(op, load8, 1, |v| v),
                Kind::Lhu => load!(op, load16, 2, |v| v),
                Kind::Sb => store!(op, store8, 1, u8),
                Kind::Sh => store!(op, store16, 2, u16),
                Kind::Sw => store!(op, store32, 4, u32),
                Kind::AddI => immediate!(op, |a, b| a.wrapping_add(b)),
                Kind::SltI => immediate!(op, |a, b| u32::from((a as i32) < b as i32)),
                Kind::SltuI => immediate!(op, |a, b| u32::from(a < b)),
                Kind::XorI => immediate!(op, |a, b| a ^ b),
                Kind::OrI => immediate!(op, |a, b| a | b),
                Kind::AndI => immediate!(op, |a, b| a & b),
                Kind::SllI => immediate!(op, |a, b| a << (b & 31)),
                Kind::SrlI => immediate!(op, |a, b| a >> (b & 31)),
                Kind::SraI => immediate!(op, |a, b| (a as i32 >> (b & 31)) as u32),
                Kind::Add => compute!(op, |a, b| a.wrapping_add(b)),
                Kind::Sub => compute!(op, |a, b| a.wrapping_sub(b)),
                Kind::Sll => compute!(op, |a, b| a << (b & 31)),
                Kind::Slt => compute!(op, |a, b| u32::from((a as i32) < b as i32)),
                Kind::Sltu => compute!(op, |a, b| u32::from(a < b)),
                Kind::Xor => compute!(op, |a, b| a ^ b),
                Kind::Srl => compute!(op, |a, b| a >> (b & 31)),
                Kind::Sra => compute!(op, |a, b| (a as i32 >> (b & 31)) as u32),
                Kind::Or => compute!(op, |a, b| a | b),
                Kind::And => compute!(op, |a, b| a & b),
                Kind::Mul => compute!(op, |a, b| a.wrapping_mul(b)),
                Kind::Mulh => compute!(op, |a, b| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32),
                Kind::Mulhsu => compute!(op, |a, b| ((i64::from(a as i32) * i64::from(b)) >> 32) as u32),
                Kind::Mulhu => compute!(op, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32),
                Kind::Div => compute!(op, |a, b| if b == 0 { !0 } else { (a as i32).wrapping_div(b as i32) as u32 }),
                Kind::Divu => compute!(op, |a, b| a.checked_div(b).unwrap_or(!0)),
                Kind::Rem => compute!(op, |a, b| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }),
                Kind::Remu => compute!(op, |a, b| a.checked_rem(b).unwrap_or(a)),
                Kind::Fence | Kind::FenceI => {}
                Kind::Ecall => trap!(CALL, 0),
                Kind::Ebreak => trap!(BREAKPOINT, pc),
                Kind::Mret => {
                    self.cycles = cycles + 1;
                    self.mret();
                    self.interrupt(soc);
                    return None;
                }
                Kind::Wfi => {
                    cycles += 1;
                    pc = pc.wrapping_add(op.length());
                    self.pc = pc;
                    self.cycles = cycles;
                    return if self.pending(soc) {
                        self.interrupt(soc);
                        None
                    } else {
                        self.waiting = true;
                        Some(Exit::Idle)
                    };
                }
                Kind::Csrrw | Kind::Csrrs | Kind::Csrrc | Kind::CsrrwI | Kind::CsrrsI | Kind::CsrrcI => {
                    self.cycles = cycles;
                    if !self.csr_instruction(op) {
                        trap!(ILLEGAL, op.imm);
                    }
                    if op.kind == Kind::Csrrs && op.rs1 == 0 {
                        soc.shared.stop |= self.polls.read_at(pc, cycles);
                    }
                    self.cycles = cycles + 1;
                    self.pc = pc.wrapping_add(op.length());
                    self.interrupt(soc);
                    if self.pc != pc.wrapping_add(op.length()) {
                        return None;
                    }
                }
                Kind::Lr => {
                    let address = self.get(op.rs1);
                    soc.cycle = cycles;
                    soc.shared.pc = pc;
                    let Ok(value) = soc.load(address, 4) else { trap!(LOAD_FAULT, address) };
                    self.reserved = Some(address);
                    self.set(op.rd, value);
                }
                Kind::Sc => {
                    let address = self.get(op.rs1);
                    let fits = self.reserved.take() == Some(address);
                    if fits {
                        soc.cycle = cycles;
                        soc.shared.pc = pc;
                        if soc.store(address, 4, self.get(op.rs2)).is_err() {
                            trap!(STORE_FAULT, address);
                        }
                    }
                    self.set(op.rd, u32::from(!fits));
                }
                Kind::AmoSwap => change!(op, |old, new| new),
                Kind::AmoAdd => change!(op, |old, new| old.wrapping_add(new)),
                Kind::AmoXor => change!(op, |old, new| old ^ new),
                Kind::AmoAnd => change!(op, |old, new| old & new),
                Kind::AmoOr => change!(op, |old, new| old | new),
                Kind::AmoMin => change!(op, |old, new| (old as i32).min(new as i32) as u32),
                Kind::AmoMax => change!(op, |old, new| (old as i32).max(new as i32) as u32),
                Kind::AmoMinu => change!(op, |old, new| old.min(new)),
                Kind::AmoMaxu => change!(op, |old, new| old.max(new)),
                Kind::Flw | Kind::Fsw if !self.float_on() => trap!(ILLEGAL, raw(soc, pc, op)),
                Kind::Flw => {
                    load!(Op { rd: SPARE, ..op }, load32, 4, |value| value);
                    self.float.f[op.rd as usize & 31] = self.x[SPARE as usize];
                }
                Kind::Fsw => store!(op, store32, 4, u32, self.float.f[op.rs2 as usize & 31]),
                Kind::Float => {
                    if !self.float_on() || !self.float(op.imm) {
                        self.pc = pc;
                        self.cycles = cycles;
                        return self.illegal(soc, op.imm);
                    }
                }
                // Rare: what comes of it is looked after outside.
                Kind::Zc | Kind::Loop | Kind::Illegal | Kind::Undecoded => {
                    self.pc = pc;
                    self.cycles = cycles;
                    return self.own_instruction(soc, op);
                }
            }
            cycles += 1;
            pc = pc.wrapping_add(op.length());
        }
    }

    /// Decodes the instruction at `pc` and keeps it, unless it goes on on the next page.
    #[inline(never)]
    pub(super) fn decode(&mut self, soc: &mut Soc, page: &mut [Op; 2048], frame: u32, pc: u32) -> Option<Op> {
        let at = (pc >> 1) as usize & 0x7ff;
        let low = half(soc, frame, pc);
        if !decode::is_long(low) {
            let mut op = decode::short(low);
            if op.kind == Kind::Illegal && self.floats {
                op = float::decode_short(low).unwrap_or(op);
            }
            if op.kind == Kind::Illegal && self.short {
                op = zc::decode_short(low).unwrap_or(op);
            }
            page[at] = op;
            soc.memory.note_decoded(frame, pc & 0xfff, 1);
            return Some(op);
        }
        let next = pc.wrapping_add(2);
        let straddles = next & 0xfff == 0;
        let next_frame = if straddles { soc.code(next).ok()? } else { frame };
        let high = half(soc, next_frame, next);
        let mut op = decode::long(u32::from(high) << 16 | u32::from(low));
        if !self.atomics && (op.kind as u8) >= Kind::Lr as u8 {
            op.imm = u32::from(high) << 16 | u32::from(low);
            op.kind = Kind::Illegal;
        }
        if op.kind == Kind::Illegal && self.bits {
            op = bits::decode(op.imm).unwrap_or(op);
        }
        if op.kind == Kind::Illegal && self.floats {
            op = float::decode(op.imm).unwrap_or(op);
        }
        if op.kind == Kind::Illegal && self.has_loops {
            op = loops::decode(op.imm).unwrap_or(op);
        }
        // What is on the next page may become something else without this page's being told.
        if !straddles {
            page[at] = op;
            soc.memory.note_decoded(frame, pc & 0xfff, 2);
        }
        Some(op)
    }

    fn csr_instruction(&mut self, op: Op) -> bool {
        let Some(old) = self.read_csr(op.imm) else { return false };
        let (operand, immediate) = match op.kind {
            Kind::Csrrw | Kind::Csrrs | Kind::Csrrc => (self.get(op.rs1), false),
            _ => (u32::from(op.rs1), true),
        };
        let next = match op.kind {
            Kind::Csrrw | Kind::CsrrwI => Some(operand),
            // Without a source register nothing is written.
            _ if op.rs1 == 0 && (!immediate || operand == 0) => None,
            Kind::Csrrs | Kind::CsrrsI => Some(old | operand),
            _ => Some(old & !operand),
        };
        if let Some(next) = next {
            self.write_csr(op.imm, next);
        }
        self.set(op.rd, old);
        true
    }
}

/// The instruction at `pc` as it stands in memory.
fn raw(soc: &Soc, pc: u32, op: Op) -> u32 {
    let word = soc.memory.word(pc).unwrap_or(0);
    if op.length() == 2 { word & 0xffff } else { word }
}

fn half(soc: &Soc, frame: u32, address: u32) -> u16 {
    let at = address as usize & 0xffe;
    let bytes = soc.memory.frame(frame);
    u16::from_le_bytes([bytes.get(at).copied().unwrap_or(0), bytes.get(at + 1).copied().unwrap_or(0)])
}
