//! The tools: one file each, one line each in [`ALL`].

pub mod chip;
pub mod diagnostics;
pub mod docs;
pub mod firmware;
pub mod flash;
pub mod job;
pub mod ota;
pub mod partition;
pub mod production;
pub mod security;
pub mod r#virtual;

use esp_model::job::Job;
use serde_json::json;

use crate::ctx::Ctx;
use crate::tool::aliases;
use crate::tool::{Entry, entry};

/// All tools, in the order in which they are listed.
pub static ALL: &[Entry] = &[
    entry::<chip::scan_ports::ScanPorts>("chip"),
    entry::<chip::detect::Detect>("chip"),
    entry::<chip::connect::Connect>("chip"),
    entry::<chip::reset::Reset>("chip"),
    entry::<chip::load_ram::LoadRam>("chip"),
    entry::<chip::run_firmware::RunFirmware>("chip"),
    entry::<chip::info::Info>("chip"),
    entry::<chip::test_connection::TestConnection>("chip"),
    entry::<chip::recover::Recover>("chip"),
    entry::<flash::firmware::Firmware>("flash"),
    entry::<flash::and_run::FlashAndRun>("flash"),
    entry::<flash::read::Read>("flash"),
    entry::<flash::erase::Erase>("flash"),
    entry::<flash::verify::Verify>("flash"),
    entry::<flash::compare::Compare>("flash"),
    entry::<flash::size_detect::SizeDetect>("flash"),
    entry::<flash::analyze::Analyze>("flash"),
    entry::<flash::optimize::Optimize>("flash"),
    entry::<flash::backup::Backup>("flash"),
    entry::<flash::restore::Restore>("flash"),
    entry::<flash::status::FlashStatus>("flash"),
    entry::<flash::sfdp_read::SfdpRead>("flash"),
    entry::<firmware::elf_to_binary::ElfToBinary>("firmware"),
    entry::<firmware::binary_merge::BinaryMerge>("firmware"),
    entry::<firmware::analyze::Analyze>("firmware"),
    entry::<firmware::bootloader_build::BootloaderBuild>("firmware"),
    entry::<firmware::app_prepare::AppPrepare>("firmware"),
    entry::<firmware::binary_optimize::BinaryOptimize>("firmware"),
    entry::<firmware::size_analysis::SizeAnalysis>("firmware"),
    entry::<firmware::idf_build::IdfBuild>("firmware"),
    entry::<firmware::arduino_build::ArduinoBuild>("firmware"),
    entry::<security::read::Read>("security"),
    entry::<security::burn::Burn>("security"),
    entry::<security::info::Info>("security"),
    entry::<security::flash_encryption::Enable>("security"),
    entry::<security::secure_boot::Enable>("security"),
    entry::<security::flash_encryption::Configure>("security"),
    entry::<security::mac::Mac>("security"),
    entry::<security::audit::Audit>("security"),
    entry::<security::sign::Sign>("security"),
    entry::<security::flash_encrypt::Encrypt>("security"),
    entry::<r#virtual::start::Start>("virtual"),
    entry::<r#virtual::stop::Stop>("virtual"),
    entry::<r#virtual::list::List>("virtual"),
    entry::<r#virtual::status::Status>("virtual"),
    entry::<r#virtual::flash::Flash>("virtual"),
    entry::<r#virtual::debug::Debug>("virtual"),
    entry::<diagnostics::console::ConsoleCapture>("diagnostics"),
    entry::<diagnostics::console_live::Console>("diagnostics"),
    entry::<diagnostics::log_decode::LogDecode>("diagnostics"),
    entry::<diagnostics::symbols::Symbols>("diagnostics"),
    entry::<diagnostics::core_dump::CoreDumpAnalyze>("diagnostics"),
    entry::<diagnostics::memory_dump::MemoryDump>("diagnostics"),
    entry::<diagnostics::register_dump::RegisterDump>("diagnostics"),
    entry::<diagnostics::performance::PerformanceProfile>("diagnostics"),
    entry::<diagnostics::power::PowerAnalysis>("diagnostics"),
    entry::<diagnostics::thermal::ThermalStatus>("diagnostics"),
    entry::<diagnostics::rf_calibration::RfCalibrationCheck>("diagnostics"),
    entry::<diagnostics::report::DiagnosticReport>("diagnostics"),
    entry::<job::JobTool>("core"),
    entry::<docs::Docs>("core"),
    entry::<partition::create::Create>("partition"),
    entry::<partition::flash::Flash>("partition"),
    entry::<partition::read::Read>("partition"),
    entry::<partition::analyze::Analyze>("partition"),
    entry::<partition::ota_setup::OtaSetup>("partition"),
    entry::<partition::nvs_store::Nvs>("partition"),
    entry::<partition::nvs::NvsCreate>("partition"),
    entry::<partition::filesystem::Extract>("partition"),
    entry::<ota::package::PackageCreate>("ota"),
    entry::<ota::flash_prepare::FlashPrepare>("ota"),
    entry::<ota::boot_check::BootCheck>("ota"),
    entry::<production::recipe::RecipeTool>("production"),
    entry::<production::factory_program::FactoryProgram>("production"),
    entry::<production::production_test::ProductionTest>("production"),
    entry::<production::batch_program::BatchProgram>("production"),
    entry::<production::quality_control::QualityControl>("production"),
    entry::<production::values::Calibration>("production"),
    entry::<production::values::Manufacturing>("production"),
    entry::<production::provision::Provision>("production"),
    entry::<production::factory_reset::FactoryReset>("production"),
    entry::<production::ledger::LedgerTool>("production"),
];

/// The sets that the tools belong to, in the list's order.
pub fn sets() -> Vec<&'static str> {
    let mut sets: Vec<&str> = ALL.iter().map(|entry| entry.set).collect();
    sets.dedup();
    sets
}

/// The tool with this name, or with this other name.
pub fn find(name: &str) -> Option<&'static Entry> {
    let name = aliases::resolve(name);
    ALL.iter().find(|entry| entry.name == name)
}

/// The tools that this server offers, in the list's order.
pub fn offered(ctx: &Ctx) -> impl Iterator<Item = &'static Entry> + '_ {
    ALL.iter().filter(|entry| ctx.policy.offers(&entry.operation()) && ctx.app.surface.has(entry))
}

/// Flashes the project in this folder, as `monitor` does at a key; gives what is to be said of it.
pub fn flash_project(ctx: &Ctx, port: &str, folder: &str) -> Result<String, String> {
    let entry = find("esp_flash_firmware").ok_or("esp_flash_firmware is not offered")?;
    let flashed = entry.call(ctx, &Job::new(), json!({ "port": port, "project": folder }));
    flashed.map(|reply| reply.text).map_err(|error| error.to_string())
}
