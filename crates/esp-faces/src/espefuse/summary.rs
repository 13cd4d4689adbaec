//! `summary`: the fields as a table, as JSON, or one value alone.

use std::fmt::Write;
use std::fs;

use esp_model::efuse::{Field, FieldKind, FieldValue, Shown};
use esp_model::hex;

use super::bench::{Bench, Holder};
use crate::command::Call;
use crate::fault::Fault;

/// Columns of the name and of the description.
const NAME: usize = 50;
const ABOUT: usize = 50;

pub fn run(bench: &Bench, call: &Call<'_>) -> Result<(), Fault> {
    let wanted = call.list("efuses_to_show");
    if let Some(unknown) = wanted.iter().find(|name| bench.efuses.table.field(name).is_none()) {
        return Err(Fault::Fatal(format!("Invalid eFuse name '{unknown}'.")));
    }
    let is_wanted = |field: &&'static Field| {
        let named = |name: &&str| field.name == **name || field.aliases.iter().any(|alias| alias == *name);
        if wanted.is_empty() { field.shown } else { wanted.iter().any(named) }
    };
    let active = |value: &FieldValue| !call.has("active") || value.raw.iter().any(|byte| *byte != 0);
    let fields: Vec<(&Field, FieldValue)> = bench
        .efuses
        .table
        .fields
        .iter()
        .filter(is_wanted)
        .map(|field| (field, bench.efuses.value(field)))
        .filter(|(_, value)| active(value))
        .collect();
    let text = match call.text("format") {
        "json" => json(&fields),
        "value_only" => match fields.as_slice() {
            [(field, value)] if wanted.len() == 1 => shown(field, value),
            _ => return Err(Fault::fatal("The 'value_only' format can be used exactly for one eFuse.")),
        },
        _ => table(bench, &fields),
    };
    match call.optional("file") {
        Some(path) => {
            fs::write(path, text + "\n")?;
            call.terminal.say(format_args!("Saving eFuse values to {path}"));
        }
        None => call.terminal.say(text),
    }
    Ok(())
}

/// A value as the table shows it.
fn shown(field: &Field, value: &FieldValue) -> String {
    let bytes = matches!(field.kind, FieldKind::Bytes | FieldKind::Key);
    if bytes && !value.readable {
        // Parts of a key that have bits of their own may still be seen.
        return match &value.value {
            Shown::Hidden => vec!["??"; value.raw.len()].join(" "),
            other => other.to_string(),
        };
    }
    match (&value.meaning, &value.value) {
        (Some(meaning), _) => meaning.clone(),
        (None, Shown::Flag(flag)) => if *flag { "True" } else { "False" }.into(),
        (None, other) => other.to_string(),
    }
}

/// What software may do with the field.
fn access(value: &FieldValue) -> String {
    format!("{}/{}", if value.readable { "R" } else { "-" }, if value.writeable { "W" } else { "-" })
}

/// All bits as one number.
fn number(field: &Field, value: &FieldValue) -> String {
    let length = usize::from(field.len());
    let bits = value.raw.iter().rev().fold(String::new(), |mut bits, byte| {
        let _ = write!(bits, "{byte:08b}");
        bits
    });
    let bits = bits.get(bits.len().saturating_sub(length)..).unwrap_or_default();
    if length % 4 != 0 {
        return format!("0b{bits}");
    }
    let digit = |nibble: &[u8]| nibble.iter().fold(0, |digit, bit| digit * 2 + u8::from(*bit == b'1'));
    let digits: String = bits.as_bytes().chunks(4).map(|nibble| format!("{:x}", digit(nibble))).collect();
    format!("0x{digits}")
}

fn table(bench: &Bench, fields: &[(&Field, FieldValue)]) -> String {
    let mut out =
        String::from("EFUSE_NAME (Block) Description  = [Meaningful Value] [Readable/Writeable] (Hex Value)\n");
    out.push_str(&"-".repeat(88));
    let mut block = None;
    for (field, value) in fields {
        if block != Some(field.block) {
            block = Some(field.block);
            let separator = if out.ends_with('-') { "\n" } else { "\n\n" };
            let _ = write!(out, "{separator}BLOCK{} fuses:", field.block);
        }
        row(bench, &mut out, field, value);
    }
    if let Holder::Device(_) = bench.holder {
        voltage(bench, &mut out);
    }
    out.push('\n');
    out
}

