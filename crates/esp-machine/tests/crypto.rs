//! The accelerators for cryptography, driven by their registers as drivers do, against published examples and other crates.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs)]

use esp_machine::Machine;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

#[path = "support/crypto.rs"]
mod crypto;
#[path = "support/registers.rs"]
mod registers;

use crypto::{hex, machine, read, with_key, write};
use registers::{load, store};

/// A chip whose accelerators are tried: where AES, SHA and the DMA controller are, RAM that it reaches, and where the first
/// channel has its links (out, in) and the numbers of whom it serves.
struct Chip {
    id: &'static str,
    aes: u32,
    sha: u32,
    ram: u32,
    links: [u32; 2],
    selects: Option<[u32; 2]>,
    /// Links hold the whole address.
    whole: bool,
}

const CHIPS: [Chip; 5] = [
    Chip {
        id: "esp32c3",
        aes: 0x6003_a000,
        sha: 0x6003_b000,
        ram: 0x3fc9_0000,
        links: [0x6003_f0e0, 0x6003_f080],
        selects: Some([0x6003_f100, 0x6003_f0a0]),
        whole: false,
    },
    Chip {
        id: "esp32s3",
        aes: 0x6003_a000,
        sha: 0x6003_b000,
        ram: 0x3fc9_0000,
        links: [0x6003_f080, 0x6003_f020],
        selects: Some([0x6003_f0a8, 0x6003_f048]),
        whole: false,
    },
    Chip {
        id: "esp32s2",
        aes: 0x6003_a000,
        sha: 0x6003_b000,
        ram: 0x3ffc_0000,
        links: [0x6003_f024, 0x6003_f028],
        selects: None,
        whole: false,
    },
    Chip {
        id: "esp32c6",
        aes: 0x6008_8000,
        sha: 0x6008_9000,
        ram: 0x4081_0000,
        links: [0x6008_00e0, 0x6008_0080],
        selects: Some([0x6008_0100, 0x6008_00a0]),
        whole: false,
    },
    Chip {
        id: "esp32c5",
        aes: 0x6008_8000,
        sha: 0x6008_9000,
        ram: 0x4081_0000,
        links: [0x6008_03b8, 0x6008_03ac],
        selects: Some([0x6008_0100, 0x6008_00a0]),
        whole: true,
    },
];

impl Chip {
    /// Descriptors for a text and its result, for the block of this number.
    fn chain(&self, machine: &mut Machine, text: &[u8], number: u32) {
        let half = (text.len() / 2) & !15;
        let (first, second) = (self.ram, self.ram + 12);
        for (at, part, next) in [(first, &text[..half], second), (second, &text[half..], 0)] {
            let place = self.ram + 0x100 + (part.as_ptr() as usize - text.as_ptr() as usize) as u32;
            assert!(machine.poke(place, part));
            let last = if next == 0 { 1 << 30 } else { 0 };
            let flags = 1 << 31 | last | (part.len() as u32) << 12 | part.len() as u32;
            for (offset, word) in [(0, flags), (4, place), (8, next)] {
                assert!(machine.poke(at + offset, &word.to_le_bytes()));
            }
        }
        let result = self.ram + 24;
        for (offset, word) in [(0, 1 << 31 | text.len() as u32), (4, self.ram + 0x1000), (8, 0)] {
            assert!(machine.poke(result + offset, &u32::to_le_bytes(word)));
        }
        for (link, descriptor) in self.links.into_iter().zip([first, result]) {
            store(machine, link, if self.whole { descriptor } else { descriptor & 0xf_ffff });
        }
        for select in self.selects.into_iter().flatten() {
            store(machine, select, number);
        }
    }
}

const KEY_128: &str = "2b7e151628aed2a6abf7158809cf4f3c";
const KEY_256: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
/// The text of NIST SP 800-38A.
const TEXT: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                    30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

