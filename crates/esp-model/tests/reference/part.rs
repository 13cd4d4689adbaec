//! Partition tables against the answers of ESP-IDF's `gen_esp32part.py` on real and random files.

use std::fs;
use std::path::Path;

use esp_model::literal;
use esp_model::partition::{Options, SecureBoot, Subtypes, Table};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("part: random CSV files, valid and broken", random_cases),
        trial("part: CSV files of public projects", public_csv),
        trial("part: binary tables of public projects", public_tables),
    ]
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offset(text: &str) -> u32 {
    literal::integer(text, 0).and_then(|value| u32::try_from(value).ok()).unwrap_or_default()
}

/// The options of the reference tool's command line.
pub fn options(words: &[&str]) -> Result<Options<'static>, String> {
    let mut options = Options::default();
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word {
            "--disable-md5sum" => options.md5 = false,
            "--no-verify" => options.verify = false,
            "--offset" => options.table_offset = offset(value()),
            "--primary-bootloader-offset" => options.primary_bootloader = Some(offset(value())),
            "--recovery-bootloader-offset" => options.recovery_bootloader = Some(offset(value())),
            "--secure" => options.secure = Some(if value() == "v1" { SecureBoot::V1 } else { SecureBoot::V2 }),
            "--flash-size" => {
                options.flash_size = value().trim_end_matches("MB").parse::<u64>().map_err(|e| e.to_string())? << 20;
            }
            "--extra-partition-subtypes" => {
                let mut rows = Vec::new();
                while let Some(row) = words.next_if(|word| !word.starts_with("--")) {
                    rows.push(row);
                }
                options.subtypes.add(rows).map_err(|e| e.to_string())?;
            }
            other => return Err(format!("option {other} is not known to this test")),
        }
    }
    Ok(options)
}

pub fn generate(bytes: &[u8], words: &[&str]) -> Result<Vec<u8>, String> {
    let options = options(words)?;
    let table = Table::read(bytes, &options).map_err(|e| e.to_string())?;
    table.to_binary(options.md5).map_err(|e| e.to_string())
}

/// Compares our answer with the reference's: the bytes, or that there are none.
fn compare(name: &str, ours: &Result<Vec<u8>, String>, expected: &Value) -> Result<(), Stop> {
    match (ours, expected["rc"] == 0) {
        (Ok(bytes), true) if sha256(bytes) == expected["sha256"] => Ok(()),
        (Err(error), false) if error.contains("this test") => fail(format!("{name}: {error}")),
        (Err(_), false) => Ok(()),
        (Ok(_), true) => fail(format!("{name}: other bytes than the reference")),
        (Ok(_), false) => fail(format!("{name}: accepted, the reference says {}", expected["error"])),
        (Err(error), true) => fail(format!("{name}: refused ({error}), the reference accepts it")),
    }
}

fn random_cases() -> Result<(), Stop> {
    let dir = reference::corpus()?.join("gen/part");
    let cases = fs::read_to_string(dir.join("cases.jsonl"))?;
    let mut wrong = Vec::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line)?;
        let name = case["id"].as_str().unwrap_or_default();
        let file = fs::read(dir.join(case["args"]["csv"].as_str().unwrap_or_default()))?;
        let words: Vec<&str> =
            case["args"]["opts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ours = generate(&file, &words);
        if let Err(Stop::Failed(text)) = compare(name, &ours, &case["expect"]) {
            wrong.push(text);
        }
        if let (Ok(bytes), Some(csv)) = (&ours, case["expect"]["decoded_csv"].as_str()) {
            let back = Table::from_binary(bytes, !words.contains(&"--disable-md5sum"));
            if back.is_ok_and(|table| table.to_csv(false, &Subtypes::default()) != csv) {
                wrong.push(format!("{name}: decoded differently"));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(format!("{} wrong\n{}", wrong.len(), wrong.join("\n"))) }
}

/// Facts files whose name begins like one of `starts`, with the corpus file they belong to.
fn facts(corpus: &Path, keep: impl Fn(&Value) -> bool) -> Result<Vec<(String, Vec<u8>, Value)>, Stop> {
    let mut out = Vec::new();
    for line in fs::read_to_string(corpus.join("MANIFEST.tsv"))?.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (Some(file), Some(facts)) = (fields.first(), fields.get(7).filter(|name| !name.is_empty())) else {
            continue;
        };
        let Ok(facts) = serde_json::from_str::<Value>(&fs::read_to_string(corpus.join(facts))?) else { continue };
        if keep(&facts) {
            out.push(((*file).to_owned(), fs::read(corpus.join(file))?, facts));
        }
    }
    Ok(out)
}

fn public_csv() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    let files = facts(&corpus, |facts| facts["fs2MB"].is_object())?;
    if files.is_empty() {
        return Err(reference::Skip("no CSV tables in the corpus".into()).into());
    }
    for (name, bytes, facts) in files {
        for (variant, expected) in facts.as_object().into_iter().flatten() {
            let flash_size = variant.strip_prefix("fs").unwrap_or_default();
            let words: &[&str] = match variant.as_str() {
                "default" => &[],
                "securev1" => &["--secure", "v1"],
                "securev2" => &["--secure", "v2"],
                "nomd5" => &["--disable-md5sum"],
                "noverify" => &["--no-verify"],
                "off0x9000" => &["--offset", "0x9000"],
                "off0x10000" => &["--offset", "0x10000"],
                _ if !flash_size.is_empty() => &["--flash-size", flash_size],
                other => return fail(format!("{name}: variant {other} is not known to this test")),
            };
            compare(&format!("{name} {variant}"), &generate(&bytes, words), expected)?;
        }
    }
    Ok(())
}

fn public_tables() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    let files = facts(&corpus, |facts| facts["csv"].is_string())?;
    if files.is_empty() {
        return Err(reference::Skip("no binary tables in the corpus".into()).into());
    }
    for (name, bytes, facts) in files {
        let table = Table::read(&bytes, &Options::default()).map_err(|e| Stop::Failed(format!("{name}: {e}")))?;
        if table.to_csv(false, &Subtypes::default()) != facts["csv"].as_str().unwrap_or_default() {
            return fail(format!("{name}: decoded differently"));
        }
    }
    Ok(())
}
