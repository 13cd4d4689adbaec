//! One unit, from the connection to the record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::recipe::{self, Values};
use esp_ledger::{Identity, Unit};
use esp_link::flash::Packed;
use esp_model::chip::Chip;
use esp_model::job::Job;
use serde_json::json;

use super::content::{Content, Scope};
use super::desk::Desk;
use super::report::{Report, shown};
use super::steps;
use crate::Station;
use crate::prepared::Prepared;
use esp_ops::args::PortUrl;
use esp_ops::error::{Class, Code, ToolError};
use esp_ops::session::device::Connected;

/// What is done to each unit of a batch.
pub struct Order {
    /// The recipe with its files.
    pub prepared: Prepared,
    /// Which part of it.
    pub scope: Scope,
    /// How often a unit's connection is made again.
    pub retries: u32,
    /// Compressed data, shared by all units.
    pub packed: Arc<Packed>,
    /// The site's MES is asked where the recipe wants it; a rehearsal asks nobody.
    pub(crate) asks_mes: bool,
    /// Base MACs that were seen, with their ports.
    pub(crate) seen: Mutex<BTreeMap<String, String>>,
}

impl Order {
    /// The usual order for a recipe.
    pub fn new(prepared: Prepared, scope: Scope, retries: u32) -> Self {
        Self { prepared, scope, retries, packed: Arc::default(), asks_mes: true, seen: Mutex::default() }
    }

    /// Each base MAC is one unit: a second port with it would get the first one's identities and pass.
    fn claim(&self, mac: &str, port: &str) -> Result<(), ToolError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.entry(mac.to_owned()).or_insert_with(|| port.to_owned());
        if first == port {
            return Ok(());
        }
        let text = format!("{mac} is on {first} too");
        Err(ToolError::new(Code::IdentityConflict, text).next(
            "give each board once (one board can have two port names); boards that share a base MAC are set aside: they \
             cannot be told apart",
        ))
    }

    /// Makes recipe and files known to the ledger. Once, before the first unit.
    pub fn register(&self, desk: &Desk) -> Result<(), ToolError> {
        let prepared = &self.prepared;
        desk.with(|ledger| {
            ledger.add_recipe(&prepared.recipe.recipe.name, &prepared.text)?;
            for (file, (hash, size)) in &prepared.artefacts {
                ledger.add_artefact(file, hash, *size)?;
            }
            Ok(())
        })
    }
}

/// Produces one unit. Whatever happens is in the report, and in the ledger as far as it can be reached.
pub fn produce(station: &Station, desk: &Desk, job: &Job, port: &str, order: &Order) -> Report {
    let report = work_on(station, desk, job, port, order);
    station.floor.end(&report);
    report
}

/// The same; its slot is not told of the end.
pub(crate) fn work_on(station: &Station, desk: &Desk, job: &Job, port: &str, order: &Order) -> Report {
    let station = &station.with_pins(order.prepared.pins.clone());
    station.floor.begin(port, false);
    let mut work = Work {
        station,
        desk,
        job,
        order,
        report: Report::new(port),
        unit: None,
        identities: BTreeMap::new(),
        values: Values::new(),
        content: None,
        is_on_unit: false,
        record: json!({}),
        phase: ("connect", Instant::now()),
    };
    let result = work.all();
    work.finish(result);
    work.report
}

/// A unit in work.
pub(super) struct Work<'a> {
    pub(super) station: &'a Station,
    pub(super) desk: &'a Desk,
    pub(super) job: &'a Job,
    pub(super) order: &'a Order,
    pub(super) report: Report,
    pub(super) unit: Option<Unit>,
    pub(super) identities: BTreeMap<String, Identity>,
    pub(super) values: Values,
    pub(super) content: Option<Content>,
    /// The identities were read from the unit.
    pub(super) is_on_unit: bool,
    pub(super) record: serde_json::Value,
    pub(super) phase: (&'static str, Instant),
}

