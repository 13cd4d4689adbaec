//! The inner loop.

use crate::cpu::Exit;
use crate::soc::Soc;

use super::decode::{constant_of, decode, offset_of};
use super::exceptions::{CAUSE_BREAK, CAUSE_BREAK_NARROW, CAUSE_IBREAK, Trap};
use super::kind::{Kind, Op};
use super::{Decoded, EXCM, Xtensa};

/// How an instruction ends.
enum Flow {
    /// With the next one.
    Next,
    /// With a jump, or after something has set PC.
    To(u32),
}

impl Xtensa {
    /// Runs while PC stays on this page.
    pub(super) fn run_page(&mut self, soc: &mut Soc, page: &mut Decoded, frame: u32) -> Option<Exit> {
        let here = self.pc >> 12;
        while self.cycles < self.limit && !self.attention && !soc.shared.stop {
            let pc = self.pc;
            if pc >> 12 != here {
                return None;
            }
            let mut op = page[pc as usize & 4095];
            if op.kind == Kind::Undecoded {
                op = match self.decode_at(soc, page, frame, pc) {
                    Ok(op) => op,
                    Err(address) => {
                        self.trap(Trap::FetchProhibited, pc, Some(address));
                        continue;
                    }
                };
            }
            if self.watching && self.stops_here(pc) {
                if self.breakpoints.contains(&pc) {
                    return Some(Exit::Breakpoint);
                }
                continue;
            }
            self.cycles += 1;
            if op.window >= self.room {
                self.window_overflow(pc);
                continue;
            }
            match self.execute(soc, &op, pc) {
                Ok(Flow::Next) => {
                    let next = pc.wrapping_add(u32::from(op.length));
                    self.pc = if next == self.loop_end { self.after_loop_body(next) } else { next };
                }
                Ok(Flow::To(target)) => self.pc = target,
                Err(trap) => self.trap(trap, pc, None),
            }
            if self.waiting {
                // Interrupts that wait already are taken by the caller.
                self.attention = true;
            }
        }
        None
    }

    /// The end of a zero-overhead loop's body was reached by falling through.
    #[inline(always)]
    fn after_loop_body(&mut self, next: u32) -> u32 {
        if self.loop_count == 0 || self.ps & EXCM != 0 || !self.options.loops {
            return next;
        }
        self.loop_count -= 1;
        self.loop_begin
    }

    /// A host's breakpoint, or one of the program's own (then the exception is taken).
    #[cold]
    fn stops_here(&mut self, pc: u32) -> bool {
        if self.breakpoints.contains(&pc) && self.resume_at != Some(pc) {
            self.resume_at = Some(pc);
            return true;
        }
        self.resume_at = None;
        self.instruction_breaks(pc) && self.debug_exception(CAUSE_IBREAK, pc)
    }

    /// Decodes the instruction at `pc`; the address that cannot be fetched when there is none.
    #[cold]
    pub(super) fn decode_at(&mut self, soc: &mut Soc, page: &mut Decoded, frame: u32, pc: u32) -> Result<Op, u32> {
        let mut word = 0;
        let mut length = 2;
        let mut index = 0;
        while index < length {
            let address = pc.wrapping_add(index);
            let byte = match soc.code(address) {
                Ok(frame) => soc.memory.frame(frame).get(address as usize & 4095).copied().unwrap_or(0),
                Err(_) => return Err(address),
            };
            if index == 0 {
                length = match byte & 0xf {
                    0..=7 => 3,
                    8..=13 => 2,
                    _ => 4,
                };
            }
            word |= u32::from(byte) << (8 * index);
            index += 1;
        }
        let op = decode(word, pc, &self.options);
        let offset = pc & 4095;
        // Across a page's end: pages need not be neighbours in flash, so this one is decoded each time.
        if offset + length <= 4096 {
            page[offset as usize] = op;
            soc.memory.note_decoded(frame, offset, (offset + length).div_ceil(2) - offset / 2);
        }
        Ok(op)
    }

    #[inline(always)]
    fn branch(taken: bool, pc: u32, offset: i32) -> Flow {
        if taken { Flow::To(pc.wrapping_add_signed(offset)) } else { Flow::Next }
    }

