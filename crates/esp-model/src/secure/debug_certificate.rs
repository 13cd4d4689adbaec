//! Secure Debug Certificates: a device that holds the digest of a key opens its debug interfaces to whoever has the key.
//!
//! Format: esptool's documentation, "generate-sdc-certificate". A certificate is a header of 20 bytes, a body of 416
//! (permissions, public key, signature, hash of these) and the nonce that the signed message was made with.

use sha2::{Digest, Sha256};

use super::{PrivateKey, PublicKey, Random, Scheme, SecureError};
use crate::crc::rom_crc32;

/// Bytes of a whole certificate.
pub const SIZE: usize = HEADER + BODY + NONCE;
/// Bytes of the file with what a device says about itself: its digest and the nonce in it.
pub const DEVICE_FILE: usize = 32 + NONCE;
/// Values of the counter of sessions: three eFuse bits that are burned one by one.
pub const COUNTERS: [u8; 4] = [0, 1, 3, 7];

const HEADER: usize = 20;
const BODY: usize = PERMISSIONS + 64 + 64 + 32;
const NONCE: usize = 32;
const PERMISSIONS: usize = 256;
const MAGIC: u32 = 0x524d_4143;
const VERSION: u8 = 1;

/// What a certificate opens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// JTAG.
    pub jtag: bool,
    /// Download mode may be used again.
    pub download_reuse: bool,
    /// The chip starts from flash whatever its straps say.
    pub force_spi_boot: bool,
}

impl Permissions {
    fn bytes(self) -> [u8; PERMISSIONS] {
        let bits = [self.jtag, self.download_reuse, self.force_spi_boot];
        let word = bits.iter().enumerate().fold(0, |word, (bit, set)| word | u32::from(*set) << bit);
        let mut bytes = [0; PERMISSIONS];
        for (to, from) in bytes.iter_mut().zip(word.to_be_bytes()) {
            *to = from;
        }
        bytes
    }
}

/// The device that a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Digest of its MAC address, the nonce and its counter of sessions.
    pub digest: [u8; 32],
    /// A number that is used once.
    pub nonce: [u8; NONCE],
}

impl Device {
    /// The device with this base MAC, as people write it, at this value of its counter.
    pub fn new(mac: [u8; 6], counter: u8, nonce: [u8; NONCE]) -> Self {
        // The chip takes the address in the byte order of its eFuses, and the counter from a byte's upper half.
        let mut address = mac;
        address.reverse();
        let unique = Sha256::digest(address);
        let digest = Sha256::new().chain_update(unique).chain_update(nonce).chain_update([counter << 4]).finalize();
        Self { digest: digest.into(), nonce }
    }

    /// What the device itself said: its digest, and the nonce.
    pub fn from_file(bytes: &[u8]) -> Option<Self> {
        let (digest, nonce) = bytes.split_first_chunk::<32>()?;
        Some(Self { digest: *digest, nonce: nonce.try_into().ok()? })
    }
}

/// Makes what is hashed and signed, with SHA-256 and ECDSA over P-256.
pub fn message(permissions: Permissions, device: &Device) -> Vec<u8> {
    [&permissions.bytes()[..], &device.digest].concat()
}

/// Makes a certificate with a key.
pub fn sign(
    permissions: Permissions,
    device: &Device,
    key: &PrivateKey,
    random: Random<'_>,
) -> Result<Vec<u8>, SecureError> {
    let public = key.public()?;
    let signature = key.sign(&Sha256::digest(message(permissions, device)), random)?;
    assemble(permissions, device, &public, &signature)
}

/// Makes a certificate with a signature (`r‖s`) that was made elsewhere.
pub fn assemble(
    permissions: Permissions,
    device: &Device,
    key: &PublicKey,
    signature: &[u8],
) -> Result<Vec<u8>, SecureError> {
    let point = point(key)?;
    if !key.verify(&Sha256::digest(message(permissions, device)), signature) {
        return Err(SecureError::BadSignature);
    }
    let plain = [&permissions.bytes()[..], point, signature].concat();
    let body = [&plain[..], &Sha256::digest(&plain)].concat();
    let length = (HEADER + BODY) as u16;
    let mut out = Vec::with_capacity(SIZE);
    out.extend(MAGIC.to_le_bytes());
    out.extend([VERSION, 0]);
    out.extend((PERMISSIONS as u16).to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend([0; 2]);
    out.extend(rom_crc32(&body).to_le_bytes());
    out.extend([0; 4]);
    out.extend(body);
    out.extend(device.nonce);
    Ok(out)
}

/// The digest of the public key, in the byte order in which it is burned.
pub fn key_digest(key: &PublicKey) -> Result<[u8; 32], SecureError> {
    let mut digest: [u8; 32] = Sha256::digest(point(key)?).into();
    digest.reverse();
    Ok(digest)
}

fn point(key: &PublicKey) -> Result<&[u8], SecureError> {
    match key {
        PublicKey::Ecdsa(Scheme::EcdsaP256, point) => Ok(point),
        other => Err(SecureError::WrongScheme { found: other.scheme(), wanted: Scheme::EcdsaP256 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_fits_its_key_and_its_hashes() {
        let mut random = |bytes: &mut [u8]| bytes.fill(0x35);
        let key = PrivateKey::generate(Scheme::EcdsaP256, &mut random).unwrap();
        let device = Device::new([0, 0x11, 0x22, 0x33, 0x44, 0x55], 3, [9; 32]);
        let opened = Permissions { jtag: true, force_spi_boot: true, ..Permissions::default() };
        let made = sign(opened, &device, &key, &mut random).unwrap();
        assert_eq!(made.len(), 468);
        assert_eq!(made[..4], *b"CAMR");
        assert_eq!(made[8..10], 436u16.to_le_bytes());
        assert_eq!(made[12..16], rom_crc32(&made[20..436]).to_le_bytes());
        assert_eq!(made[20..24], [0, 0, 0, 5]);
        assert_eq!(made[404..436], Sha256::digest(&made[20..404])[..]);
        assert_eq!(made[436..], [9; 32]);
        let other = Permissions { jtag: true, ..Permissions::default() };
        let refused = assemble(other, &device, &key.public().unwrap(), &made[340..404]);
        assert_eq!(refused, Err(SecureError::BadSignature));
    }

    #[test]
    fn only_p256_keys_serve() {
        let mut random = |bytes: &mut [u8]| bytes.fill(0x35);
        let key = PrivateKey::generate(Scheme::EcdsaP384, &mut random).unwrap().public().unwrap();
        assert!(matches!(key_digest(&key), Err(SecureError::WrongScheme { .. })));
    }

    #[test]
    fn counter_and_nonce_belong_to_the_device() {
        let mac = [1, 2, 3, 4, 5, 6];
        let base = Device::new(mac, 0, [0; 32]);
        assert_ne!(base.digest, Device::new(mac, 1, [0; 32]).digest);
        assert_ne!(base.digest, Device::new(mac, 0, [1; 32]).digest);
        let file = [&base.digest[..], &base.nonce].concat();
        assert_eq!(Device::from_file(&file), Some(base));
        assert_eq!(Device::from_file(&file[1..]), None);
    }
}