#[test]
fn single_blocks_come_out_as_nist_says() {
    for chip in &CHIPS {
        for (key, mode, wanted) in
            [(KEY_128, 0, "3ad77bb40d7a3660a89ecaf32466ef97"), (KEY_256, 2, "f3eed1bdb5d2a03c064b5a7e3db181f8")]
        {
            let mut machine = machine(chip.id);
            write(&mut machine, chip.aes, &hex(key));
            write(&mut machine, chip.aes + 0x20, &hex(&TEXT[..32]));
            store(&mut machine, chip.aes + 0x40, mode);
            store(&mut machine, chip.aes + 0x48, 1);
            assert_eq!(load(&mut machine, chip.aes + 0x4c), 0, "{}", chip.id);
            assert_eq!(read(&mut machine, chip.aes + 0x30, 16), hex(wanted), "{}", chip.id);
            write(&mut machine, chip.aes + 0x20, &hex(wanted));
            store(&mut machine, chip.aes + 0x40, mode + 4);
            store(&mut machine, chip.aes + 0x48, 1);
            assert_eq!(read(&mut machine, chip.aes + 0x30, 16), hex(&TEXT[..32]), "{}", chip.id);
        }
    }
}

#[test]
fn the_first_chips_aes_leaves_the_result_where_the_text_was() {
    let aes = 0x3ff0_1000;
    for (key, mode, wanted) in
        [(KEY_128, 0, "3ad77bb40d7a3660a89ecaf32466ef97"), (KEY_256, 2, "f3eed1bdb5d2a03c064b5a7e3db181f8")]
    {
        let mut machine = machine("esp32");
        write(&mut machine, aes + 0x10, &hex(key));
        write(&mut machine, aes + 0x30, &hex(&TEXT[..32]));
        store(&mut machine, aes + 8, mode);
        store(&mut machine, aes, 1);
        assert_eq!(load(&mut machine, aes + 4), 1);
        assert_eq!(read(&mut machine, aes + 0x30, 16), hex(wanted));
        store(&mut machine, aes + 8, mode + 4);
        store(&mut machine, aes, 1);
        assert_eq!(read(&mut machine, aes + 0x30, 16), hex(&TEXT[..32]));
    }
}

/// Modes of SP 800-38A, with 128 bits: number, IV, and what comes of the text.
const MODES: [(u32, &str, &str); 5] = [
    (
        0,
        "",
        "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f8223207104725dd4",
    ),
    (
        1,
        "000102030405060708090a0b0c0d0e0f",
        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
    ),
    (
        2,
        "000102030405060708090a0b0c0d0e0f",
        "3b3fd92eb72dad20333449f8e83cfb4a7789508d16918f03f53c52dac54ed8259740051e9c5fecf64344f7a82260edcc304c6528f659c77866a510d9c1d6ae5e",
    ),
    (
        3,
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
    ),
    (
        5,
        "000102030405060708090a0b0c0d0e0f",
        "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b26751f67a3cbb140b1808cf187a4f4dfc04b05357c5d1c0eeac4c66f9ff7f2e6",
    ),
];

#[test]
fn texts_by_dma_come_out_as_nist_says_in_every_mode() {
    for chip in &CHIPS {
        for (mode, iv, wanted) in MODES {
            for decrypt in [false, true] {
                let (text, wanted) = if decrypt { (hex(wanted), hex(TEXT)) } else { (hex(TEXT), hex(wanted)) };
                let mut machine = machine(chip.id);
                chip.chain(&mut machine, &text, 6);
                write(&mut machine, chip.aes, &hex(KEY_128));
                write(&mut machine, chip.aes + 0x50, &hex(iv));
                for (offset, value) in
                    [(0x40, if decrypt { 4 } else { 0 }), (0x90, 1), (0x94, mode), (0x98, 4), (0xb0, 1), (0x48, 1)]
                {
                    store(&mut machine, chip.aes + offset, value);
                }
                assert_eq!(load(&mut machine, chip.aes + 0x4c), 2, "{}", chip.id);
                assert_eq!(machine.peek(chip.ram + 0x1000, 64), wanted, "{} mode {mode} decrypt {decrypt}", chip.id);
                // The descriptor is the program's again, and says how much came.
                let flags = u32::from_le_bytes(machine.peek(chip.ram + 24, 4).try_into().unwrap());
                assert_eq!((flags >> 31, flags >> 30 & 1, flags >> 12 & 0xfff), (0, 1, 64), "{}", chip.id);
                store(&mut machine, chip.aes + 0xb8, 1);
                assert_eq!(load(&mut machine, chip.aes + 0x4c), 0, "{}", chip.id);
            }
        }
    }
}

