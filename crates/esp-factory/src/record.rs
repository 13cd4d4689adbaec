//! The end of a unit: its verdict, its label and its record.

use std::collections::BTreeMap;

use esp_ledger::{Measurement, Outcome, Verdict as Judged};
use serde_json::json;

use super::content;
use super::report::UnitVerdict;
use super::steps::{Step, Verdict};
use super::unit::Work;
use esp_ops::error::ToolError;

impl Work<'_> {
    pub(super) fn finish(&mut self, result: Result<(), ToolError>) {
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
        let (Some(run), Some(unit)) = (self.report.run, &self.unit) else {
            self.record_unidentified();
            return Ok(());
        };
        let outcome = match self.report.verdict {
            UnitVerdict::Pass => Outcome::Passed,
            UnitVerdict::Aborted => Outcome::Aborted,
            UnitVerdict::Fail | UnitVerdict::Unknown => Outcome::Failed,
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
        record["shift"] = json!(self.desk.shift);
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

impl Work<'_> {
    /// A device that failed before it was known which unit it is: an event without a run, as far as the ledger can be
    /// reached. The unit's own verdict does not depend on it.
    fn record_unidentified(&self) {
        let recipe = &self.order.prepared;
        let body = json!({
            "port": self.report.port, "verdict": self.report.verdict, "error": self.report.error,
            "recipe": recipe.hash, "operator": self.desk.operator, "shift": self.desk.shift,
        });
        if let Err(error) = self.desk.with(|ledger| ledger.record(None, "device_not_identified", &body)) {
            tracing::warn!("{}: not recorded: {error}", self.report.port);
        }
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
