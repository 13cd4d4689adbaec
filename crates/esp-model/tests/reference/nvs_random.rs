//! Random NVS data, valid and broken, beside the answers of `esp-idf-nvs-partition-gen`.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use esp_model::nvs::{self, Version};
use esp_model::secure::nvs_keys;
use libtest_mimic::Trial;

use crate::image_random::Rng;
use crate::nvs::generate;
use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("nvs: fresh random data against the generator", fresh_cases)]
}

/// Runs the generator over many cases in one process: one line of `output size version key csv…` each, answers in files.
const DRIVER: &str = r"
import contextlib, io, os, sys
from types import SimpleNamespace
from esp_idf_nvs_partition_gen import nvs_partition_gen as gen
for line in open('cases.txt'):
    name, size, version, key, *files = line.split()
    args = SimpleNamespace(input=files, output=name + '.bin', size=size, version=int(version), outdir=os.getcwd(),
                           inputkey=key, keygen=False, keyfile=None)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if key.endswith('.hmac.bin'):
                gen.generate_key(SimpleNamespace(keyfile=name + '.derived.bin', key_protect_hmac=True, kp_hmac_keygen=False,
                                                 kp_hmac_keyfile=None, kp_hmac_inputkey=key, outdir=os.getcwd()))
                args.inputkey = 'keys/' + name + '.derived.bin'
            gen.generate(args) if key == '-' else gen.encrypt(args)
    except BaseException as error:
        with open(name + '.err', 'w', encoding='utf-8', errors='replace') as text:
            text.write(repr(error))
        with contextlib.suppress(FileNotFoundError):
            os.remove(name + '.bin')
";

const CASES: usize = 400;

const ENCODINGS: &[&str] = &[
    "u8",
    "i8",
    "u16",
    "i16",
    "u32",
    "i32",
    "u64",
    "i64",
    "string",
    "hex2bin",
    "binary",
    "base64",
    "blob_fill(40;0xff)",
    "blob_sz_fill(100;0x00)",
    "string",
    "hex2bin",
    "base64",
];
/// Spellings that the generator treats in its own ways, and nonsense.
const ODD_ENCODINGS: &[&str] = &[
    "STRING",
    "Hex2Bin",
    "BINARY",
    "Base64",
    "U8",
    "I64",
    "u128",
    "float",
    "",
    "blob",
    "blob_fill(9;0xff)",
    "blob_fill(0;0x1)",
    "blob_fill(5000;0xAA)x",
    "blob_sz_fill(3;0x00)",
    "blob_fill (9;0xff)",
    " u8",
    "u8 ",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "127",
    "128",
    "255",
    "256",
    "-128",
    "-129",
    "32767",
    "65535",
    "65536",
    "-32768",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "-2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    " 5 ",
    "+7",
    "1_000",
    "0x10",
    "010",
    "",
    "five",
    "1.0",
    "--1",
];
const LENGTHS: &[usize] =
    &[0, 1, 2, 31, 32, 33, 63, 64, 200, 1983, 1984, 1985, 3967, 3968, 3969, 3999, 4000, 4001, 8000, 9000, 20_000];

/// One case: its files are `NAME.csv` (and `NAME.b.csv`).
struct Case {
    name: String,
    files: Vec<String>,
    size: u64,
    version: Version,
    /// File with the keys (`.key.bin`), or with the key that they are derived from (`.hmac.bin`); `-` for none.
    key: String,
    keys: Option<Vec<u8>>,
}

fn text(rng: &mut Rng, length: usize) -> String {
    // ASCII only in half of the texts: the rest counts characters and bytes differently.
    let letters = ["a", "B", "7", " ", ",", "\"", "#", ";", "\\", "ä", "漢", "😀", "\n", "\n#"];
    let some = if rng.one_in(2) { 9 } else { letters.len() };
    (0..length).map(|_| *rng.pick(&letters[..some])).collect()
}

