//! `digest-sbv2-public-key`: the digest of a public key as it is burned. `digest-rsa-public-key` is its older name.

use clap::Command;
use esp_model::secure::block::key_digest;

use super::keys;
use crate::command::{Call, option};
use crate::fault::Fault;
use crate::files;

const OLD: &str = "digest-rsa-public-key";

pub fn spec() -> Command {
    Command::new("digest-sbv2-public-key")
        .about("Write the SHA-256 digest of a public key as it is burned")
        .arg(keys::keyfile("Public or private key in PEM format"))
        .arg(option("output", "File to write").short('o').required(true))
}

pub fn spec_rsa() -> Command {
    spec().name(OLD).about("Older name of digest-sbv2-public-key").hide(true)
}

pub fn run_rsa(call: &Call<'_>) -> Result<(), Fault> {
    call.terminal.plain_warning(format_args!("DeprecationWarning: The command '{OLD}' is deprecated."));
    run(call)
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (path, output) = (call.text("keyfile"), call.text("output"));
    files::distinct(path, output)?;
    let digest = key_digest(&keys::public(path, "--keyfile' / '-k")?);
    call.terminal.say(format_args!("Writing the public key digest of \"{path}\" to \"{output}\"."));
    files::write(output, &digest)
}
