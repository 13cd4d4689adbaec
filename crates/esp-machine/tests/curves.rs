//! The accelerators for elliptic curves and their signatures, driven by their registers as drivers do, against other crates.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs)]

use esp_machine::Machine;
use esp_model::secure::{PrivateKey, PublicKey, Scheme};
use sha2::{Digest as _, Sha256, Sha384};

#[path = "support/crypto.rs"]
mod crypto;
#[path = "support/registers.rs"]
mod registers;

use crypto::{hex, machine, read, reversed, with_keys, write};
use registers::{load, store};

/// The point that keys are multiples of.
const GENERATOR: &str = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                         4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

#[test]
fn a_curves_point_is_multiplied_and_checked_as_by_the_crate() {
    let mut state = 1u8;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(29).wrapping_add(7);
            *byte = state;
        }
    };
    let private = PrivateKey::generate(Scheme::EcdsaP256, &mut random).unwrap();
    let PrivateKey::Ecdsa(_, scalar) = &private else { panic!("another kind of key") };
    let PublicKey::Ecdsa(_, point) = private.public().unwrap() else { panic!("another kind of key") };
    for (id, base) in [("esp32c2", 0x6003_e000), ("esp32c6", 0x6008_b000)] {
        let mut machine = machine(id);
        write(&mut machine, base + 0x100, &reversed(scalar));
        write(&mut machine, base + 0x120, &reversed(&hex(&GENERATOR[..64])));
        write(&mut machine, base + 0x140, &reversed(&hex(&GENERATOR[64..])));
        // Verify, then multiply.
        store(&mut machine, base + 0x1c, 3 << 5 | 4 | 1);
        assert_eq!(load(&mut machine, base + 0xc), 1, "{id}");
        assert_eq!(load(&mut machine, base + 0x1c) >> 8 & 1, 1, "{id}: the point is on the curve");
        assert_eq!(reversed(&read(&mut machine, base + 0x120, 32)), point[..32], "{id}");
        assert_eq!(reversed(&read(&mut machine, base + 0x140, 32)), point[32..], "{id}");
        store(&mut machine, base + 0x18, 1);
        assert_eq!(load(&mut machine, base + 0xc), 0, "{id}");
        store(&mut machine, base + 0x120, 1);
        store(&mut machine, base + 0x1c, 2 << 5 | 4 | 1);
        assert_eq!(load(&mut machine, base + 0x1c) >> 8 & 1, 0, "{id}: another point is not");
    }
}

/// A chip with the larger accelerator: base, distance of its memories, first bit of the mode, bits of the curve.
const LARGER: [(&str, u32, u32, u32); 5] = [
    ("esp32h2", 0x6008_b000, 0x20, 4),
    ("esp32c61", 0x6008_b000, 0x20, 4),
    ("esp32c5", 0x6008_b000, 0x30, 5),
    ("esp32p4", 0x5009_3000, 0x30, 5),
    ("esp32s31", 0x2050_b000, 0x30, 5),
];

#[test]
fn the_larger_accelerator_multiplies_on_each_curve_and_in_jacobian_coordinates() {
    let mut state = 9u8;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(29).wrapping_add(7);
            *byte = state;
        }
    };
    for (id, base, step, mode_bit) in LARGER {
        for (scheme, size, curve) in
            [(Scheme::EcdsaP192, 24, 0), (Scheme::EcdsaP256, 32, 1), (Scheme::EcdsaP384, 48, 2)]
        {
            if size == 48 && step != 0x30 {
                continue;
            }
            let [one, other] = [(); 2].map(|()| PrivateKey::generate(scheme, &mut random).unwrap());
            let (PrivateKey::Ecdsa(_, scalar), PublicKey::Ecdsa(_, point)) = (&one, other.public().unwrap()) else {
                panic!("another kind of key")
            };
            let wanted = esp_model::secure::curve::multiply(scheme, scalar, &point).unwrap();
            let mut machine = machine(id);
            let at = |memory: u32| base + 0x100 + step * memory;
            write(&mut machine, at(0), &reversed(scalar));
            write(&mut machine, at(1), &reversed(&point[..size]));
            write(&mut machine, at(2), &reversed(&point[size..]));
            store(&mut machine, base + 0x1c, 7 << mode_bit | curve << 2 | 1);
            assert_eq!(load(&mut machine, base + 0x1c) >> 29 & 1, 1, "{id} {size}: on the curve");
            let jacobian = [3, 4].map(|memory| reversed(&read(&mut machine, at(memory), size as u32))).concat();
            assert_eq!(jacobian, wanted, "{id} {size}");
            store(&mut machine, base + 0x1c, 6 << mode_bit | curve << 2 | 1);
            assert_eq!(load(&mut machine, base + 0x1c) >> 29 & 1, 1, "{id} {size}: the product is on the curve, too");
            store(&mut machine, base + 0x1c, curve << 2 | 1);
            assert_eq!([1, 2].map(|memory| reversed(&read(&mut machine, at(memory), size as u32))).concat(), wanted);
        }
    }
}

