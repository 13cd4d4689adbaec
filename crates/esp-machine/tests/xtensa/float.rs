//! Division and square root of the floating-point unit: the functions of a real program (GCC's `__divsf3`, newlib's `sqrtf`),
//! which consist of the steps DIV0.S to DIVN.S and SQRT0.S to DIVN.S, beside the host's.

use esp_machine::{Config, Machine};
use libtest_mimic::Trial;

use super::{Files, MILLISECOND, corpus, trial};

const BADGE: Files = &[(0, "wild/auto-flasher/sha2017-badge.bin")];
const CODE: u32 = 0x4008_0000;
/// First register, PS, and the jump on the spot.
const AR0: usize = 1;
const PS: usize = 73;
const WINDOWS: u32 = 1 << 18;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("division_by_the_floating_point_unit_is_the_hosts_on_esp32", BADGE, || {
            agrees(0x11_0a44..0x11_0a9d, |x, y| x / y);
        }),
        trial("square_root_by_the_floating_point_unit_is_the_hosts_on_esp32", BADGE, || {
            agrees(0x11_19f4..0x11_1a56, |x, _| x.sqrt());
        }),
    ]
}

/// Calls the function that lies there in the program, with random numbers.
fn agrees(place: std::ops::Range<usize>, wanted: impl Fn(f32, f32) -> f32) {
    let program = std::fs::read(corpus(BADGE[0].1)).unwrap();
    let mut machine = Machine::new(Config::new("esp32", 1 << 20).unwrap()).unwrap();
    // MOVI a2, 1; WSR.CPENABLE a2; CALL8 to the function, 32 bytes on; J .
    let call: u32 = ((0x20 - 8) / 4) << 6 | 0x25;
    for (index, word) in [0x01_a022, 0x13_e020, call, 0xff_ff06].iter().enumerate() {
        assert!(machine.poke(CODE + 3 * index as u32, &u32::to_le_bytes(*word)[..3]));
    }
    assert!(machine.poke(CODE + 0x20, &program[place]));
    let mut noise = 0x9e37_79b9_7f4a_7c15u64;
    let mut number = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        let word = (noise >> 32) as u32;
        // Half of them alike in size.
        f32::from_bits(if noise.is_multiple_of(2) { word } else { word & 0x80ff_ffff | 0x3f00_0000 })
    };
    let ends = [0.0, -0.0, 1.0, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, f32::from_bits(1), f32::NAN];
    let pairs = ends.iter().flat_map(|x| ends.map(|y| (*x, y))).collect::<Vec<_>>();
    let pairs = pairs.into_iter().chain(std::iter::repeat_with(|| (number(), number())).take(4000));
    for (x, y) in pairs {
        let core = machine.cores[0].get_mut();
        for (register, value) in [(1, 0x3ffb_8000), (10, x.to_bits()), (11, y.to_bits())] {
            core.set_register(AR0 + register, value);
        }
        core.set_register(PS, WINDOWS | 15);
        core.set_pc(CODE);
        while machine.cores[0].get().pc() != CODE + 9 {
            let until = machine.now() + MILLISECOND / 1000;
            machine.run(until);
        }
        let got = f32::from_bits(machine.cores[0].get().register(AR0 + 10).unwrap());
        let wanted = wanted(x, y);
        assert!(
            got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan(),
            "{x:e} and {y:e}: {got:e} instead of {wanted:e}"
        );
    }
}
