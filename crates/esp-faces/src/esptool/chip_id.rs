//! `chip-id` and `read-mac`.

use clap::Command;
use esp_model::mac::Mac;

use super::session;
use crate::command::Call;
use crate::fault::Fault;

pub fn spec() -> Command {
    Command::new("chip-id").about("Print the chip's id")
}

pub fn spec_mac() -> Command {
    Command::new("read-mac").about("Print the chip's MAC address")
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| {
        let identity = session.loader.identity();
        // The oldest chip's id is the lower part of its address.
        match identity.filter(|_| session.is_first_family()).map(|identity| identity.mac) {
            Some(Mac([_, _, _, a, b, c])) => {
                call.terminal.say(format_args!("Chip ID: {:#010x}", u32::from_be_bytes([0, a, b, c])));
            }
            None => {
                let name = &session.loader.chip().name;
                call.terminal.warn(format_args!("{name} has no chip ID. Reading MAC address instead."));
                session.say_mac(call);
            }
        }
        Ok(())
    })
}

pub fn run_mac(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| {
        session.say_mac(call);
        Ok(())
    })
}