#[test]
fn the_larger_accelerator_adds_subtracts_multiplies_and_divides_modulo_the_order() {
    // Any two numbers below the order of P-192.
    let a = hex("0000000019daa5ed2ed2d4a2b2a3d5e9c0c0b1f6d8b6e0d1");
    let b = hex("00000000000000f4d2a1c09a77e1f2b3c4d5e6f708192a3b");
    for (id, base, step, mode_bit) in LARGER {
        let mut machine = machine(id);
        let at = |memory: u32| base + 0x100 + step * memory;
        let mut compute = |mode: u32, a: &[u8], b: &[u8]| {
            write(&mut machine, at(1), &reversed(a));
            write(&mut machine, at(2), &reversed(b));
            store(&mut machine, base + 0x1c, mode << mode_bit | 1);
            reversed(&read(&mut machine, at(if mode < 10 { 1 } else { 2 }), 24))
        };
        let sum = compute(8, &a, &b);
        assert_eq!(compute(9, &sum, &b), a, "{id}");
        let product = compute(10, &a, &b);
        assert_ne!(product, a);
        assert_eq!(compute(11, &product, &b), a, "{id}: what was multiplied is divided");
        let one = compute(11, &a, &a);
        assert_eq!((one[23], one[..23].iter().all(|byte| *byte == 0)), (1, true), "{id}");
    }
}

/// A private key as Espressif's tools encrypt it for the signature unit.
#[test]
fn the_larger_accelerator_adds_points_as_often_as_the_crate_multiplies() {
    // A point three times, by two additions: to itself, and to the sum with another Z (2: x by 4, y by 8).
    let point = hex(GENERATOR);
    let number = |value: u8| {
        let mut bytes = [0; 32];
        bytes[31] = value;
        bytes
    };
    let times = |count: u8| esp_model::secure::curve::multiply(Scheme::EcdsaP256, &number(count), &point).unwrap();
    for (id, base, step, mode_bit) in LARGER {
        let mut machine = machine(id);
        let at = |memory: u32| base + 0x100 + step * memory;
        let mut add = |jacobian: [&[u8]; 3]| {
            for (memory, number) in (1..).zip([&point[..32], &point[32..]].into_iter().chain(jacobian)) {
                write(&mut machine, at(memory), &reversed(number));
            }
            store(&mut machine, base + 0x1c, 5 << mode_bit | 1 << 2 | 1);
            assert_eq!(load(&mut machine, base + 0xc), 1, "{id}");
            let both: Vec<Vec<u8>> = (1..6).map(|memory| reversed(&read(&mut machine, at(memory), 32))).collect();
            assert_eq!((&both[0], &both[1], &both[4][..]), (&both[2], &both[3], &number(1)[..]), "{id}: both forms");
            both[..2].concat()
        };
        let twice = add([&point[..32], &point[32..], &number(1)]);
        assert_eq!(twice, times(2), "{id}");
        // The same point with Z = 2: by the block's own arithmetic modulo the prime.
        let mut product = |mut value: Vec<u8>, factor: u8| {
            write(&mut machine, at(1), &reversed(&value));
            write(&mut machine, at(2), &reversed(&number(factor)));
            store(&mut machine, base + 0x1c, 10 << mode_bit | 1 << (mode_bit - 1) | 1 << 2 | 1);
            value = reversed(&read(&mut machine, at(2), 32));
            value
        };
        let (x, y) = (product(twice[..32].to_vec(), 4), product(twice[32..].to_vec(), 8));
        let mut add = |jacobian: [&[u8]; 3]| {
            for (memory, number) in (1..).zip([&point[..32], &point[32..]].into_iter().chain(jacobian)) {
                write(&mut machine, at(memory), &reversed(number));
            }
            store(&mut machine, base + 0x1c, 5 << mode_bit | 1 << 2 | 1);
            [1, 2].map(|memory| reversed(&read(&mut machine, at(memory), 32))).concat()
        };
        assert_eq!(add([&x, &y, &number(2)]), times(3), "{id}");
    }
}

