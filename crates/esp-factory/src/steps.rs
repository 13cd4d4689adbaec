//! The tests of a recipe: each measures something on the device and judges it. Not measured is unknown, never a pass.

use std::time::Duration;

use crate::recipe::{Measure, Test, Values, number};
use esp_link::monitor::{self, CaptureOptions, Pattern, Stopped};
use esp_link::port::PortUrl;
use esp_link::reset::Sequence;
use esp_model::efuse::Shown;
use esp_model::job::Job;
use esp_model::nvs;
use esp_model::port::Port;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::filled;
use crate::Station;
use crate::prepared::{Prepared, below};
use esp_ops::efuse::pipeline;
use esp_ops::efuse::read;
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::ram;
use esp_ops::flash::keep;
use esp_ops::session::device::Connected;
use esp_ops::session::ports::simulated_runs_code;

/// Seconds that a console test waits when it does not say.
const USUAL_S: f64 = 5.0;
/// Longest console test in seconds.
const LONGEST_S: f64 = 600.0;
/// Text that is searched, in bytes.
const KEPT: usize = 64 * 1024;

/// Bytes from which on a value may be a key, whatever it is called.
const KEY_BYTES: usize = 16;

/// What a step says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Measured and right.
    Pass,
    /// Measured and wrong.
    Fail,
    /// Not measured.
    Unknown,
}

impl Verdict {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// One step of a unit.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// pass, fail or unknown.
    pub verdict: Verdict,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Lower limit; the same as the upper one for a wanted value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<String>,
    /// Upper limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its verdict does not count.
    #[serde(skip)]
    pub optional: bool,
}

impl Step {
    /// A step without limits.
    pub fn new(name: &str, verdict: Verdict, value: Option<String>) -> Self {
        Self { name: name.into(), verdict, value, low: None, high: None, note: None, optional: false }
    }

    /// A condition that was looked at.
    pub fn of(name: &str, holds: bool, value: impl Into<String>) -> Self {
        Self::new(name, if holds { Verdict::Pass } else { Verdict::Fail }, Some(value.into()))
    }

    /// Something that could not be measured.
    pub fn unknown(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::Unknown, None).because(why)
    }

    /// In words: `flash_size: 2097152, limit >= 4194304`.
    pub fn shown(&self) -> String {
        let value = self.value.as_deref().or(self.note.as_deref()).unwrap_or("not measured");
        let limits = match (&self.low, &self.high) {
            (None, None) => String::new(),
            (Some(low), Some(high)) if low == high => format!(", limit = {low}"),
            (Some(low), Some(high)) => format!(", limits {low} to {high}"),
            (Some(low), None) => format!(", limit >= {low}"),
            (None, Some(high)) => format!(", limit <= {high}"),
        };
        format!("{}: {value}{limits}", self.name)
    }

    /// With a reason.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.note = Some(why.into());
        self
    }
}

/// What was found, or why nothing was.
enum Found {
    Value(String),
    /// It is judged, and neither shown nor recorded.
    Secret(String),
    Wrong(String),
    Nothing(String),
}

/// Runs a test that needs the loader.
pub fn with_loader(
    connected: &mut Connected,
    job: &Job,
    prepared: &Prepared,
    test: &Test,
    values: &Values,
) -> Result<Step, ToolError> {
    let found = match &test.what {
        Measure::ChipRevision {} => match connected.loader.revision() {
            Some(revision) => Found::Value(format!("{}.{:02}", revision / 100, revision % 100)),
            None => Found::Nothing("the revision cannot be read".into()),
        },
        Measure::FlashSize {} => Found::Value(connected.loader.attach_flash(job, None)?.to_string()),
        Measure::FlashId {} => Found::Value(connected.loader.flash_id(job)?.to_string()),
        Measure::RegionMd5 { address, size } => region_md5(connected, job, number(address), number(size))?,
        Measure::Efuse { field } => efuse(connected, job, field)?,
        Measure::Nvs { partition, namespace, key } => nvs_value(connected, job, prepared, partition, namespace, key)?,
        Measure::Console { .. } | Measure::Ram { .. } => Found::Nothing("it needs the running application".into()),
    };
    Ok(judge(prepared, test, found, values))
}

