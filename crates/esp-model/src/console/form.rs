//! Crashes as other programs than ESP-IDF's panic handler print them: the forms of `console/forms.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::{Captures, Regex};
use serde::Deserialize;

use super::catalogue::{Patterns, ascii};
use super::crash::{MAX_CHAIN, MAX_DETAILS, fault_of, fault_of_cause, sort_of};
use super::panic::Panic;

/// Most registers kept of one crash.
const MAX_REGISTERS: usize = 64;

/// One form, as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sort: Option<String>,
    begin: Patterns,
    #[serde(default)]
    line: Patterns,
    pairs: Option<Pairs>,
    #[serde(default)]
    decimal: bool,
    #[serde(default)]
    names: BTreeMap<String, String>,
    /// Where the form is from: for readers of the file.
    #[serde(rename = "source")]
    _source: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test of the forms"))]
    example: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test of the forms"))]
    expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pairs {
    on: String,
    each: String,
}

/// What the example must lead to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), expect(dead_code, reason = "read by the test of the forms"))]
struct Expect {
    pc: Option<u32>,
    fault: Option<String>,
    address: Option<u32>,
    frames: Option<usize>,
}

/// A form with its patterns ready.
#[derive(Debug)]
struct Form {
    name: &'static str,
    sort: Option<&'static str>,
    begin: Vec<Regex>,
    line: Vec<Regex>,
    pairs: Option<(Regex, Regex)>,
    decimal: bool,
    names: &'static BTreeMap<String, String>,
}

fn entries() -> &'static [Entry] {
    #[derive(Deserialize)]
    struct File {
        form: Vec<Entry>,
    }
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        toml::from_str::<File>(include_str!("../../console/forms.toml")).map(|file| file.form).unwrap_or_default()
    })
}

fn forms() -> &'static [Form] {
    static FORMS: OnceLock<Vec<Form>> = OnceLock::new();
    FORMS.get_or_init(|| entries().iter().filter_map(|entry| Form::new(entry).ok()).collect())
}

impl Form {
    fn new(entry: &'static Entry) -> Result<Self, regex::Error> {
        let one = |text: &String| Regex::new(&ascii(text));
        let all = |patterns: &Patterns| patterns.list().iter().map(one).collect::<Result<Vec<_>, _>>();
        let pairs = entry.pairs.as_ref().map(|pairs| Ok((one(&pairs.on)?, one(&pairs.each)?))).transpose()?;
        Ok(Self {
            name: &entry.name,
            sort: entry.sort.as_deref(),
            begin: all(&entry.begin)?,
            line: all(&entry.line)?,
            pairs,
            decimal: entry.decimal,
            names: &entry.names,
        })
    }

    /// Takes what a line tells; false: it is none of this form.
    fn take(&self, panic: &mut Panic, text: &str) -> bool {
        let mut found = false;
        for captures in
            self.begin.iter().chain(&self.line).filter_map(|pattern| Some((pattern, pattern.captures(text)?)))
        {
            found = true;
            self.groups(panic, captures.0, &captures.1);
        }
        if let Some((_, each)) = self.pairs.as_ref().filter(|(on, _)| on.is_match(text)) {
            found = true;
            for pair in each.captures_iter(text) {
                let (Some(name), Some(value)) = (pair.name("name"), pair.name("value")) else { continue };
                let radix = if self.decimal { 10 } else { 16 };
                self.register(panic, name.as_str(), u32::from_str_radix(value.as_str(), radix).ok());
            }
        }
        found
    }

    fn groups(&self, panic: &mut Panic, pattern: &Regex, captures: &Captures<'_>) {
        for name in pattern.capture_names().flatten() {
            let Some(text) = captures.name(name).map(|found| found.as_str().trim()) else { continue };
            match (name, name.strip_suffix("_dec")) {
                ("reason", _) => self.reason(panic, text),
                ("core", _) => panic.core = text.parse().ok(),
                ("unit", _) => {}
                ("chain", _) => chain(panic, text),
                (_, Some(register)) => self.register(panic, register, text.parse().ok()),
                (register, None) => self.register(panic, register, u32::from_str_radix(text, 16).ok()),
            }
        }
    }

