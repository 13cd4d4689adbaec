//! Burning: what will happen, the confirmation, and what happened.

use std::io;

use esp_model::efuse::{Efuses, Stage, Step, bits, token};

use super::bench::Bench;
use super::dump;
pub use super::refusals::refused;
use crate::command::Call;
use crate::fault::Fault;

/// Burns all that was asked for.
pub fn all(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    let terminal = call.terminal;
    let steps = bench.burn.steps().map_err(refused)?;
    terminal.say("\n\nCheck all blocks for burn...\nidx, BLOCK_NAME,          Conclusion");
    if steps.is_empty() {
        terminal.say("Nothing to burn, see messages above.");
        terminal.say("Successful.");
        return Ok(());
    }
    let table = bench.efuses.table;
    for block in table.blocks.iter().filter(|block| steps.iter().any(|step| step.block == block.id)) {
        let blank = bits::is_zero(bench.efuses.block(block.id));
        let what = if blank { "is empty, will burn the new value" } else { "is not empty" };
        terminal.say(format_args!("[{:02}] {:<20} {what}", block.id, dump::names(block).0));
    }
    if bench.show_token || call.has("show-token") {
        let token = token::encode_write(bench.chip.id, bench.revision(), &bench.efuses, bench.burn.pending());
        terminal.say(format_args!("eFuse token: {token}"));
    }
    not_together(bench, call)?;
    bench.may_burn(call)?;
    confirm(call)?;
    bench.program(call)?;
    let mut closed = false;
    let together = call.switch("no-postpone");
    let both = |step: &&Step| {
        together && step.stage == Stage::Last && steps.iter().any(|other| other.stage == Stage::Settings)
    };
    for step in steps.iter().filter(|step| !both(step)) {
        // What is shown twice is burned in two steps: settings first, what closes the chip last.
        if step.stage == Stage::Last && !closed && !together {
            terminal.say("Burn postponed eFuses from BLOCK0.");
            closed = true;
        }
        let all = if step.block == 0 { "all write block bits are set" } else { "write block == read block" };
        terminal.say(format_args!("BURN BLOCK{}  - OK ({all})", step.block));
    }
    terminal.say("Reading updated eFuses...");
    if !bench.batch && ["burn-efuse", "read-protect-efuse", "write-protect-efuse"].contains(&call.command) {
        terminal.say("Checking eFuses...");
        hidden(bench, call);
    }
    if call.command == "burn-custom-mac" {
        super::check::custom_mac(bench, call);
    }
    terminal.say("Successful.");
    Ok(())
}

/// Fields that must not both be set on this chip.
fn not_together(bench: &Bench, call: &Call<'_>) -> Result<(), Fault> {
    let after = bench.burn.after().map_err(refused)?;
    let all_of = |efuses: &Efuses, names: &[String]| names.iter().all(|name| efuses.is_set(name));
    let groups = &bench.chip.at(bench.revision()).security.never_together;
    let found = groups.iter().find(|names| all_of(&after, names) && !all_of(&bench.efuses, names));
    let Some(names) = found.filter(|_| !call.has("force")) else { return Ok(()) };
    let names = names.join(" and ");
    call.terminal.say(format_args!("{names} cannot be set together due to a bug in the ROM bootloader!"));
    Err(Fault::fatal("Incompatible eFuse settings detected, abort"))
}

/// Asks for the word that burns.
pub fn confirm(call: &Call<'_>) -> Result<(), Fault> {
    call.terminal.say(". \nThis is an irreversible operation!");
    if call.switch("do-not-confirm") {
        return Ok(());
    }
    call.terminal.say("Type 'BURN' (all capitals) to continue.");
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    match typed.trim() {
        "BURN" => Ok(()),
        _ => {
            call.terminal.say("Aborting.");
            Err(Fault::Exit(1))
        }
    }
}

/// Fields that were burned and cannot be read back.
fn hidden(bench: &Bench, call: &Call<'_>) {
    let names = call.list("name_value_pairs").into_iter().step_by(2);
    for field in names.filter_map(|name| bench.efuses.table.field(name)) {
        if !bench.efuses.readable(&field.read_protect) {
            let text = format!("Efuse {} is read-protected. Read back the burn value is not possible.", field.name);
            call.terminal.say(text);
        }
    }
}