    #[inline(always)]
    fn execute(&mut self, soc: &mut Soc, op: &Op, pc: u32) -> Result<Flow, Trap> {
        use Kind::*;
        macro_rules! a {
            ($field:ident) => {
                self.a(op.$field)
            };
        }
        macro_rules! set {
            ($field:ident, $value:expr) => {{
                let value = $value;
                self.set_a(op.$field, value);
            }};
        }
        macro_rules! address {
            () => {
                self.a(op.s).wrapping_add(op.imm as u32)
            };
        }
        macro_rules! when {
            ($condition:expr) => {
                return Ok(Self::branch($condition, pc, op.imm))
            };
        }
        macro_rules! when_constant {
            ($condition:expr) => {
                return Ok(if $condition { Flow::To(pc.wrapping_add(offset_of(op.imm))) } else { Flow::Next })
            };
        }
        match op.kind {
            L32i | L32ai => set!(t, self.load32(soc, address!())?),
            L32r => set!(t, self.load32(soc, pc.wrapping_add(op.imm as u32) & !3)?),
            L16ui => set!(t, self.load16(soc, address!())?),
            L16si => set!(t, self.load16(soc, address!())? as i16 as u32),
            L8ui => set!(t, self.load8(soc, address!())?),
            S32i | S32ri | S32nb => self.store32(soc, address!(), a!(t))?,
            S16i => self.store16(soc, address!(), a!(t))?,
            S8i => self.store8(soc, address!(), a!(t))?,
            Movi => set!(t, op.imm as u32),
            Mov => set!(t, a!(s)),
            Addi | Addmi => set!(t, a!(s).wrapping_add(op.imm as u32)),
            Add => set!(r, a!(s).wrapping_add(a!(t))),
            Addx2 => set!(r, (a!(s) << 1).wrapping_add(a!(t))),
            Addx4 => set!(r, (a!(s) << 2).wrapping_add(a!(t))),
            Addx8 => set!(r, (a!(s) << 3).wrapping_add(a!(t))),
            Sub => set!(r, a!(s).wrapping_sub(a!(t))),
            Subx2 => set!(r, (a!(s) << 1).wrapping_sub(a!(t))),
            Subx4 => set!(r, (a!(s) << 2).wrapping_sub(a!(t))),
            Subx8 => set!(r, (a!(s) << 3).wrapping_sub(a!(t))),
            And => set!(r, a!(s) & a!(t)),
            Or => set!(r, a!(s) | a!(t)),
            Xor => set!(r, a!(s) ^ a!(t)),
            Neg => set!(r, a!(t).wrapping_neg()),
            Extui => set!(r, a!(t) >> (op.imm & 31) & (u32::MAX >> (31 - (op.imm >> 8 & 31)))),
            // A shift by 32 is what an encoding of 0 means.
            Slli => set!(r, a!(s).checked_shl(op.imm as u32).unwrap_or(0)),
            Srli => set!(r, a!(t) >> (op.imm & 31)),
            Srai => set!(r, (a!(t) as i32 >> (op.imm & 31)) as u32),
            Src => {
                let both = u64::from(a!(s)) << 32 | u64::from(a!(t));
                set!(r, (both >> (self.shift & 63)) as u32);
            }
            Srl => set!(r, (u64::from(a!(t)) >> (self.shift & 63)) as u32),
            Sra => set!(r, (i64::from(a!(t) as i32) >> (self.shift & 63)) as u32),
            Sll => set!(r, ((u64::from(a!(s)) << 32) >> (self.shift & 63)) as u32),
            Ssr => self.shift = a!(s) & 31,
            Ssl => self.shift = 32 - (a!(s) & 31),
            Ssa8l => self.shift = (a!(s) & 3) * 8,
            Ssa8b => self.shift = 32 - (a!(s) & 3) * 8,
            Ssai => self.shift = op.imm as u32,
            Moveqz => {
                if a!(t) == 0 {
                    set!(r, a!(s))
                }
            }
            Movnez => {
                if a!(t) != 0 {
                    set!(r, a!(s))
                }
            }
            Movltz => {
                if (a!(t) as i32) < 0 {
                    set!(r, a!(s))
                }
            }
            Movgez => {
                if a!(t) as i32 >= 0 {
                    set!(r, a!(s))
                }
            }
            Mull => set!(r, a!(s).wrapping_mul(a!(t))),
            J => return Ok(Flow::To(pc.wrapping_add_signed(op.imm))),
            Beqz => when!(a!(s) == 0),
            Bnez => when!(a!(s) != 0),
            Bltz => when!((a!(s) as i32) < 0),
            Bgez => when!(a!(s) as i32 >= 0),
            Beq => when!(a!(s) == a!(t)),
            Bne => when!(a!(s) != a!(t)),
            Blt => when!((a!(s) as i32) < a!(t) as i32),
            Bge => when!(a!(s) as i32 >= a!(t) as i32),
            Bltu => when!(a!(s) < a!(t)),
            Bgeu => when!(a!(s) >= a!(t)),
            Bnone => when!(a!(s) & a!(t) == 0),
            Bany => when!(a!(s) & a!(t) != 0),
            Ball => when!(!a!(s) & a!(t) == 0),
            Bnall => when!(!a!(s) & a!(t) != 0),
            Bbc => when!(a!(s) >> (a!(t) & 31) & 1 == 0),
            Bbs => when!(a!(s) >> (a!(t) & 31) & 1 != 0),
            Bbci => when!(a!(s) >> (op.t & 31) & 1 == 0),
            Bbsi => when!(a!(s) >> (op.t & 31) & 1 != 0),
            Beqi => when_constant!(a!(s) as i32 == constant_of(op.imm)),
            Bnei => when_constant!(a!(s) as i32 != constant_of(op.imm)),
            Blti => when_constant!((a!(s) as i32) < constant_of(op.imm)),
            Bgei => when_constant!(a!(s) as i32 >= constant_of(op.imm)),
            Bltui => when_constant!(a!(s) < constant_of(op.imm) as u32),
            Bgeui => when_constant!(a!(s) >= constant_of(op.imm) as u32),
            Call0 => {
                self.set_a(0, pc.wrapping_add(3));
                return Ok(Flow::To(pc.wrapping_add_signed(op.imm)));
            }
            Call4 => return Ok(self.call(1, pc, pc.wrapping_add_signed(op.imm))),
            Call8 => return Ok(self.call(2, pc, pc.wrapping_add_signed(op.imm))),
            Call12 => return Ok(self.call(3, pc, pc.wrapping_add_signed(op.imm))),
            Jx => return Ok(Flow::To(a!(s))),
            Ret => return Ok(Flow::To(self.a(0))),
            Retw => return Ok(Flow::To(self.return_windowed(pc)?.unwrap_or(self.pc))),
            Entry => {
                if !self.entry(op.s, op.imm, pc)? {
                    return Ok(Flow::To(self.pc));
                }
            }
            Nop | Isync | Rsync | Esync | Dsync | Excw | Memw | Extw | Cache | Tlb => {}
            _ => return self.execute_rare(soc, op, pc),
        }
        Ok(Flow::Next)
    }

