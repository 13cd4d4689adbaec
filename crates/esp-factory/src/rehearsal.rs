//! A recipe tried on a simulated device, with a ledger of its own that is thrown away.

use std::collections::BTreeMap;
use std::path::Path;

use esp_ledger::Values as Pool;
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::Serialize;

use super::content::Scope;
use super::desk::Desk;
use super::report::{Report, UnitVerdict};
use super::unit::{self, Order};
use crate::Station;
use crate::prepared::Prepared;
use esp_ops::error::{Code, ToolError};
use esp_ops::partition::nvs_values::{EntryOut, Show};

/// The device of the rehearsal.
const NAME: &str = "rehearsal";

/// What the linter and the rehearsal say.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// Errors and warnings: `error, image app.bin: …`.
    pub findings: Vec<String>,
    /// No error was found, and the rehearsal did not fail.
    pub good: bool,
    /// Hash of the recipe.
    pub hash: String,
    /// The files are locked.
    pub locked: bool,
    /// What became of the simulated unit; left out when errors forbid the try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Report>,
    /// Values that the simulated unit got.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<NvsOut>,
    /// Bytes that a second run wrote; 0 when the recipe is repeatable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_run_bytes: Option<u64>,
}

/// What an NVS partition of the simulated unit holds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NvsOut {
    /// The partition.
    pub partition: String,
    /// Its pairs; secrets are masked.
    pub entries: Vec<EntryOut>,
}

/// A finding as `error, image app.bin: …`.
pub fn finding(finding: &crate::recipe::Finding) -> String {
    let severity = match finding.severity {
        crate::recipe::Severity::Error => "error",
        crate::recipe::Severity::Warning => "warning",
    };
    format!("{severity}, {}: {}", finding.place, finding.text)
}

/// Checks a recipe and follows it twice on a fresh simulated chip. `values` are identities for the rehearsal by name.
pub fn check(
    station: &Station,
    job: &Job,
    path: &str,
    values: &BTreeMap<String, String>,
) -> Result<Outcome, ToolError> {
    check_showing(station, job, path, values, None)
}

/// The same; `show_values`: all values (true), none (false), or those that are no secrets.
pub fn check_showing(
    station: &Station,
    job: &Job,
    path: &str,
    values: &BTreeMap<String, String>,
    show_values: Option<bool>,
) -> Result<Outcome, ToolError> {
    let prepared = Prepared::load(station, path)?;
    let mut outcome = Outcome {
        findings: prepared.findings.iter().map(finding).collect(),
        values: Vec::new(),
        good: prepared.errors().next().is_none(),
        hash: prepared.hash.clone(),
        locked: prepared.is_locked,
        unit: None,
        second_run_bytes: None,
    };
    if !outcome.good {
        return Ok(outcome);
    }
    let failed =
        |error: std::io::Error| ToolError::of_io(Code::FileUnwritable, "the rehearsal's folder cannot be made", &error);
    let dir = tempfile::tempdir().map_err(failed)?;
    let port = device(station, &prepared)?;
    let desk = desk(dir.path(), &prepared, values)?;
    let order = Order { asks_mes: false, ..Order::new(prepared, Scope::Full, 0) };
    order.register(&desk)?;
    let first = unit::produce(station, &desk, job, &port, &order);
    let second = unit::produce(station, &desk, job, &port, &order);
    outcome.values = written(station, &port, &order.prepared, Show::of(show_values));
    station.call.devices.sessions.forget(&port);
    station.call.ports.remove_simulated(&port);
    station.floor.forget(&port);
    let repeats = second.error.is_some() || second.identities == first.identities;
    if !repeats {
        outcome.findings.push("error, rehearsal: a second run issued other identities".into());
    }
    if let Some(error) = first.error.as_ref().or(second.error.as_ref()) {
        outcome.findings.push(format!("error, rehearsal: {error}"));
    }
    // What a simulated chip cannot show is unknown, which is no fault of the recipe.
    outcome.good =
        repeats && second.error.is_none() && matches!(first.verdict, UnitVerdict::Pass | UnitVerdict::Unknown);
    outcome.second_run_bytes = Some(second.written_bytes);
    outcome.unit = Some(first);
    Ok(outcome)
}

/// What the NVS partitions of the simulated unit hold now.
fn written(station: &Station, port: &str, prepared: &Prepared, show: Show) -> Vec<NvsOut> {
    let Some(device) = station.call.ports.simulated().into_iter().find(|device| device.url() == port) else {
        return Vec::new();
    };
    let read = |data: &crate::recipe::NvsData| {
        let found = prepared.table.as_ref()?.find(&data.partition)?;
        let bytes = device.with(|chip, _| chip.flash().read(found.offset, found.size as usize)).ok()?;
        let contents = esp_model::nvs::read(&bytes);
        let entries = contents.entries.iter().map(|entry| EntryOut::new(entry, show)).collect();
        Some(NvsOut { partition: data.partition.clone(), entries })
    };
    prepared.recipe.nvs.iter().filter_map(read).collect()
}

fn device(station: &Station, prepared: &Prepared) -> Result<String, ToolError> {
    let url = format!("sim://{}-{NAME}", prepared.chip.id);
    let end =
        prepared.images.iter().map(|image| u64::from(image.address) + image.bytes.len() as u64).max().unwrap_or(0);
    let table_end = prepared.table.as_ref().map_or(0, esp_model::partition::Table::end);
    let least = prepared.recipe.chip.min_flash.as_deref().and_then(esp_model::literal::quantity).unwrap_or(0);
    let size = end.max(table_end).max(least).max(4 << 20).next_power_of_two();
    let size = u32::try_from(size).map_err(|_| ToolError::new(Code::AddressOutOfRange, "no flash is that large"))?;
    let mut config = esp_sim::Config::new(prepared.chip, NAME).unpaced();
    config.flash_size = size;
    config.revision = prepared.recipe.chip.min_revision.as_deref().and_then(crate::recipe::revision).filter(|r| *r > 0);
    station.call.ports.add_simulated(esp_sim::SimDevice::new(&config, url.clone()));
    Ok(url)
}

/// A ledger with one value in each pool.
fn desk(dir: &Path, prepared: &Prepared, values: &BTreeMap<String, String>) -> Result<Desk, ToolError> {
    let desk = Desk::at(&dir.join("ledger.db"), NAME);
    let units = prepared.recipe.units.as_ref();
    for (name, from) in &prepared.recipe.identity {
        let listed = units.filter(|units| units.key == *name).and_then(|_| prepared.rows.as_ref()?.first(name));
        let usual = if name.contains("mac") { "02:e5:00:00:00:01" } else { "TEST-00001" };
        let value = values.get(name).cloned().or(listed).unwrap_or_else(|| usual.to_owned());
        desk.with(|ledger| ledger.add_pool(&from.pool, name, &Pool::List(vec![value])))?;
    }
    Ok(desk)
}
