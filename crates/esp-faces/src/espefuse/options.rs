//! Options before the commands.

use clap::{Arg, ArgAction};
use esp_model::chip;

use crate::command::{flag, option};

pub fn globals() -> Vec<Arg> {
    let chips = std::iter::once("auto").chain(chip::all().iter().map(|chip| chip.id));
    let chips = clap::builder::PossibleValuesParser::new(chips);
    vec![
        option("chip", "Chip").short('c').value_parser(chips).env("ESPTOOL_CHIP").default_value("auto"),
        option("baud", "Rate, in baud").short('b'),
        option("port", "Port: a device, or socket://, rfc2217://, sim:// …").short('p'),
        option("before", "Reset before connecting")
            .value_parser(["default-reset", "usb-reset", "no-reset", "no-reset-no-sync"])
            .default_value("default-reset"),
        option("after", "Reset when done")
            .short('a')
            .value_parser(["hard-reset", "soft-reset", "no-reset", "watchdog-reset"])
            .default_value("no-reset"),
        flag("debug", "Show the registers").short('d'),
        flag("virt", "Work on a virtual chip"),
        option("token", "Contents of the virtual chip, EFSR:…"),
        option("path-efuse-file", "File that holds the virtual chip's registers"),
        flag("do-not-confirm", "Burn without asking; a real device needs a line `burn_macs` in the policy"),
        flag("postpone", "Burn what closes the chip at the end (the default)"),
        flag("no-postpone", "Burn all of block 0 together").action(ArgAction::SetTrue),
        option("extend-efuse-table", "CSV file with fields of a project"),
    ]
}
