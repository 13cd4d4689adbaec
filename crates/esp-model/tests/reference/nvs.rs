//! NVS images against `esp-idf-nvs-partition-gen` and ESP-IDF's NVS parser.

use std::fs;
use std::path::Path;

use esp_model::nvs::{self, Keys, Version};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("nvs: random data, valid and broken", corpus_cases),
        trial("nvs: CSV files of public projects", public_csv),
        trial("nvs: images of public projects", public_images),
    ]
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn generate(
    dir: &Path,
    csv: &[&[u8]],
    size: u64,
    version: Version,
    keys: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    let keys = keys.map(Keys::from_bytes).transpose().map_err(|e| e.to_string())?;
    let mut files = |path: &str| fs::read(dir.join(path)).map_err(|e| e.to_string());
    nvs::generate(csv, size, version, keys.as_ref(), &mut files).map_err(|e| e.to_string())
}

fn compare(name: &str, ours: &Result<Vec<u8>, String>, expected: &Value, wrong: &mut Vec<String>) {
    match (ours, expected["rc"] == 0) {
        (Ok(bytes), true) if sha256(bytes) == expected["sha256"] => {}
        (Err(_), false) => {}
        (Ok(_), true) => wrong.push(format!("{name}: other bytes than the reference")),
        (Ok(_), false) => wrong.push(format!("{name}: accepted, the reference says {}", expected["error"])),
        // Text outside ASCII can run over a page's end; the reference then writes a longer page (docs/compatibility.md).
        (Err(_), true) if expected["size"].as_u64().is_some_and(|size| size % 4096 != 0) => {}
        (Err(error), true) => wrong.push(format!("{name}: refused ({error}), the reference accepts it")),
    }
}

fn verdict(wrong: &[String]) -> Result<(), Stop> {
    if wrong.is_empty() { Ok(()) } else { fail(format!("{} wrong\n{}", wrong.len(), wrong.join("\n"))) }
}

fn version(number: &Value) -> Version {
    if *number == 1 { Version::V1 } else { Version::V2 }
}

fn corpus_cases() -> Result<(), Stop> {
    let dir = reference::corpus()?.join("gen/nvs");
    let mut wrong = Vec::new();
    for line in fs::read_to_string(dir.join("cases.jsonl"))?.lines() {
        let case: Value = serde_json::from_str(line)?;
        let args = &case["args"];
        let csv = fs::read(dir.join(args["csv"].as_str().unwrap_or_default()))?;
        let keys = args["key"].as_str().map(|key| fs::read(dir.join(key))).transpose()?;
        let size = args["size"].as_u64().unwrap_or_default();
        let ours = generate(&dir, &[&csv], size, version(&args["version"]), keys.as_deref());
        compare(case["id"].as_str().unwrap_or_default(), &ours, &case["expect"], &mut wrong);
    }
    verdict(&wrong)
}

fn public_csv() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    let dir = corpus.join("nvs");
    let keys = fs::read(dir.join("testdata/sample_encryption_keys.bin")).ok();
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in fs::read_dir(&dir).into_iter().flatten().flatten().map(|file| file.path()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(facts) = fs::read_to_string(corpus.join(format!("facts/nvs__{name}.json"))) else { continue };
        let facts: Value = serde_json::from_str(&facts)?;
        for (variant, expected) in facts.as_object().into_iter().flatten() {
            let Some((kind, size)) = variant.split_once("_0x") else { continue };
            let size = u64::from_str_radix(size, 16)?;
            let version = if kind == "v1" { Version::V1 } else { Version::V2 };
            let keys = keys.as_deref().filter(|_| kind == "encrypt");
            let ours = generate(&dir, &[&fs::read(&file)?], size, version, keys);
            compare(&format!("{name} {variant}"), &ours, expected, &mut wrong);
            count += 1;
        }
    }
    if count == 0 {
        return Err(reference::Skip("no NVS data in the corpus".into()).into());
    }
    verdict(&wrong)
}

/// Compares pages, states and items with what ESP-IDF's parser printed.
fn public_images() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    let mut count = 0;
    for file in fs::read_dir(corpus.join("nvs/bin")).into_iter().flatten().flatten().map(|file| file.path()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let facts = fs::read_to_string(corpus.join(format!("facts/nvs__bin__{name}.json")))?;
        let facts: Value = serde_json::from_str(&facts)?;
        let contents = nvs::read(&fs::read(&file)?);
        let pages = facts["json"]["pages"].as_array().ok_or_else(|| Stop::Failed(format!("{name}: no facts")))?;
        if pages.len() != contents.pages.len() {
            return fail(format!("{name}: {} pages, the reference has {}", contents.pages.len(), pages.len()));
        }
        for (theirs, ours) in pages.iter().zip(&contents.pages) {
            if theirs["is_empty"] == true {
                continue;
            }
            let header = &theirs["header"];
            let crc_ok = header["crc"]["original"] == header["crc"]["computed"];
            let same = header["status"].as_str().map(str::to_lowercase).as_deref() == Some(ours.state.name())
                && header["page_index"] == ours.sequence
                && crc_ok == ours.crc_ok;
            if !same {
                return fail(format!("{name}: page {} differs: {ours:?}", ours.number));
            }
            compare_entries(&format!("{name} page {}", ours.number), theirs, ours)?;
        }
        count += 1;
    }
    if count == 0 { Err(reference::Skip("no NVS images in the corpus".into()).into()) } else { Ok(()) }
}

fn compare_entries(name: &str, theirs: &Value, ours: &nvs::Page) -> Result<(), Stop> {
    let entries: Vec<&Value> = theirs["entries"].as_array().into_iter().flatten().collect();
    let written = entries.iter().filter(|entry| entry["state"] == "Written");
    let items: Vec<&nvs::Item> = ours.items.iter().collect();
    if written.clone().count() != items.len() {
        return fail(format!("{name}: {} items, the reference has {}", items.len(), written.count()));
    }
    for (theirs, ours) in written.zip(items) {
        let meta = &theirs["metadata"];
        let crc_ok = meta["crc"]["original"] == meta["crc"]["computed"];
        let data_ok = !ours.has_data() || meta["crc"]["data_original"] == meta["crc"]["data_computed"];
        let same = theirs["index"] == ours.slot
            && theirs["key"] == ours.key_text()
            && meta["namespace"] == ours.namespace
            && meta["span"] == ours.span
            && meta["chunk_index"] == ours.chunk
            && crc_ok == ours.crc_ok
            && data_ok == ours.data_ok;
        if !same {
            return fail(format!("{name}: entry differs: {ours:?}, the reference has {theirs}"));
        }
    }
    Ok(())
}
