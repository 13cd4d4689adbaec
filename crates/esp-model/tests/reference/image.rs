//! Images against esptool: what it says about an image, and what it makes of an ELF file.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use esp_model::chip;
use esp_model::image::hex::{Part, hex};
use esp_model::image::merge::{self, FlashSettings};
use esp_model::image::{self, Built, FlashMode, SecurePad, Settings};
use libtest_mimic::Trial;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::reference::{Stop, corpus, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("image: corpus images are read as esptool reads them", corpus_images),
        trial("image: corpus ELF files become esptool's images", corpus_elfs),
        trial("image: generated images are read as esptool reads them", generated_images),
        trial("image: generated merges are esptool's", generated_merges),
        trial("image: generated ELF files become esptool's images", generated_elfs),
        trial("image: esp-hal programs become espflash's images", esp_hal_programs),
    ]
}

/// Collects differences, so that one run shows all.
#[derive(Default)]
pub struct Report {
    compared: usize,
    wrong: Vec<String>,
}

impl Report {
    pub fn add(&mut self, result: Result<(), String>) {
        self.compared += 1;
        self.wrong.extend(result.err());
    }

    pub fn finish(self) -> Result<(), Stop> {
        if self.compared == 0 {
            return fail("nothing was compared");
        }
        if self.wrong.is_empty() {
            return Ok(());
        }
        fail(format!("{} of {} differ:\n{}", self.wrong.len(), self.compared, self.wrong.join("\n")))
    }
}

/// Rows of the corpus's manifest with this kind: path, chip, facts.
pub fn rows(kind: &str) -> Result<Vec<(PathBuf, String, Value)>, Stop> {
    let corpus = corpus()?;
    let manifest = fs::read_to_string(corpus.join("MANIFEST.tsv"))?;
    let mut rows = Vec::new();
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (file, chip, facts) = (columns[0], columns[3], columns.get(7).copied().unwrap_or(""));
        if columns[2] == kind && !facts.is_empty() {
            let facts = serde_json::from_slice(&fs::read(corpus.join(facts))?)?;
            rows.push((corpus.join(file), chip.to_owned(), facts));
        }
    }
    Ok(rows)
}

/// The generated cases of a topic with the folder that holds their files.
fn cases(topic: &str) -> Result<(PathBuf, Vec<Value>), Stop> {
    let folder = corpus()?.join("gen").join(topic);
    let text = fs::read_to_string(folder.join("cases.jsonl"))?;
    let cases = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((folder, cases))
}

fn corpus_images() -> Result<(), Stop> {
    let mut report = Report::default();
    for kind in ["image", "merged"] {
        for (path, _, facts) in rows(kind)? {
            report.add(same_facts(&path, &facts));
        }
    }
    report.finish()
}

fn generated_images() -> Result<(), Stop> {
    let mut report = Report::default();
    let (folder, cases) = cases("image")?;
    for case in cases {
        let path = folder.join(case["files"][0].as_str().unwrap_or_default());
        report.add(same_facts(&path, &case["expect"]));
    }
    report.finish()
}

/// Our reading of an image beside esptool's.
fn same_facts(path: &Path, facts: &Value) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    facts_differ(&path.display().to_string(), &bytes, facts, true)
}

