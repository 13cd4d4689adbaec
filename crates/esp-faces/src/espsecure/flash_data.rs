//! `encrypt-flash-data` and `decrypt-flash-data`: what stands in an encrypted flash, as files.

use clap::Command;
use esp_model::secure::flash_encryption::{Direction, FlashKey};

use super::digest_secure_bootloader::{key_note, wrong_length};
use super::keys;
use crate::command::{Call, flag, option, place};
use crate::fault::Fault;
use crate::{files, text};

/// Bytes that are encrypted together.
const UNIT: usize = 16;

fn options(name: &'static str, about: &'static str, input: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(keys::keyfile("Flash encryption key"))
        .arg(option("output", "File to write").short('o').required(true))
        .arg(option("address", "Address in flash").short('a').required(true))
        .arg(option("flash-crypt-conf", "Value of FLASH_CRYPT_CONFIG (ESP32 only)").default_value("0xf"))
        .arg(flag("aes-xts", "XTS-AES, for all chips but the ESP32").short('x'))
        .arg(place(input, "File to read"))
}

pub fn spec_encrypt() -> Command {
    options("encrypt-flash-data", "Encrypt a file as the flash holds it", "plaintext-file")
}

pub fn spec_decrypt() -> Command {
    options("decrypt-flash-data", "Decrypt what was read from an encrypted flash", "encrypted-file")
}

pub fn encrypt(call: &Call<'_>) -> Result<(), Fault> {
    apply(call, Direction::Encrypt, "plaintext-file")
}

pub fn decrypt(call: &Call<'_>) -> Result<(), Fault> {
    apply(call, Direction::Decrypt, "encrypted-file")
}

fn number(call: &Call<'_>, name: &str) -> Result<u64, Fault> {
    let value = call.text(name);
    text::integer(value)
        .ok_or_else(|| Fault::value(&format!("--{name}"), format_args!("'{value}' is not a valid integer.")))
}

fn apply(call: &Call<'_>, direction: Direction, input: &str) -> Result<(), Fault> {
    let (path, output, keyfile) = (call.text(input), call.text("output"), call.text("keyfile"));
    let (address, config) = (number(call, "address")?, number(call, "flash-crypt-conf")?);
    files::distinct(path, output)?;
    files::distinct(keyfile, output)?;
    let mut data = files::read(path, &input.to_uppercase())?;
    let key = flash_key(call, &files::read(keyfile, "--keyfile' / '-k")?, config)?;
    if !address.is_multiple_of(UNIT as u64) {
        return Err(Fault::Fatal(format!("Starting flash address {address:#x} must be a multiple of 16.")));
    }
    if !call.has("aes-xts") && config == 0 {
        call.terminal.warn("Setting FLASH_CRYPT_CONF to zero is not recommended.");
    }
    pad(call, direction, &mut data)?;
    key.apply(direction, address, &mut data).map_err(Fault::fatal)?;
    files::write(output, &data)
}

/// Checks the key's length for its algorithm and says which is used.
fn flash_key(call: &Call<'_>, key: &[u8], config: u64) -> Result<FlashKey, Fault> {
    let bits = key.len() * 8;
    match (key.len(), call.has("aes-xts")) {
        (16 | 32 | 64, true) | (24 | 32, false) => {}
        (24, true) => {
            let text = format!("AES_XTS supports only 128, 256, and 512-bit keys. Provided key is {bits} bits.");
            return Err(Fault::Fatal(text));
        }
        (16 | 64, false) => {
            let text = format!(
                "ESP32 supports only 192 and 256-bit keys. Provided key is {bits} bits. Use --aes_xts for other chips."
            );
            return Err(Fault::Fatal(text));
        }
        (length, _) => return Err(wrong_length(length)),
    }
    call.terminal.say(key_note(key.len()));
    let key = if call.has("aes-xts") { FlashKey::xts(key) } else { FlashKey::esp32(key, (config & 0xf) as u8) };
    key.map_err(Fault::fatal)
}

/// The ESP32's scheme fills the last unit with random bytes; the other takes whole units only.
fn pad(call: &Call<'_>, direction: Direction, data: &mut Vec<u8>) -> Result<(), Fault> {
    let missing = data.len().next_multiple_of(UNIT) - data.len();
    if call.has("aes-xts") {
        if missing > 0 {
            return Err(Fault::Fatal(format!("Input data length ({}) must be a multiple of 16.", data.len())));
        }
        return if data.is_empty() { Err(Fault::fatal("Input data must be longer than 0.")) } else { Ok(()) };
    }
    if missing == 0 {
        return Ok(());
    }
    if direction == Direction::Decrypt {
        return Err(Fault::fatal("Data length is not a multiple of 16 bytes."));
    }
    let mut padding = [0; UNIT];
    keys::random(&mut padding);
    data.extend(padding.iter().take(missing));
    let text =
        format!("Padding with {missing} bytes of random data (encrypted data must be multiple of 16 bytes long).");
    call.terminal.say(text);
    Ok(())
}
