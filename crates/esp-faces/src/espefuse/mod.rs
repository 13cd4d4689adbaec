//! `espefuse`: the eFuses of a chip or of a file that stands for one.

mod bench;
mod burn;
mod check;
mod dump;
mod options;
mod refusals;
mod register_file;
mod requests;
mod specs;
mod summary;
mod values;

use crate::command::{Call, Entry, Face};
use crate::fault::Fault;
use bench::Bench;

/// The face.
pub static FACE: Face = Face {
    name: "espefuse",
    about: "Read and burn eFuses of Espressif chips",
    options: options::globals,
    prepare: None,
    fatal_prefix: "\n",
    raises: false,
    of_chip: Some(specs::of_chip),
    usage_of_chip: Some(specs::usage),
    chain: Some(run_all),
    single: None,
    commands: &[
        Entry { spec: specs::burn_efuse, run: alone },
        Entry { spec: specs::read_protect, run: alone },
        Entry { spec: specs::write_protect, run: alone },
        Entry { spec: specs::burn_block_data, run: alone },
        Entry { spec: specs::burn_bit, run: alone },
        Entry { spec: specs::burn_key, run: alone },
        Entry { spec: specs::burn_key_digest, run: alone },
        Entry { spec: specs::burn_custom_mac, run: alone },
        Entry { spec: specs::get_custom_mac, run: alone },
        Entry { spec: specs::set_flash_voltage, run: alone },
        Entry { spec: specs::dump, run: alone },
        Entry { spec: specs::summary, run: alone },
        Entry { spec: specs::check_error, run: alone },
        Entry { spec: specs::adc_info, run: alone },
    ],
    renamed: &[("--file_name", "--file-name")],
    shorts: &[],
};

fn alone(call: &Call<'_>) -> Result<(), Fault> {
    run_all(std::slice::from_ref(call))
}

/// Runs the commands of one line: reads at once, burns together at the end.
fn run_all(calls: &[Call<'_>]) -> Result<(), Fault> {
    let Some(first) = calls.first() else { return Ok(()) };
    let mut bench = Bench::open(first)?;
    let burns = calls.iter().filter(|call| requests::burns(call.command)).count();
    bench.batch = burns > 1;
    bench.show_token = calls.iter().any(|call| call.has("show-token"));
    for call in calls {
        call.terminal.say(format_args!("\n=== Run \"{}\" command ===", call.command));
        match call.command {
            "summary" => summary::run(&bench, call)?,
            "dump" => dump::run(&bench, call)?,
            "check-error" => check::run(&mut bench, call)?,
            "adc-info" => check::adc_info(&bench, call),
            "get-custom-mac" => check::custom_mac(&bench, call),
            _ => {
                requests::add(&mut bench, call)?;
                if bench.batch {
                    call.terminal.say("\nBatch mode is enabled, the burn will be done at the end of the command.");
                } else {
                    burn::all(&mut bench, call)?;
                }
            }
        }
    }
    if bench.batch {
        burn::all(&mut bench, first)?;
    }
    bench.close(first)
}
