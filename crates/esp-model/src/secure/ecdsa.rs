//! ECDSA over the three NIST curves that secure boot knows, on raw bytes: scalars, points `x‖y` and signatures
//! `r‖s`, all big-endian.
//!
//! Signing is deterministic (RFC 6979), so a bad source of randomness cannot leak the key. The `p192` crate only
//! verifies, by its authors' policy; ESP32-H2 and others do boot with P-192, so the generic primitive signs for it.

use ::ecdsa::hazmat;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use zeroize::Zeroizing;

use super::SecureError;

/// The operations on one curve. A macro because the generic bounds of the curve crates would need stating on each.
macro_rules! curve {
    ($name:ident, $krate:ident, $curve:ident, $digest:ty) => {
        pub(super) mod $name {
            use super::*;

            type Key = p256::elliptic_curve::SecretKey<$krate::$curve>;
            type Point = p256::elliptic_curve::PublicKey<$krate::$curve>;

            fn key(scalar: &[u8]) -> Result<Key, SecureError> {
                Key::from_slice(scalar).map_err(|_| SecureError::Broken("scalar out of range"))
            }

            fn point(xy: &[u8]) -> Result<Point, SecureError> {
                let mut sec1 = vec![4];
                sec1.extend_from_slice(xy);
                Point::from_sec1_bytes(&sec1).map_err(|_| SecureError::Broken("point is not on the curve"))
            }

            fn coordinates(point: &Point) -> Vec<u8> {
                point.to_sec1_point(false).as_bytes().get(1..).unwrap_or_default().to_vec()
            }

            pub fn is_scalar(scalar: &[u8]) -> bool {
                key(scalar).is_ok()
            }

            pub fn public(scalar: &[u8]) -> Result<Vec<u8>, SecureError> {
                Ok(coordinates(&key(scalar)?.public_key()))
            }

            pub fn sign(scalar: &[u8], digest: &[u8]) -> Result<Vec<u8>, SecureError> {
                sign_with(scalar, digest, &[])
            }

            pub fn sign_with(scalar: &[u8], digest: &[u8], more: &[u8]) -> Result<Vec<u8>, SecureError> {
                let key = key(scalar)?.to_nonzero_scalar();
                let (signature, _) = hazmat::sign_prehashed_rfc6979::<$krate::$curve, $digest>(&key, digest, more);
                Ok(signature.to_bytes().to_vec())
            }

            pub fn verify(xy: &[u8], digest: &[u8], signature: &[u8]) -> bool {
                let Ok(point) = point(xy) else { return false };
                let Ok(signature) = $krate::ecdsa::Signature::from_slice(signature) else { return false };
                hazmat::verify_prehashed(&point.to_projective(), digest, &signature).is_ok()
            }

            pub fn contains(xy: &[u8]) -> bool {
                point(xy).is_ok()
            }

            pub fn multiply(scalar: &[u8], xy: &[u8]) -> Option<Vec<u8>> {
                let product = point(xy).ok()?.to_projective() * *key(scalar).ok()?.to_nonzero_scalar();
                Some(coordinates(&Point::from_affine(product.to_affine()).ok()?))
            }

            pub fn add(xy: &[u8], other: &[u8]) -> Option<Vec<u8>> {
                let sum = point(xy).ok()?.to_projective() + point(other).ok()?.to_projective();
                Some(coordinates(&Point::from_affine(sum.to_affine()).ok()?))
            }

            pub fn signature_from_der(der: &[u8]) -> Option<Vec<u8>> {
                $krate::ecdsa::Signature::from_der(der).ok().map(|signature| signature.to_bytes().to_vec())
            }

            pub fn private_from_pem(text: &str) -> Option<Zeroizing<Vec<u8>>> {
                Key::from_pem(text).ok().map(|key| Zeroizing::new(key.to_bytes().to_vec()))
            }

            pub fn private_to_pem(scalar: &[u8]) -> Result<Zeroizing<String>, SecureError> {
                key(scalar)?.to_sec1_pem(LineEnding::LF).map_err(|_| SecureError::Broken("cannot be encoded"))
            }

            pub fn public_from_pem(text: &str) -> Option<Vec<u8>> {
                Point::from_public_key_pem(text).ok().map(|point| coordinates(&point))
            }

            pub fn public_to_pem(xy: &[u8]) -> Result<String, SecureError> {
                point(xy)?.to_public_key_pem(LineEnding::LF).map_err(|_| SecureError::Broken("cannot be encoded"))
            }
        }
    };
}

curve!(nist192, p192, NistP192, sha2::Sha256);
curve!(nist256, p256, NistP256, sha2::Sha256);
curve!(nist384, p384, NistP384, sha2::Sha384);
