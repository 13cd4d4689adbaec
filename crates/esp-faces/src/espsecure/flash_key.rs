//! `generate-flash-encryption-key`: random bytes as a key.

use clap::Command;
use zeroize::Zeroizing;

use super::keys;
use crate::command::{Call, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("generate-flash-encryption-key")
        .about("Generate a key for flash encryption")
        .arg(keys::keylen())
        .arg(place("key-file", "File to write"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (bits, path) = (keys::bits(call.text("keylen"))?, call.text("key-file"));
    call.terminal.say(format_args!("Writing {bits} random bits to key file \"{path}\"."));
    let mut key = Zeroizing::new(vec![0; bits / 8]);
    keys::random(&mut key);
    files::write_secret(path, &key)
}
