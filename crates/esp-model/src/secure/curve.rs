//! Points of curves as the chips' accelerators calculate with them: `x‖y`, big-endian.

use super::{Scheme, ecdsa};

/// Whether the point is on the curve; no point is on that of RSA.
pub fn contains(curve: Scheme, point: &[u8]) -> bool {
    match curve {
        Scheme::EcdsaP192 => ecdsa::nist192::contains(point),
        Scheme::EcdsaP256 => ecdsa::nist256::contains(point),
        Scheme::EcdsaP384 => ecdsa::nist384::contains(point),
        Scheme::Rsa3072 => false,
    }
}

/// The point times a number below the curve's order; `None` when there is no such curve, point or number.
pub fn multiply(curve: Scheme, number: &[u8], point: &[u8]) -> Option<Vec<u8>> {
    match curve {
        Scheme::EcdsaP192 => ecdsa::nist192::multiply(number, point),
        Scheme::EcdsaP256 => ecdsa::nist256::multiply(number, point),
        Scheme::EcdsaP384 => ecdsa::nist384::multiply(number, point),
        Scheme::Rsa3072 => None,
    }
}

/// The sum of two points; `None` when one of them is not on the curve, or they cancel each other.
pub fn add(curve: Scheme, point: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    match curve {
        Scheme::EcdsaP192 => ecdsa::nist192::add(point, other),
        Scheme::EcdsaP256 => ecdsa::nist256::add(point, other),
        Scheme::EcdsaP384 => ecdsa::nist384::add(point, other),
        Scheme::Rsa3072 => None,
    }
}

/// The point that belongs to a private number; `None` when it is none.
pub fn public(curve: Scheme, number: &[u8]) -> Option<Vec<u8>> {
    match curve {
        Scheme::EcdsaP192 => ecdsa::nist192::public(number).ok(),
        Scheme::EcdsaP256 => ecdsa::nist256::public(number).ok(),
        Scheme::EcdsaP384 => ecdsa::nist384::public(number).ok(),
        Scheme::Rsa3072 => None,
    }
}

/// Signs a digest: `r‖s`, as RFC 6979 says, with `more` bytes that make it another signature.
pub fn sign(curve: Scheme, number: &[u8], digest: &[u8], more: &[u8]) -> Option<Vec<u8>> {
    match curve {
        Scheme::EcdsaP192 => ecdsa::nist192::sign_with(number, digest, more).ok(),
        Scheme::EcdsaP256 => ecdsa::nist256::sign_with(number, digest, more).ok(),
        Scheme::EcdsaP384 => ecdsa::nist384::sign_with(number, digest, more).ok(),
        Scheme::Rsa3072 => None,
    }
}

/// Whether a signature `r‖s` of a digest was made with the number of this point.
pub fn verify(curve: Scheme, point: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    match curve {
        Scheme::EcdsaP192 => ecdsa::nist192::verify(point, digest, signature),
        Scheme::EcdsaP256 => ecdsa::nist256::verify(point, digest, signature),
        Scheme::EcdsaP384 => ecdsa::nist384::verify(point, digest, signature),
        Scheme::Rsa3072 => false,
    }
}
