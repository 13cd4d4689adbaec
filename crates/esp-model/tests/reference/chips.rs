//! Chip data, eFuse maps and identities against esptool and espefuse.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use esp_model::chip::{self, Chip, MacSource};
use esp_model::efuse::{EfuseTable, Field};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::reference::{Stop, batch, fail, root, scratch, tool, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("chips::addresses_and_tables_are_esptools", targets),
        trial("chips::efuse_maps_are_espefuses", efuse_maps),
        trial("chips::espefuse_shows_no_field_that_we_lack", summaries),
        trial("chips::identities_are_esptools", identities),
        trial("chips::espefuse_accepts_new_chips", new_chips),
    ]
}

/// Register words that one chip is to be identified by.
struct Case {
    chip: &'static Chip,
    words: BTreeMap<u32, u32>,
}

/// What both tools know, read once by one Python process.
fn facts() -> Result<&'static Value, Stop> {
    static FACTS: OnceLock<Result<Value, String>> = OnceLock::new();
    let python = tool("python")?;
    let read = || -> Result<Value, Box<dyn std::error::Error>> {
        let script = root().join("tests/support/chip_facts.py");
        let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().ok_or("no standard input")?;
        for case in cases() {
            let words: BTreeMap<_, _> = case.words.iter().map(|(at, word)| (at.to_string(), word)).collect();
            writeln!(input, "{}", json!({ "chip": case.chip.id, "words": words }))?;
        }
        drop(input);
        let output = child.wait_with_output()?;
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout)?)
        } else {
            Err("chip_facts.py failed".into())
        }
    };
    FACTS.get_or_init(|| read().map_err(|e| e.to_string())).as_ref().map_err(|text| Stop::Failed(text.clone()))
}

/// For each chip: nothing set, everything set, each identity field at each small value, and random words.
fn cases() -> Vec<Case> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 32) as u32
    };
    let mut all = Vec::new();
    for chip in chip::all() {
        let table = chip.efuse();
        let fields: BTreeSet<_> = chip.identity.fields().collect();
        let fields: Vec<&Field> = fields.iter().filter_map(|name| table.field(name)).collect();
        let registers = chip.identity.registers().map(|bits| bits.register);
        let addresses: BTreeSet<u32> =
            fields.iter().flat_map(|field| table.addresses(field)).chain(registers).collect();
        let mut add = |word: &mut dyn FnMut() -> u32| {
            all.push(Case { chip, words: addresses.iter().map(|at| (*at, word())).collect() });
        };
        add(&mut || 0);
        for _ in 0..150 {
            add(&mut random);
            // Few bits set: closer to real chips.
            add(&mut || 1 << (random() % 32) | 1 << (random() % 32));
        }
        for field in &fields {
            for value in 0..8_u32.min(1 << field.len().min(8)) {
                let block = table.block(field.block).map_or(0, |block| block.read);
                let mut words = vec![0; 8];
                field.store(&mut words, &value.to_le_bytes());
                let at = |(index, word): (usize, u32)| (block + index as u32 * 4, word);
                all.push(Case { chip, words: words.into_iter().enumerate().map(at).collect() });
            }
        }
    }
    all
}

fn identities() -> Result<(), Stop> {
    let answers = facts()?["identities"].as_array().cloned().unwrap_or_default();
    let cases = cases();
    if answers.len() != cases.len() || cases.len() < 4000 {
        return fail(format!("{} answers for {} cases", answers.len(), cases.len()));
    }
    for (case, answer) in cases.iter().zip(&answers) {
        let read = |address| Ok::<_, Infallible>(case.words.get(&address).copied().unwrap_or(0));
        let Ok(ours) = chip::identify(case.chip, read);
        let eui64 = ours.eui64().map(|bytes| bytes.to_vec());
        // An ESP8266 whose vendor part is not known: esptool refuses, or prints zeros.
        let mac = Some(ours.mac).filter(|mac| mac.0[..3] != [0; 3]).map(|mac| json!(mac.0));
        let unknown = mac.is_none() || case.chip.identity.mac == MacSource::Esp8266Otp && no_oui(case);
        let mac = if unknown { answer["mac"].clone() } else { json!(mac) };
        let ours = json!({ "description": ours.description, "features": ours.features, "mac": mac, "eui64": eui64 });
        if ours != *answer {
            return fail(format!("{} {:x?}:\n ours {ours}\n esptool {answer}", case.chip.id, case.words));
        }
    }
    Ok(())
}

/// The ESP8266's vendor part is blank, whatever else stands in its word.
fn no_oui(case: &Case) -> bool {
    let table = case.chip.efuse();
    let at = table.field("MAC_OUI").into_iter().flat_map(|field| table.addresses(field)).next();
    at.and_then(|at| case.words.get(&at)).is_none_or(|word| word & 0xff_ffff == 0)
}

