//! Short logs of all chips and many programs, with what must be found in them, and logs in which nothing must be found.
//!
//! The logs are data, in `tests/logs/*.toml`; they were written for this test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use esp_model::console::{Catalogue, Decoder, Event, Panic};
use serde::Deserialize;

const FILES: &[(&str, &str)] = &[
    ("bootloader", include_str!("logs/bootloader.toml")),
    ("crashes", include_str!("logs/crashes.toml")),
    ("esp8266", include_str!("logs/esp8266.toml")),
    ("field", include_str!("logs/field.toml")),
    ("forms", include_str!("logs/forms.toml")),
    ("nothing", include_str!("logs/nothing.toml")),
    ("resets", include_str!("logs/resets.toml")),
    ("starts", include_str!("logs/starts.toml")),
    ("variants", include_str!("logs/variants.toml")),
    ("watchdogs", include_str!("logs/watchdogs.toml")),
    ("wild", include_str!("logs/wild.toml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    log: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    name: String,
    /// The chip that the log tells.
    chip: Option<String>,
    /// Codes of all findings, in alphabetical order.
    findings: Vec<String>,
    /// Sorts of the crashes.
    sorts: Option<Vec<String>>,
    /// Frames of the first crash's backtrace.
    frames: Option<usize>,
    /// Program counter of the first crash.
    pc: Option<u32>,
    /// What a finding's cause must say.
    cause: Option<String>,
    text: String,
}

fn logs() -> Vec<(&'static str, Log)> {
    let read = |(file, text): &(&'static str, &str)| {
        let logs = toml::from_str::<File>(text).unwrap_or_else(|error| panic!("{file}: {error}")).log;
        logs.into_iter().map(|log| (*file, log)).collect::<Vec<_>>()
    };
    FILES.iter().flat_map(read).collect()
}

fn decode(text: &str, piece: usize) -> Decoder {
    let mut decoder = Decoder::new(None);
    for bytes in text.as_bytes().chunks(piece) {
        decoder.feed(Duration::ZERO, bytes);
    }
    decoder.finish();
    decoder
}

fn crashes(decoder: &Decoder) -> Vec<&Panic> {
    decoder.events().iter().filter_map(|e| if let Event::Panic(panic) = e { Some(&**panic) } else { None }).collect()
}

/// What is wrong with the result for a log; empty when nothing is.
fn faults(log: &Log, piece: usize) -> Vec<String> {
    let decoder = decode(&log.text, piece);
    let mut wrong = Vec::new();
    let codes: BTreeSet<String> = decoder.findings().into_iter().map(|finding| finding.code).collect();
    let wanted: BTreeSet<String> = log.findings.iter().cloned().collect();
    if codes != wanted {
        wrong.push(format!("findings {codes:?}, not {wanted:?}"));
    }
    let chip = decoder.chip().map(|chip| chip.id);
    if log.chip.is_some() && chip != log.chip.as_deref() {
        wrong.push(format!("chip {chip:?}, not {:?}", log.chip));
    }
    let crashes = crashes(&decoder);
    let sorts: Vec<&str> = crashes.iter().map(|panic| panic.sort).collect();
    if log.sorts.as_ref().is_some_and(|wanted| sorts != *wanted) {
        wrong.push(format!("crashes {sorts:?}, not {:?}", log.sorts));
    }
    let frames = crashes.first().map(|panic| panic.backtrace.len());
    if log.frames.is_some() && frames != log.frames {
        wrong.push(format!("frames {frames:?}, not {:?}", log.frames));
    }
    let pc = crashes.first().and_then(|panic| panic.register(&["PC", "MEPC", "EPC1"])).map(|(_, pc)| pc);
    if log.cause.as_ref().is_some_and(|cause| !decoder.findings().iter().any(|found| found.cause.contains(cause))) {
        wrong.push(format!("no finding says {:?}", log.cause));
    }
    if log.pc.is_some() && pc != log.pc {
        wrong.push(format!("pc {pc:x?}, not {:x?}", log.pc));
    }
    wrong
}

#[test]
fn every_log_leads_to_its_findings_in_pieces_of_any_size() {
    let mut wrong = Vec::new();
    for (file, log) in logs() {
        for piece in [7, usize::MAX] {
            for fault in faults(&log, piece) {
                wrong.push(format!("{file}: {} ({piece}): {fault}", log.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_covers_the_chips_and_enough_logs_without_trouble() {
    let logs = logs();
    let quiet = logs.iter().filter(|(_, log)| log.findings.is_empty()).count();
    assert!(logs.len() >= 150 && quiet >= 30, "{} logs, {quiet} without findings", logs.len());
    for id in [
        "esp8266", "esp32", "esp32s2", "esp32s3", "esp32c2", "esp32c3", "esp32c5", "esp32c6", "esp32c61", "esp32h2",
        "esp32p4",
    ] {
        assert!(logs.iter().filter(|(_, log)| log.chip.as_deref() == Some(id)).count() >= 8, "{id}");
    }
}

/// Parts of logs put together in any order: nothing panics, and what is found is in the catalogue.
#[test]
fn spliced_logs_do_no_harm() {
    let logs = logs();
    let mut state = 0x5eed_u64;
    let mut next = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit.max(1)
    };
    let known: BTreeSet<&str> = Catalogue::builtin().entries().iter().map(|entry| entry.code.as_str()).collect();
    let mut found = 0;
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..6 {
            let text = logs[next(logs.len())].1.text.as_bytes();
            let (from, to) = (next(text.len()), next(text.len()));
            bytes.extend_from_slice(&text[from.min(to)..from.max(to)]);
        }
        let mut decoder = Decoder::new(None);
        decoder.feed(Duration::ZERO, &bytes);
        decoder.finish();
        for finding in decoder.findings() {
            assert!(known.contains(finding.code.as_str()) && finding.evidence.chars().count() <= 240);
            found += 1;
        }
    }
    assert!(found > 300, "{found}");
}
