//! `signature-info-v2`: the signatures of an image and the digests of their keys.

use clap::Command;
use esp_model::hex;
use esp_model::secure::block::BLOCKS;
use esp_model::secure::boot_v2;

use super::verify_signature;
use crate::command::{Call, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("signature-info-v2")
        .about("List the signatures of an image with the digests of their keys")
        .arg(place("datafile", "Signed image"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let data = files::read(call.text("datafile"), "DATAFILE")?;
    verify_signature::length(&data, false)?;
    let checked = boot_v2::check(&data).map_err(Fault::fatal)?;
    for index in 0..BLOCKS {
        let Some(one) = checked.iter().find(|one| one.index == index) else {
            let text = format!("Signature block {index} absent/invalid. Skipping checking next blocks...");
            call.terminal.say(text);
            return Ok(());
        };
        verify_signature::say_valid(call, index, &one.block);
        if !one.content_fits {
            return Err(Fault::Fatal(format!("Digest in signature block {index} doesn't match the image digest.")));
        }
        let digest = hex::joined(one.block.key_digest(), " ");
        call.terminal.say(format_args!("Public key digest for block {index}: {digest}"));
    }
    Ok(())
}
