//! A produced batch, read by other people's tools.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use libtest_mimic::Trial;
use mcp_esptool::ctx::Ctx;
use mcp_esptool::factory::cli::{RecipeCommand, recipe};
use mcp_esptool::tools;
use serde_json::{Value, json};

use crate::reference::{self, Stop, fail, same_bytes, trial};

/// Units of the batch.
const UNITS: usize = 50;
/// Place and size of the factory data.
const FCTRY: (usize, usize) = (0xd000, 0x3000);

pub fn trials() -> Vec<Trial> {
    vec![trial("production: fifty units, read by esptool and ESP-IDF's NVS tool", batch)]
}

/// Makes the NVS images that the units must hold, all in one process.
const GENERATE: &str = r"
import contextlib, io, os
from types import SimpleNamespace
from esp_idf_nvs_partition_gen import nvs_partition_gen as gen
for name in open('cases.txt').read().split():
    args = SimpleNamespace(input=[name], output=name + '.bin', size='0x3000', version=2, outdir=os.getcwd(),
                           inputkey='-', keygen=False, keyfile=None)
    with contextlib.redirect_stdout(io.StringIO()):
        gen.generate(args)
";

fn call(ctx: &Ctx, tool: &str, input: Value) -> Result<Value, Stop> {
    let Some(entry) = tools::find(tool) else { return fail(tool) };
    match entry.call(ctx, &Job::new(), input) {
        Ok(reply) => Ok(Value::Object(reply.data)),
        Err(error) => fail(format!("{tool}: {error}")),
    }
}

fn batch() -> Result<(), Stop> {
    let python = reference::tool("python")?;
    let dir = reference::scratch("production");
    let mut config = Config::default();
    for (name, place) in [("project_roots", dir.clone()), ("state_dir", dir.join("state"))] {
        config.set(name, place.display().to_string(), Origin::Flag).map_err(|error| Stop::Failed(error.to_string()))?;
    }
    let ctx = Ctx::new(config).map_err(|error| Stop::Failed(error.to_string()))?;
    let new = RecipeCommand::New { file: "blink.toml".into(), chip: Some("esp32c3".into()), project: None };
    recipe(&ctx, &Job::new(), &new).map_err(|error| Stop::Failed(error.to_string()))?;
    let serials = json!({"action": "add_pool", "pool": "serials", "kind": "serial", "prefix": "SN-", "count": 100});
    call(&ctx, "esp_ledger", serials)?;
    let macs = json!({"action": "add_pool", "pool": "macs", "kind": "mac", "first": "02:00:00:00:10:00", "step": 4, "count": 100});
    call(&ctx, "esp_ledger", macs)?;
    let ports = format!("sim://esp32c3-[1-{UNITS}]");
    let out = call(&ctx, "esp_batch_program", json!({"ports": [ports], "firmware": "blink.toml"}))?;
    if out["passed"] != true {
        return fail(out["stats"].to_string());
    }
    let (mut seen, mut list, mut flashes) = (BTreeSet::new(), String::new(), Vec::new());
    for (number, unit) in out["units"].as_array().into_iter().flatten().enumerate() {
        let serial = unit["identities"]["serial"].as_str().unwrap_or_default().to_owned();
        let mac = unit["identities"]["mac"].as_str().unwrap_or_default().replace(':', "");
        let csv = format!(
            "key,type,encoding,value\ndevice,namespace,,\nhw_rev,data,u8,1\nmac,data,hex2bin,{mac}\nserial,data,string,{serial}\n"
        );
        fs::write(dir.join(format!("{number}.csv")), csv)?;
        let _ = writeln!(list, "{number}.csv");
        seen.extend([serial, mac]);
        let port = unit["port"].as_str().unwrap_or_default().to_owned();
        let Some(device) = ctx.ports.simulated().into_iter().find(|device| device.url() == port) else {
            return fail(format!("{port} is gone"));
        };
        flashes.push(device.with(|chip, _| chip.flash().read(0, 4 << 20)).map_err(|_| Stop::Failed(port))?);
    }
    if seen.len() != 2 * UNITS {
        return fail(format!("{} different serials and addresses", seen.len()));
    }
    fs::write(dir.join("cases.txt"), list)?;
    reference::run(Command::new(python).args(["-c", GENERATE]).current_dir(&dir))?;
    for (number, flash) in flashes.iter().enumerate() {
        let theirs = fs::read(dir.join(format!("{number}.csv.bin")))?;
        let ours = flash.get(FCTRY.0..FCTRY.0 + FCTRY.1).unwrap_or_default();
        same_bytes(&format!("unit {number}"), ours, &theirs)?;
    }
    read_by_esptool(&dir, &flashes)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// A simulator of its own for a unit's flash.
struct Board {
    child: Child,
    place: String,
}

impl Board {
    fn with(flash: &Path) -> Result<Self, Stop> {
        let mut sim = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        sim.args(["sim", "esp32c3", "--tcp", "127.0.0.1:0", "--flash"]).arg(flash);
        let mut child = sim.stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let mut ready = String::new();
        if let Some(said) = child.stderr.take() {
            BufReader::new(said).read_line(&mut ready)?;
        }
        let place = ready.split(" ready on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(Self { place: place.unwrap_or_default().to_owned(), child })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// esptool, in one process, reads table and factory data out of every unit; they are what ESP-IDF's NVS tool made.
fn read_by_esptool(dir: &Path, flashes: &[Vec<u8>]) -> Result<(), Stop> {
    let file = |number: usize, end: &str| dir.join(format!("{number}.{end}"));
    let boards = flashes.iter().enumerate().map(|(number, flash)| {
        fs::write(file(number, "flash"), flash)?;
        Board::with(&file(number, "flash"))
    });
    let boards = boards.collect::<Result<Vec<Board>, Stop>>()?;
    let read = |(number, board): (usize, &Board)| {
        let out = file(number, "back").display().to_string();
        let words = ["--chip", "esp32c3", "--port", &board.place, "read-flash", "0x8000", "0x8000", &out];
        words.map(str::to_owned).to_vec()
    };
    let cases: Vec<Vec<String>> = boards.iter().enumerate().map(read).collect();
    // esptool mostly waits: four of them do so at the same time.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let parts = cases.chunks(UNITS.div_ceil(4)).map(|part| scope.spawn(|| reference::batch("esptool", part)));
        parts.collect::<Vec<_>>().into_iter().map(|part| part.join()).collect()
    });
    let joined = answers.into_iter().map(|part| part.unwrap_or_else(|_| fail("a batch broke off")));
    let answers = joined.collect::<Result<Vec<_>, Stop>>()?.concat();
    for (number, answer) in answers.iter().enumerate() {
        if !answer.ok {
            return fail(format!("unit {number}: {}", answer.text));
        }
        let back = fs::read(file(number, "back"))?;
        let ours = flashes.get(number).and_then(|flash| flash.get(0x8000..0x1_0000)).unwrap_or_default();
        same_bytes(&format!("esptool's reading of unit {number}"), &back, ours)?;
        let factory = back.get(FCTRY.0 - 0x8000..FCTRY.0 - 0x8000 + FCTRY.1).unwrap_or_default();
        same_bytes(&format!("factory data of unit {number}"), factory, &fs::read(file(number, "csv.bin"))?)?;
    }
    Ok(())
}