impl Work<'_> {
    fn all(&mut self) -> Result<(), ToolError> {
        let (station, job, order) = (self.station, self.job, self.order);
        let url: PortUrl = self.report.port.parse()?;
        let mut attempt = 0;
        loop {
            self.report.steps.clear();
            self.begin("connect");
            match station.call.with_device(Some(&url), job, |connected| self.on_device(connected)) {
                Err(error) if error.code.class() == Class::Line && attempt < order.retries && !job.is_cancelled() => {
                    attempt += 1;
                    self.again(&error);
                }
                result => break result?,
            }
        }
        for test in order.prepared.recipe.tests.iter().filter(|test| test.what.leaves_loader()) {
            self.begin("test");
            let step =
                steps::with_console(station, job, &self.report.port.clone(), &order.prepared, test, &self.values)?;
            self.report.steps.push(step);
        }
        Ok(())
    }

    /// The same work on a fresh connection. Whether that begins at a lower rate, the context has learned.
    fn again(&mut self, error: &ToolError) {
        self.report.retries += 1;
        let retries = self.report.retries;
        self.station.floor.change(&self.report.port, |slot| slot.retries = retries);
        tracing::warn!("{}: {}; trying again", self.report.port, error.message);
    }

    fn on_device(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        self.begin("identify");
        self.identify(connected)?;
        self.begin("reserve");
        self.reserve()?;
        self.begin("build");
        self.build(connected)?;
        self.begin("write");
        self.write(connected)?;
        self.begin("read_back");
        self.read_back(connected)?;
        self.begin("efuse");
        self.burn(connected)?;
        self.begin("test");
        let prepared = &self.order.prepared;
        for test in prepared.recipe.tests.iter().filter(|test| !test.what.leaves_loader()) {
            let step = steps::with_loader(connected, self.job, prepared, test, &self.values)?;
            self.report.steps.push(step);
        }
        Ok(())
    }

    fn identify(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (wanted, chip) = (&self.order.prepared, connected.loader.chip());
        self.report.is_virtual = connected.is_virtual();
        let known = connected.identify(self.job)?;
        let known = known.ok_or_else(|| {
            ToolError::new(Code::SecureDownload, "the device's identity is unavailable (secure download mode)")
        })?;
        self.report.chip = Some(known.description.clone());
        let mac = known.mac.to_string();
        self.order.claim(&mac, &self.report.port)?;
        self.report.mac = Some(mac);
        if chip.id != wanted.chip.id {
            let text = format!("the firmware is for {}, the chip is {}", wanted.chip.name, chip.name);
            return Err(ToolError::new(Code::ChipMismatch, text));
        }
        if !self.order.prepared.is_locked && !self.report.is_virtual {
            return Err(ToolError::new(
                Code::RecipeUnlocked,
                "the recipe is not locked; without a lock it is for virtual devices only",
            ));
        }
        fits(wanted, chip, connected.loader.revision())?;
        let flash_size = connected.loader.attach_flash(self.job, None)?;
        let least = wanted.recipe.chip.min_flash.as_deref().and_then(esp_model::literal::quantity).unwrap_or(0);
        if u64::from(flash_size) < least {
            return Err(ToolError::new(
                Code::FlashTooSmall,
                format!("the flash has {flash_size:#x} bytes, not {least:#x}"),
            ));
        }
        let unit = Unit {
            base_mac: known.mac.to_string(),
            chip: Some(chip.id.to_owned()),
            flash_uid: flash_uid(connected, self.job),
        };
        if self.unit.as_ref().is_some_and(|before| before.base_mac != unit.base_mac) {
            return Err(ToolError::new(Code::IdentityMismatch, "another device is on the port now"));
        }
        let jedec = connected.loader.flash_id(self.job)?;
        self.record["device"] = json!({
            "chip": known.description, "mac": unit.base_mac, "flash_uid": unit.flash_uid,
            "flash_id": jedec.to_string(), "flash_size_bytes": flash_size, "virtual": self.report.is_virtual,
        });
        self.unit = Some(unit);
        let mac = self.report.mac.clone().unwrap_or_default();
        self.station.floor.change(&self.report.port, |slot| slot.mac = mac);
        Ok(())
    }

    /// The same board again gets the same values; what is reserved here is committed before the first byte is written.
    fn reserve(&mut self) -> Result<(), ToolError> {
        let Some(unit) = &self.unit.clone() else { return Ok(()) };
        let prepared = &self.order.prepared;
        if self.report.run.is_none() {
            self.report.run = Some(self.desk.with(|ledger| ledger.begin_run(unit, Some(&prepared.hash)))?);
            self.ask_mes(unit)?;
        }
        for (name, from) in &prepared.recipe.identity {
            let identity = self.desk.with(|ledger| ledger.reserve(&from.pool, unit))?;
            self.report.identities.insert(name.clone(), shown(name, &identity));
            self.identities.insert(name.clone(), identity);
        }
        let issued: BTreeMap<_, _> =
            self.identities.iter().map(|(name, identity)| (name.clone(), identity.value.clone())).collect();
        let row = match &prepared.recipe.units {
            None => None,
            Some(units) => {
                let key = issued.get(&units.key).unwrap_or(&unit.base_mac);
                let row = prepared.rows.as_ref().and_then(|rows| rows.find(&units.key, key));
                let key = self.report.identities.get(&units.key).unwrap_or(key);
                let missing = || format!("`{}` has not exactly one row for {key}", units.file);
                Some(row.ok_or_else(|| ToolError::new(Code::UnitUnlisted, missing()))?)
            }
        };
        self.values = prepared.recipe.values(&unit.base_mac, &issued, row.as_ref());
        let identities = self.report.identities.clone();
        self.station.floor.change(&self.report.port, |slot| slot.identities = identities);
        Ok(())
    }

    pub(super) fn begin(&mut self, phase: &'static str) {
        let (before, since) = std::mem::replace(&mut self.phase, (phase, Instant::now()));
        *self.report.phases_s.entry(before.into()).or_default() += since.elapsed().as_secs_f64();
        self.station.floor.phase(&self.report.port, phase);
    }
}

fn fits(wanted: &Prepared, chip: &Chip, revision: Option<u16>) -> Result<(), ToolError> {
    let limit = |text: &Option<String>| text.as_deref().and_then(recipe::revision);
    let (low, high) = (limit(&wanted.recipe.chip.min_revision), limit(&wanted.recipe.chip.max_revision));
    let Some(revision) = revision else {
        return match low.or(high) {
            None => Ok(()),
            Some(_) => {
                Err(ToolError::new(Code::RevisionMismatch, "the recipe limits the revision, and it cannot be read"))
            }
        };
    };
    if low.is_some_and(|low| revision < low) || high.is_some_and(|high| revision > high) {
        let text = format!("the recipe does not allow {} revision v{}.{}", chip.name, revision / 100, revision % 100);
        return Err(ToolError::new(Code::RevisionMismatch, text));
    }
    Ok(())
}

/// The first half of the flash chip's unique id (opcode 0x4B); none where it does not answer the same twice.
fn flash_uid(connected: &mut Connected, job: &Job) -> Option<String> {
    let ask = || esp_link::flash::SpiCommand { opcode: 0x4b, dummy: 32, read_bits: 32, ..Default::default() };
    let first = connected.loader.spi_command(job, ask()).ok()?;
    let second = connected.loader.spi_command(job, ask()).ok()?;
    let is_id = first == second && first != 0 && first != u32::MAX;
    is_id.then(|| first.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}