/// The same for bytes; the descriptions are compared where the facts hold them.
pub fn facts_differ(name: &str, bytes: &[u8], facts: &Value, descriptions: bool) -> Result<(), String> {
    let image = match (image::parse(bytes), facts.get("api_error")) {
        (Err(_), Some(_)) => return Ok(()),
        (Err(error), None) => return Err(format!("{name}: refused: {error}")),
        (Ok(_), Some(error)) => return Err(format!("{name}: accepted, esptool: {error}")),
        (Ok(image), None) => image,
    };
    let ours = our_facts(&image);
    let differences: Vec<String> = ours
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| descriptions || !key.ends_with("_desc"))
        // We also find descriptions where esptool, which looks at the last RAM segment only, finds none
        // (docs/compatibility.md).
        .filter(|(key, _)| {
            *key != "bootloader_desc" || facts.get("bootloader_desc").is_some_and(|desc| !desc.is_null())
        })
        .filter(|(key, value)| facts.get(key.as_str()).unwrap_or(&Value::Null) != *value)
        .map(|(key, value)| format!("{name}: {key}: {value}, esptool: {}", facts.get(key).unwrap_or(&Value::Null)))
        .collect();
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// The SHA-256 as text.
pub fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn our_facts(image: &image::Image<'_>) -> Value {
    let chip = image.chip;
    let segment = |segment: &image::Segment<'_>| {
        // The reference counts the zeros that it puts behind a segment with an address.
        let pad = if segment.addr == 0 { 1 } else { 4 };
        serde_json::json!({
            "addr": segment.addr,
            "len": segment.data.len().next_multiple_of(pad),
            "file_offs": segment.offset,
            "types": segment.regions(chip),
        })
    };
    let version = if image.layout == image::Layout::V2 { 2 } else { 1 };
    let mut facts = serde_json::json!({
        "detected_chip": if chip.chip_id.is_some() { chip.name.clone() } else { chip.id.to_owned() },
        "version": version,
        "entry": image.header.entry,
        "n_segments": image.segments.len(),
        "flash_mode": image.header.flash_mode,
        "flash_size": image.header.size_name(chip),
        "flash_freq": image.header.frequency_name(chip),
        "segments": image.segments.iter().map(segment).collect::<Vec<_>>(),
        "checksum": image.checksum,
        "checksum_valid": image.checksum == image.computed_checksum(),
    });
    if let Some(extended) = &image.extended {
        facts["wp_pin"] = extended.wp_pin.into();
        facts["chip_id"] = extended.chip_id.into();
        facts["min_rev"] = extended.min_rev.into();
        facts["min_rev_full"] = extended.min_rev_full.into();
        facts["max_rev_full"] = extended.max_rev_full.into();
        facts["append_digest"] = (extended.append_digest == 1).into();
    }
    if let Some(digest) = image.digest() {
        facts["hash_valid"] = digest.is_valid().into();
        facts["digest"] = hex(&digest.computed).into();
    }
    if image.extended.is_some() {
        facts["app_desc"] = image.app_desc().map_or(Value::Null, |desc| app_desc_facts(image, &desc));
        facts["bootloader_desc"] = image.boot_desc().map_or(Value::Null, |desc| boot_desc_facts(image, &desc));
    }
    facts
}

fn app_desc_facts(image: &image::Image<'_>, desc: &image::AppDesc) -> Value {
    let raw = image.app_desc_segment().map_or(&[][..], |segment| segment.data);
    let revision = |value: u16| format!("{}.{}", value / 100, value % 100);
    serde_json::json!({
        "magic_word": image::AppDesc::MAGIC,
        "secure_version": desc.secure_version,
        "reserv1": hex(&raw[8..16]),
        "version": desc.version,
        "project_name": desc.project_name,
        "time": desc.time,
        "date": desc.date,
        "idf_ver": desc.idf_version,
        "app_elf_sha256": hex(&desc.elf_sha256),
        "min_efuse_blk_rev_full": revision(desc.min_efuse_blk_rev),
        "max_efuse_blk_rev_full": revision(desc.max_efuse_blk_rev),
        "mmu_page_size": desc.mmu_page_size().filter(|_| desc.mmu_page_log2 != 0).map(|size| format!("{} KB", size / 1024)),
        "reserv3": hex(&raw[181..184]),
        "reserv2": hex(&raw[184..256]),
    })
}

