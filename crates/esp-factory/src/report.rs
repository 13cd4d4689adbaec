//! What became of a unit, as results, reports and the station page show it.

use std::collections::BTreeMap;

use esp_ledger::Identity;
use esp_model::nvs;
use schemars::JsonSchema;
use serde::Serialize;

use super::steps::{Step, Verdict};
use esp_ops::error::{Code, ToolError};

/// What a unit's run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum UnitVerdict {
    /// All that was needed was measured and right.
    Pass,
    /// Something was wrong.
    Fail,
    /// Something needed was not measured.
    Unknown,
    /// It did not come to its end.
    Aborted,
}

impl UnitVerdict {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
            Self::Aborted => "aborted",
        }
    }
}

/// What became of a unit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Report {
    /// The port's URL.
    pub port: String,
    /// What it comes to.
    pub verdict: UnitVerdict,
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

/// An identity as reports and records show it: the ledger alone keeps keys and passwords.
pub fn shown(name: &str, identity: &Identity) -> String {
    let secret = [name, &identity.kind, &identity.pool].into_iter().any(nvs::is_secret_name);
    if secret { nvs::HIDDEN.to_owned() } else { identity.value.clone() }
}

impl Report {
    /// Nothing is known of the unit yet.
    pub fn new(port: &str) -> Self {
        Self {
            port: port.into(),
            verdict: UnitVerdict::Aborted,
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
        self.verdict == UnitVerdict::Pass
    }

    /// In one line.
    pub fn line(&self) -> String {
        let who = self.mac.as_deref().unwrap_or("unknown device");
        let identities: Vec<String> = self.identities.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut text =
            format!("{}: {} {who} {}", self.port, self.verdict.name(), identities.join(", ")).trim_end().to_owned();
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

    /// What kept it from passing: the error, else the first step that did not pass with its value and limits.
    pub fn reason(&self) -> String {
        let step = || self.bad_step().map(|step| step.shown());
        self.error.clone().or_else(step).unwrap_or_default()
    }

    /// In a word: the error's code, else the name of that step.
    pub fn failed_at(&self) -> String {
        let code = self.error.as_ref().and_then(|error| error.split(':').next()).map(str::to_owned);
        code.or_else(|| self.bad_step().map(|step| step.name.clone())).unwrap_or_else(|| "unknown".into())
    }

    /// What the operator can do about it.
    pub fn next_step(&self) -> String {
        match (&self.failure, self.bad_step()) {
            (Some(failure), _) if !failure.next_step.is_empty() => failure.next_step.clone(),
            (_, Some(step)) if step.verdict == Verdict::Unknown => {
                "put the unit in again; if it stays unknown, set it aside".into()
            }
            _ => "put the unit in again; if it fails again, set it aside".into(),
        }
    }

    fn bad_step(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.verdict != Verdict::Pass && !step.optional)
    }

    /// Sets the verdict from the steps and the failure.
    pub fn judge(&mut self) {
        let counted = || self.steps.iter().filter(|step| !step.optional).map(|step| step.verdict);
        self.verdict = match &self.failure {
            Some(error) if error.code == Code::Cancelled => UnitVerdict::Aborted,
            Some(_) => UnitVerdict::Fail,
            None if counted().any(|verdict| verdict == Verdict::Fail) => UnitVerdict::Fail,
            None if counted().any(|verdict| verdict == Verdict::Unknown) || self.steps.is_empty() => {
                UnitVerdict::Unknown
            }
            None => UnitVerdict::Pass,
        };
    }
}
