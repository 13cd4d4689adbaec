//! `nvs_partition_gen` beside esp-idf-nvs-partition-gen, `gen_esp32part` beside the script of an installed ESP-IDF.
//! `parttool` and `otatool` are in no package; they are judged by what they leave behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::callers::Sim;
use crate::reference::{Skip, Stop, fail, same_bytes, scratch, tool, trial};
use crate::{Ran, face, ran};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faces: nvs_partition_gen makes the same images and says the same", nvs),
        trial("faces: gen_esp32part makes of CSV what it reads back, and refuses what does not fit", tables),
        trial("faces: gen_esp32part makes the same tables as ESP-IDF's and says the same", tables_of_idf),
        trial("faces: parttool and otatool change only what they name", partitions),
    ]
}

const VALUES: &str = "key,type,encoding,value\nwifi,namespace,,\nchannel,data,u8,6\nssid,data,string,Home\n";

/// Lines, and the files that both must make alike.
const CASES: [(&str, &[&str]); 18] = [
    ("generate v.csv a.bin 0x3000", &["a.bin"]),
    ("generate v.csv w.csv both.bin 0x4000", &["both.bin"]),
    ("generate v.csv small.bin 0x1000", &["small.bin"]),
    ("generate v.csv one.bin 12288 --version 1 --outdir sub", &["sub/one.bin"]),
    ("generate v.csv odd.bin 0x3001", &[]),
    ("generate v.csv none.bin 0", &[]),
    ("generate v.csv odd.txt 0x3000", &[]),
    ("generate long.csv long.bin 0x3000", &[]),
    ("generate v.csv", &[]),
    ("frob", &[]),
    ("encrypt v.csv e.bin 0x3000 --inputkey keys.bin", &["e.bin"]),
    ("encrypt v.csv e2.bin 0x1000 --inputkey keys.bin --keyfile x.bin", &["e2.bin"]),
    ("encrypt v.csv n.bin 0x3000", &[]),
    ("encrypt v.csv n.bin 0x3000 --keygen --inputkey keys.bin", &[]),
    ("encrypt v.csv n.bin 0x3000 --keygen --key_protect_hmac", &[]),
    ("decrypt e.bin keys.bin d.bin", &["d.bin"]),
    ("decrypt e.bin v.csv d.bin", &[]),
    ("generate-key --key_protect_hmac --kp_hmac_inputkey hmac.bin --keyfile derived", &["keys/derived.bin"]),
];

fn nvs() -> Result<(), Stop> {
    let folders = [scratch("faces-nvs-ours"), scratch("faces-nvs-theirs")];
    for folder in &folders {
        fs::write(folder.join("v.csv"), VALUES)?;
        fs::write(folder.join("w.csv"), "key,type,encoding,value\nmore,namespace,,\nname,data,string,x\n")?;
        fs::write(folder.join("long.csv"), format!("{VALUES}a_key_that_is_too_long,data,u8,1\n"))?;
        fs::write(folder.join("keys.bin"), (0..64).collect::<Vec<u8>>())?;
        fs::write(folder.join("hmac.bin"), (7..39).collect::<Vec<u8>>())?;
    }
    let [ours, theirs] = &folders;
    for (line, files) in CASES {
        let mut reference = Command::new(tool("python")?);
        reference.args(["-m", "esp_idf_nvs_partition_gen"]).args(line.split(' '));
        let wanted = ran(&mut reference, theirs)?;
        let got = ran(face("nvs_partition_gen").args(line.split(' ')), ours)?;
        if got.code != wanted.code || said(&got, ours) != said(&wanted, theirs) {
            return fail(format!("{line}: {} not {}\n{}\nnot\n{}", got.code, wanted.code, got.text, wanted.text));
        }
        for file in files {
            same_bytes(&format!("{line}: {file}"), &fs::read(ours.join(file))?, &fs::read(theirs.join(file))?)?;
        }
    }
    Ok(())
}

/// What a run said, without its folder; after an error only that it named one, as the reasons are in our words.
fn said(ran: &Ran, folder: &Path) -> Vec<String> {
    let text = ran.text.replace(&folder.display().to_string(), "DIR");
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    match ran.code {
        0 => lines.map(String::from).collect(),
        // A row's fault, in each tool's own words.
        254 => lines.filter(|line| line.starts_with("WARNING")).map(String::from).collect(),
        1 => lines.filter(|line| line.starts_with("ERROR")).map(String::from).collect(),
        _ => Vec::new(),
    }
}

const TABLE: &str = "nvs,data,nvs,0x9000,0x5000,\notadata,data,ota,0xe000,0x2000,\nfactory,app,factory,0x10000,1M,\n\
                     a,app,ota_0,0x110000,1M,\nb,app,ota_1,0x210000,1M,\nlog,data,0x40,0x310000,64K,readonly\n";