fn boot_desc_facts(image: &image::Image<'_>, desc: &image::BootDesc) -> Value {
    let starts = |segment: &&image::Segment<'_>| image::BootDesc::decode(segment.data).as_ref() == Some(desc);
    let raw = image.segments.iter().find(starts).map_or(&[][..], |segment| segment.data);
    serde_json::json!({
        "magic_byte": image::BootDesc::MAGIC,
        "reserv1": hex(&raw[1..4]),
        "version": desc.version,
        "idf_ver": desc.idf_version,
        "date_time": desc.date_time,
        "reserv2": hex(&raw[64..80]),
    })
}

fn corpus_elfs() -> Result<(), Stop> {
    let mut report = Report::default();
    for (path, chip, facts) in rows("elf")? {
        let elf = fs::read(&path)?;
        for (option, case) in facts["elf2image"].as_object().into_iter().flatten() {
            let name = format!("{} {option}", path.display());
            let options = case["args"].as_str().unwrap_or_default();
            report.add(same_image(&name, &chip, options.split_whitespace(), &elf, &case["out"]));
        }
    }
    report.finish()
}

/// What `espflash save-image --chip CHIP` (4.7.0) makes of esp-hal's programs: lowest major revision and highest revision,
/// which it takes from its bootloader's header, and the SHA-256 of the file.
const ESPFLASH: [(&str, u8, u16, &str); 5] = [
    ("esp32", 0, 399, "9f5ea0b27760ddbd055b1198186fb4399d752bed2640cd5e40c9affa7553268e"),
    ("esp32c3", 3, 199, "3e16e1b9d79254ee2a15515f110df5589ab9f5b6bc1c8a1ef9b8cc078db7cf70"),
    ("esp32c5", 0, 199, "e773f1ef8cbe848f306e6722fe5f5b3216c62129ae2c355ba68767a6b5ad3fb2"),
    ("esp32h2", 0, 199, "c5081df4f4ff45f832ed5f5b2c3fa4e58235c4aa047317b7215b41f8c46889e1"),
    ("esp32s3", 0, 99, "fad5193cfb4d583be64eb3a2170b011a1853c4df30b9840db74529ac55fb8812"),
];

fn esp_hal_programs() -> Result<(), Stop> {
    let mut report = Report::default();
    for (path, chip, _) in rows("elf")? {
        let Some((name, min_rev, max_rev_full, wanted)) =
            ESPFLASH.into_iter().find(|(name, ..)| path.ends_with(format!("espflash/{name}.elf")))
        else {
            continue;
        };
        let Some(chip) = chip::by_name(&chip) else { return fail(format!("there is no chip {chip}")) };
        let settings = Settings {
            flash_mode: FlashMode::Dio,
            flash_size: String::from("4MB"),
            min_rev,
            max_rev_full,
            ..Settings::default()
        };
        let built = image::build(chip, &fs::read(&path)?, &settings);
        report.add(match built {
            Ok(Built::One(bytes)) if hex_sha256(&bytes) == wanted => in_order(&bytes),
            other => Err(format!(
                "{name}: {:?}",
                other.map(|built| files(built).iter().map(|(_, b)| b.len()).sum::<usize>())
            )),
        });
    }
    report.finish()
}

/// The image reads, and nothing is found in it that keeps it from starting; random programs have random entry points.
fn in_order(bytes: &[u8]) -> Result<(), String> {
    let image = image::parse(bytes).map_err(|error| error.to_string())?;
    let found = image::checks::check(&image, None);
    let serious = |finding: &&image::checks::Finding| {
        finding.prevents_boot() && !matches!(finding, image::checks::Finding::Entry(_))
    };
    match found.iter().find(serious) {
        Some(finding) => Err(finding.to_string()),
        None => Ok(()),
    }
}

