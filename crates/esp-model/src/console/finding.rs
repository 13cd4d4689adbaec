//! What a console comes to: entries of the catalogue that its lines and facts led to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::catalogue::{Catalogue, Confidence, Entry, FACT};
use crate::chip::Chip;

/// Most characters of a line kept as evidence.
const EVIDENCE: usize = 240;
/// Only a line at least this long may have been wrapped.
const WRAPPED: usize = 40;

/// A known trouble that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The entry's name.
    pub code: String,
    /// The diagnosis number of the documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened and why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// How sure that is.
    pub confidence: Confidence,
    /// The first line that led to it. Untrusted.
    pub evidence: String,
    /// When that line came, in milliseconds since the capture began.
    pub at_ms: u64,
    /// How often it was seen.
    pub times: usize,
}

#[derive(Debug)]
struct Hit {
    entry: usize,
    caught: BTreeMap<String, String>,
    evidence: String,
    at_ms: u64,
    times: usize,
}

/// Gathers what lines and facts lead to.
#[derive(Debug)]
pub(super) struct Collector {
    catalogue: Arc<Catalogue>,
    hits: Vec<Hit>,
    /// The line before, and the entries that it led to.
    previous: (String, Vec<usize>),
}

impl Collector {
    pub(super) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, hits: Vec::new(), previous: (String::new(), Vec::new()) }
    }

    /// Looks at a line of the device, whole or wrapped behind the one before.
    pub(super) fn line(&mut self, text: &str, at_ms: u64) {
        if text.starts_with(FACT) {
            return;
        }
        let alone = self.catalogue.matches(text);
        let found: Vec<usize> = alone.iter().map(|(entry, _)| *entry).collect();
        if alone.is_empty() && self.previous.0.len() >= WRAPPED && super::parse::log_line(text).is_none() {
            for glue in [" ", ""] {
                let joined = format!("{}{glue}{text}", self.previous.0);
                let mut new = self.catalogue.matches(&joined);
                new.retain(|(entry, _)| !self.previous.1.contains(entry));
                if !new.is_empty() {
                    self.add(new, &joined, at_ms);
                    break;
                }
            }
        }
        self.add(alone, text, at_ms);
        self.previous = (text.to_owned(), found);
    }

    /// Looks at what the decoder made of several lines.
    pub(super) fn fact(&mut self, fact: &str, evidence: &str, at_ms: u64) {
        let found = self.catalogue.matches(fact);
        self.add(found, evidence, at_ms);
    }

    fn add(&mut self, found: Vec<(usize, BTreeMap<String, String>)>, evidence: &str, at_ms: u64) {
        for (entry, caught) in found {
            match self.hits.iter_mut().find(|hit| hit.entry == entry) {
                Some(hit) => {
                    hit.times += 1;
                    // Later lines may tell what the first one did not.
                    for (name, value) in caught {
                        hit.caught.entry(name).or_insert(value);
                    }
                }
                None => {
                    let evidence = evidence.trim().chars().take(EVIDENCE).collect();
                    self.hits.push(Hit { entry, caught, evidence, at_ms, times: 1 });
                }
            }
        }
    }

    /// What was found, the surest first, without what another finding explains.
    pub(super) fn findings(&self, chip: Option<&Chip>) -> Vec<Finding> {
        let entries = self.catalogue.entries();
        let counts = |entry: &Entry| {
            entry.chips.is_empty() || chip.is_none_or(|chip| entry.chips.iter().any(|id| id == chip.id))
        };
        let hits: Vec<(&Hit, &Entry)> = self
            .hits
            .iter()
            .filter_map(|hit| Some((hit, entries.get(hit.entry)?)))
            .filter(|(_, entry)| counts(entry))
            .collect();
        let told = |code: &String| hits.iter().any(|(_, entry)| entry.code == *code);
        let free = |entry: &Entry| !entry.unless.iter().any(told);
        let mut found: Vec<Finding> =
            hits.iter().filter(|(_, entry)| free(entry)).map(|(hit, entry)| finding(hit, entry, chip)).collect();
        found.sort_by_key(|finding| finding.confidence);
        found
    }
}

fn finding(hit: &Hit, entry: &Entry, chip: Option<&Chip>) -> Finding {
    Finding {
        code: entry.code.clone(),
        id: entry.id.clone(),
        cause: filled(&entry.cause, &hit.caught, chip),
        remedy: filled(&entry.remedy, &hit.caught, chip),
        confidence: entry.confidence,
        evidence: hit.evidence.clone(),
        at_ms: hit.at_ms,
        times: hit.times,
    }
}

/// A text with its `{names}` filled in: what the pattern caught, else what is known of the chip. `[? … ]` is left out
/// where a name in it is not known.
fn filled(text: &str, caught: &BTreeMap<String, String>, chip: Option<&Chip>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[?") {
        let Some((optional, behind)) = after.split_once(']') else { break };
        out.push_str(&filled_plain(before, caught, chip));
        let names = optional.split('{').skip(1).filter_map(|part| Some(part.split_once('}')?.0));
        if names.into_iter().all(|name| caught.contains_key(name)) {
            out.push_str(&filled_plain(optional, caught, chip));
        }
        rest = behind;
    }
    out.push_str(&filled_plain(rest, caught, chip));
    out
}

fn filled_plain(text: &str, caught: &BTreeMap<String, String>, chip: Option<&Chip>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else { break };
        out.push_str(before);
        match caught.get(name).cloned().or_else(|| of_chip(name, chip)) {
            Some(value) => out.push_str(&value),
            None => out.push('?'),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn of_chip(name: &str, chip: Option<&Chip>) -> Option<String> {
    let known = |of: fn(&Chip) -> String, otherwise: &str| Some(chip.map_or_else(|| otherwise.to_owned(), of));
    match name {
        "chip" => known(|chip| chip.name.clone(), "this chip"),
        "boot_pin" => known(|chip| chip.boot.pin.clone(), "the BOOT pin"),
        "boot_also" => match chip {
            Some(chip) => Some(chip.boot.also.clone().unwrap_or_else(|| "no other pin".into())),
            None => Some("the chip's second strap as its datasheet says".into()),
        },
        "bootloader_offset" => known(|chip| format!("{:#x}", chip.bootloader_offset), "the chip's bootloader address"),
        _ => None,
    }
}