    fn reason(&self, panic: &mut Panic, text: &str) {
        panic.reason = text.to_owned();
        let fault = fault_of(text);
        if !fault.is_empty() {
            panic.fault = fault;
        }
        if self.sort.is_none() {
            panic.sort = sort_of(text);
        }
    }

    fn register(&self, panic: &mut Panic, name: &str, value: Option<u32>) {
        let name = self.names.get(name).map_or(name, String::as_str);
        let new = panic.registers.iter().all(|(known, _)| !known.eq_ignore_ascii_case(name));
        if let Some(value) = value.filter(|_| new && panic.registers.len() < MAX_REGISTERS) {
            panic.registers.push((name.to_owned(), value));
        }
        if panic.fault.is_empty() && matches!(name, "EXCCAUSE" | "MCAUSE") {
            panic.fault = value.map(|cause| fault_of_cause(name, cause)).unwrap_or_default();
        }
    }
}

/// Code addresses of a call chain, in any notation: `0x400d1234:0x3ffb0000`, `"400d1234"`.
fn chain(panic: &mut Panic, text: &str) {
    for word in text.split(|c: char| c == ',' || c.is_whitespace()) {
        let word = word.trim_matches(['"', '[', ']']);
        let mut halves = word.split(':').map(|half| half.trim_start_matches("0x"));
        let mut half =
            || halves.next().filter(|digits| digits.len() == 8).and_then(|d| u32::from_str_radix(d, 16).ok());
        if let Some(pc) = half().filter(|_| panic.backtrace.len() < MAX_CHAIN) {
            panic.backtrace.push((pc, half().unwrap_or_default()));
        }
    }
}

/// A crash that begins with this line, in one of the forms.
pub(super) fn begin(text: &str) -> Option<Panic> {
    let form = forms().iter().position(|form| form.begin.iter().any(|pattern| pattern.is_match(text)))?;
    let found = forms().get(form)?;
    let sort = found.sort.unwrap_or("exception");
    let mut panic = Panic { sort, reason: text.to_owned(), form: Some(form), ..Panic::default() };
    found.take(&mut panic, text);
    Some(panic)
}

/// A line of a crash in one of the forms; what it says goes into the crash.
pub(super) fn take(panic: &mut Panic, text: &str) -> bool {
    let Some(form) = panic.form.and_then(|form| forms().get(form)) else { return false };
    let took = form.take(panic, text);
    // Registers are kept as such; the rest is for people.
    let is_registers = form.pairs.as_ref().is_some_and(|(on, _)| on.is_match(text));
    if took && !is_registers && panic.details.len() < MAX_DETAILS && !panic.details.iter().any(|known| known == text) {
        panic.details.push(text.to_owned());
    }
    took
}

/// The form's name for the catalogue's facts.
pub(super) fn name(panic: &Panic) -> Option<&'static str> {
    panic.form.and_then(|form| forms().get(form)).map(|form| form.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Decoder, Event};
    use super::*;

    #[test]
    fn every_form_is_ready_and_its_example_leads_to_what_it_says() {
        assert_eq!(forms().len(), entries().len(), "all patterns are right");
        let mut wrong = Vec::new();
        for (index, entry) in entries().iter().enumerate() {
            let mut decoder = Decoder::new(None);
            decoder.feed(Duration::ZERO, entry.example.as_bytes());
            decoder.finish();
            let panics: Vec<&Panic> = decoder
                .events()
                .iter()
                .filter_map(|e| if let Event::Panic(panic) = e { Some(&**panic) } else { None })
                .collect();
            let [panic] = panics.as_slice() else {
                wrong.push(format!("{}: {} crashes", entry.name, panics.len()));
                continue;
            };
            let register = |names: &[&str]| panic.register(names).map(|(_, value)| value);
            let right = panic.form == Some(index)
                && register(&["PC", "MEPC"]) == entry.expect.pc
                && entry.expect.fault.as_ref().is_none_or(|fault| panic.fault == fault)
                && entry.expect.address.is_none_or(|address| register(&["EXCVADDR", "MTVAL"]) == Some(address))
                && entry.expect.frames.is_none_or(|frames| panic.backtrace.len() == frames);
            if !right {
                wrong.push(format!("{}: {panic:?}", entry.name));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
