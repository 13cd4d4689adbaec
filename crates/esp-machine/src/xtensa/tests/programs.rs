//! Functions of the mask ROMs, called with numbers and compared with what Rust computes: windowed calls, loops, shifts,
//! multiplications and divisions as compilers use them.

use super::super::{WOE, Xtensa};
use crate::cpu::{Core, Cpu, Exit};
use crate::machine::{Config, Machine};

/// A chip whose ROM's functions are called.
pub struct Chip {
    machine: Machine,
    data: u32,
    /// Where functions return to.
    back: u32,
}

impl Chip {
    pub fn new(id: &str, data: u32, back: u32) -> Self {
        Self { machine: Machine::new(Config::new(id, 1 << 20).unwrap()).unwrap(), data, back }
    }

    fn core(&mut self) -> &mut Xtensa {
        match &mut self.machine.cores[0] {
            Core::Xtensa(core) => core,
            other => panic!("{other:?}"),
        }
    }

    fn address(&self, name: &str) -> u32 {
        let found = self.machine.rom().functions.iter().find(|(_, known)| *known == name);
        *found.unwrap_or_else(|| panic!("{name}")).0
    }

    /// Calls a function as `CALL8` does: arguments in a10 and up, the result (64 bits) back from there.
    pub fn call(&mut self, name: &str, arguments: &[u32]) -> u64 {
        let address = self.address(name);
        let (stack, back) = (self.data + 0x8000, self.back);
        let core = self.core();
        core.reset(address);
        core.set_ps(WOE | 2 << 16);
        core.coprocessors = 1;
        core.set_a(1, stack);
        core.set_a(8, 2 << 30 | back & 0x3fff_ffff);
        for (index, value) in arguments.iter().enumerate() {
            core.set_a(10 + index as u8, *value);
        }
        core.set_breakpoints(&[back]);
        let Machine { soc, cores, .. } = &mut self.machine;
        let exit = cores[0].get_mut().run(soc, 2_000_000);
        let core = self.core();
        assert_eq!(exit, Exit::Breakpoint, "{name}: {core:?}");
        u64::from(core.a(10)) | u64::from(core.a(11)) << 32
    }

    pub fn doubles(&mut self, name: &str, x: f64, y: f64) -> f64 {
        let (x, y) = (x.to_bits(), y.to_bits());
        f64::from_bits(self.call(name, &[x as u32, (x >> 32) as u32, y as u32, (y >> 32) as u32]))
    }
}

pub fn chips() -> [Chip; 2] {
    [Chip::new("esp32", 0x3ffb_0000, 0x4008_0000), Chip::new("esp32s3", 0x3fc9_0000, 0x4038_0000)]
}

#[test]
#[cfg_attr(not(feature = "roms"), ignore = "needs the ROMs")]
fn the_roms_arithmetic_agrees_with_the_hosts() {
    let numbers = [0u64, 1, 7, 0xffff_ffff, 0x1_0000_0000, 0x1234_5678_9abc_def0, u64::MAX, 0x8000_0000_0000_0000];
    let reals = [0.0, 1.0, -1.5, 1.0 / 3.0, 1e300, -1e-300, 123_456_789.125, f64::INFINITY];
    for mut chip in chips() {
        for x in numbers {
            for y in numbers {
                let words = [x as u32, (x >> 32) as u32, y as u32, (y >> 32) as u32];
                assert_eq!(chip.call("__muldi3", &words), x.wrapping_mul(y));
                if let Some(quotient) = x.checked_div(y) {
                    assert_eq!(chip.call("__udivdi3", &words), quotient, "{x:#x} / {y:#x}");
                    assert_eq!(chip.call("__umoddi3", &words), x % y);
                    assert_eq!(chip.call("__divdi3", &words), (x as i64).wrapping_div(y as i64) as u64);
                }
            }
        }
        for x in reals {
            for y in reals {
                let same = |name: &str, got: f64, wanted: f64| {
                    let equal = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
                    assert!(equal, "{name} {x} {y}: {got} instead of {wanted}");
                };
                same("add", chip.doubles("__adddf3", x, y), x + y);
                same("sub", chip.doubles("__subdf3", x, y), x - y);
                same("mul", chip.doubles("__muldf3", x, y), x * y);
                same("div", chip.doubles("__divdf3", x, y), x / y);
            }
        }
    }
}

#[test]
#[cfg_attr(not(feature = "roms"), ignore = "needs the ROMs")]
fn the_roms_functions_on_memory_agree_with_the_hosts() {
    for mut chip in chips() {
        let (from, to) = (chip.data, chip.data + 0x1001);
        let text: Vec<u8> = (0..1000u32).map(|index| (index * 7 % 251) as u8 | 1).chain([0]).collect();
        assert!(chip.machine.poke(from, &text));
        assert_eq!(chip.call("strlen", &[from]) as u32, 1000);
        chip.call("memcpy", &[to, from, 1001]);
        assert_eq!(chip.machine.peek(to, 1001), text);
        assert_eq!(chip.call("memcmp", &[to, from, 1001]) as u32, 0);
        let crc = chip.call("crc32_le", &[0, from, 1000]) as u32;
        assert_eq!(crc, crc32(&text[..1000]));
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}