fn region_md5(
    connected: &mut Connected,
    job: &Job,
    address: Option<u64>,
    size: Option<u64>,
) -> Result<Found, ToolError> {
    let both = address.and_then(|a| u32::try_from(a).ok()).zip(size.and_then(|s| u32::try_from(s).ok()));
    let Some((address, size)) = both else { return Ok(Found::Nothing("address or size is not a number".into())) };
    connected.loader.attach_flash(job, None)?;
    if !connected.loader.can_verify() {
        return Ok(Found::Nothing("this loader computes no MD5".into()));
    }
    let digest = connected.loader.flash_md5(job, address, size)?;
    Ok(Found::Value(esp_model::hex::encode(digest)))
}

fn efuse(connected: &mut Connected, job: &Job, name: &str) -> Result<Found, ToolError> {
    let efuses = pipeline::read(connected, job)?;
    let field = read::field(&efuses, name)?;
    if efuses.holds_secret(field) {
        return Ok(Found::Nothing("it is a key: its value is not looked at".into()));
    }
    Ok(match efuses.value(field).value {
        Shown::Hidden => Found::Nothing("it is read-protected".into()),
        Shown::Flag(flag) => Found::Value(u8::from(flag).to_string()),
        shown => Found::Value(shown.to_string()),
    })
}

fn nvs_value(
    connected: &mut Connected,
    job: &Job,
    prepared: &Prepared,
    partition: &str,
    namespace: &str,
    key: &str,
) -> Result<Found, ToolError> {
    connected.loader.attach_flash(job, None)?;
    let on_unit = keep::table(connected, job, None)?.map(|found| found.table);
    let table = on_unit.as_ref().or(prepared.table.as_ref());
    let Some(found) = table.and_then(|table| table.find(partition)) else {
        return Ok(Found::Nothing(format!("there is no partition {partition}")));
    };
    let bytes = connected.loader.read_flash_bytes(job, found.offset, found.size)?;
    let contents = nvs::read(&bytes);
    let Some(value) = contents.get(namespace, key) else {
        return Ok(Found::Wrong(format!("{namespace}/{key} is not there")));
    };
    let (text, bytes) = match value {
        nvs::Value::Text(text) => (text.clone(), 0),
        nvs::Value::Blob(bytes) | nvs::Value::RawText(bytes) => (esp_model::hex::encode(bytes), bytes.len()),
        number => (number.number().map_or_else(String::new, |number| number.to_string()), 0),
    };
    let secret = nvs::is_secret_name(key) || bytes >= KEY_BYTES;
    Ok(if secret { Found::Secret(text) } else { Found::Value(text) })
}

/// Runs a test that starts the application, or a program in RAM.
pub fn with_console(
    station: &Station,
    job: &Job,
    port: &str,
    prepared: &Prepared,
    test: &Test,
    values: &Values,
) -> Result<Step, ToolError> {
    let url: PortUrl = port.parse()?;
    let (expect, fail, seconds) = match &test.what {
        Measure::Console { expect, fail, seconds } => (expect, fail.as_deref(), *seconds),
        Measure::Ram { expect, seconds, .. } => (expect, None, *seconds),
        _ => return Ok(Step::unknown(&test.name, "it is not a test of the console")),
    };
    let bad = |error: regex::Error| ToolError::new(Code::RecipeInvalid, format!("test {}: {error}", test.name));
    let patterns = (Regex::new(expect).map_err(bad)?, fail.map(Regex::new).transpose().map_err(bad)?);
    let seconds = seconds.unwrap_or(USUAL_S).clamp(0.1, LONGEST_S);
    let (_lease, mut connected) = station.call.take_device(Some(&url), job)?;
    let chip = connected.loader.chip();
    let info = connected.loader.port().info();
    let mut reset = None;
    let mut line = match &test.what {
        Measure::Ram { file, .. } => {
            let path = below(&prepared.folder, file);
            let (segments, entry) = ram::program(&path, &station.call.files.read_some(&path)?, chip)?;
            connected.loader.run_in_ram(job, &segments, entry)?
        }
        _ if info.modem_lines => {
            reset = Sequence::start(&info);
            connected.loader.into_port()
        }
        _ => {
            connected.loader.soft_reset(job)?;
            connected.loader.into_port()
        }
    };
    let text = listen(&mut *line, chip.uart.boot_baud, reset, seconds, expect, fail, job)?;
    let found = find(&text, &patterns, seconds, runs_code(station, port));
    Ok(judge(prepared, test, found, values))
}

/// Whether the device runs its firmware: some virtual ones only imitate the boot.
fn runs_code(station: &Station, port: &str) -> bool {
    match port.parse::<PortUrl>() {
        Ok(PortUrl::Sim { chip, name }) => simulated_runs_code(&chip, name.as_deref()),
        Ok(PortUrl::Qemu(id)) => {
            station.call.virtuals.manager.status(&id).is_ok_and(|status| status.config.runs_code())
        }
        _ => true,
    }
}

