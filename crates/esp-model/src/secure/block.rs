//! The signature block of secure boot V2: 1216 bytes, up to three in the sector after the image.
//!
//! Layout: ESP-IDF documentation, "Secure Boot V2, Signature Block Format".

use sha2::{Digest, Sha256};

use super::{PublicKey, Scheme, SecureError, rsa3072};

/// Bytes of a block.
pub const BLOCK: usize = 1216;
/// Places in a signature sector.
pub const BLOCKS: usize = 3;

const MAGIC: u8 = 0xe7;
/// The CRC covers everything before it.
const CRC_AT: usize = 1196;
const VERSION_RSA: u8 = 2;
const VERSION_ECDSA: u8 = 3;
const SHA_384: u8 = 1;
const HEADER: usize = 4;
/// Modulus, exponent, R² mod n, −n⁻¹.
const RSA_KEY: usize = rsa3072::BYTES + 4 + rsa3072::BYTES + 4;

/// Curve ids in the block.
const CURVE_IDS: [(u8, Scheme); 3] = [(1, Scheme::EcdsaP192), (2, Scheme::EcdsaP256), (3, Scheme::EcdsaP384)];

/// A block with a right magic, version and CRC. Whether its signature holds is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureBlock {
    bytes: Vec<u8>,
    layout: Layout,
}

/// Where the parts of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    scheme: Scheme,
    digest: usize,
    /// The bytes whose SHA-256 goes into the eFuse.
    key: (usize, usize),
    /// Start of the signature and places for its numbers.
    signature: usize,
}

impl Layout {
    fn of(scheme: Scheme) -> Self {
        let digest = if scheme == Scheme::EcdsaP384 { 48 } else { 32 };
        let key_len = match scheme {
            Scheme::Rsa3072 => RSA_KEY,
            // P-192 stands in the place of a P-256 point, the rest is zero.
            Scheme::EcdsaP192 | Scheme::EcdsaP256 => 1 + 64,
            Scheme::EcdsaP384 => 1 + 96,
        };
        let key = (HEADER + digest, HEADER + digest + key_len);
        Self { scheme, digest, key, signature: key.1 }
    }
}

impl SignatureBlock {
    /// Puts a block together. `signature` is as [`super::PrivateKey::sign`] makes it.
    pub fn build(key: &PublicKey, digest: &[u8], signature: &[u8]) -> Result<Self, SecureError> {
        let scheme = key.scheme();
        let layout = Layout::of(scheme);
        if digest.len() != layout.digest {
            return Err(SecureError::TooShort { found: digest.len(), wanted: layout.digest });
        }
        let (version, sha) = match scheme {
            Scheme::Rsa3072 => (VERSION_RSA, 0),
            Scheme::EcdsaP384 => (VERSION_ECDSA, SHA_384),
            _ => (VERSION_ECDSA, 0),
        };
        let mut bytes = vec![MAGIC, version, sha, 0];
        bytes.extend_from_slice(digest);
        bytes.extend(encode_key(key));
        bytes.extend(little_endian(scheme, signature));
        bytes.resize(CRC_AT, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(BLOCK, 0);
        Ok(Self { bytes, layout })
    }

    /// Reads a block; `None` when magic, version, curve or CRC are wrong.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..BLOCK)?;
        let crc = bytes.get(CRC_AT..)?.first_chunk::<4>()?;
        if bytes.first() != Some(&MAGIC) || crc32fast::hash(bytes.get(..CRC_AT)?).to_le_bytes() != *crc {
            return None;
        }
        let scheme = match (bytes.get(1)?, bytes.get(2)?) {
            (&VERSION_RSA, _) => Scheme::Rsa3072,
            (&VERSION_ECDSA, sha) => {
                let at = HEADER + if *sha == SHA_384 { 48 } else { 32 };
                CURVE_IDS.iter().find(|(id, _)| bytes.get(at) == Some(id))?.1
            }
            _ => return None,
        };
        let layout = Layout::of(scheme);
        // P-384 goes with SHA-384 and only with it.
        let sha_384 = scheme != Scheme::Rsa3072 && bytes.get(2) == Some(&SHA_384);
        (sha_384 == (scheme == Scheme::EcdsaP384)).then(|| Self { bytes: bytes.to_vec(), layout })
    }

    /// The block's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.layout.scheme
    }

    /// Digest of the signed content.
    pub fn image_digest(&self) -> &[u8] {
        self.slice(HEADER, HEADER + self.layout.digest)
    }

    /// SHA-256 over the public key as it stands in the block: what is burned into a digest key block.
    pub fn key_digest(&self) -> [u8; 32] {
        Sha256::digest(self.slice(self.layout.key.0, self.layout.key.1)).into()
    }

    /// The public key.
    pub fn public_key(&self) -> Result<PublicKey, SecureError> {
        let (start, end) = self.layout.key;
        let scheme = self.layout.scheme;
        if scheme == Scheme::Rsa3072 {
            return rsa3072::decode_public(self.slice(start, end)).map(|key| PublicKey::Rsa(Box::new(key)));
        }
        let point = self.slice(start + 1, start + 1 + 2 * scheme.field());
        Ok(PublicKey::Ecdsa(scheme, reverse_halves(point)))
    }

    /// The signature in the form that [`PublicKey::verify`] takes.
    pub fn signature(&self) -> Vec<u8> {
        let (scheme, start) = (self.layout.scheme, self.layout.signature);
        if scheme == Scheme::Rsa3072 {
            self.slice(start, start + rsa3072::BYTES).iter().rev().copied().collect()
        } else {
            reverse_halves(self.slice(start, start + 2 * scheme.field()))
        }
    }

    /// The block's signature fits its own key and digest.
    pub fn is_authentic(&self) -> bool {
        self.public_key().is_ok_and(|key| key.verify(self.image_digest(), &self.signature()))
    }

    fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// SHA-256 of the key as it stands in a signature block: what is burned into a digest key block.
pub fn key_digest(key: &PublicKey) -> [u8; 32] {
    Sha256::digest(encode_key(key)).into()
}

fn encode_key(key: &PublicKey) -> Vec<u8> {
    match key {
        PublicKey::Rsa(key) => rsa3072::encode_public(key),
        PublicKey::Ecdsa(scheme, xy) => {
            let id = CURVE_IDS.iter().find(|(_, curve)| curve == scheme).map_or(0, |(id, _)| *id);
            let mut out = vec![id];
            out.extend(little_endian(*scheme, xy));
            out
        }
    }
}

/// Numbers as a block holds them: little-endian, a pair's halves one after the other, padded to the pair's place.
fn little_endian(scheme: Scheme, big: &[u8]) -> Vec<u8> {
    let mut out = match scheme {
        Scheme::Rsa3072 => big.iter().rev().copied().collect(),
        _ => reverse_halves(big),
    };
    out.resize(out.len().max(if scheme == Scheme::EcdsaP192 { 64 } else { 0 }), 0);
    out
}

fn reverse_halves(pair: &[u8]) -> Vec<u8> {
    let (first, second) = pair.split_at(pair.len() / 2);
    first.iter().rev().chain(second.iter().rev()).copied().collect()
}
