//! `version`.

use clap::Command;

use crate::command::Call;
use crate::fault::Fault;

pub fn spec() -> Command {
    Command::new("version").about("Print the version of esptool that this program stands in for")
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    call.terminal.say(crate::ESPTOOL_VERSION);
    Ok(())
}