fn find(text: &str, (expect, fail): &(Regex, Option<Regex>), seconds: f64, runs_code: bool) -> Found {
    if let Some(seen) = fail.as_ref().and_then(|fail| fail.find(text)) {
        return Found::Wrong(format!("the console says {:?}", seen.as_str()));
    }
    match expect.captures(text) {
        Some(groups) => {
            let group = groups.get(1).or_else(|| groups.get(0));
            Found::Value(group.map_or_else(String::new, |group| group.as_str().chars().take(200).collect()))
        }
        None if !runs_code => Found::Nothing("this virtual device imitates the boot and runs no application".into()),
        None => Found::Wrong(format!("{expect} was not seen within {seconds} s")),
    }
}

fn listen(
    port: &mut dyn Port,
    baud: u32,
    reset: Option<Sequence>,
    seconds: f64,
    expect: &str,
    fail: Option<&str>,
    job: &Job,
) -> Result<String, ToolError> {
    let pattern =
        |text: &str| Pattern::regex(text).map_err(|error| ToolError::new(Code::RecipeInvalid, error.to_string()));
    let until = [Some(expect), fail].into_iter().flatten().map(pattern).collect::<Result<Vec<_>, _>>()?;
    let options = CaptureOptions {
        baud: Some(baud),
        reset,
        time: Some(Duration::from_secs_f64(seconds)),
        until,
        absence: Duration::from_secs(5),
        ..CaptureOptions::default()
    };
    let mut bytes = Vec::new();
    let heard = monitor::capture(port, &options, job, &mut |_, new| {
        bytes.extend_from_slice(new.get(..new.len().min(KEPT.saturating_sub(bytes.len()))).unwrap_or_default());
        true
    });
    let heard = heard.map_err(|error| ToolError::new(Code::PortLost, error.to_string()))?;
    job.check()?;
    if let Stopped::Gone(why) = heard.stopped {
        return Err(ToolError::new(Code::PortLost, why));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn judge(prepared: &Prepared, test: &Test, found: Found, values: &Values) -> Step {
    let wanted = match test.equals.as_ref().map(|text| filled(prepared, text, values)).transpose() {
        Ok(wanted) => wanted,
        // A unit without an identity: nothing to compare with.
        Err(error) => return Step { optional: test.optional, ..Step::unknown(&test.name, error.message) },
    };
    let secret = matches!(found, Found::Secret(_));
    let mut step = match found {
        Found::Nothing(why) => Step::unknown(&test.name, why),
        Found::Wrong(why) => Step::new(&test.name, Verdict::Fail, None).because(why),
        Found::Value(value) | Found::Secret(value) => {
            let number = value.trim().parse::<f64>().ok();
            let limited = test.min.is_some() || test.max.is_some();
            let above = test.min.is_none_or(|low| number.is_some_and(|number| number >= low));
            let below = test.max.is_none_or(|high| number.is_some_and(|number| number <= high));
            let same = wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(value.trim()));
            let verdict = match (limited && number.is_none(), above && below && same) {
                (true, _) => Verdict::Unknown,
                (_, true) => Verdict::Pass,
                (_, false) => Verdict::Fail,
            };
            Step::new(&test.name, verdict, Some(value))
        }
    };
    // A wanted value is both limits.
    step.low = wanted.clone().or_else(|| test.min.map(|low| low.to_string()));
    step.high = wanted.or_else(|| test.max.map(|high| high.to_string()));
    step.optional = test.optional;
    if secret {
        for shown in [&mut step.value, &mut step.low, &mut step.high] {
            *shown = shown.take().map(|_| nvs::HIDDEN.to_owned());
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_judged_by_what_it_says() {
        let patterns =
            |fail: Option<&str>| (Regex::new("VDD=([0-9.]+)").unwrap(), fail.map(|f| Regex::new(f).unwrap()));
        assert!(matches!(find("x VDD=3.31 V", &patterns(None), 1.0, true), Found::Value(v) if v == "3.31"));
        assert!(matches!(find("VDD=3.31 panic", &patterns(Some("panic")), 1.0, true), Found::Wrong(_)));
        assert!(matches!(find("", &patterns(None), 1.0, true), Found::Wrong(_)));
        // What cannot run cannot fail.
        assert!(matches!(find("", &patterns(None), 1.0, false), Found::Nothing(_)));
    }
}
