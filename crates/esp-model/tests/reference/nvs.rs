//! NVS images against `esp-idf-nvs-partition-gen` and ESP-IDF's NVS parser.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use esp_model::nvs::{self, Keys, Version};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, same_bytes, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("nvs: random data, valid and broken", corpus_cases),
        trial("nvs: CSV files of public projects", public_csv),
        trial("nvs: images of public projects", public_images),
        trial("nvs: fresh random data against the generator", fresh_cases),
    ]
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn generate(dir: &Path, csv: &[u8], size: u64, version: Version, keys: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let keys = keys.map(Keys::from_bytes).transpose().map_err(|e| e.to_string())?;
    let mut files = |path: &str| fs::read(dir.join(path)).map_err(|e| e.to_string());
    nvs::generate(&[csv], size, version, keys.as_ref(), &mut files).map_err(|e| e.to_string())
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
        let ours = generate(&dir, &csv, size, version(&args["version"]), keys.as_deref());
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
            let ours = generate(&dir, &fs::read(&file)?, size, version, keys);
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

/// Runs the generator over many cases in one process: one line of `csv size version key` each, the answer in files.
const DRIVER: &str = r"
import contextlib, io, os, sys
from types import SimpleNamespace
from esp_idf_nvs_partition_gen import nvs_partition_gen as gen
for line in open('cases.txt'):
    csv, size, version, key = line.split()
    args = SimpleNamespace(input=[csv], output=csv + '.bin', size=size, version=int(version), outdir=os.getcwd(),
                           inputkey=key, keygen=False, keyfile=None)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            gen.generate(args) if key == '-' else gen.encrypt(args)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(csv + '.bin')
";

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn text(&mut self, length: usize) -> String {
        let letters = ["a", "B", "7", " ", ",", "\"", "ä", "漢", "\n", "#"];
        (0..length).map(|_| self.pick(&letters)).collect()
    }

    fn hex(&mut self, length: usize) -> String {
        (0..length).map(|_| format!("{:02x}", self.below(256))).collect()
    }
}

fn random_csv(random: &mut Random) -> String {
    let mut csv = String::from("key,type,encoding,value\n");
    let lengths = [0, 1, 31, 32, 33, 200, 1984, 1985, 3967, 3969, 4000, 4001, 9000];
    for index in 0..1 + random.below(40) {
        if index == 0 || random.below(12) == 0 {
            let _ = writeln!(csv, "space{},namespace,,", random.below(9));
            continue;
        }
        let kind = random.pick(&["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "string", "hex2bin", "binary"]);
        let length = if random.below(6) == 0 { lengths[random.below(lengths.len())] } else { random.below(90) };
        let value = match kind {
            "string" | "binary" => format!("\"{}\"", random.text(length).replace('"', "\"\"")),
            "hex2bin" => random.hex(length),
            _ => random.pick(&["0", "1", "-1", "127", "200", "-128", "65535", " 5 ", "4294967295"]).to_owned(),
        };
        // Most numbers fit every type, so that most files are accepted.
        let value = if kind.len() <= 3 && random.below(20) > 0 { random.below(128).to_string() } else { value };
        let _ = writeln!(csv, "key{},data,{kind},{value}", random.below(1000));
    }
    csv
}

fn fresh_cases() -> Result<(), Stop> {
    let python = reference::tool("python")?;
    let dir = reference::scratch("nvs");
    let mut random = Random(0x00de_cade);
    let mut cases = Vec::new();
    let mut list = String::new();
    for index in 0..400 {
        let name = format!("{index}.csv");
        let csv = random_csv(&mut random);
        fs::write(dir.join(&name), &csv)?;
        let size = [0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x10000][random.below(6)];
        let version = 1 + random.below(2);
        let keys = (random.below(4) == 0).then(|| (0..64).map(|_| random.below(256) as u8).collect::<Vec<u8>>());
        let key = keys.as_ref().map_or("-".to_owned(), |_| format!("{index}.key.bin"));
        if let Some(keys) = &keys {
            fs::write(dir.join(&key), keys)?;
        }
        let _ = writeln!(list, "{name} {size:#x} {version} {key}");
        cases.push((name, csv, size, version, keys));
    }
    fs::write(dir.join("cases.txt"), list)?;
    reference::run(Command::new(python).args(["-c", DRIVER]).current_dir(&dir))?;
    let mut accepted = 0;
    for (name, csv, size, version, keys) in cases {
        let version = if version == 1 { Version::V1 } else { Version::V2 };
        let ours = generate(&dir, csv.as_bytes(), size, version, keys.as_deref());
        match (ours, fs::read(dir.join(format!("{name}.bin")))) {
            (Ok(ours), Ok(theirs)) => {
                same_bytes(&name, &ours, &theirs)?;
                accepted += 1;
            }
            (Err(_), Err(_)) => {}
            (Err(_), Ok(theirs)) if theirs.len() % 4096 != 0 => {}
            (Ok(_), Err(_)) => return fail(format!("{name}: accepted, the reference refuses it")),
            (Err(error), Ok(_)) => return fail(format!("{name}: refused ({error}), the reference accepts it")),
        }
    }
    fs::remove_dir_all(&dir)?;
    if accepted > 100 { Ok(()) } else { fail(format!("only {accepted} cases were accepted by both")) }
}
