//! Values of the CSV form: from text and encoding to what is stored.

use std::borrow::Cow;

use super::Value;
use crate::literal;

/// A value cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The row is too short.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The key has more than 15 characters.
    #[error("the key is longer than 15 characters")]
    KeyLength,
    /// Not an encoding.
    #[error("unknown encoding {0:?}")]
    Encoding(String),
    /// Not a whole number.
    #[error("{0:?} is not a whole number")]
    Number(String),
    /// The number does not fit the type.
    #[error("{1} does not fit {0}")]
    Range(&'static str, i128),
    /// Not pairs of hexadecimal digits.
    #[error("the value is not pairs of hexadecimal digits")]
    Hex,
    /// Not Base64.
    #[error("the value is not valid Base64")]
    Base64,
    /// Not UTF-8.
    #[error("the file is not UTF-8 text, which a string must be")]
    Text,
    /// The value is longer than the length that the encoding names.
    #[error("the value is longer than the {0} bytes that its encoding names")]
    FillLength(u64),
    /// Longer than the format allows.
    #[error("{length} bytes are more than the {longest} that one item can have")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        longest: usize,
    },
    /// More than 255 chunks.
    #[error("the blob needs more than 255 chunks")]
    Chunks,
    /// More than 255 namespaces.
    #[error("more than 255 namespaces")]
    Namespaces,
    /// The image is full.
    #[error("the data does not fit into the partition")]
    Full,
    /// The value's text takes more room than the format sets aside for it.
    #[error("the text takes more bytes than characters and does not fit its page; encode it as hex2bin or base64")]
    Spill,
    /// A file could not be read.
    #[error("file {path:?}: {reason}")]
    File {
        /// Its name.
        path: String,
        /// What the reader said.
        reason: String,
    },
}

/// What a row holds before it is encoded.
#[derive(Debug, Clone)]
pub(super) enum Raw<'a> {
    /// The text of the column, if the row has it.
    Text(Option<&'a str>),
    /// A file's bytes.
    File(Vec<u8>),
}

/// What is to be stored.
#[derive(Debug)]
pub(super) enum Payload {
    /// A number.
    Number(Value),
    /// A string with its final zero.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text stored as a blob. The reference counts it in characters.
    Characters(String),
}

/// Encodes a row's value. `room` bounds the memory that a fill encoding may ask for, in bytes.
pub(super) fn encode(encoding: &str, raw: Raw, room: u64) -> Result<Payload, ValueError> {
    if encoding.starts_with("blob_fill") || encoding.starts_with("blob_sz_fill") {
        return fill(encoding, &raw, room).map(Payload::Bytes);
    }
    match encoding {
        "hex2bin" => return hex(&present(&raw)?).map(Payload::Bytes),
        // Text outside ASCII is refused; in a file such bytes are skipped.
        "base64" if matches!(&raw, Raw::Text(Some(text)) if !text.is_ascii()) => return Err(ValueError::Base64),
        "base64" => return base64(&present(&raw)?).map(Payload::Bytes),
        "string" => {
            let mut text = text(raw)?;
            text.push('\0');
            return Ok(Payload::String(text));
        }
        _ => {}
    }
    // In other spellings the text is stored as it is: without a final zero, or undecoded.
    let usual = encoding.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let name: Cow<str> = if usual { encoding.into() } else { encoding.to_lowercase().into() };
    match &*name {
        "string" => match raw {
            Raw::Text(text) => text.map(|text| Payload::String(text.to_owned())).ok_or(ValueError::Missing("value")),
            Raw::File(_) => Err(ValueError::Text),
        },
        "binary" | "hex2bin" | "base64" => match raw {
            Raw::Text(text) => {
                text.map(|text| Payload::Characters(text.to_owned())).ok_or(ValueError::Missing("value"))
            }
            Raw::File(bytes) => Ok(Payload::Bytes(bytes)),
        },
        name => number(name, encoding, &present(&raw)?).map(Payload::Number),
    }
}

/// Encodes one value as a row of the CSV form would: `kind` is `data` or `file`, `text` the value or the file's name.
pub fn encode_value(encoding: &str, kind: &str, text: &str, files: &mut super::Source) -> Result<Value, ValueError> {
    let raw = if kind == "file" {
        let bytes = files(text).map_err(|reason| ValueError::File { path: text.to_owned(), reason })?;
        Raw::File(bytes)
    } else {
        Raw::Text(Some(text))
    };
    Ok(match encode(encoding, raw, super::LARGEST)? {
        Payload::Number(value) => value,
        Payload::String(text) => Value::Text(text.strip_suffix('\0').map(str::to_owned).unwrap_or(text)),
        Payload::Bytes(bytes) => Value::Blob(bytes),
        Payload::Characters(text) => Value::Blob(text.into_bytes()),
    })
}

fn present<'a>(raw: &'a Raw) -> Result<Cow<'a, [u8]>, ValueError> {
    match raw {
        Raw::Text(text) => text.map(|text| text.as_bytes().into()).ok_or(ValueError::Missing("value")),
        Raw::File(bytes) => Ok(bytes.into()),
    }
}

fn text(raw: Raw) -> Result<String, ValueError> {
    match raw {
        Raw::Text(text) => text.map(str::to_owned).ok_or(ValueError::Missing("value")),
        Raw::File(bytes) => String::from_utf8(bytes).map_err(|_| ValueError::Text),
    }
}

