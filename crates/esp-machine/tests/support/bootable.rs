//! Images that a ROM starts, and their signatures.

use std::sync::OnceLock;

use esp_model::image::{CHECKSUM_SEED, Extended, Header, MAGIC, checksum};
use esp_model::secure::boot_v2::{self, Padding};
use esp_model::secure::{PrivateKey, Scheme};
use sha2::{Digest as _, Sha256};

/// A key, made once: that takes its time.
pub fn key() -> &'static PrivateKey {
    static KEY: OnceLock<PrivateKey> = OnceLock::new();
    KEY.get_or_init(|| PrivateKey::generate(Scheme::Rsa3072, &mut noise(7)).unwrap())
}

pub fn noise(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed | 1;
    move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
        }
    }
}

/// An image with these segments, its checksum and its hash.
pub fn image(chip: &str, entry: u32, segments: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let known = esp_model::chip::by_name(chip).unwrap();
    let header = Header { magic: MAGIC, segments: segments.len() as u8, flash_mode: 2, flash_size_freq: 0x20, entry };
    let extended = Extended {
        wp_pin: Extended::WP_PIN_DISABLED,
        drive: [0; 3],
        chip_id: known.chip_id.unwrap(),
        min_rev: 0,
        min_rev_full: 0,
        max_rev_full: u16::MAX,
        reserved: [0; 4],
        append_digest: 1,
    };
    let mut out = [&header.encode()[..], &extended.encode()[..]].concat();
    let mut sum = CHECKSUM_SEED;
    for (load, bytes) in segments {
        out.extend(load.to_le_bytes());
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
        sum = checksum(bytes, sum);
    }
    out.resize(out.len() | 0xf, 0);
    out.push(sum);
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out
}

/// With its signature behind it.
pub fn signed(image: &[u8], key: &PrivateKey) -> Vec<u8> {
    boot_v2::sign(image, std::slice::from_ref(key), Padding::Sector, noise(3)).unwrap()
}

/// A partition table: nvs, phy_init and a factory app at 0x10000.
pub fn factory_table() -> Vec<u8> {
    let entry = |kind: u8, sub: u8, offset: u32, size: u32, name: &str| {
        let mut bytes = vec![0xaa, 0x50, kind, sub];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(name.bytes());
        bytes.resize(32, 0);
        bytes
    };
    let entries = [
        entry(1, 2, 0x9000, 0x6000, "nvs"),
        entry(1, 1, 0xf000, 0x1000, "phy_init"),
        entry(0, 0, 0x1_0000, 0x10_0000, "factory"),
    ];
    entries.concat()
}
