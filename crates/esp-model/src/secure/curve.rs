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