#[test]
fn cfb_of_bytes_comes_out_as_nist_says() {
    let chip = &CHIPS[0];
    let mut machine = machine(chip.id);
    chip.chain(&mut machine, &hex(&TEXT[..32]), 6);
    write(&mut machine, chip.aes, &hex(KEY_128));
    write(&mut machine, chip.aes + 0x50, &hex("000102030405060708090a0b0c0d0e0f"));
    for (offset, value) in [(0x40, 0), (0x90, 1), (0x94, 4), (0x98, 1), (0x48, 1)] {
        store(&mut machine, chip.aes + offset, value);
    }
    assert_eq!(machine.peek(chip.ram + 0x1000, 16), hex("3b79424c9c0dd436bace9e0ed4586a4f"));
}

/// A message with SHA's padding.
fn padded(message: &[u8], block: usize) -> Vec<u8> {
    let mut out = message.to_vec();
    out.push(0x80);
    while out.len() % block != block - 8 {
        out.push(0);
    }
    out.extend((message.len() as u64 * 8).to_be_bytes());
    out
}

#[test]
fn long_hashes_equal_those_of_sha2_by_registers_and_by_dma() {
    let message: Vec<u8> = (0..300u32).map(|index| (index * 7) as u8).collect();
    let text = padded(&message, 128);
    for chip in CHIPS.iter().filter(|chip| ["esp32s2", "esp32s3", "esp32c5"].contains(&chip.id)) {
        for (mode, wanted) in [(3, Sha384::digest(&message).to_vec()), (4, Sha512::digest(&message).to_vec())] {
            let mut one = machine(chip.id);
            store(&mut one, chip.sha, mode);
            for (index, block) in text.chunks(128).enumerate() {
                write(&mut one, chip.sha + 0x80, block);
                store(&mut one, chip.sha + if index == 0 { 0x10 } else { 0x14 }, 1);
            }
            assert_eq!(read(&mut one, chip.sha + 0x40, wanted.len() as u32), wanted, "{} {mode}", chip.id);

            let mut other = machine(chip.id);
            chip.chain(&mut other, &text, 7);
            for (offset, value) in [(0, mode), (0xc, text.len() as u32 / 128), (0x1c, 1)] {
                store(&mut other, chip.sha + offset, value);
            }
            assert_eq!(read(&mut other, chip.sha + 0x40, wanted.len() as u32), wanted, "{} {mode} by DMA", chip.id);
        }
    }
}

#[test]
fn hmac_with_a_key_of_the_efuses_equals_that_of_the_crate() {
    let key: [u8; 32] = std::array::from_fn(|index| (index * 5 + 1) as u8);
    for (id, base) in
        [("esp32c3", 0x6003_e000), ("esp32s2", 0x6003_e000), ("esp32s3", 0x6003_e000), ("esp32c6", 0x6008_d000)]
    {
        for message in [&b"short"[..], &[0x77; 150]] {
            let mut machine = with_key(id, &key, 8);
            for (offset, value) in [(0x40, 1), (0x44, 8), (0x48, 2), (0x4c, 1)] {
                store(&mut machine, base + offset, value);
            }
            assert_eq!(load(&mut machine, base + 0x68), 0, "{id}: the key is refused");
            // The inner block counts in the length.
            let mut text = padded(message, 64);
            let end = text.len() - 8;
            text[end..].copy_from_slice(&((message.len() as u64 + 64) * 8).to_be_bytes());
            let blocks = text.len() / 64;
            for (index, block) in text.chunks(64).enumerate() {
                write(&mut machine, base + 0x80, block);
                let command = match (blocks, blocks - index) {
                    (1, _) => 0xf4,
                    (_, 1) => 0xf0,
                    _ => 0x50,
                };
                store(&mut machine, base + command, 1);
            }
            let mut wanted = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            wanted.update(message);
            assert_eq!(read(&mut machine, base + 0xc0, 32), wanted.finalize().into_bytes().to_vec(), "{id}");
            store(&mut machine, base + 0x5c, 1);
            assert_eq!(read(&mut machine, base + 0xc0, 32), [0; 32], "{id}");
        }
    }
}

#[test]
fn hmac_refuses_a_key_of_another_purpose() {
    let mut machine = with_key("esp32c3", &[1; 32], 9);
    for (offset, value) in [(0x40, 1), (0x44, 8), (0x48, 2), (0x4c, 1)] {
        store(&mut machine, 0x6003_e000 + offset, value);
    }
    assert_eq!(load(&mut machine, 0x6003_e068), 1);
}

