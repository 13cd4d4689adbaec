//! One unit, from the connection to the record.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use esp_ledger::{Identity, Measurement, Outcome, State, Unit, Verdict as Judged};
use esp_link::flash::{Packed, Part, Source, WriteOptions};
use esp_model::job::Job;
use esp_model::recipe::{self, Values};
use esp_model::{chip::Chip, secure_cert};
use md5::{Digest, Md5};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::content::{self, Content, Scope};
use super::desk::Desk;
use super::recipe::Prepared;
use super::steps::{self, Step, Verdict};
use crate::ctx::Ctx;
use crate::ctx::device::{Connected, mac_text};
use crate::tools::args::PortUrl;
use crate::tools::error::{FlashState, ToolError};
use crate::tools::flash::{files, keep};

/// Errors after which it is worth connecting again.
const LINE: [&str; 8] = [
    "link_lost",
    "port_lost",
    "port_failed",
    "no_serial_data",
    "no_sync",
    "wrong_boot_mode",
    "not_the_loader",
    "stub_failed",
];

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
}

impl Order {
    /// The usual order for a recipe.
    pub fn new(prepared: Prepared, scope: Scope, retries: u32) -> Self {
        Self { prepared, scope, retries, packed: Arc::default() }
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

/// What became of a unit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Report {
    /// The port's URL.
    pub port: String,
    /// pass, fail, unknown (something needed was not measured) or aborted.
    pub verdict: String,
    /// Chip and revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// Base MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The device is simulated or emulated.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// The run's number in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<i64>,
    /// What was issued to it, by name.
    pub identities: BTreeMap<String, String>,
    /// What was checked.
    pub steps: Vec<Step>,
    /// What to print; only when it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Flash bytes written.
    pub written_bytes: u64,
    /// Flash bytes that were right already.
    pub skipped_bytes: u64,
    /// Connections that were made again, and restarts of transfers.
    pub retries: u32,
    /// Line rate at the end.
    pub baud: u32,
    /// Seconds by phase.
    pub phases_s: BTreeMap<String, f64>,
    /// Code and what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error itself.
    #[serde(skip)]
    pub failure: Option<ToolError>,
}

impl Report {
    /// Nothing is known of the unit yet.
    pub fn new(port: &str) -> Self {
        Self {
            port: port.into(),
            verdict: "aborted".into(),
            chip: None,
            mac: None,
            is_virtual: false,
            run: None,
            identities: BTreeMap::new(),
            steps: Vec::new(),
            label: None,
            written_bytes: 0,
            skipped_bytes: 0,
            retries: 0,
            baud: 0,
            phases_s: BTreeMap::new(),
            error: None,
            failure: None,
        }
    }

    /// All that was needed was measured and right.
    pub fn passed(&self) -> bool {
        self.verdict == "pass"
    }

    /// In one line.
    pub fn line(&self) -> String {
        let who = self.mac.as_deref().unwrap_or("unknown device");
        let identities: Vec<String> = self.identities.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut text = format!("{}: {} {who} {}", self.port, self.verdict, identities.join(", "));
        let bad = self.steps.iter().filter(|step| step.verdict != Verdict::Pass && !step.optional);
        let bad: Vec<&str> = bad.map(|step| step.name.as_str()).collect();
        if !bad.is_empty() {
            text += &format!(" (not passed: {})", bad.join(", "));
        }
        if let Some(error) = &self.error {
            text += &format!(" ({error})");
        }
        text
    }