fn targets() -> Result<(), Stop> {
    let mut wrong = Vec::new();
    for chip in chip::all() {
        let theirs = &facts()?["chips"][chip.id];
        let mut same = |name: &str, ours: Value| {
            if theirs[name] != ours {
                wrong.push(format!("{} {name}: ours {ours}, esptool {}", chip.id, theirs[name]));
            }
        };
        same("CHIP_NAME", json!(chip.name));
        same("IMAGE_CHIP_ID", json!(chip.chip_id));
        same("USES_MAGIC_VALUE", json!(chip.detect.by_magic));
        same("SECURITY_INFO_SUPPORTED", json!(chip.rom.security_info_len > 0));
        same("FLASH_32BIT_ADDR_SUPPORTED", json!(chip.flash.beyond_16mb));
        same("USB_OTG_SUPPORTED", json!(chip.usb.otg.is_some()));
        same("USB_SERIAL_JTAG_SUPPORTED", json!(chip.usb.serial_jtag.is_some()));
        same("WATCHDOG_RESET_SUPPORTED", json!(chip.reset.by_watchdog));
        same("CUSTOM_SPI_FLASH_PINS_SUPPORTED", json!(!chip.spi.custom_pins.is_empty()));
        same("BOOTLOADER_FLASH_OFFSET", json!(chip.flash.bootloader_offset));
        same("UF2_FAMILY_ID", json!(chip.image.uf2_family.unwrap_or(0)));
        same("SPI_REG_BASE", json!(chip.spi.base));
        same("SPI_USR_OFFS", json!(chip.spi.usr));
        same("SPI_USR1_OFFS", json!(chip.spi.usr1));
        same("SPI_USR2_OFFS", json!(chip.spi.usr2));
        same("SPI_MOSI_DLEN_OFFS", json!(chip.spi.mosi_dlen));
        same("SPI_MISO_DLEN_OFFS", json!(chip.spi.miso_dlen));
        same("SPI_W0_OFFS", json!(chip.spi.w0));
        same("SPI_ADDR_REG_MSB", json!(chip.spi.addr_msb));
        same("FLASH_SIZES", json!(chip.flash.sizes));
        same("FLASH_FREQUENCY", json!(chip.flash.frequencies));
        same("IROM_MAP_START", json!(chip.image.irom[0]));
        same("IROM_MAP_END", json!(chip.image.irom[1]));
        same("UART_CLKDIV_MASK", json!(chip.uart.clkdiv_mask));
        same("UART_DATE_REG_ADDR", json!(chip.uart.date));
        let memory: Vec<_> = chip.memory.iter().map(|region| json!([region.start, region.end, region.name])).collect();
        same("MEMORY_MAP", json!(memory));
        if chip.crystal.mhz.len() > 1 {
            same("UART_CLKDIV_REG", json!(chip.uart.clkdiv));
        }
        if chip.flash.encrypted_align > 0 {
            same("FLASH_ENCRYPTED_WRITE_ALIGN", json!(chip.flash.encrypted_align));
        }
        if chip.image.format == esp_model::chip::ImageFormat::Esp32 {
            same("DROM_MAP_START", json!(chip.image.drom[0]));
            same("DROM_MAP_END", json!(chip.image.drom[1]));
            let mut pages = chip.image.mmu_page_sizes.clone();
            pages.sort_unstable();
            same("PAGE_SIZES", json!(pages));
        }
        if let Some(watchdog) = &chip.reset.watchdog {
            same("RTC_CNTL_WDTCONFIG0_REG", json!(watchdog.config0));
            same("RTC_CNTL_WDTCONFIG1_REG", json!(watchdog.config1));
            same("RTC_CNTL_WDTWPROTECT_REG", json!(watchdog.protect));
            same("RTC_CNTL_WDT_WKEY", json!(watchdog.key));
        }
        if let Some(watchdog) = &chip.reset.super_watchdog {
            same("RTC_CNTL_SWD_CONF_REG", json!(watchdog.config));
            same("RTC_CNTL_SWD_AUTO_FEED_EN", json!(watchdog.auto_feed));
            same("RTC_CNTL_SWD_WPROTECT_REG", json!(watchdog.protect));
            same("RTC_CNTL_SWD_WKEY", json!(watchdog.key));
        }
    }
    nothing(&wrong)
}

fn nothing(wrong: &[String]) -> Result<(), Stop> {
    if wrong.is_empty() { Ok(()) } else { fail(format!("{} differ:\n{}", wrong.len(), wrong.join("\n"))) }
}

/// Our table for a table of espefuse's, named by chip and the silicon it is for.
fn our_table(name: &str) -> Option<&'static EfuseTable> {
    let (id, silicon) = name.split_once(' ').unwrap_or((name, ""));
    let revision = match (id, silicon) {
        (_, "v3.0") => 300,
        ("esp32p4", _) => 100,
        (_, "v0.0") => 0,
        _ => u16::MAX,
    };
    Some(chip::by_name(id)?.efuse_at(revision))
}

