//! The program, its simulator and its client against other people's tools.

#[path = "../support/client.rs"]
mod client;
#[path = "../support/http.rs"]
mod http;
mod idf_build;
#[path = "../../../../tests/support/reference.rs"]
mod reference;

mod apps;
mod bringup;
mod browser;
mod chip_info;
mod conformance;
mod core_dump;
mod efuse;
mod flash_part;
mod hsm;
mod own_firmware;
mod packaging;
mod production;
mod rfc2217;
mod rom_loader;
mod sdk;
mod share;
mod simulator;
mod terminal;
mod virtual_devices;
mod warm_lines;
mod workflows;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line a topic: `trials.extend(topic::trials())`.
    let mut trials = Vec::new();
    trials.extend(idf_build::trials());
    trials.extend(apps::trials());
    trials.extend(bringup::trials());
    trials.extend(browser::trials());
    trials.extend(chip_info::trials());
    trials.extend(conformance::trials());
    trials.extend(core_dump::trials());
    trials.extend(efuse::trials());
    trials.extend(flash_part::trials());
    trials.extend(production::trials());
    trials.extend(hsm::trials());
    trials.extend(own_firmware::trials());
    trials.extend(packaging::trials());
    trials.extend(rfc2217::trials());
    trials.extend(rom_loader::trials());
    trials.extend(sdk::trials());
    trials.extend(share::trials());
    trials.extend(simulator::trials());
    trials.extend(terminal::trials());
    trials.extend(virtual_devices::trials());
    trials.extend(warm_lines::trials());
    trials.extend(workflows::trials());
    reference::main(trials)
}
