//! `digest-secure-bootloader`: the ESP32's secure boot V1 digest and the bootloader as one file for address 0.

use clap::Command;
use esp_model::secure::boot_v1;

use super::keys;
use crate::command::{Call, option, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("digest-secure-bootloader")
        .about("Combine a bootloader with its secure boot V1 digest")
        .arg(keys::keyfile("Key of the secure boot digest, as it stands in the eFuse block"))
        .arg(option("output", "File to write").short('o'))
        .arg(option("iv", "File of 128 bytes to start with instead of random ones; for tests only"))
        .arg(place("image", "Bootloader"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (image, keyfile) = (call.text("image"), call.text("keyfile"));
    let default = format!("{}-digest-0x0000.bin", image.rsplit_once('.').map_or(image, |(stem, _)| stem));
    let output = call.optional("output").unwrap_or(&default);
    for input in [Some(keyfile), Some(image), call.optional("iv")].into_iter().flatten() {
        files::distinct(input, output)?;
    }
    let key = files::read(keyfile, "--keyfile' / '-k")?;
    let content = files::read(image, "IMAGE")?;
    if content.first() != Some(&0xe9) {
        return Err(Fault::fatal(format_args!("Invalid image magic number: {:#x}", content.first().unwrap_or(&0))));
    }
    let iv = match call.optional("iv") {
        Some(path) => given_iv(call, path)?,
        None => {
            let mut iv = vec![0; boot_v1::IV];
            keys::random(&mut iv);
            iv
        }
    };
    let digested = boot_v1::digest_bootloader(&content, &key, &iv).map_err(|_| wrong_length(key.len()))?;
    call.terminal.say(key_note(key.len()));
    files::write(output, &digested)?;
    call.terminal.say(format_args!("Digest + image written to \"{output}\""));
    Ok(())
}

/// A start value that is not random. A short one makes what no ROM reads, as espsecure does.
fn given_iv(call: &Call<'_>, path: &str) -> Result<Vec<u8>, Fault> {
    call.terminal.warn("--iv argument is for TESTING PURPOSES ONLY");
    let mut iv = files::read(path, "--iv")?;
    iv.truncate(boot_v1::IV);
    if iv.is_empty() || !iv.len().is_multiple_of(16) {
        return Err(Fault::Fatal(format!("{path} has {} bytes, an IV has {}", iv.len(), boot_v1::IV)));
    }
    if iv.len() < boot_v1::IV {
        call.terminal.warn(format_args!(
            "no chip reads a digest with an IV of {} bytes: it has {}",
            iv.len(),
            boot_v1::IV
        ));
    }
    Ok(iv)
}

/// No command takes a key of this length.
pub fn wrong_length(bytes: usize) -> Fault {
    Fault::Fatal(format!("Key file contains wrong length ({bytes} bytes), 16, 24, 32 or 64 expected."))
}

/// Which key is used.
pub fn key_note(bytes: usize) -> String {
    let extended = if bytes < 32 { " (extended)" } else { "" };
    format!("Using {}-bit key{extended}.", bytes * 8)
}
