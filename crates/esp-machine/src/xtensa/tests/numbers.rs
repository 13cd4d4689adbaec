//! The ROMs' arithmetic with thousands of random numbers, beside the host's. Single precision of the S3's ROM uses the
//! floating-point unit (its division all the steps from DIV0.S to DIVN.S); double precision, and all of the other ROMs, is made
//! of integer instructions: the cores have no double precision, and no code of ROMs or of programs at hand uses the few
//! instructions that help with it (`F64…`; operating systems keep their registers, and that works).
#![cfg(feature = "roms")]

use super::programs::{Chip, chips};

const PAIRS: usize = 2000;

/// Bit patterns: every exponent, signs, and now and then an end of the range.
struct Noise(u64);

impl Noise {
    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn double(&mut self) -> f64 {
        const ENDS: [f64; 6] = [0.0, -0.0, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX, f64::EPSILON];
        let word = self.word();
        match word % 16 {
            0 => ENDS[(word >> 8) as usize % ENDS.len()],
            // Alike in size: sums that cancel, quotients near 1.
            1..8 => f64::from_bits(word & 0x8007_ffff_ffff_ffff | 0x3ff0_0000_0000_0000),
            _ => f64::from_bits(word),
        }
    }

    fn single(&mut self) -> f32 {
        const ENDS: [f32; 6] = [0.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, f32::EPSILON];
        let word = self.word();
        match word % 16 {
            0 => ENDS[(word >> 8) as usize % ENDS.len()],
            1..8 => f32::from_bits((word >> 32) as u32 & 0x807f_ffff | 0x3f80_0000),
            _ => f32::from_bits((word >> 32) as u32),
        }
    }
}

fn all() -> [Chip; 3] {
    let [first, third] = chips();
    [first, Chip::new("esp32s2", 0x3ffc_8000, 0x4003_0000), third]
}

#[test]
fn double_precision_of_the_roms_is_the_hosts_for_thousands_of_numbers() {
    for mut chip in all() {
        let mut noise = Noise(0x1234_5678_9abc_def1);
        for _ in 0..PAIRS {
            let (x, y) = (noise.double(), noise.double());
            for (name, wanted) in [("__adddf3", x + y), ("__subdf3", x - y), ("__muldf3", x * y), ("__divdf3", x / y)] {
                let got = chip.doubles(name, x, y);
                assert!(
                    got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan(),
                    "{name} {x:e} {y:e}: {got:e}"
                );
            }
            let (low, high) = (x.to_bits() as u32, (x.to_bits() >> 32) as u32);
            let single = f32::from_bits(chip.call("__truncdfsf2", &[low, high]) as u32);
            assert!(single == x as f32 || x.is_nan(), "{x:e}: {single:e}");
            if x.abs() < 2e9 {
                assert_eq!(chip.call("__fixdfsi", &[low, high]) as u32 as i32, x as i32, "{x:e}");
            }
        }
    }
}

#[test]
fn single_precision_of_the_roms_is_the_hosts_for_thousands_of_numbers() {
    for mut chip in all() {
        let mut noise = Noise(0x0fed_cba9_8765_4321);
        for _ in 0..PAIRS {
            let (x, y) = (noise.single(), noise.single());
            for (name, wanted) in [("__addsf3", x + y), ("__subsf3", x - y), ("__mulsf3", x * y), ("__divsf3", x / y)] {
                let got = f32::from_bits(chip.call(name, &[x.to_bits(), y.to_bits()]) as u32);
                assert!(
                    got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan(),
                    "{name} {x:e} {y:e}: {got:e}"
                );
            }
            let double = f64::from_bits(chip.call("__extendsfdf2", &[x.to_bits()]));
            assert!(double == f64::from(x) || x.is_nan(), "{x:e}: {double:e}");
            let number = noise.word() as i32;
            let float = f32::from_bits(chip.call("__floatsisf", &[number as u32]) as u32);
            assert_eq!(float.to_bits(), (number as f32).to_bits(), "{number}");
            let unsigned = f32::from_bits(chip.call("__floatunsisf", &[number as u32]) as u32);
            assert_eq!(unsigned.to_bits(), (number as u32 as f32).to_bits(), "{number}");
            if x.abs() < 2e9 {
                assert_eq!(chip.call("__fixsfsi", &[x.to_bits()]) as u32 as i32, x as i32, "{x:e}");
            }
        }
    }
}