    /// Sets the verdict from the steps and the failure.
    pub fn judge(&mut self) {
        let counted = || self.steps.iter().filter(|step| !step.optional).map(|step| step.verdict);
        self.verdict = match &self.failure {
            Some(error) if error.code == "cancelled" => "aborted",
            Some(_) => "fail",
            None if counted().any(|verdict| verdict == Verdict::Fail) => "fail",
            None if counted().any(|verdict| verdict == Verdict::Unknown) || self.steps.is_empty() => "unknown",
            None => "pass",
        }
        .into();
    }
}

/// Images that all units share.
struct Shared(Arc<Vec<u8>>);

impl Source for Shared {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.0.get(start..start + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// Produces one unit. Whatever happens is in the report, and in the ledger as far as it can be reached.
pub fn produce(ctx: &Ctx, desk: &Desk, job: &Job, port: &str, order: &Order) -> Report {
    ctx.floor.begin(port, false);
    let mut work = Work {
        ctx,
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
    let report = work.report;
    ctx.floor.end(port, &report.verdict, report.error.as_deref());
    report
}

struct Work<'a> {
    ctx: &'a Ctx,
    desk: &'a Desk,
    job: &'a Job,
    order: &'a Order,
    report: Report,
    unit: Option<Unit>,
    identities: BTreeMap<String, Identity>,
    values: Values,
    content: Option<Content>,
    /// The identities were read from the unit.
    is_on_unit: bool,
    record: serde_json::Value,
    phase: (&'static str, Instant),
}

impl Work<'_> {
    fn all(&mut self) -> Result<(), ToolError> {
        let (ctx, job, order) = (self.ctx, self.job, self.order);
        let url = PortUrl(self.report.port.clone());
        let mut attempt = 0;
        loop {
            self.report.steps.clear();
            self.begin("connect");
            match ctx.with_device(Some(&url), job, |connected| self.on_device(connected)) {
                Err(error) if LINE.contains(&error.code) && attempt < order.retries && !job.is_cancelled() => {
                    attempt += 1;
                    self.again(&error);
                }
                result => break result?,
            }
        }
        for test in order.prepared.recipe.tests.iter().filter(|test| test.what.leaves_loader()) {
            self.begin("test");
            let step = steps::with_console(ctx, job, &url.0, &order.prepared, test, &self.values)?;
            self.report.steps.push(step);
        }
        Ok(())
    }

    /// The same work on a fresh connection, at a lower rate.
    fn again(&mut self, error: &ToolError) {
        self.report.retries += 1;
        let retries = self.report.retries;
        self.ctx.floor.change(&self.report.port, |slot| slot.retries = retries);
        if let Ok(url) = self.report.port.parse() {
            let present = self.ctx.known_baud(&url).unwrap_or_else(|| self.ctx.config.baud());
            if let Some(rate) = esp_link::flash::slower(present) {
                self.ctx.remember_baud(&url, rate);
            }
        }
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
        let known = known.ok_or_else(|| ToolError::new("secure_download", "who the device is cannot be read"))?;
        self.report.chip = Some(known.description.clone());
        self.report.mac = Some(mac_text(&known.mac));
        if chip.id != wanted.chip.id {
            let text = format!("the recipe is for {}, the chip is {}", wanted.chip.name, chip.name);
            return Err(ToolError::new("chip_mismatch", text));
        }
        if !self.order.prepared.is_locked && !self.report.is_virtual {
            return Err(ToolError::new("recipe_unlocked", "a recipe without a lock is for virtual devices only"));
        }
        fits(wanted, chip, connected.loader.revision())?;
        let flash_size = connected.loader.attach_flash(self.job, None)?;
        let least = wanted.recipe.chip.min_flash.as_deref().and_then(esp_model::literal::quantity).unwrap_or(0);
        if u64::from(flash_size) < least {
            return Err(ToolError::new(
                "flash_too_small",
                format!("the flash has {flash_size:#x} bytes, not {least:#x}"),
            ));
        }
        let unit = Unit {
            base_mac: mac_text(&known.mac),
            chip: Some(chip.id.to_owned()),
            flash_uid: flash_uid(connected, self.job),
        };
        if self.unit.as_ref().is_some_and(|before| before.base_mac != unit.base_mac) {
            return Err(ToolError::new("identity_mismatch", "another device is on the port now"));
        }
        let jedec = connected.loader.flash_id(self.job)?;
        self.record["device"] = json!({
            "chip": known.description, "mac": unit.base_mac, "flash_uid": unit.flash_uid,
            "flash_id": jedec.to_string(), "flash_size_bytes": flash_size, "virtual": self.report.is_virtual,
        });
        self.unit = Some(unit);
        let mac = self.report.mac.clone().unwrap_or_default();
        self.ctx.floor.change(&self.report.port, |slot| slot.mac = mac);
        Ok(())
    }

    /// The same board again gets the same values; what is reserved here is committed before the first byte is written.
    fn reserve(&mut self) -> Result<(), ToolError> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let prepared = &self.order.prepared;
        if self.report.run.is_none() {
            self.report.run = Some(self.desk.with(|ledger| ledger.begin_run(unit, Some(&prepared.hash)))?);
        }
        for (name, from) in &prepared.recipe.identity {
            let identity = self.desk.with(|ledger| ledger.reserve(&from.pool, unit))?;
            self.report.identities.insert(name.clone(), identity.value.clone());
            self.identities.insert(name.clone(), identity);
        }
        let row = match &prepared.recipe.units {
            None => None,
            Some(units) => {
                let key = self.report.identities.get(&units.key).unwrap_or(&unit.base_mac);
                let row = prepared.rows.as_ref().and_then(|rows| rows.find(&units.key, key));
                let missing = || format!("`{}` has not exactly one row for {key}", units.file);
                Some(row.ok_or_else(|| ToolError::new("unit_unlisted", missing()))?)
            }
        };
        self.values = prepared.recipe.values(&unit.base_mac, &self.report.identities, row.as_ref());
        let identities = self.report.identities.clone();
        self.ctx.floor.change(&self.report.port, |slot| slot.identities = identities);
        Ok(())
    }

    fn build(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let prepared = &self.order.prepared;
        let on_unit = match (&prepared.table, self.order.scope) {
            (Some(_), Scope::Full) => None,
            _ => keep::table(connected, self.job, None)?.map(|found| found.table),
        };
        let table = on_unit.as_ref().or(prepared.table.as_ref());
        let content = content::build(self.ctx, prepared, table, &self.values, self.order.scope)?;
        if content.placed.is_empty() && prepared.recipe.efuse.is_none() {
            return Err(ToolError::new("nothing_to_do", "the recipe writes nothing"));
        }
        let flash_size = connected.loader.attach_flash(self.job, None)?;
        for placed in &content.placed {
            let revision = connected.loader.revision();
            files::check_images(&[placed.piece()], connected.loader.chip(), revision, flash_size)?;
        }
        let plain_only = content.placed.len() > content.nvs.len();
        if plain_only && connected.is_encrypted(self.job)? {
            let text = "flash encryption is on: the recipe's plain images and certificates would not be understood";
            return Err(ToolError::new("encryption_active", text).touched(FlashState::Unchanged));
        }
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
                    let reason = format!("it carries {name} {found}, which belongs to unit {other}");
                    let key = unit.key()?;
                    self.desk.with(|ledger| ledger.quarantine(&key, &reason))?;
                    return Err(ToolError::new("identity_conflict", format!("unit {key}: {reason}")));
                }
                let run = self.report.run;
                let body = json!({"name": name, "found": found, "becomes": own.value});
                self.desk.with(|ledger| ledger.record(run, "replaces", &body))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (Some(content), Some(unit), run) = (&self.content, &self.unit, self.report.run) else { return Ok(()) };
        let regions: Vec<_> = content
            .placed
            .iter()
            .map(|placed| {
                let md5: String = Md5::digest(placed.bytes.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect();
                json!({"name": placed.name, "address": placed.address, "size_bytes": placed.bytes.len(), "md5": md5})
            })
            .collect();
        let intent = json!({"identities": self.report.identities, "regions": regions});
        let ids: Vec<i64> = self.identities.values().map(|identity| identity.id).collect();
        self.desk.with(|ledger| {
            ledger.record(run, "intent", &intent)?;
            ledger.advance_all(&ids, unit, State::Writing)
        })?;
        self.record["regions"] = json!(regions);
        let part = |placed: &super::recipe::Placed| Part {
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
        self.desk.with(|ledger| ledger.advance_all(&ids, unit, State::Written))?;
        self.report.steps.push(match written.verified {
            true => Step::of("flash content", true, format!("{} regions by MD5 on the chip", content.placed.len())),
            false => Step::unknown("flash content", "this loader computes no MD5"),
        });
        Ok(())
    }

    /// What counts is on the unit, not what was sent.
    fn read_back(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let Some(content) = &self.content else { return Ok(()) };
        let mut is_right = true;
        for place in &content.nvs {
            let bytes = connected.loader.read_flash_bytes(self.job, place.address, place.size)?;
            let differences = content::nvs_differences(place, &bytes);
            let name = format!("read back {}", place.partition);
            let mut step = Step::of(&name, differences.is_empty(), format!("{} values", place.values.len()));
            if !differences.is_empty() {
                is_right = false;
                step = step.because(differences.join(", "));
            }
            self.report.steps.push(step);
        }
        if let Some(cert) = &content.cert {
            let bytes = connected.loader.read_flash_bytes(self.job, cert.address, cert.bytes.len() as u32)?;
            let entries = secure_cert::read(&bytes);
            let same = bytes == *cert.bytes && entries.is_ok();
            is_right &= same;
            let count = entries.map_or(0, |entries| entries.len());
            self.report.steps.push(Step::of(&format!("read back {}", cert.name), same, format!("{count} entries")));
        }
        self.is_on_unit = is_right;
        Ok(())
    }

    fn burn(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let Some(plan) = &self.order.prepared.recipe.efuse else { return Ok(()) };
        let (ctx, job, prepared) = (self.ctx, self.job, &self.order.prepared);
        // A key that was burned cannot be compared, and not be burned again: what this recipe has burned is done.
        if let Some(unit) = &self.unit
            && let Some(event) = self.desk.with(|ledger| ledger.last_event(unit, "efuse"))?
            && event.body.contains(&prepared.hash)
        {
            let before = format!("burned in run {}", event.run.unwrap_or(0));
            self.report.steps.push(Step::of("eFuses", true, before));
            return Ok(());
        }
        let burned = super::burn::carry_out(ctx, job, connected, prepared, plan, &self.values)?;
        let about = json!({"plan": burned.plan, "state": burned.state, "recipe": prepared.hash});
        let run = self.report.run;
        self.desk.with(|ledger| ledger.record(run, "efuse", &about))?;
        self.record["efuse"] = about;
        self.report.steps.push(match burned.state.as_str() {
            "burned" | "nothing_to_do" => Step::of("eFuses", true, burned.state),
            other => Step::unknown("eFuses", other),
        });
        Ok(())
    }

    fn begin(&mut self, phase: &'static str) {
        let (before, since) = std::mem::replace(&mut self.phase, (phase, Instant::now()));
        *self.report.phases_s.entry(before.into()).or_default() += since.elapsed().as_secs_f64();
        self.ctx.floor.phase(&self.report.port, phase);
    }

    fn finish(&mut self, result: Result<(), ToolError>) {
        self.begin("record");
        if let Err(error) = result {
            self.report.error = Some(format!("{}: {}", error.code, error.message));
            self.report.failure = Some(error);
        }
        self.report.judge();
        if self.report.passed() {
            let label = self.order.prepared.recipe.label.as_ref();
            let filled = label.map(|label| content::filled(&self.order.prepared, &label.payload, &self.values));
            self.report.label = filled.and_then(Result::ok);
        }
        self.begin("done");
        self.report.phases_s.remove("done");
        self.report.phases_s.values_mut().for_each(|seconds| *seconds = (*seconds * 1000.0).round() / 1000.0);
        if let Err(error) = self.record() {
            // Without a record there is no pass, and no label.
            self.report.error = Some(format!("{}: {}", error.code, error.message));
            self.report.failure = Some(error);
            self.report.label = None;
            self.report.judge();
        }
    }

    fn record(&mut self) -> Result<(), ToolError> {
        let (Some(run), Some(unit)) = (self.report.run, &self.unit) else { return Ok(()) };
        let outcome = match self.report.verdict.as_str() {
            "pass" => Outcome::Passed,
            "aborted" => Outcome::Aborted,
            _ => Outcome::Failed,
        };
        let verified: Vec<i64> = match self.is_on_unit {
            true => self.identities.values().map(|identity| identity.id).collect(),
            false => Vec::new(),
        };
        let mut measured: Vec<Measurement> = self.report.steps.iter().map(measurement).collect();
        if let Some(error) = &self.report.failure {
            let name = format!("error {}", error.code);
            let value = Some(error.message.clone());
            measured.push(Measurement { name, value, low: None, high: None, verdict: Judged::Fail });
        }
        let mut record = self.record.take();
        let about = &self.order.prepared;
        record["tool"] = json!(concat!("mcp-esptool ", env!("CARGO_PKG_VERSION")));
        record["recipe"] =
            json!({"name": about.recipe.recipe.name, "version": about.recipe.recipe.version, "hash": about.hash});
        record["artefacts"] =
            json!(about.artefacts.iter().map(|(file, (hash, _))| (file, hash)).collect::<BTreeMap<_, _>>());
        record["operator"] = json!(self.desk.operator);
        for (name, value) in [
            ("port", json!(self.report.port)),
            ("verdict", json!(self.report.verdict)),
            ("identities", json!(self.report.identities)),
            ("baud", json!(self.report.baud)),
            ("retries", json!(self.report.retries)),
            ("phases_s", json!(self.report.phases_s)),
            ("label", json!(self.report.label)),
            ("error", json!(self.report.error)),
        ] {
            record[name] = value;
        }
        self.desk.with(|ledger| ledger.finish_run(run, unit, outcome, &verified, &measured, &record))
    }
}

/// A step as the ledger keeps it.
pub fn measurement(step: &Step) -> Measurement {
    Measurement {
        name: step.name.clone(),
        value: step.value.clone().or_else(|| step.note.clone()),
        low: step.low.clone(),
        high: step.high.clone(),
        verdict: match step.verdict {
            Verdict::Pass => Judged::Pass,
            Verdict::Fail => Judged::Fail,
            Verdict::Unknown => Judged::Unknown,
        },
    }
}

fn fits(wanted: &Prepared, chip: &Chip, revision: Option<u16>) -> Result<(), ToolError> {
    let limit = |text: &Option<String>| text.as_deref().and_then(recipe::revision);
    let (low, high) = (limit(&wanted.recipe.chip.min_revision), limit(&wanted.recipe.chip.max_revision));
    let Some(revision) = revision else {
        return match low.or(high) {
            None => Ok(()),
            Some(_) => {
                Err(ToolError::new("revision_mismatch", "the recipe limits the revision, and it cannot be read"))
            }
        };
    };
    if low.is_some_and(|low| revision < low) || high.is_some_and(|high| revision > high) {
        let text = format!("the recipe does not allow {} revision v{}.{}", chip.name, revision / 100, revision % 100);
        return Err(ToolError::new("revision_mismatch", text));
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