/// Examples 2 to 4 of McGrew and Viega, The Galois/Counter Mode of Operation, with a key of 128 bits: key, IV, additional data,
/// plain text, cipher text, tag.
const GALOIS: [[&str; 6]; 3] = [
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "00000000000000000000000000000000",
        "0388dace60b6a392f328c2b971b2fe78",
        "ab6e47d42cec13bdf53a67b21257bddf",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47",
    ],
];

#[test]
fn galois_counter_mode_comes_out_as_its_authors_say() {
    let chip = CHIPS.iter().find(|chip| chip.id == "esp32s2").unwrap();
    for [key, iv, additional, plain, secret, tag] in GALOIS {
        for decrypt in [false, true] {
            let (text, wanted) = if decrypt { (hex(secret), hex(plain)) } else { (hex(plain), hex(secret)) };
            let (additional, whole) = (hex(additional), |length: usize| length.div_ceil(16));
            let mut input = additional.clone();
            input.resize(16 * whole(additional.len()), 0);
            input.extend(&text);
            // What stands behind the text's end is nothing to the tag.
            input.resize(16 * (whole(additional.len()) + whole(text.len())), 0x5a);
            input.extend((additional.len() as u64 * 8).to_be_bytes());
            input.extend((text.len() as u64 * 8).to_be_bytes());
            let mut machine = machine(chip.id);
            write(&mut machine, chip.aes, &hex(key));
            let bits = (text.len() * 8 % 128) as u32;
            for (offset, value) in [
                (0x40, if decrypt { 4 } else { 0 }),
                (0x94, 6),
                (0xa0, whole(additional.len()) as u32),
                (0xa4, bits),
                (0x90, 1),
                (0x48, 1),
            ] {
                store(&mut machine, chip.aes + offset, value);
            }
            assert_eq!(load(&mut machine, chip.aes + 0x4c), 0, "the hash key is there");
            if key.starts_with("00") {
                assert_eq!(read(&mut machine, chip.aes + 0x60, 16), hex("66e94bd4ef8a2c3b884cfa59ca342b2e"));
            }
            write(&mut machine, chip.aes + 0x70, &[hex(iv), hex("00000001")].concat());
            chip.chain(&mut machine, &input, 0);
            store(&mut machine, chip.aes + 0x98, whole(text.len()) as u32);
            store(&mut machine, chip.aes + 0xa8, 1);
            assert_eq!(load(&mut machine, chip.aes + 0x4c), 2);
            assert_eq!(machine.peek(chip.ram + 0x1000, text.len()), wanted, "decrypt {decrypt}");
            assert_eq!(read(&mut machine, chip.aes + 0x80, 16), hex(tag), "decrypt {decrypt}");
            store(&mut machine, chip.aes + 0xb8, 1);
            assert_eq!(load(&mut machine, chip.aes + 0x4c), 0);
        }
    }
}

