//! `extract-public-key`: the public half of a signing key as a file.

use clap::Command;
use esp_model::secure::boot_v1;

use super::keys;
use crate::command::{Call, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("extract-public-key")
        .about("Write the public half of a signing key: raw for version 1, PEM for version 2")
        .arg(keys::version().default_value("1"))
        .arg(keys::keyfile("Private key in PEM format"))
        .arg(place("public-keyfile", "File to write"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (path, output) = (call.text("keyfile"), call.text("public-keyfile"));
    files::distinct(path, output)?;
    let bytes = if call.text("version") == "1" {
        let public = keys::private_v1(path)?.public().map_err(Fault::fatal)?;
        boot_v1::raw_public_key(&public).map_err(Fault::fatal)?.to_vec()
    } else {
        let public = keys::private(path)?.public().map_err(Fault::fatal)?;
        public.to_pem().map_err(Fault::fatal)?.into_bytes()
    };
    files::write(output, &bytes)?;
    call.terminal.say(format_args!("\"{path}\" public key extracted to \"{output}\"."));
    Ok(())
}
