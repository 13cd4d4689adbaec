//! espefuse's virtual chip: its register file, its summary, and the comparison with ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use esp_model::chip::Chip;
use esp_model::efuse::{EfuseTable, Efuses, Field, FieldValue, Shown};
use serde_json::Value;

use crate::reference::{Stop, fail};

/// What `espefuse summary --format json` says of a field.
pub struct Theirs {
    value: Value,
    raw: String,
    readable: bool,
    writeable: bool,
    kind: String,
    block: u8,
    pub bits: u64,
    pub calculated: bool,
}

pub type Summary = BTreeMap<String, Theirs>;

pub fn summary(text: &str) -> Result<Summary, Stop> {
    let (Some(start), Some(end)) = (text.find("\n{"), text.rfind('}')) else { return fail(text) };
    let json: Value = serde_json::from_str(&text[start..=end])?;
    let Some(fields) = json.as_object() else { return fail("no object") };
    let field = |(name, field): (&String, &Value)| {
        let flag = |key: &str| field[key].as_bool().unwrap_or(false);
        let text = |key: &str| field[key].as_str().unwrap_or_default().to_string();
        let theirs = Theirs {
            value: field["value"].clone(),
            raw: text("raw_value"),
            readable: flag("readable"),
            writeable: flag("writeable"),
            kind: text("efuse_type"),
            block: field["block"].as_u64().unwrap_or(0) as u8,
            bits: field["bit_len"].as_u64().unwrap_or(0),
            calculated: field["word"].is_null(),
        };
        (name.clone(), theirs)
    };
    Ok(fields.iter().map(field).collect())
}

/// A virtual chip of espefuse: its register file on disk.
pub struct Virtual {
    pub chip: &'static Chip,
    pub file: PathBuf,
}

impl Virtual {
    pub fn argv(&self, command: &[String]) -> Vec<String> {
        let file = self.file.display().to_string();
        let head = ["--chip", self.chip.id, "--virt", "--path-efuse-file", &file, "--do-not-confirm"];
        head.into_iter().map(str::to_string).chain(command.iter().cloned()).collect()
    }

    pub fn summary(&self) -> Vec<String> {
        self.argv(&["summary", "--format", "json"].map(str::to_string))
    }
}

/// Writes a register file in which the chip holds these eFuses; `blank` is the file of a blank chip.
pub fn store(efuses: &Efuses, blank: &[u8], file: &Path) -> Result<(), Stop> {
    let mut bytes = blank.to_vec();
    let base = window(efuses.table);
    for block in &efuses.table.blocks {
        for (word, address) in efuses.block(block.id).iter().zip((block.read - base..).step_by(4)) {
            let at = bytes.len() - address as usize;
            bytes[at - 4..at].copy_from_slice(&word.to_be_bytes());
        }
    }
    Ok(fs::write(file, bytes)?)
}

/// First address of the register window.
fn window(table: &EfuseTable) -> u32 {
    let controller = table.controller.as_ref();
    controller.and_then(|controller| controller.pgm_data).unwrap_or(table.blocks[0].read)
}

/// The eFuses in espefuse's register file: the register window, last byte first.
pub fn load(chip: &'static Chip, file: &Path) -> Result<Efuses, Stop> {
    if !file.exists() {
        return Ok(Efuses::blank(chip.efuse_at(0)));
    }
    let bytes = fs::read(file)?;
    let newest = chip.efuse();
    let base = window(newest);
    let word = |address: u32| {
        let at = bytes.len() - (address - base) as usize;
        u32::from_be_bytes(bytes[at - 4..at].try_into().unwrap())
    };
    let words = |words: u8, read: u32| (0..u32::from(words)).map(|index| word(read + index * 4)).collect();
    let blocks = newest.blocks.iter().map(|block| (block.id, words(block.words, block.read)));
    let mut efuses = Efuses::new(newest, &blocks.collect());
    efuses.table = chip.efuse_at(revision(&efuses));
    for block in &efuses.table.blocks.iter().collect::<Vec<_>>() {
        let words = efuses.capacity(block) / 4;
        efuses.words.get_mut(&block.id).unwrap()[words..].fill(0);
    }
    Ok(efuses)
}

/// The revision in the eFuses, as far as the map depends on it.
pub fn revision(efuses: &Efuses) -> u16 {
    let part = |names: [&str; 2]| names.iter().find_map(|name| efuses.number(name)).unwrap_or(0) as u16;
    part(["WAFER_VERSION_MAJOR", "WAFER_VERSION_MAJOR_LO"]) * 100 + part(["WAFER_VERSION_MINOR", "WAFER_VERSION_MINOR"])
}

pub fn compare_summary(what: &str, ours: &Efuses, theirs: &Summary) -> Result<(), Stop> {
    let mut wrong = Vec::new();
    for (name, theirs) in theirs {
        // Halves of this field stand for it on chips with hidden parts.
        let Some(field) = ours.table.field(name) else {
            wrong.push(format!("{name}: not known"));
            continue;
        };
        // espefuse's virtual ESP32 is always silicon of version 3, whatever its eFuses say.
        if theirs.calculated && name == "WAFER_VERSION_MAJOR" && ours.table.field("CHIP_VER_REV1").is_some() {
            continue;
        }
        if let Some(text) = difference(&ours.value(field), field, theirs) {
            wrong.push(format!("{name}: {text}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(format!("{what}: {}", wrong.join("\n    "))) }
}

fn difference(ours: &FieldValue, field: &Field, theirs: &Theirs) -> Option<String> {
    if (ours.readable, ours.block) != (theirs.readable, theirs.block) && !theirs.calculated {
        return Some(format!("readable {} block {}", ours.readable, ours.block));
    }
    if ours.writeable != theirs.writeable && !theirs.calculated {
        return Some(format!("writeable {}, not {}", ours.writeable, theirs.writeable));
    }
    if !ours.readable {
        return None;
    }
    let value = match (&ours.meaning, &ours.value) {
        (Some(meaning), _) => Value::from(meaning.clone()),
        (None, Shown::Flag(value)) => Value::from(*value),
        (None, Shown::Number(value)) => Value::from(*value),
        (None, Shown::Real(value)) => Value::from(*value),
        (None, other) => Value::from(other.to_string()),
    };
    let near = |a: &Value, b: &Value| a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-6);
    if value != theirs.value && !near(&value, &theirs.value) {
        return Some(format!("{value}, not {}", theirs.value));
    }
    let number = ours.raw.iter().rev().skip_while(|byte| **byte == 0).map(|byte| format!("{byte:02x}"));
    let raw = if theirs.kind.starts_with("bytes") {
        ours.raw.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    } else {
        number.collect()
    };
    let plain = |text: &str| text.trim_start_matches("0x").trim_start_matches('0').to_string();
    // A purpose in two parts: they show the lower part's bits, we the whole.
    let whole = theirs.bits == u64::from(field.len());
    (whole && !theirs.calculated && plain(&raw) != plain(&theirs.raw))
        .then(|| format!("raw {raw}, not {} ({} bits)", theirs.raw, field.len()))
}
