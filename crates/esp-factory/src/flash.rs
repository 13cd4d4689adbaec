//! A unit's flash: what it shall hold, the write, and what is read back.

use crate::recipe::Measure;
use esp_ledger::{Identity, State};
use esp_link::flash::{Part, Shared, WriteOptions};
use esp_model::secure_cert;
use md5::{Digest, Md5};
use serde_json::json;

use super::content::{self, Scope};
use super::encryption::{self, Sealed};
use super::report::shown;
use super::steps::Step;
use super::unit::Work;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::{files, keep};
use esp_ops::session::device::Connected;
use esp_ops::words::counted;

impl Work<'_> {
    pub(super) fn build(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let prepared = &self.order.prepared;
        let on_unit = match (&prepared.table, self.order.scope) {
            (Some(_), Scope::Full) => None,
            _ => keep::table(connected, self.job, None)?.map(|found| found.table),
        };
        let table = on_unit.as_ref().or(prepared.table.as_ref());
        let mut content = content::build(self.station, prepared, table, &self.values, self.order.scope)?;
        if content.placed.is_empty() && prepared.recipe.efuse.is_none() {
            return Err(ToolError::new(Code::NothingToDo, "the recipe writes nothing"));
        }
        let flash_size = connected.loader.attach_flash(self.job, None)?;
        for placed in &content.placed {
            let revision = connected.loader.revision();
            files::check_images(&[placed.piece()], connected.loader.chip(), revision, flash_size)?;
        }
        encryption::protect(self.station, self.job, connected, prepared, &self.values, table, &mut content)?;
        self.content = Some(content);
        self.no_foreign_identity(connected)
    }

    /// A unit that carries what the ledger gave to another one is an incident, not a blank board.
    fn no_foreign_identity(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (Some(content), Some(unit)) = (&self.content, &self.unit) else { return Ok(()) };
        for place in content.nvs.iter().filter(|place| !place.identities.is_empty()) {
            let bytes = connected.loader.read_flash_bytes(self.job, place.address, place.size)?;
            for (name, found) in content::identities_on_unit(place, &bytes) {
                let Some(own) = self.identities.get(&name).filter(|own| own.value != found) else { continue };
                let owner = self.desk.with(|ledger| ledger.find(&own.kind, &found))?;
                if let Some(other) = owner.and_then(|owner| owner.unit).filter(|mac| Some(mac) != own.unit.as_ref()) {
                    let seen = shown(&name, &Identity { value: found, ..own.clone() });
                    let reason = format!("it carries {name} {seen}, which belongs to unit {other}");
                    let key = unit.key()?;
                    self.desk.with(|ledger| ledger.quarantine(&key, &reason))?;
                    return Err(ToolError::new(Code::IdentityConflict, format!("unit {key}: {reason}")));
                }
                let run = self.report.run;
                let found = shown(&name, &Identity { value: found, ..own.clone() });
                let body = json!({"name": name, "found": found, "becomes": shown(&name, own)});
                self.desk.with(|ledger| ledger.record(run, "replaces", &body))?;
            }
        }
        Ok(())
    }

    pub(super) fn write(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (Some(content), Some(unit), run) = (&self.content, self.unit.clone(), self.report.run) else {
            return Ok(());
        };
        let regions: Vec<_> = content
            .placed
            .iter()
            .chain(&content.by_chip)
            .map(|placed| {
                let md5: String = esp_model::hex::encode(Md5::digest(placed.bytes.as_ref()));
                json!({"name": placed.name, "address": placed.address, "size_bytes": placed.bytes.len(), "md5": md5})
            })
            .collect();
        let intent = json!({"identities": self.report.identities, "regions": regions});
        let ids: Vec<i64> = self.identities.values().map(|identity| identity.id).collect();
        self.desk.with(|ledger| {
            ledger.record(run, "intent", &intent)?;
            ledger.advance_all(&ids, &unit, State::Writing)
        })?;
        self.record["regions"] = json!(regions);
        self.write_by_chip(connected)?;
        let Some(content) = &self.content else { return Ok(()) };
        let part = |placed: &crate::prepared::Placed| Part {
            address: placed.address,
            source: Box::new(Shared(placed.bytes.clone())),
        };
        let mut parts: Vec<Part> = content.placed.iter().map(part).collect();
        connected.loader.use_packed(self.order.packed.clone());
        let written = connected.loader.write_flash(self.job, &mut parts, &WriteOptions::default());
        self.report.baud = connected.loader.port().baud();
        let written = written.map_err(|error| ToolError::from(error).touched(FlashState::Partial))?;
        self.report.written_bytes += written.written_bytes;
        self.report.skipped_bytes = written.skipped_bytes;
        self.report.retries += written.restarts;
        self.desk.with(|ledger| ledger.advance_all(&ids, &unit, State::Written))?;
        self.report.steps.push(match written.verified {
            true => Step::of(
                "flash content",
                true,
                format!("{} by MD5 on the chip", counted(content.placed.len(), "region")),
            ),
            false => Step::unknown("flash content", "this loader computes no MD5"),
        });
        Ok(())
    }

    /// What only the chip can encrypt. What it sealed before and nobody changed since is left as it is.
    fn write_by_chip(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (Some(content), Some(unit)) = (&self.content, &self.unit) else { return Ok(()) };
        if content.by_chip.is_empty() {
            return Ok(());
        }
        let before = encryption::sealed_before(self.desk, unit)?;
        let (mut sealed, mut written) = (Vec::new(), 0);
        for placed in &content.by_chip {
            let mut now = Sealed::ask(connected, self.job, placed)?;
            if !before.contains(&now) {
                let mut parts = [Part { address: placed.address, source: Box::new(Shared(placed.bytes.clone())) }];
                let options = WriteOptions { encrypt: true, ..WriteOptions::default() };
                let done = connected.loader.write_flash(self.job, &mut parts, &options);
                let done = done.map_err(|error| ToolError::from(error).touched(FlashState::Partial))?;
                written += done.written_bytes;
                if done.restarts > 0 {
                    // What a damaged request hit cannot be found out, so all of it is written again.
                    let text = "the line failed while the chip encrypted, and nothing of that can be compared";
                    return Err(ToolError::new(Code::LinkLost, text).touched(FlashState::Partial));
                }
                now = Sealed::ask(connected, self.job, placed)?;
            }
            sealed.push(now);
        }
        self.report.written_bytes += written;
        self.record["sealed"] = json!(sealed);
        // Only the application that boots shows that it is right: a console test that must pass says so.
        let boots = |test: &&crate::recipe::Test| matches!(test.what, Measure::Console { .. }) && !test.optional;
        let text =
            format!("{}, encrypted by the chip: not comparable without its key", counted(sealed.len(), "region"));
        let step = Step::unknown("encrypted content", text);
        let optional = self.order.prepared.recipe.tests.iter().any(|test| boots(&test));
        self.report.steps.push(Step { optional, ..step });
        Ok(())
    }

    /// What counts is on the unit, not what was sent.
    pub(super) fn read_back(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let Some(content) = &self.content else { return Ok(()) };
        let mut is_right = true;
        for place in &content.nvs {
            let bytes = connected.loader.read_flash_bytes(self.job, place.address, place.size)?;
            let differences = content::nvs_differences(place, &bytes);
            let name = format!("read back {}", place.partition);
            let mut step = Step::of(&name, differences.is_empty(), counted(place.values.len(), "value"));
            if !differences.is_empty() {
                is_right = false;
                step = step.because(differences.join(", "));
            }
            self.report.steps.push(step);
        }
        if let Some(cert) = &content.cert {
            let bytes = connected.loader.read_flash_bytes(self.job, cert.address, cert.bytes.len() as u32)?;
            let same = bytes == *cert.bytes;
            is_right &= same;
            let value = secure_cert::read(&bytes).map_or("encrypted".into(), |found| counted(found.len(), "entry"));
            self.report.steps.push(Step::of(&format!("read back {}", cert.name), same, value));
        }
        self.is_on_unit = is_right;
        Ok(())
    }
}
