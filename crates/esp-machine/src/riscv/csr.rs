//! Control and status registers.

use super::RiscV;
use super::float::FS;

/// The registers that mean something, and a store for the others.
#[derive(Debug, Clone)]
pub struct Csrs {
    pub hart: u32,
    pub mstatus: u32,
    pub mtvec: u32,
    pub mtvt: u32,
    pub mepc: u32,
    pub mcause: u32,
    pub mtval: u32,
    pub mintthresh: u32,
    /// Current interrupt level in bits 31:24, as MINTSTATUS has it.
    mintstatus: u32,
    /// Interrupts come from a CLIC, whatever mode stands in mtvec: these cores have no other.
    pub clic: bool,
    /// Added to the cycle counter: software has set it.
    offset: u32,
    /// Registers that only keep what is written: PMP, PMA, triggers, GPIO.
    others: std::collections::BTreeMap<u32, u32>,
}

/// As many registers as are kept.
const MOST: usize = 512;

impl Csrs {
    pub fn new(hart: u32) -> Self {
        Self {
            hart,
            mstatus: 0x1800,
            mtvec: 1,
            mtvt: 0,
            mepc: 0,
            mcause: 0,
            mtval: 0,
            mintthresh: 0,
            mintstatus: 0,
            clic: false,
            offset: 0,
            others: std::collections::BTreeMap::new(),
        }
    }

    pub fn mil(&self) -> u32 {
        self.mintstatus >> 24
    }

    pub fn set_mil(&mut self, level: u32) {
        self.mintstatus = level << 24;
    }
}

impl RiscV {
    /// A register's content; `None` is an illegal instruction.
    pub(super) fn read_csr(&self, number: u32) -> Option<u32> {
        let counter = (self.cycles - self.started) as u32;
        Some(match number {
            1..=3 if self.floats && self.csr.mstatus & FS == 0 => return None,
            1 if self.floats => self.float.flags,
            2 if self.floats => self.float.mode,
            3 if self.floats => self.float.mode << 5 | self.float.flags,
            0x300 => self.csr.mstatus | u32::from(self.csr.mstatus & FS == FS) << 31,
            0x301 => 0x4000_1104 | u32::from(self.atomics) | u32::from(self.floats) << 5,
            0x305 => self.csr.mtvec,
            0x307 => self.csr.mtvt,
            0x341 => self.csr.mepc,
            0x342 => self.csr.mcause,
            0x343 => self.csr.mtval,
            0x347 => self.csr.mintthresh,
            0xfb1 => self.csr.mintstatus,
            0xf14 => self.csr.hart,
            0x7e2 | 0x802 => counter.wrapping_add(self.csr.offset),
            0xb00 | 0xc00 | 0xb02 | 0xc02 => counter,
            0xb80 | 0xc80 | 0xb82 | 0xc82 => ((self.cycles - self.started) >> 32) as u32,
            _ => match self.loops.read(number).filter(|_| self.has_loops) {
                Some(value) => value,
                None => self.csr.others.get(&number).copied().unwrap_or(0),
            },
        })
    }

    pub(super) fn write_csr(&mut self, number: u32, value: u32) {
        match number {
            1..=3 if self.floats => self.write_float_csr(number, value),
            0x300 => {
                let mask = if self.floats { 0x0022_1888 | FS } else { 0x0022_1888 };
                self.csr.mstatus = value & mask | 0x1800;
            }
            0x305 => self.csr.mtvec = value,
            0x307 => self.csr.mtvt = value & !0x3f,
            0x341 => self.csr.mepc = value & !1,
            0x342 => self.csr.mcause = value,
            0x343 => self.csr.mtval = value,
            0x347 => self.csr.mintthresh = value & 0xff,
            0x7e2 | 0x802 => self.csr.offset = value.wrapping_sub((self.cycles - self.started) as u32),
            0xf00..=0xfff => {}
            _ if self.has_loops && self.loops.write(number, value) => {}
            _ => {
                if self.csr.others.len() < MOST || self.csr.others.contains_key(&number) {
                    self.csr.others.insert(number, value);
                }
            }
        }
    }

    fn write_float_csr(&mut self, number: u32, value: u32) {
        self.float_on();
        if number != 2 {
            self.float.flags = value & 0x1f;
        }
        if number != 1 {
            self.float.mode = if number == 2 { value & 7 } else { value >> 5 & 7 };
        }
    }
}
