//! `digest-private-key`: the symmetric key that reflashable secure boot V1 derives from the signing key.

use clap::Command;
use esp_model::secure::PrivateKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::keys;
use crate::command::{Call, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("digest-private-key")
        .about("Write the SHA-256 digest of a private signing key")
        .arg(keys::keyfile("Private key in PEM format"))
        .arg(keys::keylen())
        .arg(place("digest-file", "File to write"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (path, output) = (call.text("keyfile"), call.text("digest-file"));
    files::distinct(path, output)?;
    let bits = keys::bits(call.text("keylen"))?;
    let text = files::read(path, "--keyfile' / '-k")?;
    let wrong = || Fault::fatal("Incorrect ECDSA private key specified. Please check algorithm and/or format.");
    let key = PrivateKey::from_pem(&String::from_utf8_lossy(&text)).map_err(|_| wrong())?;
    let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key.scalar().ok_or_else(wrong)?)));
    let (length, note) = if bits == 192 { (24, " (truncated to 192 bits)") } else { (32, "") };
    files::write_secret(output, digest.get(..length).unwrap_or_default())?;
    call.terminal.say(format_args!("SHA-256 digest of private key \"{path}\"{note} written to \"{output}\"."));
    Ok(())
}
