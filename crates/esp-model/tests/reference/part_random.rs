//! Random partition tables, valid and broken, beside the answers of ESP-IDF's `gen_esp32part.py` (found by `IDF_PATH`).

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use esp_model::partition::Table;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::image_random::Rng;
use crate::part::{generate, options};
use crate::reference::{self, Skip, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("part: fresh random tables against the generator", fresh_tables)]
}

/// Answers all cases in one process: `N.in` and the words of line N become `N.out`, or nothing when they are refused.
const DRIVER: &str = r"
import contextlib, io, json, os, sys
path = sys.argv[1]
code = compile(open(path, encoding='utf-8').read(), path, 'exec')
os.environ.clear()
for number, line in enumerate(open('cases.jsonl', encoding='utf-8')):
    space = {'__name__': 'generator'}
    out = '%d.out' % number
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(code, space)
            space['cli'].main(args=['-q', '%d.in' % number, out] + json.loads(line), standalone_mode=False)
    except BaseException as error:
        with open('%d.err' % number, 'w', encoding='utf-8', errors='replace') as text:
            text.write(repr(error))
        with contextlib.suppress(FileNotFoundError):
            os.remove(out)
";

const CASES: usize = 500;

fn fresh_tables() -> Result<(), Stop> {
    let script = std::env::var_os("IDF_PATH")
        .map(|idf| PathBuf::from(idf).join("components/partition_table/gen_esp32part.py"))
        .filter(|script| script.is_file())
        .ok_or_else(|| Skip(String::from("no ESP-IDF (set IDF_PATH)")))?;
    let dir = reference::scratch("part");
    let mut rng = Rng::seeded(0x7ab1e);
    let mut list = String::new();
    let mut cases = Vec::new();
    for number in 0..CASES {
        let words = random_options(&mut rng);
        let csv = random_csv(&mut rng);
        let mut input = encoded(&mut rng, &csv);
        // Every third file is a binary table, half of them damaged.
        let plain = ["--no-verify"];
        if rng.one_in(3)
            && let Ok(binary) = generate(&input, &plain)
        {
            input = binary;
            damage_table(&mut rng, &mut input);
        }
        fs::write(dir.join(format!("{number}.in")), &input)?;
        let _ = writeln!(list, "{}", Value::from(words.clone()));
        cases.push((words, input));
    }
    fs::write(dir.join("cases.jsonl"), list)?;
    reference::run(Command::new(reference::tool("python")?).args(["-c", DRIVER]).arg(&script).current_dir(&dir))?;
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    for (number, (words, input)) in cases.iter().enumerate() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match compare(&dir, number, &words, input) {
            Ok(both) => accepted += usize::from(both),
            Err(text) => wrong.push(format!("{}/{number}.in {words:?}: {text}", dir.display())),
        }
    }
    if !wrong.is_empty() {
        return fail(format!("{} wrong\n{}", wrong.len(), wrong.join("\n")));
    }
    fs::remove_dir_all(&dir)?;
    if accepted > CASES / 10 { Ok(()) } else { fail(format!("only {accepted} cases were accepted by both")) }
}

/// Both accept it and give the same (true), or both refuse it (false).
fn compare(dir: &Path, number: usize, words: &[&str], input: &[u8]) -> Result<bool, String> {
    let theirs = fs::read(dir.join(format!("{number}.out"))).ok();
    let ours = if Table::is_binary(input) { decode(input, words) } else { generate(input, words) };
    match (ours, theirs) {
        (Ok(ours), Some(theirs)) if ours == theirs => Ok(true),
        (Ok(_), Some(_)) => Err(String::from("other output")),
        (Err(error), None) if error.contains("this test") => Err(error),
        (Err(_), None) => Ok(false),
        (Err(error), Some(_)) => Err(format!("refused ({error}), the reference accepts it")),
        (Ok(_), None) => {
            let reason = fs::read_to_string(dir.join(format!("{number}.err"))).unwrap_or_default();
            Err(format!("accepted, the reference says {reason}"))
        }
    }
}

fn decode(input: &[u8], words: &[&str]) -> Result<Vec<u8>, String> {
    let options = options(words)?;
    let table = Table::read(input, &options).map_err(|e| e.to_string())?;
    Ok(table.to_csv(false, &options.subtypes).into_bytes())
}

