//! Acceptance of a finished unit: everything is read from the device, nothing is taken from the record but what it
//! must be.

use std::collections::BTreeMap;

use crate::recipe::Values;
use esp_ledger::{State, Unit};
use esp_link::flash::Part;
use esp_model::efuse::Burn;
use esp_model::job::Job;
use serde_json::Value as Json;

use super::burn;
use super::content::{self, Scope};
use super::desk::Desk;
use super::encryption::{self, Sealed};
use super::report::{Report, shown};
use super::steps::{self, Step};
use crate::Station;
use crate::prepared::Prepared;
use esp_ops::args::PortUrl;
use esp_ops::efuse::pipeline;
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::keep;
use esp_ops::session::device::Connected;

/// Inspects one unit. The report's steps are what was looked at.
pub fn inspect(
    station: &Station,
    desk: &Desk,
    job: &Job,
    port: Option<&PortUrl>,
    prepared: &Prepared,
) -> Result<Report, ToolError> {
    let station = &station.with_pins(prepared.pins.clone());
    let mut inspection = None;
    station.call.with_device(port, job, |connected| {
        let mut one = Inspection::new(station, desk, job, prepared, connected)?;
        one.look(connected)?;
        inspection = Some(one);
        Ok(())
    })?;
    let Some(mut one) = inspection else { return Err(ToolError::new(Code::Internal, "nothing was inspected")) };
    for test in prepared.recipe.tests.iter().filter(|test| test.what.leaves_loader()) {
        let port = one.report.port.clone();
        one.report.steps.push(steps::with_console(station, job, &port, prepared, test, &one.values)?);
    }
    one.report.judge();
    Ok(one.report)
}

struct Inspection<'a> {
    station: &'a Station,
    desk: &'a Desk,
    job: &'a Job,
    prepared: &'a Prepared,
    unit: Unit,
    values: Values,
    report: Report,
}

impl<'a> Inspection<'a> {
    fn new(
        station: &'a Station,
        desk: &'a Desk,
        job: &'a Job,
        prepared: &'a Prepared,
        connected: &mut Connected,
    ) -> Result<Self, ToolError> {
        let known = connected.identify(job)?;
        let known = known.ok_or_else(|| {
            ToolError::new(Code::SecureDownload, "the device's identity is unavailable (secure download mode)")
        })?;
        let mut report = Report::new(&connected.url.to_string());
        report.chip = Some(known.description.clone());
        report.mac = Some(known.mac.to_string());
        report.is_virtual = connected.is_virtual();
        let same = connected.loader.chip().id == prepared.chip.id;
        report.steps.push(Step::of("chip", same, known.description));
        let unit = Unit::new(&known.mac.to_string());
        Ok(Self { station, desk, job, prepared, unit, values: Values::new(), report })
    }

    fn look(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        self.in_ledger(connected)?;
        self.content(connected)?;
        self.efuses(connected)?;
        for test in self.prepared.recipe.tests.iter().filter(|test| !test.what.leaves_loader()) {
            let step = steps::with_loader(connected, self.job, self.prepared, test, &self.values)?;
            self.report.steps.push(step);
        }
        Ok(())
    }

    /// The ledger must know the unit, and have verified each identity.
    fn in_ledger(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let unit = &self.unit;
        let (device, own, record) = self
            .desk
            .with(|ledger| Ok((ledger.device(unit)?, ledger.of_unit(unit)?, ledger.last_event(unit, "record")?)))?;
        let steps = &mut self.report.steps;
        let Some(device) = device else {
            steps.push(Step::of("known to the ledger", false, "never seen"));
            self.values = self.prepared.recipe.values(&self.unit.base_mac, &self.report.identities, None);
            return Ok(());
        };
        steps.push(Step::of(
            "known to the ledger",
            device.quarantined.is_none(),
            device.quarantined.unwrap_or(device.base_mac),
        ));
        let mut issued = BTreeMap::new();
        for (name, from) in &self.prepared.recipe.identity {
            let live = own.iter().find(|identity| identity.pool == from.pool && identity.state != State::Void);
            let verified = live.is_some_and(|identity| identity.state >= State::Verified);
            let value = live.map(|identity| shown(name, identity));
            let text = live.zip(value.as_ref()).map(|(identity, value)| format!("{value} {}", identity.state));
            steps.push(Step::of(&format!("identity {name}"), verified, text.unwrap_or_else(|| "none".into())));
            self.report.identities.extend(value.map(|value| (name.clone(), value)));
            issued.extend(live.map(|identity| (name.clone(), identity.value.clone())));
        }
        let record: Option<Json> = record.and_then(|event| serde_json::from_str(&event.body).ok());
        let passed = record
            .as_ref()
            .is_some_and(|record| record["verdict"] == "pass" && record["recipe"]["hash"] == *self.prepared.hash);
        steps.push(Step::of(
            "produced by this recipe",
            passed,
            if passed { "yes" } else { "no run of it passed last" },
        ));
        let jedec = connected.loader.flash_id(self.job)?.to_string();
        match record.as_ref().and_then(|record| record["device"]["flash_id"].as_str()) {
            Some(before) => steps.push(Step::of("same flash chip", before == jedec, jedec)),
            None => steps.push(Step::unknown("same flash chip", "no record of it")),
        }
        let row = self.prepared.recipe.units.as_ref().and_then(|units| {
            let key = issued.get(&units.key).unwrap_or(&self.unit.base_mac);
            self.prepared.rows.as_ref()?.find(&units.key, key)
        });
        self.values = self.prepared.recipe.values(&self.unit.base_mac, &issued, row.as_ref());
        Ok(())
    }

