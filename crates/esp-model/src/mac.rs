//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex;

/// A MAC address (EUI-48), first byte first as it goes over the air. A chip's base MAC says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not six bytes in hexadecimal, separated by `:`, by `-` or by nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address of six bytes")]
pub struct NotMac(pub String);

impl Mac {
    /// A multicast or broadcast address, which no device has as its own (IEEE 802: lowest bit of the first byte).
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The CRC8 that the ESP32 keeps beside its MAC addresses: polynomial 0x31 reflected, seed 0 (ESP-IDF,
    /// `esp_efuse_utility` / `esp_crc8`).
    pub fn crc8(self) -> u8 {
        let bit = |crc: u8, _| if crc & 1 == 1 { (crc >> 1) ^ 0x8c } else { crc >> 1 };
        self.0.into_iter().fold(0, |crc, byte| (0..8).fold(crc ^ byte, bit))
    }

    /// The address `n` behind this one, counted in the last byte, as ESP-IDF derives those of a chip's interfaces
    /// (docs, "Miscellaneous System APIs").
    pub fn plus(mut self, n: u8) -> Self {
        self.0[5] = self.0[5].wrapping_add(n);
        self
    }

    /// Last byte first, as eFuses hold it.
    pub fn reversed(self) -> [u8; 6] {
        let mut bytes = self.0;
        bytes.reverse();
        bytes
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::joined(self.0, ":"))
    }
}

impl FromStr for Mac {
    type Err = NotMac;

    fn from_str(text: &str) -> Result<Self, NotMac> {
        read(text).map(Self).ok_or_else(|| NotMac(text.into()))
    }
}

impl TryFrom<String> for Mac {
    type Error = NotMac;

    fn try_from(text: String) -> Result<Self, NotMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

fn read(text: &str) -> Option<[u8; 6]> {
    let digits = match text.len() {
        12 => text.as_bytes().to_vec(),
        17 => {
            let separator = text.chars().nth(2).filter(|mark| matches!(mark, ':' | '-'))?;
            let parts: Vec<&str> = text.split(separator).collect();
            if parts.len() != 6 || parts.iter().any(|part| part.len() != 2) {
                return None;
            }
            parts.concat().into_bytes()
        }
        _ => return None,
    };
    let digit = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
    let digits = digits.iter().map(digit).collect::<Option<Vec<u8>>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_one_address() {
        for text in ["24:0a:c4:00:11:22", "24-0A-C4-00-11-22", "240ac4001122"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "24:0a:c4:00:11:22");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "24:0a:c4", "24:0a:c4:00:11:2g", "24:0a-c4:00:11:22", "+40ac4001122", "24:0a:c4:00:11:2é"] {
            assert_eq!(text.parse::<Mac>(), Err(NotMac(text.into())));
        }
    }
}