fn random_options(rng: &mut Rng) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |given: &[&str]| words.extend(given.iter().map(|word| (*word).to_owned()));
    if rng.one_in(3) {
        add(&["--offset", *rng.pick(&["0x8000", "0x9000", "0xf000", "0x10000", "0x7000", "0", "0x8800", "0x1000000"])]);
    }
    if rng.one_in(3) {
        add(&["--flash-size", *rng.pick(&["1MB", "2MB", "4MB", "8MB", "16MB", "32MB", "64MB", "128MB"])]);
    }
    if rng.one_in(4) {
        add(&["--secure", *rng.pick(&["v1", "v2"])]);
    }
    if rng.one_in(6) {
        add(&["--disable-md5sum"]);
    }
    if rng.one_in(8) {
        add(&["--no-verify"]);
    }
    if rng.one_in(3) {
        add(&["--primary-bootloader-offset", *rng.pick(&["0x1000", "0", "0x2000", "0x8000", "0x9000", "0x800"])]);
    }
    if rng.one_in(4) {
        add(&["--recovery-bootloader-offset", *rng.pick(&["0x3f0000", "0x20000", "0x1001", "0"])]);
    }
    if rng.one_in(5) {
        add(&["--extra-partition-subtypes", "app, my_app, 0x40", "data, my_data, 0xf0"]);
        if rng.one_in(3) {
            add(&[*rng.pick(&[
                "data, other, 90",
                "app, second, 0x41",
                "data, wide, 0x1ff",
                "data,nvs,0xA5",
                "bootloader, x, 7",
            ])]);
        }
    }
    words
}

const KINDS: &[&str] = &[
    "data",
    "data",
    "data",
    "data",
    "app",
    "app",
    "app",
    "bootloader",
    "partition_table",
    "0",
    "1",
    "0x40",
    "0xfe",
    "DATA",
    "App",
    "2",
    "3",
    "255",
    "256",
    "",
    "0x",
    "nonsense",
    "-1",
    "0b1",
];
const DATA: &[&str] = &[
    "nvs",
    "nvs",
    "phy",
    "ota",
    "coredump",
    "nvs_keys",
    "efuse",
    "undefined",
    "esphttpd",
    "fat",
    "spiffs",
    "littlefs",
    "tee_ota",
    "0x99",
    "",
    "NVS",
    "my_data",
    "7",
    "300",
    "factory",
    "1K",
    "0x1k",
];
const APP: &[&str] = &[
    "factory", "test", "ota_0", "ota_1", "ota_2", "ota_15", "tee_0", "tee_1", "ota_16", "0x10", "", "my_app", "OTA_3",
    "0x45", "nvs",
];
const SIZES: &[&str] = &[
    "4K",
    "16K",
    "24K",
    "0x6000",
    "64K",
    "1M",
    "1024K",
    "0x10000",
    "0x2000",
    "8192",
    "8k",
    "1m",
    "65536",
    "0x3000",
    "0x13000",
    "-0x400000",
    "-4M",
    "",
    "0",
    "1.5M",
    "0x1001",
    "4096",
    "1_000",
    "010",
    "0o10000",
    " 12K ",
    "2kk",
    "K",
    "100M",
    "5G",
    "4294967296",
    "0x100000000",
    "-1",
];
const FLAGS: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "",
    "encrypted",
    "readonly",
    "encrypted:readonly",
    ":encrypted",
    "encrypted:",
    "Encrypted",
    "0x1",
    "a",
];
const OFFSETS: &[&str] = &[
    "0x9000", "0x10000", "0x20000", "0x110000", "36864", "64K", "1M", "0x9001", "0x8000", "0", "0xfff000", "-0x1000",
    "x", "0x1_0000",
];

fn random_csv(rng: &mut Rng) -> String {
    let mut csv = String::new();
    let wild = rng.one_in(3);
    let rows = match rng.below(12) {
        0 => 90 + rng.below(10),
        1 => 0,
        _ => 1 + rng.below(14),
    };
    for number in 0..rows {
        row(rng, &mut csv, number, wild);
        csv += *rng.pick(&["\n", "\n", "\n", "\n", "\n", "\n", "\r\n", "\n\n"]);
        if wild && rng.one_in(40) {
            csv += *rng.pick(&[
                "\u{2028}", "\u{b}", "\u{85}", "\u{1c}", "#", "garbage", "$X", "a,$Y,b", "\u{feff}", ",,,,", "\u{a0}",
            ]);
        }
    }
    csv
}