    #[inline(always)]
    fn call(&mut self, increment: u32, pc: u32, target: u32) -> Flow {
        self.ps = self.ps & !(3 << 16) | increment << 16;
        self.set_a(4 * increment as u8, increment << 30 | pc.wrapping_add(3) & 0x3fff_ffff);
        Flow::To(target)
    }

    /// What is not in the inner loop.
    #[inline(never)]
    fn execute_rare(&mut self, soc: &mut Soc, op: &Op, pc: u32) -> Result<Flow, Trap> {
        use Kind::*;
        match op.kind {
            Callx0 => {
                let target = self.a(op.s);
                self.set_a(0, pc.wrapping_add(3));
                return Ok(Flow::To(target));
            }
            Callx4 | Callx8 | Callx12 => {
                let increment = u32::from(op.kind as u8 - Callx0 as u8);
                let target = self.a(op.s);
                return Ok(self.call(increment, pc, target));
            }
            Loop | Loopnez | Loopgtz => return Ok(self.start_loop(op, pc)),
            Min | Max | Minu | Maxu | Sext | Clamps | Nsa | Nsau | Abs | Salt | Saltu | Muluh | Mulsh | Mul16u
            | Mul16s | Quou | Quos | Remu | Rems => self.arithmetic_rare(op)?,
            S32c1i => {
                let address = self.a(op.s).wrapping_add(op.imm as u32);
                let old = self.compare_and_store(soc, address, self.a(op.t))?;
                self.set_a(op.t, old);
            }
            L32e => {
                let value = self.load32(soc, self.a(op.s).wrapping_add(op.imm as u32))?;
                self.set_a(op.t, value);
            }
            S32e => self.store32(soc, self.a(op.s).wrapping_add(op.imm as u32), self.a(op.t))?,
            Movf | Movt => {
                if self.boolean(op.t) == (op.kind == Movt) {
                    let value = self.a(op.s);
                    self.set_a(op.r, value);
                }
            }
            Bf => return Ok(Self::branch(!self.boolean(op.s), pc, op.imm)),
            Bt => return Ok(Self::branch(self.boolean(op.s), pc, op.imm)),
            Andb | Andbc | Orb | Orbc | Xorb | Any4 | All4 | Any8 | All8 => self.boolean_logic(op),
            Umul | Mul | Mula | Muls | Ldinc | Lddec => self.mac(soc, op)?,
            Lsi | Ssi | Lsiu | Ssiu | Lsx | Lsxu | Ssx | Ssxu => self.float_memory(soc, op)?,
            Vector => return Err(self.vector(soc, op, pc)),
            kind if (AddS as u8..=MovtS as u8).contains(&(kind as u8)) => self.float(op)?,
            _ => return self.execute_system(soc, op, pc),
        }
        Ok(Flow::Next)
    }

    fn start_loop(&mut self, op: &Op, pc: u32) -> Flow {
        let count = self.a(op.s);
        self.loop_count = count.wrapping_sub(1);
        self.loop_begin = pc.wrapping_add(3);
        self.loop_end = pc.wrapping_add(op.imm as u32);
        let skipped = match op.kind {
            Kind::Loopnez => count == 0,
            Kind::Loopgtz => count as i32 <= 0,
            _ => false,
        };
        if skipped { Flow::To(self.loop_end) } else { Flow::To(self.loop_begin) }
    }

