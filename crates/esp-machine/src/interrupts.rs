//! Interrupt controllers: from sources to the line a core takes. All state is in registers.

use crate::chip::{InterruptMap, InterruptStyle};
use crate::memory::{IO, Memory, SHIFT};
use crate::registers::RegisterPage;

/// A core's interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Line number, as it appears in the cause register.
    pub line: u32,
    /// Priority or level.
    pub level: u8,
    /// With a CLIC: the handler's address stands in the vector table.
    pub vectored: bool,
}

/// The controller.
#[derive(Debug, Clone)]
pub struct Interrupts {
    map: &'static InterruptMap,
}

impl Interrupts {
    /// By the chip's data.
    pub fn new(map: &'static InterruptMap) -> Self {
        Self { map }
    }

    fn word(pages: &[RegisterPage], memory: &Memory, address: u32) -> u32 {
        let entry = memory.entry(address);
        if entry & IO == 0 { 0 } else { pages.get((entry >> SHIFT) as usize).map_or(0, |page| page.get(address)) }
    }

    /// What the matrix drives: one bit a line.
    pub fn lines(&self, core: usize, pages: &[RegisterPage], memory: &Memory, sources: &[u64; 4]) -> u32 {
        let Some(matrix) = self.map.matrix.get(core) else { return 0 };
        let mut lines = 0;
        for (index, word) in sources.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let source = index as u32 * 64 + rest.trailing_zeros();
                rest &= rest - 1;
                let line = Self::word(pages, memory, matrix + 4 * source) & 0x3f;
                lines |= match self.map.style {
                    // CLIC numbers begin with 16 internal ones.
                    InterruptStyle::Clic => line.checked_sub(16).map_or(0, |line| 1u32.checked_shl(line).unwrap_or(0)),
                    _ => 1u32.checked_shl(line).unwrap_or(0),
                };
            }
        }
        lines
    }

    /// The interrupt that is to be taken, when one has a level above `least`.
    pub fn offered(
        &self,
        core: usize,
        pages: &[RegisterPage],
        memory: &Memory,
        sources: &[u64; 4],
        least: u8,
    ) -> Option<Offer> {
        if sources.iter().all(|word| *word == 0) {
            return None;
        }
        let lines = self.lines(core, pages, memory, sources);
        match self.map.style {
            InterruptStyle::Intc | InterruptStyle::Plic => self.by_priority(lines, pages, memory),
            InterruptStyle::Clic => self.by_level(core, lines, pages, memory, least),
            InterruptStyle::Matrix => None,
        }
    }

    fn by_priority(&self, lines: u32, pages: &[RegisterPage], memory: &Memory) -> Option<Offer> {
        let mut rest = lines & !1 & Self::word(pages, memory, self.map.enable);
        let threshold = Self::word(pages, memory, self.map.threshold);
        let mut best: Option<Offer> = None;
        while rest != 0 {
            let line = rest.trailing_zeros();
            rest &= rest - 1;
            let priority = Self::word(pages, memory, self.map.priority + 4 * line) & 0xf;
            if priority > 0 && priority >= threshold && best.is_none_or(|best| priority as u8 > best.level) {
                best = Some(Offer { line, level: priority as u8, vectored: true });
            }
        }
        best
    }

    /// Where a core's own registers are kept.
    pub fn private(&self, core: usize, address: u32) -> u32 {
        match self.map.private {
            Some([start, length, apart]) if core > 0 && address.wrapping_sub(start) < length => address + apart,
            _ => address,
        }
    }

    fn by_level(&self, core: usize, lines: u32, pages: &[RegisterPage], memory: &Memory, least: u8) -> Option<Offer> {
        let mut rest = lines;
        let first = self.private(core, self.map.priority);
        let mut best: Option<Offer> = None;
        while rest != 0 {
            let line = rest.trailing_zeros() + 16;
            rest &= rest - 1;
            let control = Self::word(pages, memory, first + 4 * line).to_le_bytes();
            let [_, enabled, attributes, level] = control;
            if enabled & 1 != 0 && level > least && best.is_none_or(|best| level > best.level) {
                best = Some(Offer { line, level, vectored: attributes & 1 != 0 });
            }
        }
        best
    }
}