/// One row: mostly right in a tame file, anything in a wild one.
fn row(rng: &mut Rng, csv: &mut String, number: u64, wild: bool) {
    if rng.one_in(12) {
        *csv += *rng.pick(&["# comment", "", "  # indented", "\t", "#"]);
        return;
    }
    let tame = |rng: &mut Rng| !wild || !rng.one_in(6);
    let kind = if tame(rng) { *rng.pick(&KINDS[..if wild { 9 } else { 7 }]) } else { *rng.pick(KINDS) };
    let subtype = match kind {
        "data" if tame(rng) => *rng.pick(&DATA[..15]),
        "app" if tame(rng) => *rng.pick(&APP[..8]),
        "bootloader" | "partition_table" => *rng.pick(&["primary", "ota", "recovery", "0", "5", ""]),
        "app" => *rng.pick(APP),
        _ => *rng.pick(DATA),
    };
    let offset = if rng.one_in(if wild { 4 } else { 25 }) { *rng.pick(OFFSETS) } else { "" };
    let size = match (kind, subtype) {
        (_, "ota" | "tee_ota") if tame(rng) => "8K",
        ("app", _) if tame(rng) => *rng.pick(&["64K", "1M", "0x10000", "1024K", "0x20000", "0x13000"]),
        _ if tame(rng) => *rng.pick(&SIZES[..12]),
        _ => *rng.pick(SIZES),
    };
    let flags = if tame(rng) { *rng.pick(&FLAGS[..8]) } else { *rng.pick(FLAGS) };
    let name = match rng.below(if wild { 12 } else { 400 }) {
        0 => *rng.pick(&[
            "",
            "nvs",
            "app",
            "a_name_that_is_longer_than_16",
            "ä漢",
            "sixteen_chars_ok",
            "data",
            "x y",
            "\"q\"",
        ]),
        1 => "same",
        _ => "",
    };
    let name = if name.is_empty() && !(wild && rng.one_in(20)) { format!("part{number}") } else { name.to_owned() };
    let comma = *rng.pick(&[",", ", ", " ,", ",\t", ",  "]);
    let fields = [name.as_str(), kind, subtype, offset, size, flags];
    let count = match rng.below(if wild { 12 } else { 1000 }) {
        0 => 4,
        1 => 5,
        _ if flags.is_empty() && rng.one_in(2) => 5,
        _ => 6,
    };
    *csv += &fields[..count].join(comma);
    if rng.one_in(15) {
        *csv += *rng.pick(&[",", ",,", ", x", " # no comment"]);
    }
}

/// The text in one of the encodings that the generator knows, seldom in none.
fn encoded(rng: &mut Rng, text: &str) -> Vec<u8> {
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    match rng.below(24) {
        0 => [&b"\xef\xbb\xbf"[..], text.as_bytes()].concat(),
        1 => [0xff, 0xfe].into_iter().chain(units(text).into_iter().flat_map(u16::to_le_bytes)).collect(),
        2 => [0xfe, 0xff].into_iter().chain(units(text).into_iter().flat_map(u16::to_be_bytes)).collect(),
        3 => [text.as_bytes(), b"\xff"].concat(),
        _ => text.as_bytes().to_vec(),
    }
}

/// Half of the tables stay whole.
fn damage_table(rng: &mut Rng, table: &mut Vec<u8>) {
    let rows = table.as_chunks::<32>().0.iter().take_while(|row| row[0] != 0xff).count().max(1);
    let within = |rng: &mut Rng| rng.below(rows as u64 * 32) as usize;
    match rng.below(10) {
        0 => {
            let at = within(rng);
            table[at] ^= 1 << rng.below(8);
        }
        1 => table.truncate(within(rng).max(2)),
        2 => {
            let keep = rows * 32;
            table.truncate(keep);
        }
        3 => {
            let at = within(rng) / 32 * 32 + 12;
            table[at..at + 16].fill(*rng.pick(&[b'x', 0, 0xff, 0xc3]));
        }
        4 => {
            let at = within(rng) / 32 * 32 + 28;
            table[at] = rng.below(256) as u8;
        }
        _ => {}
    }
}
