//! A field's value as people write it.

use super::request::{BurnError, Request};
use super::state::Efuses;
use super::{Field, FieldKind};
use crate::literal;
use crate::mac::Mac;

/// Why a text is no value of a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No field of this name.
    #[error("this chip has no eFuse {0:?}")]
    Unknown(String),
    /// Not a number. The text is not repeated: it may be half a key.
    #[error("{0}: the value is not a number")]
    NoNumber(String),
    /// Not hexadecimal digits in pairs.
    #[error("{0}: the value is not made of pairs of hexadecimal digits")]
    NoHex(String),
    /// Not six bytes in hexadecimal with separators.
    #[error("{0}: the value is not a MAC address")]
    NoMac(String),
    /// No purpose of this name.
    #[error("{name}: this chip has no key purpose {purpose:?}")]
    NoPurpose {
        /// The field.
        name: String,
        /// The purpose asked for.
        purpose: String,
    },
    /// The value cannot be left out.
    #[error("{0}: a value is needed")]
    Missing(String),
}

/// What has to be burned for a field's value given as text; left out it is the next bit of a flag or of a field whose
/// set bits count.
///
/// A number is decimal or has a prefix; bytes are hexadecimal, first byte first, or with `0x` as one number; purposes
/// go by name or number; addresses are `aa:bb:cc:dd:ee:ff`.
pub fn request(efuses: &Efuses, name: &str, text: Option<&str>) -> Result<Request, TextError> {
    let field = efuses.table.field(name).ok_or_else(|| TextError::Unknown(name.into()))?;
    let name = field.name.clone();
    let Some(text) = text.map(str::trim) else {
        return match field.kind {
            FieldKind::Flag | FieldKind::Number if field.len() == 1 => Ok(Request::Field { name, value: vec![1] }),
            FieldKind::BitCount => Ok(Request::NextBit { name }),
            _ => Err(TextError::Missing(name)),
        };
    };
    let value = match field.kind {
        FieldKind::Mac => text.parse::<Mac>().map_err(|_| TextError::NoMac(name.clone()))?.0.to_vec(),
        FieldKind::Bytes | FieldKind::Key => hex(text).ok_or_else(|| TextError::NoHex(name.clone()))?,
        _ => number(efuses, field, text)?,
    };
    Ok(Request::Field { name, value })
}

fn number(efuses: &Efuses, field: &Field, text: &str) -> Result<Vec<u8>, TextError> {
    if efuses.is_purpose(&field.name)
        && let Some(purpose) = efuses.table.purpose(text)
    {
        let wanted = || TextError::NoPurpose { name: field.name.clone(), purpose: text.into() };
        return Ok(vec![purpose.value.ok_or_else(wanted)?]);
    }
    match literal::quantity(text) {
        Some(number) => Ok(number.to_le_bytes().to_vec()),
        None if efuses.is_purpose(&field.name) => {
            Err(TextError::NoPurpose { name: field.name.clone(), purpose: text.into() })
        }
        None => Err(TextError::NoNumber(field.name.clone())),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let plain = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> = plain.bytes().filter(|letter| !matches!(letter, b' ' | b':')).collect();
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((char::from(*high).to_digit(16)? << 4 | char::from(*low).to_digit(16)?) as u8),
        _ => None,
    };
    let mut bytes = digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>()?;
    // As one number, the highest byte comes first.
    if text.starts_with("0x") {
        bytes.reverse();
    }
    Some(bytes)
}

/// The private key of an ECDSA purpose as a key block takes it: the scalar, filled up in front to whole blocks.
pub fn ecdsa_key(scalar: &[u8]) -> Vec<u8> {
    let mut padded = vec![0; scalar.len().next_multiple_of(32) - scalar.len()];
    padded.extend_from_slice(scalar);
    padded
}

impl From<TextError> for BurnError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Unknown(name) => Self::Unknown(name),
            TextError::NoPurpose { purpose, .. } => Self::UnknownPurpose(purpose),
            other => Self::BadValue(other.to_string()),
        }
    }
}