fn hex(rng: &mut Rng, length: usize) -> String {
    rng.bytes(length).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(rng: &mut Rng, length: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text: String = (0..length.next_multiple_of(4)).map(|_| char::from(*rng.pick(ALPHABET))).collect();
    let pads = rng.below(3) as usize;
    if text.len() >= 4 {
        text.replace_range(text.len() - pads.., &"=".repeat(pads));
    }
    text
}

fn length(rng: &mut Rng) -> usize {
    if rng.one_in(7) { *rng.pick(LENGTHS) } else { rng.below(90) as usize }
}

/// A value that fits its encoding, mostly.
fn value(rng: &mut Rng, encoding: &str, wild: bool) -> String {
    let length = length(rng);
    let mut value = match encoding.to_lowercase().trim() {
        "string" | "binary" => text(rng, length),
        "hex2bin" => hex(rng, length),
        "base64" => base64(rng, length),
        fill if fill.starts_with("blob") => text(rng, length.min(40)),
        _ if wild && rng.one_in(6) => (*rng.pick(NUMBERS)).to_owned(),
        _ => rng.below(128).to_string(),
    };
    if wild && rng.one_in(25) {
        value = match rng.below(5) {
            0 => String::new(),
            1 => format!(" {value}\t"),
            2 => value.to_uppercase(),
            3 => value.chars().skip(1).collect(),
            _ => format!("{value}g="),
        };
    }
    value
}

fn quoted(rng: &mut Rng, value: &str) -> String {
    let must = value.contains(['"', ',', '\n', '#']);
    if must || rng.one_in(5) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.to_owned() }
}

fn key(rng: &mut Rng, wild: bool) -> String {
    const WIFI: &[&str] = &["sta.ssid", "sta.pswd", "ap.ssid", "ap.passwd", "ap.authmode"];
    match rng.below(if wild { 30 } else { 300 }) {
        0 => (*rng.pick(WIFI)).to_owned(),
        1 => (*rng.pick(&["", "fifteen_letters", "sixteen_letters_", "ä", "keyä漢", "a key", "#key"])).to_owned(),
        _ => format!("key{}", rng.below(1000)),
    }
}

/// A row of type `file` and its file.
fn file_row(rng: &mut Rng, dir: &Path, name: &str, csv: &mut String, wild: bool) -> Result<(), Stop> {
    let encoding = *rng.pick(&["string", "hex2bin", "binary", "base64"]);
    let path = format!("{name}-{}.dat", rng.below(1_000_000));
    let length = length(rng);
    let mut bytes = match encoding {
        "string" => text(rng, length).into_bytes(),
        "hex2bin" => hex(rng, length).into_bytes(),
        "base64" => base64(rng, length).into_bytes(),
        _ => rng.bytes(length),
    };
    match rng.below(8) {
        0 => bytes.push(b'\n'),
        1 => bytes.extend(b"\r\n"),
        2 if wild => bytes.push(0xff),
        _ => {}
    }
    if !(wild && rng.one_in(12)) {
        fs::write(dir.join(&path), bytes)?;
    }
    let encoding = if wild && rng.one_in(8) { *rng.pick(&["u8", "String", "blob_fill(9;0xff)", ""]) } else { encoding };
    let _ = write!(csv, "{},file,{encoding},{path}", key(rng, wild));
    Ok(())
}

fn random_csv(rng: &mut Rng, dir: &Path, name: &str) -> Result<String, Stop> {
    let wild = rng.one_in(3);
    let header = match rng.below(if wild { 12 } else { 60 }) {
        0 => "key,type,value,encoding",
        1 => "key,type,encoding",
        2 => "key,type,encoding,value,more",
        3 => "type,encoding,value,key,type",
        _ => "key,type,encoding,value",
    };
    let mut csv = String::from(header) + "\n";
    let end = *rng.pick(&["\n", "\n", "\n", "\r\n", "\r"]);
    for index in 0..rng.below(45) {
        if (index == 0 && !(wild && rng.one_in(5))) || rng.one_in(12) {
            let name = if wild && rng.one_in(8) { key(rng, wild) } else { format!("space{}", rng.below(9)) };
            csv += &name;
            csv += *rng.pick(&[",namespace,,", ",namespace,,", ",namespace", ",namespace,u8,5"]);
        } else if rng.one_in(10) {
            file_row(rng, dir, name, &mut csv, wild)?;
        } else {
            let odd = wild && rng.one_in(10);
            let encoding = if odd { *rng.pick(ODD_ENCODINGS) } else { *rng.pick(ENCODINGS) };
            let value = value(rng, encoding, wild);
            let kind = if wild && rng.one_in(20) { *rng.pick(&["", "Data", "dat", "u8"]) } else { "data" };
            let _ = write!(csv, "{},{kind},{encoding},{}", key(rng, wild), quoted(rng, &value));
        }
        csv += if wild && rng.one_in(25) { *rng.pick(&[",", ",x,y", " ", "\n\n", "\n# comment"]) } else { "" };
        csv += end;
    }
    if wild && rng.one_in(20) {
        csv += *rng.pick(&["open,data,string,\"never closed", "last,data,u8,1", "\u{feff}", "x"]);
    }
    Ok(csv)
}

