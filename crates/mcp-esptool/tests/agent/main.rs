//! Ordinary jobs as an assistant does them that has nothing but this server: scripted sessions over stdio that see only the
//! text of each answer. Each job has a budget of calls and ends in a state that is looked at from outside. A job that needs
//! the corpus of other people's builds is *ignored* without it.
#![allow(clippy::unwrap_used)]

#[path = "../support/client.rs"]
mod client;
mod devices;
mod files;
mod production;
#[path = "../../../../tests/support/reference.rs"]
mod reference;
mod session;

use std::process::ExitCode;

use libtest_mimic::Trial;
use reference::Stop;

/// Jobs that need nothing but the server.
const JOBS: &[(&str, fn())] = &[
    ("devices::ram_program_is_loaded_and_flash_stays", devices::ram_program_is_loaded_and_flash_stays),
    ("devices::device_becomes_ready_for_ota", devices::device_becomes_ready_for_ota),
    (
        "devices::security_plan_names_what_is_lost_and_burns_nothing",
        devices::security_plan_names_what_is_lost_and_burns_nothing,
    ),
    ("devices::board_with_damaged_bootloader_is_repaired", devices::board_with_damaged_bootloader_is_repaired),
    ("devices::wifi_credentials_are_changed_and_nothing_else", devices::wifi_credentials_are_changed_and_nothing_else),
    ("devices::firmware_is_cloned_and_settings_stay", devices::firmware_is_cloned_and_settings_stay),
    (
        "devices::audit_names_open_doors_and_a_bricking_plan_is_refused",
        devices::audit_names_open_doors_and_a_bricking_plan_is_refused,
    ),
    ("devices::efuse_trap_is_refused_with_reasons", devices::efuse_trap_is_refused_with_reasons),
    ("files::dump_is_read_and_one_value_changed_in_place", files::dump_is_read_and_one_value_changed_in_place),
    ("production::batch_gets_serials_from_a_pool", production::batch_gets_serials_from_a_pool),
    ("production::recipe_is_made_checked_and_rehearsed", production::recipe_is_made_checked_and_rehearsed),
    ("production::pool_made_by_mistake_is_no_dead_end", production::pool_made_by_mistake_is_no_dead_end),
    ("devices::nvs_change_is_undone_by_the_named_call", devices::nvs_change_is_undone_by_the_named_call),
    (
        "devices::blank_chip_is_brought_to_a_start_by_the_next_steps",
        devices::blank_chip_is_brought_to_a_start_by_the_next_steps,
    ),
    ("production::recipe_from_a_build_uses_its_table", production::recipe_from_a_build_uses_its_table),
    ("production::documents_are_read_by_a_tool", production::documents_are_read_by_a_tool),
    ("files::cut_text_names_the_call_that_shows_all", files::cut_text_names_the_call_that_shows_all),
    ("files::crashes_that_are_not_shown_are_counted", files::crashes_that_are_not_shown_are_counted),
    ("files::merged_file_is_told_with_names_and_apps", files::merged_file_is_told_with_names_and_apps),
    (
        "production::mistakes_in_values_are_told_before_a_device_is_touched",
        production::mistakes_in_values_are_told_before_a_device_is_touched,
    ),
    ("devices::replaced_table_and_unselected_slot_are_told", devices::replaced_table_and_unselected_slot_are_told),
];

type OnBuild = fn() -> Result<(), Stop>;

/// Jobs on other people's builds.
const ON_BUILDS: &[(&str, OnBuild)] = &[
    ("devices::rust_program_reaches_a_board", devices::rust_program_reaches_a_board),
    ("devices::flash_and_run_judges_with_evidence", devices::flash_and_run_judges_with_evidence),
    ("files::core_dump_names_the_culprit", files::core_dump_names_the_culprit),
    ("files::size_is_explained", files::size_is_explained),
    ("files::panic_log_is_decoded_with_the_elf", files::panic_log_is_decoded_with_the_elf),
];

fn main() -> ExitCode {
    let jobs = JOBS.iter().map(|&(name, job)| {
        Trial::test(name, move || {
            job();
            Ok(())
        })
    });
    reference::main(jobs.chain(ON_BUILDS.iter().map(|&(name, job)| reference::trial(name, job))).collect())
}