fn row(bench: &Bench, out: &mut String, field: &Field, value: &FieldValue) {
    let name = format!("{} (BLOCK{})", field.name, field.block);
    let about: Vec<char> = field.about.chars().collect();
    let mut lines = about.chunks(ABOUT).map(|line| line.iter().collect::<String>());
    let first = lines.next().unwrap_or_default();
    let long = matches!(field.kind, FieldKind::Bytes | FieldKind::Key | FieldKind::Mac);
    let purpose = bench.efuses.table.block(field.block).filter(|block| field.kind == FieldKind::Key && block.is_key);
    if let Some(purpose) = purpose.and_then(|block| bench.efuses.purpose(block)) {
        let _ = write!(out, "\n{name}\n  Purpose: {purpose}\n               {first:<ABOUT$}");
    } else {
        let _ = write!(out, "\n{name:<NAME$} {first:<ABOUT$}");
    }
    if !long {
        let bits = if value.readable { number(field, value) } else { "??".into() };
        let _ = write!(out, " = {} {} ({bits})", shown(field, value), access(value));
    }
    lines.for_each(|line| {
        let _ = write!(out, "\n{:NAME$} {line:<ABOUT$}", "");
    });
    if long {
        let _ = write!(out, "\n   = {} {} ", shown(field, value), access(value));
    }
}

/// Which supply the flash has, where fields tell.
fn voltage(bench: &Bench, out: &mut String) {
    let forced = ["VDD_SPI_FORCE", "XPD_SDIO_FORCE"].iter().find_map(|name| bench.efuses.number(name));
    if forced == Some(0) {
        out.push_str("\n\nFlash voltage (VDD_SPI) determined by the strapping pin.");
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04x}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out + "\""
}

fn json(fields: &[(&Field, FieldValue)]) -> String {
    let entries: Vec<String> = fields.iter().map(|(field, value)| entry(field, value)).collect();
    format!("{{\n{}\n}}", entries.join(",\n"))
}

fn entry(field: &Field, value: &FieldValue) -> String {
    let plain = match (&value.meaning, &value.value) {
        (None, Shown::Flag(flag)) => flag.to_string(),
        (None, Shown::Number(number)) => number.to_string(),
        (None, Shown::Real(number)) => number.to_string(),
        _ => quoted(&shown(field, value)),
    };
    let digits: String = hex::reversed(&value.raw);
    let digits = digits.get(digits.len().saturating_sub(usize::from(field.len()).div_ceil(4))..).unwrap_or_default();
    let (kind, raw) = match field.kind {
        FieldKind::Flag => ("bool".to_string(), format!("0x{digits}")),
        FieldKind::Bytes | FieldKind::Key | FieldKind::Mac => {
            (format!("bytes:{}", value.raw.len()), format!("0x{}", hex::encode(&value.raw)))
        }
        _ => (format!("uint:{}", field.len()), format!("0x{digits}")),
    };
    let start = field.bits.first().map_or(0, |range| range.0);
    let rows = [
        ("bit_len", field.len().to_string()),
        ("block", field.block.to_string()),
        ("category", quoted(&format!("block{}", field.block))),
        ("description", quoted(&field.about)),
        ("efuse_type", quoted(&kind)),
        ("name", quoted(&field.name)),
        ("pos", (start % 32).to_string()),
        ("raw_value", quoted(&raw)),
        ("readable", value.readable.to_string()),
        ("value", plain),
        ("word", (start / 32).to_string()),
        ("writeable", value.writeable.to_string()),
    ];
    let rows: Vec<String> = rows.iter().map(|(name, value)| format!("        \"{name}\": {value}")).collect();
    format!("    {}: {{\n{}\n    }}", quoted(&field.name), rows.join(",\n"))
}
