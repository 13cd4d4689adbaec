//! `generate-signing-key`: a private key for secure boot.

use std::path::Path;

use clap::Command;
use esp_model::secure::{PrivateKey, Scheme};

use super::keys;
use crate::command::{Call, option, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("generate-signing-key")
        .about("Generate a private key for signing images")
        .arg(keys::version().default_value("1"))
        .arg(
            option("scheme", "Signature scheme")
                .short('s')
                .value_parser(["rsa3072", "ecdsa192", "ecdsa256", "ecdsa384"]),
        )
        .arg(place("keyfile", "File to write"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let path = call.text("keyfile");
    if Path::new(path).exists() {
        return Err(Fault::Fatal(format!("ERROR: Key file {path} already exists.")));
    }
    let name = match (call.text("version"), call.optional("scheme")) {
        ("1", None) => "ecdsa256",
        ("1", Some(name)) if name != "ecdsa256" => return Err(Fault::fatal("ERROR: V1 only supports ECDSA256.")),
        (_, name) => name.unwrap_or("rsa3072"),
    };
    let scheme =
        Scheme::by_name(name).ok_or_else(|| Fault::Fatal(format!("ERROR: Unsupported signing scheme {name}.")))?;
    let key = PrivateKey::generate(scheme, &mut keys::random).map_err(Fault::fatal)?;
    let pem = key.to_pem().map_err(Fault::fatal)?;
    files::write_secret(path, pem.as_bytes())?;
    let kind = match scheme {
        Scheme::Rsa3072 => "RSA 3072",
        Scheme::EcdsaP192 => "ECDSA NIST192p",
        Scheme::EcdsaP256 => "ECDSA NIST256p",
        Scheme::EcdsaP384 => "ECDSA NIST384p",
    };
    call.terminal.say(format_args!("{kind} private key in PEM format written to \"{path}\"."));
    Ok(())
}
