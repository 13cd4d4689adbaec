//! Registers behind PS, as Espressif's GDB numbers them: its listing of a core dump's registers shows the order.

use super::Xtensa;

/// Number of the first register behind PS.
const FIRST: usize = 74;
/// User registers.
const THREADPTR: usize = 231;
const F64R_LO: usize = 234;
const FCR: usize = 232;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    User(usize),
    Booleans,
    CompareValue,
    /// The accumulator's lower and upper word.
    Accumulator(bool),
    Mac(usize),
    Float(usize),
}

impl Xtensa {
    /// THREADPTR, then what the core's options add, in this order. The list ends where the order is not known: cores with
    /// the vector unit have more between the MAC registers and the floating-point ones.
    fn place(&self, number: usize) -> Option<Extra> {
        let mut rest = number.checked_sub(FIRST)?;
        let mut take = |there: bool, count: usize| {
            let count = if there { count } else { 0 };
            let index = rest;
            let here = rest < count;
            rest = if here { usize::MAX } else { rest.saturating_sub(count) };
            here.then_some(index)
        };
        let options = self.options;
        let known = !options.vector;
        let found = [
            take(true, 1).map(|_| Extra::User(THREADPTR)),
            take(options.booleans, 1).map(|_| Extra::Booleans),
            take(options.s32c1i, 1).map(|_| Extra::CompareValue),
            take(options.mac16, 2).map(|index| Extra::Accumulator(index == 1)),
            take(options.mac16, 4).map(Extra::Mac),
            // EXPSTATE, then the registers of the double-precision assist.
            take(options.float && known, 1).map(|_| Extra::User(230)),
            take(options.float && known, 3).map(|index| Extra::User(F64R_LO + index)),
            take(options.float && known, 16).map(Extra::Float),
            take(options.float && known, 2).map(|index| Extra::User(FCR + index)),
        ];
        found.into_iter().flatten().next()
    }

    /// A register behind PS.
    pub(super) fn extra(&self, number: usize) -> Option<u32> {
        Some(match self.place(number)? {
            Extra::User(number) => self.user[number & 0xff],
            Extra::Booleans => self.booleans,
            Extra::CompareValue => self.compare_value,
            Extra::Accumulator(false) => self.accumulator as u32,
            Extra::Accumulator(true) => ((self.accumulator >> 32) as i8) as u32,
            Extra::Mac(index) => self.mac[index & 3],
            Extra::Float(index) => self.fr[index & 15],
        })
    }

    /// Sets it; false when there is none.
    pub(super) fn set_extra(&mut self, number: usize, value: u32) -> bool {
        match self.place(number) {
            Some(Extra::User(number)) => self.user[number & 0xff] = value,
            Some(Extra::Booleans) => self.booleans = value & 0xffff,
            Some(Extra::CompareValue) => self.compare_value = value,
            Some(Extra::Accumulator(false)) => {
                self.accumulator = self.accumulator & !0xffff_ffff | i64::from(value);
            }
            Some(Extra::Accumulator(true)) => {
                self.accumulator = i64::from(value as u8 as i8) << 32 | self.accumulator & 0xffff_ffff;
            }
            Some(Extra::Mac(index)) => self.mac[index & 3] = value,
            Some(Extra::Float(index)) => self.fr[index & 15] = value,
            None => return false,
        }
        true
    }
}