fn tables() -> Result<(), Stop> {
    let folder = scratch("faces-table");
    fs::write(folder.join("t.csv"), TABLE)?;
    fs::write(folder.join("bad.csv"), "nvs,data,nvs,0x9000,0x5000\nx,app,factory,0xa000,1M\n")?;
    let run = |line: &str| ran(face("gen_esp32part").args(line.split(' ')), &folder);
    let wrong = |line: &str, ran: &Ran| fail(format!("gen_esp32part {line}: {ran:?}"));
    for (line, code) in [
        ("t.csv t.bin", 0),
        ("-q t.bin back.csv", 0),
        ("-q back.csv again.bin", 0),
        ("--flash-size 1MB t.csv small.bin", 2),
        ("bad.csv bad.bin", 2),
        ("none.csv bad.bin", 2),
    ] {
        let done = run(line)?;
        if done.code != code || (line.starts_with("-q") && !done.text.is_empty()) {
            return wrong(line, &done);
        }
    }
    same_bytes("back and forth", &fs::read(folder.join("again.bin"))?, &fs::read(folder.join("t.bin"))?)?;
    if folder.join("bad.bin").exists() { fail("a refused table was written") } else { Ok(()) }
}

/// ESP-IDF's script, where an ESP-IDF is installed.
fn tables_of_idf() -> Result<(), Stop> {
    let script =
        std::env::var_os("IDF_PATH").map(|idf| Path::new(&idf).join("components/partition_table/gen_esp32part.py"));
    let Some(script) = script.filter(|script| script.is_file()) else {
        return Err(Skip("no ESP-IDF (set IDF_PATH)".into()).into());
    };
    let folders = [scratch("faces-table-ours"), scratch("faces-table-theirs")];
    for folder in &folders {
        fs::write(folder.join("t.csv"), TABLE)?;
        fs::write(folder.join("bad.csv"), "nvs,data,nvs,0x9000,0x5000\nx,app,factory,0xa000,1M\n")?;
    }
    let [ours, theirs] = &folders;
    for (line, files) in [
        ("t.csv t.bin", &["t.bin"][..]),
        ("-q --disable-md5sum t.csv n.bin", &["n.bin"]),
        ("t.bin back.csv", &["back.csv"]),
        ("--flash-size 1MB t.csv small.bin", &[]),
        ("--offset 0x9000 t.csv far.bin", &[]),
        ("bad.csv bad.bin", &[]),
    ] {
        let wanted = ran(Command::new(tool("python")?).arg(&script).args(line.split(' ')), theirs)?;
        let got = ran(face("gen_esp32part").args(line.split(' ')), ours)?;
        // The reason for a refusal is in our words.
        let same_text = wanted.code != 0 || got.text == wanted.text;
        if got.code != wanted.code || !same_text {
            return fail(format!("{line}: {got:?} not {wanted:?}"));
        }
        for file in files {
            same_bytes(&format!("{line}: {file}"), &fs::read(ours.join(file))?, &fs::read(theirs.join(file))?)?;
        }
    }
    Ok(())
}

fn partitions() -> Result<(), Stop> {
    let folder = scratch("faces-parts");
    fs::write(folder.join("t.csv"), TABLE)?;
    ran(face("gen_esp32part").args(["-q", "t.csv", "t.bin"]), &folder)?;
    let chip = esp_model::chip::by_chip_id(5).ok_or_else(|| Stop::Failed("no chip".into()))?;
    let sim = Sim::start(chip.id, &folder, "parts")?;
    let tool = |face_name: &str, line: &str| -> Result<Ran, Stop> {
        ran(
            face(face_name).args(["--port", &sim.port, "--partition-table-file", "t.bin"]).args(line.split(' ')),
            &folder,
        )
    };
    let flash = || fs::read(&sim.flash);
    fs::write(folder.join("data"), [0x5a; 5000])?;
    let expect = |name: &str, line: &str, code: i32, text: &str| -> Result<(), Stop> {
        let done = tool(name, line)?;
        let right = done.code == code && done.text.contains(text);
        if right { Ok(()) } else { fail(format!("{name} {line}: {done:?}")) }
    };
    expect("parttool", "-q get_partition_info --partition-name a --info offset size", 0, "0x110000 0x100000")?;
    expect("parttool", "write_partition --partition-name nvs --input data", 0, "Written contents of file 'data'")?;
    expect("parttool", "write_partition --partition-name log --input data", 1, "read-only")?;
    expect("parttool", "write_partition --partition-name none --input data", 1, "Unable to find")?;
    expect("parttool", "-q erase_partition --partition-name none", 2, "Unable to find")?;
    expect("parttool", "read_partition --partition-name nvs --output back", 0, "Read partition 'nvs'")?;
    expect("otatool", "write_ota_partition --slot 1 --input data", 0, "Written contents")?;
    expect("otatool", "switch_ota_partition --slot 1", 0, "Switched to app partition b")?;
    expect("otatool", "read_otadata", 0, "OTA_SEQ")?;
    let back = fs::read(folder.join("back"))?;
    if back.len() != 0x5000 || back[..5000] != [0x5a; 5000] || back[5000..].iter().any(|byte| *byte != 0xff) {
        return fail("what was read back is not what was written");
    }
    let now = flash()?;
    let blank = |from: usize, to: usize| now[from..to].iter().all(|byte| *byte == 0xff);
    if now[0x21_0000..][..5000] != [0x5a; 5000] || blank(0xe000, 0x1_0000) || !blank(0x1_0000, 0x21_0000) {
        return fail("the flash is not as it should be");
    }
    expect("parttool", "erase_partition --partition-name nvs", 0, "Erased partition 'nvs'")?;
    expect("otatool", "erase_otadata", 0, "Erased ota_data")?;
    let now = flash()?;
    let erased = now[0x9000..0x1_0000].iter().all(|byte| *byte == 0xff);
    if erased { Ok(()) } else { fail("nvs and otadata are not erased") }
}