/// A unit for signatures: chip, base, first memory and distance, register for the key's block, bits of the curve, and of the
/// mode without random bytes; purposes of keys by curve.
struct Signer {
    id: &'static str,
    base: u32,
    memory: u32,
    step: u32,
    key_at: u32,
    deterministic: u32,
    purposes: [u8; 2],
}

const SIGNERS: [Signer; 5] = [
    Signer {
        id: "esp32h2",
        base: 0x6008_e000,
        memory: 0x340,
        step: 0x20,
        key_at: 0x600b_09cc,
        deterministic: 1 << 5,
        purposes: [1, 1],
    },
    Signer {
        id: "esp32c61",
        base: 0x6008_e000,
        memory: 0x340,
        step: 0x20,
        key_at: 0x600b_49cc,
        deterministic: 1 << 5,
        purposes: [1, 1],
    },
    Signer {
        id: "esp32c5",
        base: 0x6008_e000,
        memory: 0x3e0,
        step: 0x30,
        key_at: 0x600b_49d0,
        deterministic: 1 << 6,
        purposes: [16, 1],
    },
    Signer {
        id: "esp32p4",
        base: 0x5009_6000,
        memory: 0x3e0,
        step: 0x30,
        key_at: 0x5012_d1b0,
        deterministic: 1 << 6,
        purposes: [16, 1],
    },
    Signer {
        id: "esp32s31",
        base: 0x2050_e000,
        memory: 0x3e0,
        step: 0x30,
        key_at: 0x2071_51d0,
        deterministic: 1 << 6,
        purposes: [16, 1],
    },
];

impl Signer {
    fn waits(&self, machine: &mut Machine, state: u32) {
        assert_eq!(load(machine, self.base + 0x20) & 3, state, "{}", self.id);
    }

    fn memory(&self, number: u32) -> u32 {
        self.base + self.memory + self.step * number
    }

    /// As the driver does it: digest in, signature out.
    fn sign(&self, machine: &mut Machine, conf: u32, digest: &[u8]) -> Vec<u8> {
        let size = digest.len() as u32;
        store(machine, self.base + 4, conf | 1);
        self.waits(machine, 0);
        store(machine, self.base + 0x1c, 1);
        self.waits(machine, 1);
        write(machine, self.memory(2), &reversed(digest));
        store(machine, self.base + 0x1c, 2);
        self.waits(machine, 2);
        let pair = [0, 1].map(|memory| reversed(&read(machine, self.memory(memory), size))).concat();
        store(machine, self.base + 0x1c, 4);
        self.waits(machine, 0);
        pair
    }

    fn verifies(&self, machine: &mut Machine, conf: u32, digest: &[u8], signature: &[u8], point: &[u8]) -> bool {
        let size = digest.len();
        store(machine, self.base + 4, conf);
        store(machine, self.base + 0x1c, 1);
        let numbers = [&signature[..size], &signature[size..], digest, &point[..size], &point[size..]];
        for (memory, number) in (0..).zip(numbers) {
            write(machine, self.memory(memory), &reversed(number));
        }
        store(machine, self.base + 0x1c, 2);
        self.waits(machine, 0);
        load(machine, self.base + 0x24) & 1 != 0
    }

    fn point(&self, machine: &mut Machine, conf: u32, size: u32) -> Vec<u8> {
        store(machine, self.base + 4, conf | 2);
        store(machine, self.base + 0x1c, 1);
        store(machine, self.base + 0x1c, 2);
        self.waits(machine, 2);
        let pair = [3, 4].map(|memory| reversed(&read(machine, self.memory(memory), size))).concat();
        store(machine, self.base + 0x1c, 4);
        pair
    }
}