fn generated_elfs() -> Result<(), Stop> {
    let mut report = Report::default();
    let (folder, cases) = cases("elf")?;
    for case in cases {
        let elf = fs::read(folder.join(case["files"][0].as_str().unwrap_or_default()))?;
        let options = case["args"]["opts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let chip = case["args"]["chip"].as_str().unwrap_or_default();
        report.add(same_image(&case["id"].to_string(), chip, options, &elf, &case["expect"]["outputs"]));
    }
    report.finish()
}

/// `outputs`: ending of the file name to length and SHA-256; absent or null when esptool refused.
pub fn same_image<'a>(
    name: &str,
    chip: &str,
    options: impl Iterator<Item = &'a str>,
    elf: &[u8],
    outputs: &Value,
) -> Result<(), String> {
    let chip = chip::by_name(chip).ok_or(format!("{name}: no chip {chip}"))?;
    let options: Vec<&str> = options.collect();
    let settings = settings(&options);
    let build = |bytes: &[u8]| {
        let hash = || Sha256::digest(elf).into();
        image::build_hashed(chip, bytes, settings.as_ref().map_err(Clone::clone)?, hash).map_err(|e| e.to_string())
    };
    let built = build(elf);
    // What the product reads of a file is enough for the same image.
    if sparse(elf).is_some_and(|sparse| build(&sparse) != built) {
        return Err(format!("{name} {options:?}: the needed parts give another image"));
    }
    let theirs = outputs.as_object();
    let built = match (built, theirs) {
        (Err(_), None) => return Ok(()),
        (Err(error), Some(_)) => return Err(format!("{name} {options:?}: refused: {error}")),
        // Sections that share an MMU page are joined; what comes out must be in order.
        (Ok(Built::One(bytes)), None) => {
            return in_order(&bytes).map_err(|error| format!("{name} {options:?}: {error}"));
        }
        (Ok(_), None) => return Err(format!("{name} {options:?}: built, esptool refused")),
        (Ok(built), Some(_)) => built,
    };
    let ours: serde_json::Map<String, Value> = files(built)
        .into_iter()
        .map(|(ending, bytes)| (ending, serde_json::json!([bytes.len(), hex_sha256(&bytes)])))
        .collect();
    if Some(&ours) == theirs { Ok(()) } else { Err(format!("{name} {options:?}: {ours:?}, esptool: {outputs}")) }
}

/// The parts of a file that are needed, zeros elsewhere.
fn sparse(whole: &[u8]) -> Option<Vec<u8>> {
    let place = |range: &Range<u64>| range.start as usize..range.end as usize;
    let ranges = image::elf::needed(&mut |range| whole.get(place(&range)).map(<[u8]>::to_vec))?;
    let mut out = vec![0; whole.len()];
    for range in ranges.iter().map(|range| range.start.min(whole.len() as u64)..range.end.min(whole.len() as u64)) {
        out[place(&range)].copy_from_slice(&whole[place(&range)]);
    }
    Some(out)
}

/// The files that esptool would write, by the end of their names.
fn files(built: Built) -> Vec<(String, Vec<u8>)> {
    match built {
        Built::One(bytes) => vec![(String::from("bin"), bytes)],
        Built::Split { ram, mapped } => {
            let mut files = vec![(String::from("0x00000.bin"), ram)];
            files.extend(mapped.map(|(offset, bytes)| (format!("{offset:#07x}.bin"), bytes)));
            files
        }
    }
}