fn number(kind: &str, given: &str, text: &[u8]) -> Result<Value, ValueError> {
    let shown = || String::from_utf8_lossy(text).into_owned();
    let parse = || {
        let text = std::str::from_utf8(text).ok()?;
        literal::integer(text, 10)
    };
    macro_rules! fit {
        ($name:literal, $variant:ident) => {{
            let value = parse().ok_or_else(|| ValueError::Number(shown()))?;
            value.try_into().map(Value::$variant).map_err(|_| ValueError::Range($name, value))
        }};
    }
    match kind {
        "u8" => fit!("u8", U8),
        "i8" => fit!("i8", I8),
        "u16" => fit!("u16", U16),
        "i16" => fit!("i16", I16),
        "u32" => fit!("u32", U32),
        "i32" => fit!("i32", I32),
        "u64" => fit!("u64", U64),
        "i64" => fit!("i64", I64),
        _ => Err(ValueError::Encoding(given.to_owned())),
    }
}

/// Pairs of hexadecimal digits, with white space around them.
fn hex(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let text = literal::trim(std::str::from_utf8(text).map_err(|_| ValueError::Hex)?);
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8).ok_or(ValueError::Hex);
    let (pairs, tail) = text.as_bytes().as_chunks::<2>();
    if !tail.is_empty() {
        return Err(ValueError::Hex);
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Base64 as Python's `binascii.a2b_base64` reads it: what is not of the alphabet is skipped, and the first complete
/// padding ends the data.
fn base64(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut place, mut left, mut pads) = (0u8, 0u8, 0u8);
    for byte in text {
        if *byte == b'=' {
            pads = pads.saturating_add(u8::from(place >= 2));
            if place >= 2 && place + pads >= 4 {
                return Ok(out);
            }
            continue;
        }
        let Some(bits) = base64_digit(*byte) else { continue };
        pads = 0;
        match place {
            0 => {}
            1 => out.push(left << 2 | bits >> 4),
            2 => out.push(left << 4 | bits >> 2),
            _ => out.push(left << 6 | bits),
        }
        left = bits & [0x3f, 0x0f, 0x03, 0][usize::from(place)];
        place = (place + 1) % 4;
    }
    if place == 0 { Ok(out) } else { Err(ValueError::Base64) }
}

fn base64_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// `blob_fill(LENGTH;0xNN)` and `blob_sz_fill(LENGTH;0xNN)`: the value, filled up; the second with its length in front.
fn fill(encoding: &str, raw: &Raw, room: u64) -> Result<Vec<u8>, ValueError> {
    let (sized, length, filler) = fill_form(encoding).ok_or_else(|| ValueError::Encoding(encoding.to_owned()))?;
    let value: &[u8] = match raw {
        Raw::Text(text) => text.unwrap_or_default().as_bytes(),
        Raw::File(bytes) if bytes.is_empty() => &[],
        Raw::File(_) => return Err(ValueError::Encoding(encoding.to_owned())),
    };
    if value.len() as u64 > length {
        return Err(ValueError::FillLength(length));
    }
    let length = usize::try_from(length).ok().filter(|_| length <= room).ok_or(ValueError::Full)?;
    let mut out = Vec::with_capacity(length + 4);
    if sized {
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    out.extend_from_slice(value);
    out.resize(length + if sized { 4 } else { 0 }, filler);
    Ok(out)
}

fn fill_form(encoding: &str) -> Option<(bool, u64, u8)> {
    let (sized, rest) = match encoding.strip_prefix("blob_sz_fill(") {
        Some(rest) => (true, rest),
        None => (false, encoding.strip_prefix("blob_fill(")?),
    };
    let (length, rest) = rest.split_once(';')?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (filler, _) = rest.strip_prefix("0x")?.split_once(')')?;
    let hex = filler.len() == 2 && filler.bytes().all(|byte| byte.is_ascii_hexdigit());
    let filler = if hex { u8::from_str_radix(filler, 16).ok()? } else { return None };
    Some((sized, length.parse().unwrap_or(u64::MAX), filler))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_lenient_like_python() {
        assert_eq!(base64(b"MTIzYWJj").as_deref(), Ok(&b"123abc"[..]));
        assert_eq!(base64(b"MTI\n z YQ==ignored").as_deref(), Ok(&b"123a"[..]));
        assert_eq!(base64(b"MTI=").as_deref(), Ok(&b"12"[..]));
        assert_eq!(base64(b"MT"), Err(ValueError::Base64));
        assert_eq!(base64(b"M"), Err(ValueError::Base64));
        assert_eq!(base64(b"=").as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn fills() {
        let text = |text: &'static str| Raw::Text(Some(text));
        assert_eq!(fill("blob_fill(4;0xaA)", &text("ab"), 99).as_deref(), Ok(&b"ab\xaa\xaa"[..]));
        assert_eq!(fill("blob_sz_fill(3;0x00)tail", &text("ab"), 99).as_deref(), Ok(&b"\x02\0\0\0ab\0"[..]));
        assert_eq!(fill("blob_fill(1;0xff)", &text("ab"), 99), Err(ValueError::FillLength(1)));
        assert_eq!(fill("blob_fill(4000000000;0xff)", &text(""), 99), Err(ValueError::Full));
        assert!(fill("blob_fill(4;aa)", &text(""), 99).is_err());
    }
}
