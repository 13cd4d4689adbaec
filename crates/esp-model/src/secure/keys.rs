//! Signing keys of all schemes, from and to PEM.

use std::fmt;

use rsa::{PrivateKey as RsaPrivateKey, PublicKey as RsaPublicKey};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

use super::ecdsa::{nist192, nist256, nist384};
use super::{Random, SecureError, rsa3072};

/// How images are signed. Which chip takes which is in the chip's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// RSA-3072 with PSS padding.
    Rsa3072,
    /// ECDSA over NIST P-192.
    EcdsaP192,
    /// ECDSA over NIST P-256.
    EcdsaP256,
    /// ECDSA over NIST P-384.
    EcdsaP384,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Self; 4] = [Self::Rsa3072, Self::EcdsaP192, Self::EcdsaP256, Self::EcdsaP384];

    /// The name users type: `rsa3072`, `ecdsa192`, `ecdsa256`, `ecdsa384`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa3072 => "rsa3072",
            Self::EcdsaP192 => "ecdsa192",
            Self::EcdsaP256 => "ecdsa256",
            Self::EcdsaP384 => "ecdsa384",
        }
    }

    /// The scheme of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// Digest of content as this scheme signs it: SHA-384 with P-384, SHA-256 else.
    pub fn digest(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::EcdsaP384 => Sha384::digest(content).to_vec(),
            _ => Sha256::digest(content).to_vec(),
        }
    }

    /// Bytes of a coordinate or scalar; 0 for RSA.
    pub(super) fn field(self) -> usize {
        match self {
            Self::Rsa3072 => 0,
            Self::EcdsaP192 => 24,
            Self::EcdsaP256 => 32,
            Self::EcdsaP384 => 48,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A private signing key. Its bytes are wiped when it is dropped, and `Debug` does not show them.
pub enum PrivateKey {
    /// RSA-3072.
    Rsa(Box<RsaPrivateKey>),
    /// A curve's scalar, big-endian.
    Ecdsa(Scheme, Zeroizing<Vec<u8>>),
}

/// A public key that verifies signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA-3072.
    Rsa(Box<RsaPublicKey>),
    /// A point `x‖y`, big-endian.
    Ecdsa(Scheme, Vec<u8>),
}

/// Calls the function of the curve that `scheme` names.
macro_rules! on_curve {
    ($scheme:expr, $function:ident($($argument:expr),*), $rsa:expr) => {
        match $scheme {
            Scheme::EcdsaP192 => nist192::$function($($argument),*),
            Scheme::EcdsaP256 => nist256::$function($($argument),*),
            Scheme::EcdsaP384 => nist384::$function($($argument),*),
            Scheme::Rsa3072 => $rsa,
        }
    };
}

const CURVES: [Scheme; 3] = [Scheme::EcdsaP192, Scheme::EcdsaP256, Scheme::EcdsaP384];
const NOT_A_CURVE: SecureError = SecureError::Broken("not a curve");

impl PrivateKey {
    /// Makes a new key. RSA takes a second or several.
    pub fn generate(scheme: Scheme, random: Random<'_>) -> Result<Self, SecureError> {
        if scheme == Scheme::Rsa3072 {
            return rsa3072::generate(random).map(|key| Self::Rsa(Box::new(key)));
        }
        let mut scalar = Zeroizing::new(vec![0; scheme.field()]);
        // A random number below the group's order; almost every draw is.
        for _ in 0..64 {
            random(&mut scalar);
            if on_curve!(scheme, is_scalar(&scalar), false) {
                return Ok(Self::Ecdsa(scheme, scalar));
            }
        }
        Err(SecureError::Broken("the source of randomness is stuck"))
    }

    /// Reads a PEM file: `RSA PRIVATE KEY`, `EC PRIVATE KEY` or `PRIVATE KEY` (PKCS#8, not encrypted).
    pub fn from_pem(text: &str) -> Result<Self, SecureError> {
        let text = &*rewrapped(text);
        if let Some(key) = rsa3072::private_from_pem(text) {
            return key.map(|key| Self::Rsa(Box::new(key)));
        }
        let curve = CURVES.into_iter().find_map(|scheme| {
            on_curve!(scheme, private_from_pem(text), None).map(|scalar| Self::Ecdsa(scheme, scalar))
        });
        curve.ok_or(SecureError::NotAKey)
    }

    /// The key in the form that `espsecure generate-signing-key` writes (PKCS#1 or SEC1).
    pub fn to_pem(&self) -> Result<Zeroizing<String>, SecureError> {
        match self {
            Self::Rsa(key) => rsa3072::private_to_pem(key),
            Self::Ecdsa(scheme, scalar) => on_curve!(*scheme, private_to_pem(scalar), Err(NOT_A_CURVE)),
        }
    }

    /// The key's scheme.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Rsa(_) => Scheme::Rsa3072,
            Self::Ecdsa(scheme, _) => *scheme,
        }
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey, SecureError> {
        match self {
            Self::Rsa(key) => Ok(PublicKey::Rsa(Box::new(key.to_public_key()))),
            Self::Ecdsa(scheme, scalar) => {
                on_curve!(*scheme, public(scalar), Err(NOT_A_CURVE)).map(|xy| PublicKey::Ecdsa(*scheme, xy))
            }
        }
    }

    /// Signs a digest made by [`Scheme::digest`]. RSA takes its salt from `random`; the curves need none.
    ///
    /// The result is big-endian: the RSA signature, or `r‖s`.
    pub fn sign(&self, digest: &[u8], random: Random<'_>) -> Result<Vec<u8>, SecureError> {
        match self {
            Self::Rsa(key) => rsa3072::sign(key, digest, random),
            Self::Ecdsa(scheme, scalar) => on_curve!(*scheme, sign(scalar, digest), Err(NOT_A_CURVE)),
        }
    }

    /// SHA-256 of the raw private scalar: the symmetric key that reflashable secure boot V1 derives. P-256 only.
    pub fn private_digest(&self) -> Result<Zeroizing<[u8; 32]>, SecureError> {
        match self {
            Self::Ecdsa(Scheme::EcdsaP256, scalar) => Ok(Zeroizing::new(Sha256::digest(scalar).into())),
            other => Err(SecureError::WrongScheme { found: other.scheme(), wanted: Scheme::EcdsaP256 }),
        }
    }

    /// The raw scalar in the byte order of an eFuse key block (little-endian), for keys that a chip itself signs with.
    /// P-192 and P-256 fill up to 32 bytes with zeros in front; none for RSA.
    pub fn scalar(&self) -> Option<&[u8]> {
        match self {
            Self::Rsa(_) => None,
            Self::Ecdsa(_, scalar) => Some(scalar),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.scheme())
    }
}

