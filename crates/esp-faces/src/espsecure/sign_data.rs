//! `sign-data`: sign an image, add signatures to a signed one, or attach signatures that were made elsewhere.

use std::path::Path;

use clap::{Arg, ArgAction, Command};
use esp_model::secure::block::BLOCKS;
use esp_model::secure::boot_v2::{self, Padding};
use esp_model::secure::{PrivateKey, PublicKey, SECTOR, SecureError, boot_v1};

use super::{hsm, keys, verify_signature};
use crate::command::{Call, flag, option, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    let files = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).num_args(1..).action(ArgAction::Append).value_name("FILE")
    };
    Command::new("sign-data")
        .about("Sign an image for secure boot")
        .arg(keys::version().required(true))
        .arg(files("keyfile", "Private key in PEM format; up to three for version 2").short('k'))
        .arg(option("output", "File to write (default: the input)").short('o'))
        .arg(flag("append-signatures", "Add signatures to an image that is signed already").short('a'))
        .args(hsm::options())
        .arg(files("pub-key", "Public keys of signatures that were made elsewhere"))
        .arg(files("signature", "Signatures that were made elsewhere"))
        .arg(flag("skip-padding", "Do not pad the image to a sector"))
        .arg(place("datafile", "Image"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let path = call.text("datafile");
    let data = files::read(path, "DATAFILE")?;
    for option in ["keyfile", "pub-key", "signature"] {
        for path in call.list(option) {
            if !Path::new(path).is_file() {
                return Err(Fault::value(&format!("--{option}"), format_args!("'{path}': No such file or directory")));
            }
        }
    }
    let output = call.optional("output").unwrap_or(path);
    if call.text("version") == "1" {
        let signed = version_1(call, &data)?;
        files::write(output, &signed)?;
        call.terminal.say(format_args!("Signed {} bytes of data from \"{path}\".", data.len()));
        return Ok(());
    }
    let signed = version_2(call, &data)?;
    files::write(output, &signed)?;
    let length = boot_v2::content(&signed).map_err(Fault::fatal)?.len();
    let blocks = boot_v2::blocks(&signed).len();
    let text =
        format!("Signed {length} bytes of data from \"{path}\". Signature sector now has {blocks} signature blocks.");
    call.terminal.say(text);
    Ok(())
}

fn version_1(call: &Call<'_>, data: &[u8]) -> Result<Vec<u8>, Fault> {
    if call.has("hsm") {
        return Err(Fault::fatal(
            "Secure Boot V1 does not support signing using an external Hardware Security Module.",
        ));
    }
    let one = || Fault::fatal("Secure Boot V1 only supports one signing key.");
    if let Some(signature) = call.list("signature").first() {
        call.terminal.say("Pre-calculated signatures found...");
        let public = call.list("pub-key");
        let [public] = public.as_slice() else { return Err(one()) };
        let signature = files::read(signature, "--signature")?;
        return boot_v1::attach(data, &keys::public_v1(public)?, &signature).map_err(Fault::fatal);
    }
    let private = call.list("keyfile");
    let [private] = private.as_slice() else { return Err(one()) };
    boot_v1::sign(data, &keys::private_v1(private)?).map_err(Fault::fatal)
}

fn version_2(call: &Call<'_>, data: &[u8]) -> Result<Vec<u8>, Fault> {
    let attached = !call.list("signature").is_empty();
    let (taken, padding) = prepare(call, data, attached)?;
    let free = BLOCKS - taken;
    let full =
        |count: usize| Fault::Fatal(format!("Number of keys ({count}) more than the empty signature blocks ({free})."));
    if call.has("hsm") {
        return by_hsm(call, data, taken, padding);
    }
    if attached {
        let pairs = pairs(call)?;
        if pairs.len() > free {
            return Err(full(pairs.len()));
        }
        call.terminal.say(format_args!("{} signing key(s) found.", pairs.len()));
        return boot_v2::attach(data, &pairs).map_err(mismatch);
    }
    let paths = call.list("keyfile");
    if paths.len() > free {
        return Err(full(paths.len()));
    }
    call.terminal.say(format_args!("{} signing key(s) found.", paths.len()));
    let private: Vec<PrivateKey> = paths.iter().map(|path| keys::private(path)).collect::<Result<_, _>>()?;
    let signed = if taken > 0 {
        boot_v2::append(data, &private, keys::random)
    } else {
        boot_v2::sign(data, &private, padding, keys::random)
    };
    signed.map_err(mismatch)
}

/// Signs with the one key that the configuration names.
fn by_hsm(call: &Call<'_>, data: &[u8], taken: usize, padding: Padding) -> Result<Vec<u8>, Fault> {
    let settings = hsm::settings(call)?;
    let key = match call.list("pub-key").as_slice() {
        [] => hsm::public_key(call, &settings)?,
        [path] => keys::public(path, "--pub-key")?,
        many => {
            let count = many.len();
            let text = format!("Number of public keys ({count}) not equal to the number of signatures (1).");
            return Err(Fault::Fatal(text));
        }
    };
    let signer = |digest: &[u8]| hsm::sign_digest(call, &settings, &key, digest);
    let signed = match taken {
        0 => boot_v2::sign_with(data, &key, padding, signer),
        _ => boot_v2::append_with(data, &key, signer),
    };
    call.terminal.say("1 signing key(s) found.");
    signed.map_err(mismatch)
}

/// What is done with the end of the image, and how many signatures it has that stay.
fn prepare(call: &Call<'_>, data: &[u8], attached: bool) -> Result<(usize, Padding), Fault> {
    let rest = data.len() % SECTOR;
    if rest != 0 {
        if attached {
            let text = "Secure Boot V2 requires the signature block to start from a 4KB aligned sector but the datafile supplied is not sector aligned.";
            return Err(Fault::fatal(text));
        }
        if call.has("skip-padding") {
            call.terminal.say("Skipping sector padding. Data contents are not sector aligned.");
            return Ok((0, Padding::None));
        }
        let pad = SECTOR - rest;
        call.terminal
            .say(format_args!("Padding data contents by {pad} bytes so signature sector aligns at sector boundary."));
        return Ok((0, Padding::Sector));
    }
    if !call.has("append-signatures") {
        return Ok((0, Padding::Sector));
    }
    let blocks = boot_v2::blocks(data);
    for (index, block) in blocks.iter().enumerate() {
        verify_signature::say_valid(call, index, block);
    }
    match blocks.len() {
        0 => {
            let text = "No valid signature blocks found. Discarding --append-signature and proceeding to sign the image afresh.";
            call.terminal.say(text);
        }
        count => {
            call.terminal
                .say(format_args!("{count} valid signature block(s) already present in the signature sector."));
            if count == BLOCKS {
                let text =
                    "Up to 3 signature blocks are supported (For ESP32-ECO3 only 1 signature block is supported).";
                return Err(Fault::fatal(text));
            }
        }
    }
    Ok((blocks.len(), Padding::Sector))
}

fn pairs(call: &Call<'_>) -> Result<Vec<(PublicKey, Vec<u8>)>, Fault> {
    call.terminal.say("Pre-calculated signatures found...");
    let (public, signatures) = (call.list("pub-key"), call.list("signature"));
    if public.len() != signatures.len() {
        let (keys, count) = (public.len(), signatures.len());
        let text = format!("Number of public keys ({keys}) not equal to the number of signatures ({count}).");
        return Err(Fault::Fatal(text));
    }
    let pair = |(key, signature): (&&str, &&str)| {
        Ok((keys::public(key, "--pub-key")?, files::read(signature, "--signature")?))
    };
    public.iter().zip(&signatures).map(pair).collect()
}

fn mismatch(error: SecureError) -> Fault {
    match error {
        SecureError::NoKey => Fault::fatal("Signature Block generation failed."),
        SecureError::BadSignature => Fault::fatal("Signature could not be verified with the provided key."),
        error => Fault::fatal(error),
    }
}