/// esptool's options as our settings.
fn settings(options: &[&str]) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().copied().ok_or(format!("{option} without value"));
        let bad = |error: std::num::ParseIntError| error.to_string();
        match *option {
            "-ff" => settings.flash_frequency = Some(value()?.to_owned()),
            "-fm" => settings.flash_mode = value().ok().and_then(FlashMode::from_name).ok_or("mode")?,
            "-fs" => settings.flash_size = value()?.to_owned(),
            "--version" => settings.version = value()?.parse().map_err(bad)?,
            "--min-rev" => settings.min_rev = value()?.parse().map_err(bad)?,
            "--min-rev-full" => settings.min_rev_full = value()?.parse().map_err(bad)?,
            "--max-rev-full" => settings.max_rev_full = value()?.parse().map_err(bad)?,
            "--secure-pad" => settings.secure_pad = settings.secure_pad.or(Some(SecurePad::V1)),
            "--secure-pad-v2" => settings.secure_pad = Some(SecurePad::V2),
            "--elf-sha256-offset" => {
                let value = value()?;
                let hex = value.strip_prefix("0x");
                let number = hex.map_or_else(|| value.parse(), |hex| u32::from_str_radix(hex, 16));
                settings.elf_sha256_offset = Some(number.map_err(bad)?);
            }
            "--dont-append-digest" => settings.append_digest = false,
            "--use-segments" => settings.use_segments = true,
            "--flash-mmu-page-size" => settings.mmu_page_size = Some(size(value()?)?),
            "--pad-to-size" => settings.pad_to_size = Some(size(value()?)?),
            "--ram-only-header" => settings.ram_only_header = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(settings)
}

fn size(text: &str) -> Result<u32, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u32 = number.parse().map_err(|_| text.to_owned())?;
    match unit {
        "KB" => Ok(number << 10),
        "MB" => Ok(number << 20),
        _ => Err(text.to_owned()),
    }
}

fn generated_merges() -> Result<(), Stop> {
    let mut report = Report::default();
    let (folder, cases) = cases("merge")?;
    for case in cases {
        let ours = merged(&folder, &case["args"]).map(|bytes| serde_json::json!([bytes.len(), hex_sha256(&bytes)]));
        let expect = &case["expect"];
        let theirs = (expect["rc"] == 0).then(|| serde_json::json!([expect["size"], expect["sha256"]]));
        let same = ours.as_ref().ok() == theirs.as_ref();
        report.add(if same { Ok(()) } else { Err(format!("{}: {ours:?}, esptool: {expect}", case["id"])) });
    }
    report.finish()
}

/// What we make of a case's options and files.
fn merged(folder: &Path, args: &Value) -> Result<Vec<u8>, String> {
    let chip = chip::by_name(args["chip"].as_str().unwrap_or_default()).ok_or("chip")?;
    let mut parts: Vec<Part> = Vec::new();
    for part in args["parts"].as_array().into_iter().flatten() {
        let data = fs::read(folder.join(part[1].as_str().unwrap_or_default())).map_err(|error| error.to_string())?;
        let address = part[0].as_u64().and_then(|address| u32::try_from(address).ok()).ok_or("address")?;
        parts.extend(merge::parts_of(address, data).map_err(|error| error.to_string())?);
    }
    let (mut flash, mut format, mut target, mut pad, mut chunk, mut md5) =
        (FlashSettings::default(), "raw", 0, None, None, true);
    let mut options = args["opts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let number = |text: &str| {
        let hex = text.strip_prefix("0x");
        hex.map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16)).map_err(|error| error.to_string())
    };
    while let Some(option) = options.next() {
        let mut value = || options.next().unwrap_or_default();
        match option {
            "--format" => format = value(),
            "-fm" => flash.mode = FlashMode::from_name(value()),
            "-fs" => flash.size = Some(value().to_owned()).filter(|name| name != "keep"),
            "-ff" => flash.frequency = Some(value().to_owned()).filter(|name| name != "keep"),
            "--target-offset" => target = number(value())?,
            "--pad-to-size" => pad = Some(size(value())?),
            "--chunk-size" => chunk = Some(number(value())?),
            "--md5-disable" => md5 = false,
            other => return Err(format!("unknown option {other}")),
        }
    }
    let parts = merge::prepare(chip, parts, &flash).map_err(|error| error.to_string())?;
    match format {
        "raw" => merge::raw(&parts, target, pad).map(|pieces| pieces.concat()),
        "hex" => Ok(merge::to_hex(&parts).into_bytes()),
        _ => merge::to_uf2(chip, &parts, chunk, md5),
    }
    .map_err(|error| error.to_string())
}
