//! `check-error` and `get-custom-mac`.

use super::bench::Bench;
use crate::command::Call;
use crate::fault::Fault;

pub fn run(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    if call.has("recovery") && !bench.efuses.errors.is_empty() {
        list(bench, call);
        bench.recover(call)?;
    }
    if bench.efuses.errors.is_empty() {
        call.terminal.say("No errors detected.");
        return Ok(());
    }
    list(bench, call);
    Err(Fault::fatal("Error(s) were detected in eFuses."))
}

fn list(bench: &Bench, call: &Call<'_>) {
    for error in &bench.efuses.errors {
        let name = bench.efuses.table.block(error.block).map_or("", |block| block.name.as_str());
        let (count, fail) = (error.count, u8::from(error.fail));
        call.terminal.say(format_args!("BLOCK{:<2}: {name} [ERRORS:{count} FAIL:{fail}]", error.block));
    }
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

/// Fields with the factory's calibration.
const CALIBRATION: [&str; 4] = ["ADC", "TEMP", "OCODE", "BLK3_PART_RESERVE"];

/// The calibration fields as they are; esptool's own tool computes millivolts from some of them.
pub fn adc_info(bench: &Bench, call: &Call<'_>) {
    let fields = bench.efuses.table.fields.iter();
    let own: Vec<_> = fields.filter(|field| CALIBRATION.iter().any(|start| field.name.starts_with(start))).collect();
    if own.is_empty() {
        call.terminal.say("This chip has no calibration fields.");
    }
    for field in own {
        let value = bench.efuses.value(field);
        call.terminal.say(format_args!("{:<40} = {}", field.name, value.value));
    }
}