fn case(rng: &mut Rng, dir: &Path, index: usize) -> Result<Case, Stop> {
    let name = index.to_string();
    let mut files = vec![format!("{name}.csv")];
    if rng.one_in(8) {
        files.push(format!("{name}.b.csv"));
    }
    for file in &files {
        fs::write(dir.join(file), random_csv(rng, dir, &name)?)?;
    }
    let size = match rng.below(12) {
        0 => *rng.pick(&[0, 1, 0x800, 0x1001, 0x2fff, 0x10_0000]),
        _ => *rng.pick(&[0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x1_0000, 0x2_0000]),
    };
    let version = if rng.one_in(2) { Version::V1 } else { Version::V2 };
    let mut key = String::from("-");
    let mut keys = None;
    if rng.one_in(4) {
        key = format!("{name}.key.bin");
        let bytes = rng.bytes(64);
        fs::write(dir.join(&key), &bytes)?;
        keys = Some(bytes);
    } else if rng.one_in(8) {
        key = format!("{name}.hmac.bin");
        let bytes = rng.bytes(32);
        fs::write(dir.join(&key), &bytes)?;
        keys = Some(nvs_keys::from_hmac_key(&bytes)?.to_vec());
    }
    Ok(Case { name, files, size, version, key, keys })
}

fn fresh_cases() -> Result<(), Stop> {
    let dir = reference::scratch("nvs");
    let mut rng = Rng::seeded(0x00de_cade);
    let mut cases = Vec::new();
    let mut list = String::new();
    for index in 0..CASES {
        let case = case(&mut rng, &dir, index)?;
        let number = if case.version == Version::V1 { 1 } else { 2 };
        let _ = writeln!(list, "{} {:#x} {number} {} {}", case.name, case.size, case.key, case.files.join(" "));
        cases.push(case);
    }
    fs::write(dir.join("cases.txt"), list)?;
    reference::run(Command::new(reference::tool("python")?).args(["-c", DRIVER]).current_dir(&dir))?;
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    for case in &cases {
        match compare(&dir, case) {
            Ok(both) => accepted += usize::from(both),
            Err(text) => wrong.push(format!("{}/{}: {text}", dir.display(), case.name)),
        }
    }
    if !wrong.is_empty() {
        return fail(format!("{} wrong\n{}", wrong.len(), wrong.join("\n")));
    }
    fs::remove_dir_all(&dir)?;
    if accepted > CASES / 10 { Ok(()) } else { fail(format!("only {accepted} cases were accepted by both")) }
}

/// Both make the same image, which we then read without an error (true), or both refuse the data (false).
fn compare(dir: &Path, case: &Case) -> Result<bool, String> {
    let files: Vec<Vec<u8>> =
        case.files.iter().map(|file| fs::read(dir.join(file)).map_err(|e| e.to_string())).collect::<Result<_, _>>()?;
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let ours = generate(dir, &files, case.size, case.version, case.keys.as_deref());
    let theirs = fs::read(dir.join(format!("{}.bin", case.name))).ok();
    match (ours, theirs) {
        (Ok(ours), Some(theirs)) if ours == theirs => Ok(true),
        (Ok(_), Some(_)) => Err(String::from("other bytes")),
        (Err(_), None) => Ok(false),
        // Text outside ASCII that runs over a page's end (docs/compatibility.md).
        (Err(_), Some(theirs)) if theirs.len() % nvs::PAGE != 0 => Ok(false),
        (Err(error), Some(_)) => Err(format!("refused ({error}), the reference accepts it")),
        (Ok(_), None) => {
            let reason = fs::read_to_string(dir.join(format!("{}.err", case.name))).unwrap_or_default();
            Err(format!("accepted, the reference says {reason}"))
        }
    }
}
