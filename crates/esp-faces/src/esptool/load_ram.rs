//! `load-ram` and `run`.

use clap::Command;
use esp_model::image::parse::parse_for;

use super::images::not_an_image;
use super::options;
use super::session::{self, Session, failed};
use crate::command::{Call, place};
use crate::fault::Fault;

pub fn spec() -> Command {
    Command::new("load-ram").about("Load an image into RAM and start it").arg(place("filename", "Image"))
}

pub fn spec_run() -> Command {
    Command::new("run").about("Start the app in flash")
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let parts = options::parts(call.text("filename"))?;
    let [part] = parts.as_slice() else {
        let text = "Merged binary image detected. Only one file can be specified for the load-ram command.";
        return Err(Fault::fatal(text));
    };
    let session = Session::open(call)?;
    let chip = session.loader.chip();
    let image = parse_for(chip, &part.data).map_err(|error| not_an_image(&error))?;
    let segments: Vec<(u32, Vec<u8>)> =
        image.segments.iter().filter(|segment| segment.addr != 0).map(|one| (one.addr, one.data.to_vec())).collect();
    call.terminal.say("RAM boot...");
    for (address, bytes) in &segments {
        call.terminal.say(format_args!("Downloading {} bytes at {address:08x}... done!", bytes.len()));
    }
    let entry = image.header.entry;
    call.terminal.say(format_args!("All segments done, executing at {entry:08x}."));
    session.loader.run_in_ram(&session.job, &segments, entry).map_err(failed)?;
    call.terminal.say("\nExiting immediately.");
    Ok(())
}

pub fn run_app(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| session.loader.soft_reset(&session.job).map_err(failed))
}
