//! `check-error` and `get-custom-mac`.

use super::bench::Bench;
use crate::command::Call;
use crate::fault::Fault;

pub fn run(bench: &Bench, call: &Call<'_>) -> Result<(), Fault> {
    let errors = &bench.efuses.errors;
    if errors.is_empty() {
        call.terminal.say("No errors detected.");
        return Ok(());
    }
    for error in errors {
        let name = bench.efuses.table.block(error.block).map_or("", |block| block.name.as_str());
        let (count, fail) = (error.count, u8::from(error.fail));
        call.terminal.say(format_args!("BLOCK{:<2}: {name} [ERRORS:{count} FAIL:{fail}]", error.block));
    }
    if call.has("recovery") {
        call.terminal.warn("--recovery is not supported: blocks with errors are not burned again.");
    }
    Err(Fault::fatal("Error(s) were detected in eFuses."))
}

pub fn custom_mac(bench: &Bench, call: &Call<'_>) {
    let Some(field) = bench.efuses.table.field("CUSTOM_MAC") else {
        call.terminal.say("Custom MAC Address is not set in the device.");
        return;
    };
    let value = bench.efuses.value(field).value;
    match bench.efuses.number("MAC_VERSION") {
        Some(0) => call.terminal.say("Custom MAC Address is not set in the device."),
        Some(version) => call.terminal.say(format_args!("Custom MAC Address version {version}: {value}")),
        None => call.terminal.say(format_args!("Custom MAC Address: {value}")),
    }
}
