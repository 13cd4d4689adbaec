//! Registers behind PS, as Espressif's GDB numbers them (its register lists for these cores; ESP-IDF's `esp_gdbstub`
//! sends the same ones).

use super::Xtensa;

/// A word that a debugger can read and write.
pub struct Place<'a>(pub &'a u32);

impl Xtensa {
    /// Registers behind PS in the order of the list: THREADPTR, then those of the options that the core has.
    pub(super) fn extra(&self, number: usize) -> Option<Place<'_>> {
        let mut rest = number.checked_sub(74)?;
        if rest == 0 {
            return Some(Place(&self.user[231]));
        }
        rest -= 1;
        let mut take = |count: usize| {
            let here = rest < count;
            let index = rest;
            rest = rest.wrapping_sub(if here { 0 } else { count });
            here.then_some(index)
        };
        if self.options.booleans && take(1).is_some() {
            return Some(Place(&self.booleans));
        }
        if self.options.s32c1i && take(1).is_some() {
            return Some(Place(&self.compare_value));
        }
        None
    }
}
