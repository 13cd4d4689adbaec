//! Key files, randomness, and the options that several commands share.

use clap::Arg;
use esp_model::secure::{PrivateKey, PublicKey, Scheme, SecureError};

use crate::command::option;
use crate::fault::Fault;
use crate::files;

/// `--version`, of secure boot.
pub fn version() -> Arg {
    option("version", "Secure boot version").short('v').value_parser(["1", "2"])
}

/// `--keyfile`, one file that must be given.
pub fn keyfile(help: &'static str) -> Arg {
    option("keyfile", help).short('k').required(true).value_name("FILE")
}

/// `--keylen`, in bits.
pub fn keylen() -> Arg {
    option("keylen", "Length in bits; 192 for a chip with 3/4 coding").short('l').default_value("256")
}

/// The bits of `--keylen`.
pub fn bits(text: &str) -> Result<usize, Fault> {
    text.parse().map_err(|_| Fault::value("--keylen' / '-l", format_args!("'{text}' is not a valid integer.")))
}

/// The system's source of randomness. It does not fail on a running system; if it does, nothing may be made with it.
pub fn random(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        // Keys of zeros would be worse than no program.
        std::process::abort();
    }
}

/// The text of a key file.
fn pem(path: &str, option: &str) -> Result<String, Fault> {
    Ok(String::from_utf8_lossy(&files::read(path, option)?).into_owned())
}

/// A private key for version 2.
pub fn private(path: &str) -> Result<PrivateKey, Fault> {
    PrivateKey::from_pem(&pem(path, "--keyfile' / '-k")?).map_err(|error| match error {
        SecureError::RsaSize { bits } => {
            Fault::Fatal(format!("Key file has length {bits} bits. Secure boot v2 only supports RSA-3072."))
        }
        SecureError::NotAKey => Fault::fatal("Unsupported signing key for Secure Boot V2."),
        error => Fault::fatal(format_args!("Error loading private key: {error}")),
    })
}

/// A private key for version 1: P-256 only.
pub fn private_v1(path: &str) -> Result<PrivateKey, Fault> {
    let key = PrivateKey::from_pem(&pem(path, "--keyfile' / '-k")?)
        .map_err(|_| Fault::fatal("Incorrect ECDSA private key specified. Please check algorithm and/or format."))?;
    if key.scheme() != Scheme::EcdsaP256 {
        let text = "Signing key uses incorrect curve. ESP32 Secure Boot only supports NIST256p (openssl calls this curve 'prime256v1')";
        return Err(Fault::fatal(text));
    }
    Ok(key)
}

/// The public half of a key file for version 2, whichever half it holds.
pub fn public(path: &str, option: &str) -> Result<PublicKey, Fault> {
    PublicKey::from_pem(&pem(path, option)?).map_err(|error| match error {
        SecureError::RsaSize { bits } => {
            Fault::Fatal(format!("Key file has length {bits} bits. Secure boot v2 only supports RSA-3072."))
        }
        _ => Fault::fatal("Unsupported public key for Secure Boot V2."),
    })
}

/// The public half of a key file for version 1: PEM, or the 64 bytes that a bootloader is compiled with.
pub fn public_v1(path: &str) -> Result<PublicKey, Fault> {
    let bytes = files::read(path, "--keyfile' / '-k")?;
    let text = String::from_utf8_lossy(&bytes);
    let key = match <&[u8; 64]>::try_from(bytes.as_slice()) {
        Ok(raw) if !text.contains("-BEGIN ") => PublicKey::from_raw_p256(raw),
        _ => PublicKey::from_pem(&text).map_err(|_| {
            let text = "Verification key does not appear to be an EC key in PEM format or binary EC public key data. Unsupported.";
            Fault::fatal(text)
        })?,
    };
    if key.scheme() != Scheme::EcdsaP256 {
        let text = "Public key uses incorrect curve. ESP32 Secure Boot only supports NIST256p (openssl calls this curve 'prime256v1').";
        return Err(Fault::fatal(text));
    }
    Ok(key)
}

/// The family of a scheme, as the texts name it.
pub fn family(scheme: Scheme) -> &'static str {
    if scheme == Scheme::Rsa3072 { "RSA" } else { "ECDSA" }
}