    /// Every region by MD5 on the chip, NVS and certificates byte by byte.
    fn content(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (prepared, job) = (self.prepared, self.job);
        let complete = prepared.recipe.identity.keys().all(|name| self.report.identities.contains_key(name));
        if !complete {
            self.report.steps.push(Step::unknown("content", "the unit has no identity to compare with"));
            return Ok(());
        }
        connected.loader.attach_flash(job, None)?;
        let on_unit = keep::table(connected, job, None)?.map(|found| found.table);
        let table = prepared.table.as_ref().or(on_unit.as_ref());
        let mut wanted = content::build(self.station, prepared, table, &self.values, Scope::Full)?;
        encryption::protect(self.station, job, connected, prepared, &self.values, table, &mut wanted)?;
        let sealed = encryption::sealed_before(self.desk, &self.unit)?;
        for placed in &wanted.by_chip {
            let now = Sealed::ask(connected, job, placed)?;
            let note = "its ciphertext, which cannot be made again here, against that of the unit's last run";
            let name = format!("region {}", placed.name);
            let step = Step::of(&name, sealed.contains(&now), format!("{} bytes at {:#x}", now.size, now.address));
            self.report.steps.push(step.because(note));
        }
        let by_bytes: BTreeMap<u32, &str> =
            wanted.nvs.iter().map(|place| (place.address, place.partition.as_str())).collect();
        for placed in &wanted.placed {
            if by_bytes.contains_key(&placed.address) {
                continue;
            }
            let name = format!("region {}", placed.name);
            if !connected.loader.can_verify() {
                self.report.steps.push(Step::unknown(&name, "this loader computes no MD5"));
                continue;
            }
            let difference =
                connected.loader.verify(job, &mut Part::bytes(placed.address, placed.bytes.as_ref().clone()))?;
            let step =
                Step::of(&name, difference.is_none(), format!("{} bytes at {:#x}", placed.bytes.len(), placed.address));
            self.report.steps.push(match difference {
                Some(found) => step.because(format!("at {:#x}: {}", found.address, found.kind)),
                None => step,
            });
        }
        for place in &wanted.nvs {
            let bytes = connected.loader.read_flash_bytes(job, place.address, place.size)?;
            let differences = content::nvs_differences(place, &bytes);
            let step = Step::of(
                &format!("values in {}", place.partition),
                differences.is_empty(),
                place.values.len().to_string(),
            );
            self.report.steps.push(if differences.is_empty() { step } else { step.because(differences.join(", ")) });
        }
        if let Some(cert) = &wanted.cert {
            let bytes = connected.loader.read_flash_bytes(job, cert.address, cert.bytes.len() as u32)?;
            self.report.steps.push(Step::of("certificates", bytes == *cert.bytes, cert.name.clone()));
        }
        Ok(())
    }

    /// Burning the recipe's eFuses again must change nothing.
    fn efuses(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let Some(plan) = &self.prepared.recipe.efuse else { return Ok(()) };
        let efuses = pipeline::read(connected, self.job)?;
        let (settled, _) =
            burn::settled(self.station, self.desk, &self.unit, &efuses, self.prepared, plan, &self.values)?;
        let mut again = Burn::new(efuses);
        let missing = settled.open.iter().try_for_each(|request| again.add(request)).and_then(|()| again.steps());
        let steps = &mut self.report.steps;
        steps.push(match missing {
            Ok(missing) if missing.is_empty() => Step::of("eFuses", true, "as in the recipe"),
            Ok(_) => Step::of("eFuses", false, "bits are missing"),
            // A key that cannot be read cannot be compared either.
            Err(error) => Step::unknown("eFuses", error.to_string()),
        });
        if let Some(note) = settled.note() {
            steps.push(Step { optional: true, ..Step::unknown("hidden eFuse keys", note) });
        }
        Ok(())
    }
}
