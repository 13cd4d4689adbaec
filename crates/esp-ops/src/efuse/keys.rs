//! Keys from files, into files; never into a result, a log or an error.

use esp_model::chip::{Chip, FlashCipher};
use esp_model::secure::flash_encryption::FlashKey;
use esp_model::secure::{PrivateKey, PublicKey, SecureError};
use zeroize::Zeroizing;

use crate::Call;
use crate::error::{Code, ToolError};

/// The bytes of a key file. Longer files are no keys.
pub fn raw(call: &Call, path: &str) -> Result<Zeroizing<Vec<u8>>, ToolError> {
    let bytes = Zeroizing::new(call.files.read_some(path)?);
    match bytes.len() {
        1..=64 => Ok(bytes),
        len => Err(ToolError::new(Code::BadKey, format!("`{path}` has {len} bytes, a raw key has at most 64"))),
    }
}

/// A private key in PEM.
pub fn private(call: &Call, path: &str) -> Result<PrivateKey, ToolError> {
    let text = Zeroizing::new(call.files.read_text(path)?);
    PrivateKey::from_pem(&text).map_err(|error| ToolError::new(Code::BadKey, format!("`{path}`: {error}")))
}

/// A public key in PEM, or the public half of a private one.
pub fn public(call: &Call, path: &str) -> Result<PublicKey, ToolError> {
    let text = Zeroizing::new(call.files.read_text(path)?);
    PublicKey::from_pem(&text).map_err(|error| ToolError::new(Code::BadKey, format!("`{path}`: {error}")))
}

/// A flash encryption key with the chip's algorithm.
pub fn flash(call: &Call, chip: &Chip, path: &str, crypt_config: u8) -> Result<FlashKey, ToolError> {
    let bytes = raw(call, path)?;
    let key = match chip.security.flash_encryption.as_ref().map(|encryption| encryption.cipher) {
        Some(FlashCipher::Esp32Aes) => FlashKey::esp32(&bytes, crypt_config),
        Some(FlashCipher::XtsAes) => FlashKey::xts(&bytes),
        None => {
            return Err(ToolError::new(Code::NotSupportedByChip, format!("the {} has no flash encryption", chip.name)));
        }
    };
    key.map_err(|error| ToolError::new(Code::BadKey, error.to_string()))
}

/// A new file that only its owner can read. An older file of this name is not overwritten: it may be the only copy.
pub fn write_new(call: &Call, path: &str, bytes: &[u8]) -> Result<String, ToolError> {
    use std::io::Write;
    if call.files.input(path).is_ok() {
        return Err(ToolError::new(Code::FileUnwritable, format!("`{path}` exists: a key file is never overwritten")));
    }
    let mut file = call.files.create(path)?;
    file.write_all(bytes).map_err(|error| ToolError::of_io(Code::FileUnwritable, format!("`{path}`"), &error))?;
    Ok(file.finish_secret()?.display().to_string())
}

/// Does something that needs random bytes. When the system has none, nothing comes of it.
pub fn with_random<T>(work: impl FnOnce(&mut dyn FnMut(&mut [u8])) -> Result<T, SecureError>) -> Result<T, ToolError> {
    let mut failed = None;
    let done = work(&mut |buffer| {
        if let Err(error) = crate::guard::confirm::random_bytes(buffer) {
            // Something that lets the work end; its result is thrown away.
            buffer.iter_mut().zip(1u8..).for_each(|(byte, number)| *byte = number);
            failed = Some(error);
        }
    });
    match failed {
        Some(error) => Err(error),
        None => done.map_err(|error| ToolError::new(Code::BadKey, error.to_string())),
    }
}
