//! Special and user registers.

use crate::soc::Soc;

use super::Xtensa;
use super::exceptions::Trap;

/// User registers: threads' pointer, and the floating-point unit's.
const THREADPTR: usize = 231;
const FCR: usize = 232;
const FSR: usize = 233;

impl Xtensa {
    /// `RSR`.
    pub(super) fn read_special(&mut self, soc: &mut Soc, number: u32) -> Result<u32, Trap> {
        Ok(match number {
            0 => self.loop_begin,
            1 => self.loop_end,
            2 => self.loop_count,
            3 => self.shift,
            4 => self.booleans,
            12 => self.compare_value,
            16 => self.accumulator as u32,
            17 => ((self.accumulator >> 32) as i8) as u32,
            32..=35 => self.mac[number as usize - 32],
            72 => self.window_base(),
            73 => self.window_start.into(),
            // Memory protection, caches and traces: kept, but nothing follows from them.
            5 | 90 | 97..=99 | 106 | 236 | 237 => self.kept[number as usize & 0xff],
            96 => self.ibreak_enable,
            104 => self.ddr,
            128 | 129 => self.ibreak[number as usize & 1],
            144 | 145 => self.dbreak[number as usize & 1],
            160 | 161 => self.dbreak_control[number as usize & 1],
            176 => self.config[0],
            208 => self.config[1],
            177..=183 => self.epc[number as usize - 176],
            192 => self.depc,
            194..=199 => self.eps[number as usize - 192],
            209..=215 => self.excsave[number as usize - 208],
            224 => self.coprocessors,
            226 => self.look(soc),
            227 => 0,
            228 => self.interrupts.enable,
            230 => self.ps,
            231 => self.vecbase,
            232 => self.cause,
            233 => self.debug_cause,
            234 => {
                self.polled();
                self.count()
            }
            235 => self.id,
            238 => self.fault_address,
            240..=242 => self.interrupts.compare[number as usize - 240],
            244..=247 => self.misc[number as usize & 3],
            _ => return Err(Trap::Illegal),
        })
    }

    /// `WSR`.
    pub(super) fn write_special(&mut self, number: u32, value: u32) -> Result<(), Trap> {
        match number {
            0 => self.loop_begin = value,
            1 => self.loop_end = value,
            2 => self.loop_count = value,
            3 => self.shift = value & 0x3f,
            4 => self.booleans = value & 0xffff,
            12 => self.compare_value = value,
            16 => self.accumulator = self.accumulator & !0xffff_ffff | i64::from(value),
            17 => self.accumulator = i64::from(value as u8 as i8) << 32 | self.accumulator & 0xffff_ffff,
            32..=35 => self.mac[number as usize - 32] = value,
            72 => self.set_window_base(value),
            73 => {
                self.window_start = value as u16;
                self.update_room();
            }
            5 | 90 | 97..=99 | 106 | 236 | 237 => self.kept[number as usize & 0xff] = value,
            89 => {}
            96 => {
                self.ibreak_enable = value & 3;
                self.update_watching();
            }
            104 => self.ddr = value,
            128 | 129 => self.ibreak[number as usize & 1] = value,
            144 | 145 => self.dbreak[number as usize & 1] = value,
            160 | 161 => {
                self.dbreak_control[number as usize & 1] = value & 0xc000_003f;
                self.update_watching();
            }
            177..=183 => self.epc[number as usize - 176] = value,
            192 => self.depc = value,
            194..=199 => self.eps[number as usize - 192] = value,
            209..=215 => self.excsave[number as usize - 208] = value,
            224 => self.coprocessors = value & 0xff,
            226 => self.raise(value),
            227 => self.clear(value),
            228 => {
                self.interrupts.enable = value;
                self.attention = true;
            }
            230 => self.set_ps(value),
            231 => self.vecbase = value & !0x3ff,
            232 => self.cause = value & 0x3f,
            233 => self.debug_cause = value,
            234 => self.set_count(value),
            238 => self.fault_address = value,
            240..=242 => self.set_compare(number as usize - 240, value),
            244..=247 => self.misc[number as usize & 3] = value,
            // Read-only: the write is ignored.
            176 | 208 | 235 => {}
            _ => return Err(Trap::Illegal),
        }
        Ok(())
    }

    /// `RUR`.
    pub(super) fn read_user(&self, number: usize) -> Result<u32, Trap> {
        self.check_user(number)?;
        Ok(self.user[number & 0xff])
    }

    /// `WUR`.
    pub(super) fn write_user(&mut self, number: usize, value: u32) -> Result<(), Trap> {
        self.check_user(number)?;
        self.user[number & 0xff] = match number {
            FCR => value & 0x7f,
            FSR => value & 0xf80,
            _ => value,
        };
        Ok(())
    }

    fn check_user(&self, number: usize) -> Result<(), Trap> {
        match number {
            FCR | FSR => self.check_float(),
            THREADPTR | 0..=31 | 230 | 234..=236 => Ok(()),
            _ => Err(Trap::Illegal),
        }
    }
}
