//! eFuse values and burns against `espefuse --virt`, on every chip that it knows.
//!
//! Random plans: a few a chip by default, a thousand with `MCP_ESPTOOL_LONG`; `MCP_ESPTOOL_EFUSE_PLANS` sets the number.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use esp_model::chip::{self, Chip};
use esp_model::efuse::{Burn, Efuses, Field, FieldValue, Request, Shown, Voltage, bits, token};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{Answer, Stop, batch, fail, scratch, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("efuse::summaries_of_blank_chips", blank_summaries),
        trial("efuse::every_field_burned", every_field),
        trial("efuse::random_plans", random_plans),
        trial("efuse::tokens", tokens),
    ]
}

/// Chips with eFuses that a tool can burn.
fn chips() -> impl Iterator<Item = &'static Chip> {
    chip::all().iter().filter(|chip| chip.efuse().controller.is_some())
}

/// What `espefuse summary --format json` says of a field.
struct Theirs {
    value: Value,
    raw: String,
    readable: bool,
    writeable: bool,
    kind: String,
    block: u8,
    bits: u64,
    calculated: bool,
}

type Summary = BTreeMap<String, Theirs>;

fn summary(text: &str) -> Result<Summary, Stop> {
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
struct Virtual {
    chip: &'static Chip,
    file: PathBuf,
}

impl Virtual {
    fn argv(&self, command: &[String]) -> Vec<String> {
        let file = self.file.display().to_string();
        let head = ["--chip", self.chip.id, "--virt", "--path-efuse-file", &file, "--do-not-confirm"];
        head.into_iter().map(str::to_string).chain(command.iter().cloned()).collect()
    }

    fn summary(&self) -> Vec<String> {
        self.argv(&["summary", "--format", "json"].map(str::to_string))
    }
}

/// The eFuses in espefuse's register file: the register window, last byte first.
fn load(chip: &'static Chip, file: &Path) -> Result<Efuses, Stop> {
    if !file.exists() {
        return Ok(Efuses::blank(chip.efuse_at(0)));
    }
    let bytes = fs::read(file)?;
    let newest = chip.efuse();
    let controller = newest.controller.as_ref();
    let base = controller.and_then(|controller| controller.pgm_data).unwrap_or(newest.blocks[0].read);
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
fn revision(efuses: &Efuses) -> u16 {
    let part = |names: [&str; 2]| names.iter().find_map(|name| efuses.number(name)).unwrap_or(0) as u16;
    part(["WAFER_VERSION_MAJOR", "WAFER_VERSION_MAJOR_LO"]) * 100 + part(["WAFER_VERSION_MINOR", "WAFER_VERSION_MINOR"])
}

fn compare_summary(what: &str, ours: &Efuses, theirs: &Summary) -> Result<(), Stop> {
    let mut wrong = Vec::new();
    for (name, theirs) in theirs {
        // Halves of this field stand for it on chips with hidden parts.
        let Some(field) = ours.table.field(name) else {
            wrong.push(format!("{name}: not known"));
            continue;
        };
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

/// The end of a long output.
fn tail(text: &str) -> String {
    let from = text.chars().count().saturating_sub(1600);
    text.chars().skip(from).filter(|letter| *letter != ' ' || from == 0).collect()
}

fn words_of(efuses: &Efuses) -> String {
    let block = |(id, words): (&u8, &Vec<u32>)| {
        let words: Vec<_> = words.iter().map(|word| format!("{word:08x}")).collect();
        format!("{id}: {}", words.join(" "))
    };
    efuses.words.iter().map(block).collect::<Vec<_>>().join("\n      ")
}

fn blank_summaries() -> Result<(), Stop> {
    let dir = scratch("efuse-blank");
    let chips: Vec<_> = chips().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let cases: Vec<_> = chips.iter().map(Virtual::summary).collect();
    let mut wrong = Vec::new();
    for (virt, answer) in chips.iter().zip(batch("espefuse", &cases)?) {
        let compared =
            load(virt.chip, &virt.file).and_then(|ours| compare_summary(virt.chip.id, &ours, &summary(&answer.text)?));
        if let Err(Stop::Failed(text)) = compared {
            wrong.push(text);
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n")) }
}

/// Each field that can be burned, all in one command, then the summary.
fn every_field() -> Result<(), Stop> {
    let dir = scratch("efuse-fields");
    let chips: Vec<_> = chips().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let blank = batch("espefuse", &chips.iter().map(Virtual::summary).collect::<Vec<_>>())?;
    let mut cases = Vec::new();
    let mut plans = Vec::new();
    for (virt, answer) in chips.iter().zip(&blank) {
        let known = summary(&answer.text)?;
        let ours = load(virt.chip, &virt.file)?;
        let mut random = Random(7);
        let (mut argv, mut requests) = (vec!["burn-efuse".to_string()], Vec::new());
        for (name, theirs) in &known {
            // Protection, coding and whole blocks would stand in the way of the others.
            let Some(field) = ours.table.field(name).filter(|field| burnable(&ours, field, theirs)) else { continue };
            if field.block != 0 && field.len() == 256 || ["WR_DIS", "RD_DIS", "CODING_SCHEME"].contains(&name.as_str())
            {
                continue;
            }
            // espefuse takes these by burn-custom-mac only while no version is burned.
            if ours.table.field("MAC_VERSION").is_some() && name.starts_with("CUSTOM_MAC") {
                continue;
            }
            if virt.chip.id == "esp32s3" && name == "DIS_USB_JTAG" || name == "DOWNLOAD_MODE_XPD_ON" {
                continue;
            }
            let (request, text) = value_for(&ours, field, theirs, &mut random);
            argv.extend([name.clone(), text]);
            requests.push(request);
        }
        cases.extend([virt.argv(&argv), virt.summary()]);
        plans.push(requests);
    }
    let answers = batch("espefuse", &cases)?;
    let mut wrong = Vec::new();
    for ((virt, requests), answers) in chips.iter().zip(&plans).zip(answers.chunks(2)) {
        if let Err(Stop::Failed(text)) = check_every_field(virt, requests, answers) {
            wrong.push(format!("{}: {text}", virt.chip.id));
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n")) }
}

fn check_every_field(virt: &Virtual, requests: &[Request], answers: &[Answer]) -> Result<(), Stop> {
    if !answers[0].ok {
        return fail(tail(&answers[0].text));
    }
    let mut burn = Burn::new(Efuses::blank(virt.chip.efuse_at(0)));
    for request in requests {
        if let Err(error) = burn.add(request) {
            return fail(format!("{request:?}: {error}"));
        }
    }
    let (ours, theirs) = (burn.after()?, load(virt.chip, &virt.file)?);
    if ours.words != theirs.words {
        return fail(format!("ours   {}\n    theirs {}", words_of(&ours), words_of(&theirs)));
    }
    compare_summary("after", &theirs, &summary(&answers[1].text)?)
}

/// xorshift, the same plans in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn burnable(efuses: &Efuses, field: &Field, theirs: &Theirs) -> bool {
    let factory = ["MAC", "MAC_EXT", "ADC_VREF"].contains(&field.name.as_str());
    !factory && !theirs.calculated && !field.composed && efuses.table.field(&field.name).is_some()
}

/// A value that the field can take: our request and espefuse's argument.
fn value_for(efuses: &Efuses, field: &Field, theirs: &Theirs, random: &mut Random) -> (Request, String) {
    let name = field.name.clone();
    if field.name == "CUSTOM_MAC" {
        let mac = unicast(random);
        return (Request::Field { name, value: mac.to_vec() }, mac_text(mac));
    }
    if theirs.kind.starts_with("bytes") {
        let value = random.bytes(usize::from(field.len() / 8));
        let text = value.iter().map(|byte| format!("{byte:02x}")).collect();
        return (Request::Field { name, value }, text);
    }
    let mut limit = 1u64 << field.len().min(32);
    if efuses.is_purpose(&field.name) {
        let known = efuses.table.key_purposes.iter().filter_map(|purpose| purpose.value);
        let values: Vec<_> = known.filter(|value| *value != 0 && value >> field.len() == 0).collect();
        let value = values[random.below(values.len())];
        return (Request::Field { name, value: vec![value] }, value.to_string());
    }
    if field.kind == esp_model::efuse::FieldKind::SpiPin {
        limit = 30;
    }
    let value = 1 + random.next() % (limit - 1).max(1);
    let len = usize::from(field.len()).div_ceil(8);
    (Request::Field { name, value: value.to_le_bytes()[..len.min(8)].to_vec() }, value.to_string())
}

fn unicast(random: &mut Random) -> [u8; 6] {
    let mut mac: [u8; 6] = random.bytes(6).try_into().unwrap();
    mac[0] &= 0xfe;
    mac
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// One command of espefuse and what we make of it.
struct Command {
    request: Vec<Request>,
    argv: Vec<String>,
}

fn command(dir: &Path, efuses: &Efuses, known: &Summary, random: &mut Random, serial: usize) -> Command {
    let table = efuses.table;
    let text = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let file = |data: &[u8]| {
        let file = dir.join(format!("data{serial}"));
        fs::write(&file, data).unwrap();
        file.display().to_string()
    };
    let block = &table.blocks[random.below(table.blocks.len())];
    let keys: Vec<_> = table.blocks.iter().filter(|block| block.is_key).collect();
    match random.below(10) {
        0..=3 => {
            let (mut request, mut argv) = (Vec::new(), text(&["burn-efuse"]));
            let fields: Vec<_> = known.iter().collect();
            for _ in 0..=random.below(3) {
                let (name, theirs) = fields[random.below(fields.len())];
                let Some(field) = table.field(name).filter(|field| burnable(efuses, field, theirs)) else { continue };
                if argv.contains(name) || name == "CODING_SCHEME" {
                    continue;
                }
                let (one, value) = value_for(efuses, field, theirs, random);
                argv.extend([name.clone(), value]);
                request.push(one);
            }
            if request.is_empty() { command(dir, efuses, known, random, serial) } else { Command { request, argv } }
        }
        4 => {
            let bits: Vec<_> =
                (0..=random.below(3)).map(|_| random.below(usize::from(block.words) * 32) as u16).collect();
            let mut argv = text(&["burn-bit", &block.name]);
            argv.extend(bits.iter().map(u16::to_string));
            Command { request: vec![Request::Bits { block: block.name.clone(), bits }], argv }
        }
        5 => {
            let data = random.bytes(usize::from(block.words) * 4);
            let offset = if random.below(3) == 0 { random.below(data.len()) } else { 0 };
            let data = data[offset..].to_vec();
            let argv = text(&["burn-block-data", &block.name, &file(&data), "--offset", &offset.to_string()]);
            Command { request: vec![Request::Block { block: block.name.clone(), data, offset }], argv }
        }
        6 | 7 => key_command(efuses, keys[random.below(keys.len())], random, &file),
        8 => {
            let mac = unicast(random);
            Command { request: vec![Request::CustomMac(mac)], argv: text(&["burn-custom-mac", &mac_text(mac)]) }
        }
        _ => {
            let read = random.below(2) == 0;
            let has =
                |field: &&Field| if read { !field.read_protect.is_empty() } else { field.write_protect.is_some() };
            let shown = |field: &&Field| known.get(&field.name).is_some_and(|theirs| !theirs.calculated);
            let fields: Vec<_> = table.fields.iter().filter(has).filter(shown).collect();
            if table.field("XPD_SDIO_FORCE").or(table.field("VDD_SPI_FORCE")).is_some() && random.below(4) == 0 {
                let (voltage, name) =
                    [(Voltage::V1_8, "1.8V"), (Voltage::V3_3, "3.3V"), (Voltage::Off, "OFF")][random.below(3)];
                return Command {
                    request: vec![Request::FlashVoltage(voltage)],
                    argv: text(&["set-flash-voltage", name]),
                };
            }
            let name = fields[random.below(fields.len())].name.clone();
            let argv = text(&[if read { "read-protect-efuse" } else { "write-protect-efuse" }, &name]);
            let request = if read { Request::ReadProtect { name } } else { Request::WriteProtect { name } };
            Command { request: vec![request], argv }
        }
    }
}

fn key_command(
    efuses: &Efuses,
    block: &esp_model::efuse::Block,
    random: &mut Random,
    file: &dyn Fn(&[u8]) -> String,
) -> Command {
    let purposes = &efuses.table.key_purposes;
    let usable: Vec<_> = purposes.iter().filter(|purpose| !purpose.name.starts_with("ECDSA_KEY")).collect();
    let purpose = usable[random.below(usable.len())];
    let half =
        purpose.field.as_ref().and_then(|name| efuses.table.field(name)).map(|field| usize::from(field.len() / 8));
    let len = if purpose.split.is_empty() { half.unwrap_or(efuses.capacity(block)) } else { 64 };
    let key = random.bytes(len);
    let (read_protect, write_protect) = (random.below(3) != 0, random.below(3) != 0);
    let mut argv = vec!["burn-key".to_string()];
    if purpose.blocks.is_empty() && block.purpose_field.is_none() && purpose.value.is_none() {
        // A plain block without purpose: espefuse write-protects it only.
        argv.extend([block.name.clone(), file(&key)]);
    } else if block.purpose_field.is_none() && purpose.value.is_none() {
        let alias = ["flash_encryption", "secure_boot_v1", "secure_boot_v2"];
        let wanted = ["FLASH_ENCRYPTION", "SECURE_BOOT_V1", "SECURE_BOOT_V2_DIGEST"];
        let at = wanted.iter().position(|name| *name == purpose.name).unwrap();
        argv.extend([alias[at].to_string(), file(&key)]);
        if !write_protect {
            argv.push("--no-protect-key".into());
        }
        let block = efuses.table.blocks.iter().find(|block| purpose.blocks.contains(&block.id)).unwrap().name.clone();
        let request =
            Request::Key { block, key, purpose: purpose.name.clone(), read_protect: write_protect, write_protect };
        return Command { request: vec![request], argv };
    } else {
        argv.extend([block.name.clone(), file(&key), purpose.name.clone()]);
        if !read_protect {
            argv.push("--no-read-protect".into());
        }
    }
    if !write_protect {
        let plain = block.purpose_field.is_none() && purpose.value.is_none();
        argv.push(if plain { "--no-protect-key" } else { "--no-write-protect" }.into());
    }
    let block = block.name.clone();
    Command {
        request: vec![Request::Key { block, key, purpose: purpose.name.clone(), read_protect, write_protect }],
        argv,
    }
}

/// Random plans a chip, and steps of each: short in every run, with `MCP_ESPTOOL_LONG` a thousand of one step.
fn size() -> (usize, usize) {
    let (plans, steps) = if std::env::var_os("MCP_ESPTOOL_LONG").is_some() { (1000, 1) } else { (5, 3) };
    let wanted = std::env::var("MCP_ESPTOOL_EFUSE_PLANS").ok().and_then(|text| text.parse().ok());
    (wanted.unwrap_or(plans), steps)
}

/// One plan: what it begins with and its steps. Cases are numbered in the one list that espefuse works off.
struct Plan {
    chip: &'static Chip,
    number: usize,
    start: Efuses,
    steps: Vec<Step>,
    /// The case that shows the summary at the end.
    summary: Option<usize>,
}

struct Step {
    case: usize,
    /// espefuse's register file after the step.
    after: PathBuf,
    requests: Vec<Request>,
}

fn random_plans() -> Result<(), Stop> {
    let (count, steps) = size();
    let dir = scratch("efuse-random");
    let chips: Vec<_> = chips().collect();
    let blanks: Vec<_> = chips.iter().map(|chip| Virtual { chip, file: dir.join(chip.id) }).collect();
    let known = batch("espefuse", &blanks.iter().map(Virtual::summary).collect::<Vec<_>>())?;
    let (mut cases, mut plans) = (Vec::new(), Vec::new());
    for (index, chip) in chips.iter().enumerate() {
        let known = summary(&known[index].text)?;
        for number in 0..count {
            let mut random = Random((number * 1000 + index + 1) as u64 * 0x9e37_79b9);
            plans.push(plan(&dir, chip, number, steps, &known, &mut random, &mut cases)?);
        }
    }
    let answers = parallel(&cases)?;
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    for plan in &plans {
        match check_plan(plan, &cases, &answers) {
            Ok(burned) => accepted += burned,
            Err(Stop::Failed(text)) => wrong.push(text),
            Err(stop) => return Err(stop),
        }
    }
    if !wrong.is_empty() {
        return fail(format!("{} plans differ; first:\n{}", wrong.len(), wrong[..wrong.len().min(3)].join("\n\n")));
    }
    // A test in which everything is refused would say nothing.
    let all = plans.len() * steps;
    if accepted * 3 < all { fail(format!("only {accepted} of {all} commands burned")) } else { Ok(()) }
}

/// A plan whose commands are appended to the cases. On a chip with a choice of codings every second plan begins with 3/4.
fn plan(
    dir: &Path,
    chip: &'static Chip,
    number: usize,
    steps: usize,
    known: &Summary,
    random: &mut Random,
    cases: &mut Vec<Vec<String>>,
) -> Result<Plan, Stop> {
    let virt = Virtual { chip, file: dir.join(format!("{}-{number}", chip.id)) };
    let mut start = Efuses::blank(chip.efuse_at(0));
    if number % 2 == 1 && start.table.field("CODING_SCHEME").is_some() {
        let coding = Request::Field { name: "CODING_SCHEME".into(), value: vec![1] };
        start = burn(&start, &[coding]).map_err(Stop::Failed)?;
        cases.push(virt.argv(&["burn-efuse", "CODING_SCHEME", "1"].map(str::to_string)));
    }
    let mut plan = Plan { chip, number, start, steps: Vec::new(), summary: None };
    for step in 0..steps {
        let serial = cases.len();
        let parts = random.below(2);
        let part = |part| command(dir, &plan.start, known, random, serial * 10 + part);
        let mut commands: Vec<_> = (0..=parts).map(part).collect();
        // espefuse takes the letters of a name for names when another command follows a protection.
        let protects = |command: &Command| command.argv[0].ends_with("protect-efuse");
        let last = commands.iter().position(protects).map(|at| commands.remove(at));
        commands.retain(|command| !protects(command));
        commands.extend(last);
        let argv: Vec<_> = commands.iter().flat_map(|command| command.argv.clone()).collect();
        cases.push(virt.argv(&argv));
        let mut after = virt.file.clone();
        if step + 1 < steps {
            after = dir.join(format!("{}-{number}-{step}", chip.id));
            cases.push(vec!["@copy".into(), virt.file.display().to_string(), after.display().to_string()]);
        }
        let requests = commands.into_iter().flat_map(|command| command.request).collect();
        plan.steps.push(Step { case: serial, after, requests });
    }
    // The words are compared after every step; of a long run the summary of every twentieth plan will do.
    if steps > 1 || number % 20 < 2 {
        plan.summary = Some(cases.len());
        cases.push(virt.summary());
    }
    // Where the next plan's cases may go to another process.
    cases.push(vec!["@copy".into(), virt.file.display().to_string(), virt.file.display().to_string() + ".end"]);
    Ok(plan)
}

/// Works the cases off in as many processes as there are processors; a plan stays in one.
fn parallel(cases: &[Vec<String>]) -> Result<Vec<Answer>, Stop> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut pieces: Vec<&[Vec<String>]> = Vec::new();
    let mut rest = cases;
    for left in (1..=threads).rev() {
        let at_least = rest.len().div_ceil(left);
        let ends = |case: &Vec<String>| case[0] == "@copy" && case[2].ends_with(".end");
        let end = rest.iter().enumerate().position(|(at, case)| at + 1 >= at_least && ends(case));
        let (piece, next) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        pieces.push(piece);
        rest = next;
    }
    let answers: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = pieces.iter().map(|piece| scope.spawn(|| batch("espefuse", piece))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    Ok(answers.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Compares a plan step by step; how many steps burned something.
fn check_plan(plan: &Plan, cases: &[Vec<String>], answers: &[Answer]) -> Result<usize, Stop> {
    let (mut state, mut burned) = (plan.start.clone(), 0);
    for (number, step) in plan.steps.iter().enumerate() {
        let theirs = load(plan.chip, &step.after)?;
        let answer = &answers[step.case];
        let ours = burn(&state, &step.requests);
        // These two rules of espefuse are findings of our linter.
        let linted = ["must be readable", "Incompatible eFuse"].iter().any(|text| answer.text.contains(text));
        let unchanged = theirs.words == state.words;
        let same = match &ours {
            Ok(after) => after.words == theirs.words || (linted && unchanged),
            Err(_) => unchanged && !answer.ok,
        };
        if !same {
            return fail(format!(
                "{} plan {} step {number}: {:?}\n{:?}\n  before {}\n  ours   {}\n  theirs {}\n{}",
                plan.chip.id,
                plan.number,
                cases[step.case],
                step.requests,
                words_of(&state),
                ours.as_ref().map_or_else(|error| error.clone(), words_of),
                words_of(&theirs),
                tail(&answer.text)
            ));
        }
        burned += usize::from(!unchanged);
        state = theirs;
    }
    if let Some(case) = plan.summary {
        compare_summary(plan.chip.id, &state, &summary(&answers[case].text)?)?;
    }
    Ok(burned)
}

fn burn(before: &Efuses, requests: &[Request]) -> Result<Efuses, String> {
    let mut burn = Burn::new(before.clone());
    requests.iter().try_for_each(|request| burn.add(request)).map_err(|error| error.to_string())?;
    burn.after().map_err(|error| error.to_string())
}

/// espefuse reads our tokens, we read its.
fn tokens() -> Result<(), Stop> {
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for (index, chip) in chips().enumerate() {
        let table = chip.efuse_at(0);
        let mut random = Random(index as u64 + 99);
        let mut efuses = Efuses::blank(table);
        for block in table.blocks.iter().filter(|block| block.is_key) {
            let words = bits::to_words(&random.bytes(usize::from(block.words) * 4));
            efuses.words.insert(block.id, words);
        }
        let token = token::encode(chip.id, 0, &efuses);
        cases.push(
            ["--chip", chip.id, "--virt", "--token", &token, "dump", "--format", "token"].map(str::to_string).to_vec(),
        );
        ours.push((chip, token, efuses));
    }
    for ((chip, token, efuses), answer) in ours.iter().zip(batch("espefuse", &cases)?) {
        let Some(theirs) = answer.text.lines().find(|line| line.starts_with("EFSR:")) else {
            return fail(format!("{}: {}", chip.id, answer.text));
        };
        if theirs != token {
            return fail(format!("{}: {token} came back as {theirs}", chip.id));
        }
        let (id, revision, words) =
            token::decode(theirs, |id, revision| chip::by_name(id).map(|chip| chip.efuse_at(revision)))?;
        if (id.as_str(), revision, &words) != (chip.id, 0, &efuses.words) {
            return fail(format!("{}: we read {words:?}", chip.id));
        }
    }
    Ok(())
}