fn efuse_maps() -> Result<(), Stop> {
    let mut wrong = Vec::new();
    let mut compared = 0;
    let maps = facts()?["efuses"].as_object().cloned().unwrap_or_default();
    for (name, theirs) in &maps {
        let Some(ours) = our_table(name) else { return fail(format!("no chip {name}")) };
        let list = |key: &str| theirs[key].as_array().cloned().unwrap_or_default();
        for block in list("blocks") {
            compare_block(name, ours, &block, &mut wrong);
        }
        for field in list("fields") {
            compared += 1;
            compare_field(name, ours, &field, &mut wrong);
        }
        // The second table for H2 lists only what differs.
        let known: BTreeSet<_> = list("fields").iter().map(|field| field["name"].to_string()).collect();
        if name != "esp32h2 v0.0" {
            for field in
                ours.fields.iter().filter(|field| field.shown && !known.contains(&json!(field.name).to_string()))
            {
                wrong.push(format!("{name} {}: shown by us only", field.name));
            }
        }
        for purpose in list("purposes") {
            compare_purpose(name, ours, &purpose, &mut wrong);
        }
    }
    if compared < 1400 {
        return fail(format!("only {compared} fields compared"));
    }
    nothing(&wrong)
}

fn compare_block(name: &str, ours: &EfuseTable, theirs: &Value, wrong: &mut Vec<String>) {
    let id = theirs["id"].as_u64().and_then(|id| u8::try_from(id).ok()).unwrap_or(u8::MAX);
    let Some(block) = ours.block(id) else { return wrong.push(format!("{name}: no block {id}")) };
    let mut names = BTreeSet::from([block.name.as_str()]);
    names.extend(block.aliases.iter().map(String::as_str));
    let their_names = theirs["alias"].as_array().into_iter().flatten().chain([&theirs["name"]]);
    let their_names: BTreeSet<_> = their_names.filter_map(Value::as_str).collect();
    let ours = json!([block.read, block.write, block.words, block.write_protect, block.read_protect, names]);
    let protect = one_or_many(&theirs["read_disable_bit"]);
    let theirs =
        json!(
            [theirs["rd_addr"], theirs["wr_addr"], theirs["len"], theirs["write_disable_bit"], protect, their_names,]
        );
    if ours != theirs {
        wrong.push(format!("{name} block {id}: ours {ours}, espefuse {theirs}"));
    }
}

fn one_or_many(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(bits) => bits.iter().filter_map(Value::as_u64).collect(),
        other => other.as_u64().into_iter().collect(),
    }
}

fn compare_field(name: &str, ours: &EfuseTable, theirs: &Value, wrong: &mut Vec<String>) {
    let their_name = theirs["name"].as_str().unwrap_or_default();
    let Some(field) = ours.fields.iter().find(|field| field.name == their_name) else {
        return wrong.push(format!("{name} {their_name}: we do not have it"));
    };
    if !field.shown {
        wrong.push(format!("{name} {their_name}: we do not show it"));
    }
    let aliases = theirs["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for alias in aliases.filter(|alias| !alias.is_empty() && *alias != "BLOCK3") {
        if ours.field(alias).is_none() {
            wrong.push(format!("{name} {their_name}: no alias {alias}"));
        }
    }
    let Some(start) = theirs["start"].as_u64() else {
        // Put together by code there; the major revision of the ESP32 takes a third bit from a register.
        if theirs["len"] != json!(field.len()) && their_name != "WAFER_VERSION_MAJOR" {
            wrong.push(format!("{name} {their_name}: {} bits, espefuse {}", field.len(), theirs["len"]));
        }
        return;
    };
    // A key purpose with its high bit elsewhere is one field here and put together by code there.
    let bits: Vec<_> = field.bits.iter().map(|range| (u64::from(range.0), u64::from(range.1))).collect();
    let same_bits = bits.first() == Some(&(start, theirs["len"].as_u64().unwrap_or(0)));
    let ours = json!([field.block, field.write_protect, field.read_protect]);
    let their = json!([theirs["block"], theirs["write"], one_or_many(&theirs["read"])]);
    if !same_bits || bits.len() > 1 && !their_name.starts_with("KEY_PURPOSE") || ours != their {
        wrong.push(format!("{name} {their_name}: ours {ours} {bits:?}, espefuse {their} {start}+{}", theirs["len"]));
    }
}