/// PEM with lines of 64 characters (RFC 7468), which not all programs write.
fn rewrapped(text: &str) -> Zeroizing<String> {
    const COLUMNS: usize = 64;
    let mut out = Zeroizing::new(String::with_capacity(text.len() * 2));
    let mut column = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("-----") {
            out.push_str(if column > 0 { "\n" } else { "" });
            out.push_str(line);
            out.push('\n');
            column = 0;
            continue;
        }
        for letter in line.chars() {
            if column == COLUMNS {
                out.push('\n');
                column = 0;
            }
            out.push(letter);
            column += 1;
        }
    }
    out
}

impl PublicKey {
    /// Reads a PEM file with a public key, or with a private key, whose public half counts.
    pub fn from_pem(text: &str) -> Result<Self, SecureError> {
        if text.contains("PRIVATE KEY-----") {
            return PrivateKey::from_pem(text)?.public();
        }
        let text = &*rewrapped(text);
        if let Some(key) = rsa3072::public_from_pem(text) {
            return key.map(|key| Self::Rsa(Box::new(key)));
        }
        let curve = CURVES
            .into_iter()
            .find_map(|scheme| on_curve!(scheme, public_from_pem(text), None).map(|xy| Self::Ecdsa(scheme, xy)));
        curve.ok_or(SecureError::NotAKey)
    }

    /// A P-256 key from its 64 raw bytes `x‖y` (the form that secure boot V1 compiles into the bootloader).
    pub fn from_raw_p256(bytes: &[u8; 64]) -> Self {
        Self::Ecdsa(Scheme::EcdsaP256, bytes.to_vec())
    }

    /// An RSA key from its modulus and exponent, as PKCS#11 has them: big-endian.
    pub fn from_rsa_numbers(modulus: &[u8], exponent: &[u8]) -> Result<Self, SecureError> {
        rsa3072::from_numbers(modulus, exponent).map(|key| Self::Rsa(Box::new(key)))
    }

    /// A curve's key from a point as PKCS#11 has it: a DER octet string, or plain, not compressed.
    pub fn from_ec_point(bytes: &[u8]) -> Result<Self, SecureError> {
        let plain = |bytes: &[u8]| match bytes {
            [4, point @ ..] => CURVES
                .into_iter()
                .find(|scheme| point.len() == 2 * scheme.field())
                .map(|scheme| (scheme, point.to_vec())),
            _ => None,
        };
        let in_der = match bytes {
            [4, length, rest @ ..] if usize::from(*length) == rest.len() => plain(rest),
            _ => None,
        };
        let (scheme, point) = in_der.or_else(|| plain(bytes)).ok_or(SecureError::NotAKey)?;
        if on_curve!(scheme, contains(&point), false) {
            Ok(Self::Ecdsa(scheme, point))
        } else {
            Err(SecureError::NotAKey)
        }
    }

    /// The key as `SubjectPublicKeyInfo` in PEM.
    pub fn to_pem(&self) -> Result<String, SecureError> {
        match self {
            Self::Rsa(key) => rsa3072::public_to_pem(key),
            Self::Ecdsa(scheme, xy) => on_curve!(*scheme, public_to_pem(xy), Err(NOT_A_CURVE)),
        }
    }

    /// The key's scheme.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Rsa(_) => Scheme::Rsa3072,
            Self::Ecdsa(scheme, _) => *scheme,
        }
    }

    /// The signature (as [`PrivateKey::sign`] makes it) fits the digest.
    pub fn verify(&self, digest: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => rsa3072::verify(key, digest, signature),
            Self::Ecdsa(scheme, xy) => on_curve!(*scheme, verify(xy, digest, signature), false),
        }
    }

    /// A signature made elsewhere (an HSM) in the form of [`PrivateKey::sign`]: curves' DER is unpacked.
    pub fn signature_from_external(&self, signature: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(_) => (signature.len() == rsa3072::BYTES).then(|| signature.to_vec()),
            Self::Ecdsa(scheme, _) => on_curve!(*scheme, signature_from_der(signature), None),
        }
    }
}