fn pair(scheme: Scheme, seed: u8) -> (Vec<u8>, Vec<u8>) {
    let mut state = seed;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(29).wrapping_add(7);
            *byte = state;
        }
    };
    let private = PrivateKey::generate(scheme, &mut random).unwrap();
    let PublicKey::Ecdsa(_, point) = private.public().unwrap() else { panic!("another kind of key") };
    let PrivateKey::Ecdsa(_, scalar) = private else { panic!("another kind of key") };
    (scalar.to_vec(), point)
}

/// A key as a block holds it: lowest byte first, zeros behind.
fn as_block(scalar: &[u8]) -> [u8; 32] {
    let mut block = [0; 32];
    block.iter_mut().zip(scalar.iter().rev()).for_each(|(to, byte)| *to = *byte);
    block
}

#[test]
fn the_unit_for_elliptic_curves_signs_and_verifies_as_the_crate_does() {
    use esp_model::secure::curve;
    for chip in &SIGNERS {
        for (index, scheme, size) in [(0, Scheme::EcdsaP192, 24), (1, Scheme::EcdsaP256, 32)] {
            let (scalar, point) = pair(scheme, 3);
            let mut machine = with_keys(chip.id, &[(3, as_block(&scalar), chip.purposes[index])]);
            // Key block 3 is the eFuse block 7: in the place of the curve, or in the one for all.
            let place = if chip.step == 0x30 { 7 << (4 * index) } else { 7 << 16 };
            store(&mut machine, chip.key_at, place);
            let curve_bit = (index as u32) << 2;
            let digest = &Sha256::digest(b"a message")[..size];
            let fixed = chip.sign(&mut machine, curve_bit | chip.deterministic, digest);
            assert!(curve::verify(scheme, &point, digest, &fixed), "{} {size}", chip.id);
            assert_eq!(chip.sign(&mut machine, curve_bit | chip.deterministic, digest), fixed, "{}", chip.id);
            let random = chip.sign(&mut machine, curve_bit, digest);
            assert!(random != fixed && curve::verify(scheme, &point, digest, &random), "{} {size}", chip.id);
            assert!(chip.verifies(&mut machine, curve_bit, digest, &random, &point), "{} {size}", chip.id);
            let mut wrong = random.clone();
            wrong[5] ^= 1;
            assert!(!chip.verifies(&mut machine, curve_bit, digest, &wrong, &point), "{} {size}", chip.id);
            assert_eq!(chip.point(&mut machine, curve_bit, size as u32), point, "{} {size}", chip.id);
        }
    }
}

#[test]
fn the_unit_for_elliptic_curves_takes_a_long_key_from_two_blocks() {
    use esp_model::secure::curve;
    for chip in SIGNERS.iter().filter(|chip| chip.step == 0x30) {
        let (scalar, point) = pair(Scheme::EcdsaP384, 5);
        let (low, high) = (as_block(&scalar[16..]), as_block(&scalar[..16]));
        let mut machine = with_keys(chip.id, &[(1, low, 17), (2, high, 18)]);
        store(&mut machine, chip.key_at, 5 << 8 | 6 << 12);
        let digest = Sha384::digest(b"a message");
        let signature = chip.sign(&mut machine, 2 << 2, &digest);
        assert!(curve::verify(Scheme::EcdsaP384, &point, &digest, &signature), "{}", chip.id);
        assert!(chip.verifies(&mut machine, 2 << 2, &digest, &signature, &point), "{}", chip.id);
    }
}

#[test]
fn the_unit_for_elliptic_curves_refuses_a_key_of_another_purpose() {
    let chip = &SIGNERS[0];
    let (scalar, _) = pair(Scheme::EcdsaP256, 3);
    let mut machine = with_keys(chip.id, &[(3, as_block(&scalar), 8)]);
    store(&mut machine, chip.key_at, 7 << 16);
    let signature = chip.sign(&mut machine, 1 << 2, &[7; 32]);
    assert_eq!((signature, load(&mut machine, chip.base + 0x24)), (vec![0; 64], 0));
}