    fn mac(&mut self, soc: &mut Soc, op: &Op) -> Result<(), Trap> {
        let load = self.mac_load(op);
        let loaded = match load {
            Some((address, _)) => self.load32(soc, address)?,
            None => 0,
        };
        if !matches!(op.kind, Kind::Ldinc | Kind::Lddec) {
            self.multiply_accumulate(op);
        }
        if let Some((address, register)) = load {
            self.set_a(op.s, address);
            self.mac[register] = loaded;
        }
        Ok(())
    }

    fn arithmetic_rare(&mut self, op: &Op) -> Result<(), Trap> {
        use Kind::*;
        let (s, t) = (self.a(op.s), self.a(op.t));
        let (signed_s, signed_t) = (s as i32, t as i32);
        if matches!(op.kind, Quou | Quos | Remu | Rems) && t == 0 {
            return Err(Trap::DivideByZero);
        }
        let value = match op.kind {
            Min => signed_s.min(signed_t) as u32,
            Max => signed_s.max(signed_t) as u32,
            Minu => s.min(t),
            Maxu => s.max(t),
            Sext => (signed_s << (31 - op.imm) >> (31 - op.imm)) as u32,
            Clamps => signed_s.clamp(-1 << op.imm, (1 << op.imm) - 1) as u32,
            Abs => signed_t.wrapping_abs() as u32,
            Salt => u32::from(signed_s < signed_t),
            Saltu => u32::from(s < t),
            Muluh => ((u64::from(s) * u64::from(t)) >> 32) as u32,
            Mulsh => ((i64::from(signed_s) * i64::from(signed_t)) >> 32) as u32,
            Mul16u => (s & 0xffff) * (t & 0xffff),
            Mul16s => (i32::from(s as i16) * i32::from(t as i16)) as u32,
            Quou => s / t,
            Remu => s % t,
            Quos => signed_s.wrapping_div(signed_t) as u32,
            Rems => signed_s.wrapping_rem(signed_t) as u32,
            // NSA and NSAU put their result elsewhere.
            Nsa => {
                let same = if signed_s < 0 { !s } else { s };
                self.set_a(op.t, same.leading_zeros().saturating_sub(1));
                return Ok(());
            }
            _ => {
                self.set_a(op.t, s.leading_zeros());
                return Ok(());
            }
        };
        self.set_a(op.r, value);
        Ok(())
    }

    /// Instructions on the core itself.
    fn execute_system(&mut self, soc: &mut Soc, op: &Op, pc: u32) -> Result<Flow, Trap> {
        use Kind::*;
        match op.kind {
            Rsr => {
                let value = self.read_special(soc, op.imm as u32)?;
                self.set_a(op.t, value);
            }
            Wsr => self.write_special(op.imm as u32, self.a(op.t))?,
            Xsr => {
                let old = self.read_special(soc, op.imm as u32)?;
                self.write_special(op.imm as u32, self.a(op.t))?;
                self.set_a(op.t, old);
            }
            Rur => {
                let value = self.read_user(op.imm as usize)?;
                self.set_a(op.r, value);
            }
            Wur => self.write_user(op.imm as usize, self.a(op.t))?,
            Rsil => {
                let old = self.ps;
                self.set_a(op.t, old);
                self.set_ps(old & !0xf | u32::from(op.s));
            }
            Waiti => {
                self.set_ps(self.ps & !0xf | u32::from(op.s));
                self.waiting = true;
            }
            Rer => self.set_a(op.t, 0),
            Wer => {}
            Movsp => {
                if !self.caller_is_live() {
                    return Err(Trap::Alloca);
                }
                let value = self.a(op.s);
                self.set_a(op.t, value);
            }
            Rotw => self.set_window_base(self.window_base().wrapping_add_signed(op.imm)),
            Rfe => {
                self.set_ps(self.ps & !EXCM);
                return Ok(Flow::To(self.epc[1]));
            }
            Rfde => return Ok(Flow::To(self.depc)),
            Rfwo | Rfwu => return Ok(Flow::To(self.return_from_window(op.kind == Rfwu))),
            Rfi => {
                let level = op.s as usize & 7;
                self.set_ps(self.eps[level]);
                return Ok(Flow::To(self.epc[level]));
            }
            Break => {
                let cause = if op.length == 2 { CAUSE_BREAK_NARROW } else { CAUSE_BREAK };
                if self.debug_exception(cause, pc) {
                    return Ok(Flow::To(self.pc));
                }
            }
            Syscall => return Err(Trap::Syscall),
            _ => return Err(Trap::Illegal),
        }
        Ok(Flow::Next)
    }
}
