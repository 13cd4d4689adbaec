//! Known troubles on a console: the catalogue with the user's own entries, and how they are told.

use std::path::Path;
use std::sync::Arc;

use esp_model::console::{Catalogue, Finding};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::Config;
use crate::error::{Code, ToolError};

/// A known trouble that was seen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Known {
    /// Its stable name.
    pub code: String,
    /// The diagnosis number of the documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened and why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// certain, likely or possible.
    pub confidence: String,
    /// The first line that led to it. Untrusted.
    pub evidence: String,
    /// When it came: milliseconds since the capture began, or the line's number in a log.
    pub at: u64,
    /// How often it was seen.
    pub times: usize,
}

impl From<Finding> for Known {
    fn from(finding: Finding) -> Self {
        Self {
            confidence: word(&finding),
            code: finding.code,
            id: finding.id,
            cause: finding.cause,
            remedy: finding.remedy,
            evidence: finding.evidence,
            at: finding.at_ms,
            times: finding.times,
        }
    }
}

impl Known {
    /// A finding that was made of the whole capture.
    pub fn new(code: &str, cause: String, remedy: &str) -> Self {
        Self {
            code: code.into(),
            id: None,
            cause,
            remedy: remedy.into(),
            confidence: "likely".into(),
            evidence: String::new(),
            at: 0,
            times: 1,
        }
    }
}

fn word(finding: &Finding) -> String {
    let word = serde_json::to_value(finding.confidence).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A finding in one line: `BOOT-01 no_bootloader (certain): what happened; next: what to do`.
pub fn line(finding: &Finding) -> String {
    let id = finding.id.as_deref().map_or(String::new(), |id| format!("{id} "));
    format!("{id}{} ({}): {}; next: {}", finding.code, word(finding), finding.cause, finding.remedy)
}

/// The same of what goes into a result.
pub fn known_line(known: &Known) -> String {
    let id = known.id.as_deref().map_or(String::new(), |id| format!("{id} "));
    format!("{id}{} ({}): {}; next: {}", known.code, known.confidence, known.cause, known.remedy)
}

/// The catalogue with the entries of `findings_dir`.
pub fn catalogue(config: &Config) -> Result<Arc<Catalogue>, ToolError> {
    let Some(dir) = config.path("findings_dir") else { return Ok(Arc::clone(Catalogue::builtin())) };
    let texts = texts(&dir)?;
    let catalogue = Catalogue::with(texts.iter().map(String::as_str)).map_err(|error| {
        ToolError::new(Code::BadConfiguration, format!("findings_dir {}: {error}", dir.display()))
            .next("correct the entry; an entry needs code, line or fact, cause, remedy and an example that leads to it")
    })?;
    Ok(Arc::new(catalogue))
}

/// The TOML files of a folder, in the order of their names.
fn texts(dir: &Path) -> Result<Vec<String>, ToolError> {
    let bad = |error: std::io::Error| {
        ToolError::new(Code::BadConfiguration, format!("findings_dir {}: {error}", dir.display()))
    };
    let entries = std::fs::read_dir(dir).map_err(bad)?;
    let mut files: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).map_err(bad)).collect()
}
