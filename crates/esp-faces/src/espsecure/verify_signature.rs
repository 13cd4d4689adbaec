//! `verify-signature`: an image is signed by a key.

use clap::Command;
use esp_model::hex;
use esp_model::secure::block::{BLOCKS, SignatureBlock};
use esp_model::secure::{PublicKey, SECTOR, SecureError, boot_v1, boot_v2};

use super::{hsm, keys};
use crate::command::{Call, flag, option, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("verify-signature")
        .about("Verify that an image is signed by a key")
        .arg(keys::version().required(true))
        .args(hsm::options())
        .arg(option("keyfile", "Public or private key in PEM format; for version 1 also 64 raw bytes").short('k'))
        .arg(flag("skip-padding", "The image need not be padded to a sector"))
        .arg(place("datafile", "Signed image"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let data = files::read(call.text("datafile"), "DATAFILE")?;
    if call.has("hsm") && call.text("version") != "1" {
        let key = hsm::public_key(call, &hsm::settings(call)?)?;
        return version_2(call, &key, &data);
    }
    let path = call.optional("keyfile").ok_or_else(|| Fault::Usage("Missing option '--keyfile' / '-k'.".into()))?;
    match call.text("version") {
        "1" => version_1(call, path, &data),
        _ => version_2(call, &keys::public(path, "--keyfile' / '-k")?, &data),
    }
}

fn version_1(call: &Call<'_>, path: &str, data: &[u8]) -> Result<(), Fault> {
    let key = keys::public_v1(path)?;
    call.terminal.say(format_args!("Verifying {} bytes of data...", data.len().saturating_sub(68)));
    boot_v1::verify(data, &key).map_err(|error| match error {
        SecureError::SignatureVersion(version) => Fault::Fatal(format!(
            "Signature block has version {version}. This version of espsecure only supports version 0."
        )),
        SecureError::BadSignature => Fault::fatal("Signature is not valid."),
        error => Fault::fatal(error),
    })?;
    call.terminal.say("Signature is valid.");
    Ok(())
}

fn version_2(call: &Call<'_>, key: &PublicKey, data: &[u8]) -> Result<(), Fault> {
    length(data, call.has("skip-padding"))?;
    let family = keys::family(key.scheme());
    let checked = boot_v2::check(data).map_err(Fault::fatal)?;
    let mut valid = false;
    for index in 0..BLOCKS {
        let Some(one) = checked.iter().find(|one| one.index == index) else {
            call.terminal.say(format_args!("Signature block {index} invalid. Skipping."));
            continue;
        };
        say_valid(call, index, &one.block);
        if !one.content_fits {
            let content = boot_v2::content(data).map_err(Fault::fatal)?;
            let actual = hex::encode(one.block.scheme().digest(content));
            let expected = hex::encode(one.block.image_digest());
            return Err(Fault::Fatal(format!(
                "Signature block image digest does not match the actual image digest {actual}. Expected {expected}."
            )));
        }
        let signed = one.block.scheme() == key.scheme() && key.verify(one.block.image_digest(), &one.block.signature());
        valid |= signed;
        let text = if signed {
            format!("Signature block {index} verification successful using the supplied key ({family}).")
        } else {
            format!("Signature block {index} is not signed by the supplied key. Checking the next block...")
        };
        call.terminal.say(text);
    }
    if valid {
        return Ok(());
    }
    Err(Fault::fatal("Checked all blocks. Signature could not be verified with the provided key."))
}

/// A signed image ends with a whole sector of signatures.
pub fn length(data: &[u8], unpadded: bool) -> Result<(), Fault> {
    if unpadded && data.len() < SECTOR {
        return Err(Fault::fatal("Invalid datafile. File too small (must be at least 4096 bytes)."));
    }
    if !unpadded && (data.len() < SECTOR || !data.len().is_multiple_of(SECTOR)) {
        return Err(Fault::fatal("Invalid datafile. Data size should be non-zero & a multiple of 4096."));
    }
    Ok(())
}

/// Says that a block looks right.
pub fn say_valid(call: &Call<'_>, index: usize, block: &SignatureBlock) {
    call.terminal.say(format_args!("Signature block {index} is valid ({}).", keys::family(block.scheme())));
}
