//! The vector unit of some LX7 cores (PIE). Its instructions are known by name; they are not carried out.

use std::sync::OnceLock;

use crate::events::{Event, What};
use crate::soc::Soc;

use super::Xtensa;
use super::exceptions::Trap;
use super::kind::Op;

struct Encoding {
    length: u32,
    mask: u32,
    value: u32,
    name: &'static str,
}

fn table() -> &'static [Encoding] {
    static TABLE: OnceLock<Vec<Encoding>> = OnceLock::new();
    TABLE.get_or_init(|| include_str!("pie.txt").lines().filter_map(encoding).collect())
}

fn encoding(line: &'static str) -> Option<Encoding> {
    let mut words = line.split_whitespace();
    let length = words.next()?.parse().ok()?;
    let mask = u32::from_str_radix(words.next()?, 16).ok()?;
    let value = u32::from_str_radix(words.next()?, 16).ok()?;
    Some(Encoding { length, mask, value, name: words.next()? })
}

/// The vector instruction that a word is, when it is one.
pub fn name(word: u32) -> Option<&'static str> {
    let length = if word & 0xf >= 0xe { 4 } else { 3 };
    let found = table().iter().find(|known| known.length == length && word & known.mask == known.value)?;
    Some(found.name)
}

impl Xtensa {
    /// A vector instruction: says which one, and is an illegal instruction then. While the unit is off it is the exception
    /// by which an operating system turns it on.
    pub(super) fn vector(&mut self, soc: &mut Soc, op: &Op, pc: u32) -> Trap {
        if self.coprocessors & 1 << 3 == 0 {
            return Trap::NoVector;
        }
        let name = format!("instruction {}", name(op.imm as u32).unwrap_or("of the vector unit"));
        let what = What::Unmodelled { address: pc, name, pc, write: false };
        soc.shared.events.push(Event { time: soc.time(self.cycles), what });
        Trap::Illegal
    }
}