fn compare_purpose(name: &str, ours: &EfuseTable, theirs: &Value, wrong: &mut Vec<String>) {
    let their_name = theirs[0].as_str().unwrap_or_default();
    if their_name.starts_with("CUSTOM") {
        return;
    }
    let Some(purpose) = ours.key_purposes.iter().find(|purpose| purpose.name == their_name) else {
        return wrong.push(format!("{name} {their_name}: we do not know this key purpose"));
    };
    let value = purpose.value.map_or(json!(true), |value| json!(theirs[1] == json!(value)));
    let same = value == json!(true)
        && purpose.value.is_some() == (theirs[1].as_i64() >= Some(0))
        && purpose.digest == (theirs[2] == "DIGEST")
        && purpose.reversed == (theirs[3] == "Reverse")
        && purpose.read_protect == (theirs[4] == "need_rd_protect");
    if !same {
        wrong.push(format!("{name} {their_name}: ours {purpose:?}, espefuse {theirs}"));
    }
}

/// The summaries that espefuse prints for virtual chips: every line is one of our fields, at the same place.
fn summaries() -> Result<(), Stop> {
    let chips: Vec<&Chip> = chip::all().iter().filter(|chip| chip.efuse().controller.is_some()).collect();
    let line = |chip: &&Chip| ["--chip", chip.id, "--virt", "summary", "--format", "json"].map(str::to_owned).to_vec();
    let answers = batch("espefuse", &chips.iter().map(line).collect::<Vec<_>>())?;
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (chip, answer) in chips.iter().zip(&answers) {
        let start = answer.text.find('{').unwrap_or(0);
        let end = answer.text.rfind('}').map_or(0, |end| end + 1);
        let shown: BTreeMap<String, Value> = serde_json::from_str(&answer.text[start..end])?;
        // Virtual chips are the oldest silicon.
        let table = chip.efuse_at(0);
        for (name, theirs) in &shown {
            compared += 1;
            let Some(field) = table.fields.iter().find(|field| field.name == *name && field.shown) else {
                wrong.push(format!("{} {name}: not shown by us", chip.id));
                continue;
            };
            let first = field.bits.first().map_or(0, |range| u64::from(range.0));
            let at = theirs["word"].as_u64().zip(theirs["pos"].as_u64()).map(|(word, pos)| word * 32 + pos);
            if at.is_some_and(|at| at != first || theirs["block"] != json!(field.block)) {
                wrong.push(format!("{} {name}: at {first}, espefuse {theirs}", chip.id));
            }
        }
    }
    if compared < 700 {
        return fail(format!("only {compared} fields compared"));
    }
    nothing(&wrong)
}

/// The eFuses of our new chips as espefuse reads them: address and check byte are right, so is the revision.
fn new_chips() -> Result<(), Stop> {
    let dir = scratch("new-chips");
    let chips: Vec<&Chip> = chip::all().iter().filter(|chip| chip.efuse().controller.is_some()).collect();
    let mut lines = Vec::new();
    for chip in &chips {
        let memory = &facts()?["efuses"][chip.id]["memory"];
        let number = |index: usize| memory[index].as_u64().and_then(|number| u32::try_from(number).ok());
        let (Some(base), Some(len)) = (number(0), number(1)) else { return fail(format!("{}: no window", chip.id)) };
        let state = chip::default_efuses(chip, None, None);
        // Its file holds the whole register window, last byte first.
        let words = (0..len / 4).flat_map(|index| state.word(chip, base + index * 4).to_le_bytes());
        let mut bytes: Vec<u8> = words.collect();
        bytes.reverse();
        let file = dir.join(chip.id);
        std::fs::write(&file, bytes)?;
        let head = ["--chip", chip.id, "--virt", "--path-efuse-file", &file.to_string_lossy()].map(str::to_owned);
        lines.push(head.into_iter().chain(["summary", "--format", "json"].map(str::to_owned)).collect());
    }
    let mut wrong = Vec::new();
    for (chip, answer) in chips.iter().zip(batch("espefuse", &lines)?) {
        let start = answer.text.find('{').unwrap_or(0);
        let end = answer.text.rfind('}').map_or(0, |end| end + 1);
        let shown: Value = serde_json::from_str(&answer.text[start..end])?;
        let mac = shown["MAC"]["value"].as_str().unwrap_or_default();
        if !mac.starts_with(&chip.factory.mac.to_string()) || !mac.contains("OK") {
            wrong.push(format!("{}: MAC {mac}", chip.id));
        }
        let revision = chip.factory.revision;
        // espefuse takes the bit beyond the eFuses for set when it computes the ESP32's revision.
        let major = shown["WAFER_VERSION_MAJOR"]["value"].as_u64().unwrap_or(0);
        let minor = shown["WAFER_VERSION_MINOR"]["value"].as_u64().unwrap_or(0);
        if major * 100 + minor != u64::from(revision) {
            wrong.push(format!("{}: revision {major}.{minor}, ours {revision}", chip.id));
        }
    }
    nothing(&wrong)
}