fn encrypted_key(key: &[u8; 32], iv: &[u8; 16], size: usize, [exponent, modulus]: [u64; 2]) -> Vec<u8> {
    use aes::Aes256;
    use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
    let number = |value: u64| {
        let mut bytes = vec![0; size];
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    // The unit that computes here needs no R², which stands behind; two words are used.
    let numbers = [number(exponent), number(modulus), number(1)].concat();
    let values = [7u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
    let digest = Sha256::digest([&numbers, &values, &iv[..]].concat());
    let plain = [&numbers, &digest[..], &values, &[8; 8]].concat();
    let mut derived = Hmac::<Sha256>::new_from_slice(key).unwrap();
    derived.update(&[0xff; 32]);
    let cipher = Aes256::new_from_slice(&derived.finalize().into_bytes()).unwrap();
    let mut chain = *iv;
    let mut out = Vec::new();
    for block in plain.chunks(16) {
        let mut text: [u8; 16] = std::array::from_fn(|index| block[index] ^ chain[index]);
        let mut one = text.into();
        cipher.encrypt_block(&mut one);
        text = one.into();
        chain = text;
        out.extend(text);
    }
    out
}

#[test]
fn the_signature_unit_signs_with_a_key_that_only_it_decrypts() {
    let (key, iv) = (std::array::from_fn(|index| (index * 3 + 5) as u8), [0x5a; 16]);
    for (id, base, hmac, size) in [
        ("esp32c3", 0x6003_d000, 0x6003_e000, 384),
        ("esp32c6", 0x6008_c000, 0x6008_d000, 384),
        ("esp32s3", 0x6003_d000, 0x6003_e000, 512),
        ("esp32s2", 0x6003_d000, 0x6003_e000, 512),
    ] {
        let text = encrypted_key(&key, &iv, size, [65_537, 1_000_003]);
        let mut machine = with_key(id, &key, 7);
        store(&mut machine, base + 0xe00, 1);
        assert_eq!(load(&mut machine, base + 0xe0c), 1, "{id}: it waits for a key");
        for (offset, value) in [(0x40, 1), (0x44, 7), (0x48, 2), (0x4c, 1)] {
            store(&mut machine, hmac + offset, value);
        }
        let mut sign = |text: &[u8]| {
            store(&mut machine, base + 0xe00, 1);
            assert_eq!(load(&mut machine, base + 0xe0c), 0, "{id}: it has its key");
            write(&mut machine, base + 0x630, &iv);
            let mut rest = text;
            for (at, length) in [(0, size), (0x200, size), (0x400, size), (0x600, 48)] {
                write(&mut machine, base + at, &rest[..length]);
                rest = &rest[length..];
            }
            write(&mut machine, base + 0x800, &3u64.to_le_bytes());
            store(&mut machine, base + 0xe04, 1);
            let result = (load(&mut machine, base + 0xe14), read(&mut machine, base + 0xa00, 8));
            store(&mut machine, base + 0xe08, 1);
            result
        };
        // 3^65537 mod 1000003, by Python.
        assert_eq!(sign(&text), (0, 486_750u64.to_le_bytes().to_vec()), "{id}");
        let mut damaged = text.clone();
        damaged[20] ^= 1;
        assert_eq!(sign(&damaged), (1, vec![0; 8]), "{id}: a damaged key is found by its digest");
    }
}

/// The first chip makes a modular product of two of Montgomery's, as its driver does.
#[test]
fn the_first_chips_products_and_powers_are_right() {
    let rsa = 0x3ff0_2000;
    let mut machine = machine("esp32");
    let number = |value: u64| {
        let mut bytes = vec![0; 64];
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let (x, y, m) = (0x1234_5678_9abc_def1u64, 0x0fed_cba9_8765_4321u64, 0xffff_ffff_ffff_ffc5u64);
    // R = 2^512 by squaring; R² mod M.
    let square = |n: u64| (u128::from(n) * u128::from(n) % u128::from(m)) as u64;
    let r = (0..9).fold(2u64, |power, _| square(power));
    write(&mut machine, rsa, &number(m));
    write(&mut machine, rsa + 0x200, &number(square(r)));
    write(&mut machine, rsa + 0x600, &number(x));
    for (offset, value) in [(0x80c, 0), (0x810, 1)] {
        store(&mut machine, rsa + offset, value);
    }
    assert_eq!(load(&mut machine, rsa + 0x814), 1);
    store(&mut machine, rsa + 0x814, 1);
    write(&mut machine, rsa + 0x600, &number(y));
    store(&mut machine, rsa + 0x810, 1);
    let product = (u128::from(x) * u128::from(y) % u128::from(m)) as u64;
    assert_eq!(read(&mut machine, rsa + 0x200, 64), number(product));

    write(&mut machine, rsa + 0x600, &number(3));
    write(&mut machine, rsa + 0x400, &number(65_537));
    write(&mut machine, rsa, &number(1_000_003));
    for (offset, value) in [(0x804, 0), (0x808, 1)] {
        store(&mut machine, rsa + offset, value);
    }
    assert_eq!(read(&mut machine, rsa + 0x200, 64), number(486_750));

    // A plain product of 512 bits each: the second number stands in the upper half of the result's place.
    write(&mut machine, rsa + 0x600, &number(x));
    write(&mut machine, rsa + 0x240, &number(y));
    for (offset, value) in [(0x80c, 9), (0x810, 1)] {
        store(&mut machine, rsa + offset, value);
    }
    assert_eq!(read(&mut machine, rsa + 0x200, 16), (u128::from(x) * u128::from(y)).to_le_bytes());
}
