//! A produced batch, read by other people's tools.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use esp_model::job::Job;
use libtest_mimic::Trial;
use mcp_esptool::config::{Config, Origin};
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
    for number in [0, UNITS - 1] {
        let flash = flashes.get(number).map(Vec::as_slice).unwrap_or_default();
        fs::write(dir.join("flash.bin"), flash)?;
        let back = read_by_esptool(&dir)?;
        same_bytes("esptool's reading", &back, flash.get(0x8000..0x1_0000).unwrap_or_default())?;
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// esptool reads the region from the table to the end of the factory data out of a simulator with this flash.
fn read_by_esptool(dir: &std::path::Path) -> Result<Vec<u8>, Stop> {
    let mut sim = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    sim.args(["sim", "esp32c3", "--tcp", "127.0.0.1:0", "--flash"]).arg(dir.join("flash.bin"));
    let mut child = sim.stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let mut ready = String::new();
    if let Some(said) = child.stderr.take() {
        BufReader::new(said).read_line(&mut ready)?;
    }
    let place = ready.split(" ready on ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let mut esptool = Command::new(reference::tool("esptool")?);
    esptool.args(["--chip", "esp32c3", "--port", place]);
    let read = reference::run(esptool.args(["read-flash", "0x8000", "0x8000"]).arg(dir.join("back.bin")));
    let _ = child.kill();
    let _ = child.wait();
    read?;
    Ok(fs::read(dir.join("back.bin"))?)
}
