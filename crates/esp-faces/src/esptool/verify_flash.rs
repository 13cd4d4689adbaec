//! `verify-flash`.

use clap::Command;
use md5::{Digest, Md5};

use super::images;
use super::options::{self, FlashValues, Piece};
use super::session::{self, Session, failed};
use super::{pins, sizes};
use crate::command::{Call, flag};
use crate::fault::Fault;

pub fn spec() -> Command {
    Command::new("verify-flash")
        .about("Compare files with the flash")
        .arg(options::pairs())
        .arg(flag("diff", "Show each differing byte").short('d'))
        .args(options::flash(FlashValues::Detect))
        .arg(pins::spi_connection())
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let pieces = options::own_pieces(call)?;
    session::with(call, |session| {
        let size = sizes::configure(call, session)?;
        let flash = esp_model::image::merge::FlashSettings { size, ..options::flash_settings(call) };
        let mut same = true;
        for mut piece in pieces {
            piece.part.data.resize(piece.part.data.len().next_multiple_of(4), 0xff);
            images::patch(call.terminal, session.loader.chip(), &mut piece, &flash)?;
            same &= compare(call, session, &piece)?;
        }
        if same { Ok(()) } else { Err(Fault::fatal("Verification failed.")) }
    })
}

fn compare(call: &Call<'_>, session: &mut Session, piece: &Piece) -> Result<bool, Fault> {
    let (address, data, terminal) = (piece.part.address, &piece.part.data, call.terminal);
    let (length, path) = (data.len() as u32, &piece.path);
    terminal
        .say(format_args!("Verifying {length:#x} ({length}) bytes at {address:#010x} in flash against '{path}'..."));
    let digest = session.loader.flash_md5(&session.job, address, length).map_err(failed)?;
    if digest == <[u8; 16]>::from(Md5::digest(data)) {
        terminal.say("Verification successful (digest matched).");
        return Ok(true);
    }
    if !call.has("diff") {
        terminal.say("Verification failed (digest mismatch).");
        return Ok(false);
    }
    let found = session.loader.read_flash_bytes(&session.job, address, length).map_err(failed)?;
    let pairs = (address..).zip(found.iter().zip(data));
    let differing: Vec<_> = pairs.filter(|(_, (flash, file))| flash != file).collect();
    let first = differing.first().map_or(address, |(at, _)| *at);
    terminal.say(format_args!("Verification failed: {} differences, first at {first:#010x}:", differing.len()));
    for (at, (flash, file)) in differing {
        terminal.say(format_args!("   {at:#010x} {flash:02x} {file:02x}"));
    }
    Ok(false)
}
