//! The five usual workflows, run by the official SDKs on virtual devices: in both eras, with a user who can be asked and
//! without. The steps are in `workflows.json`; `docs/workflows.md` is a transcript of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use super::conformance::{node, packages};
use crate::reference::{self, Stop, fail, trial};

const SERVER: &str = env!("CARGO_BIN_EXE_mcp-esptool");

pub fn trials() -> Vec<Trial> {
    let kinds = ["legacy", "auto"].into_iter().flat_map(|mode| [(mode, "yes"), (mode, "no")]);
    let both = kinds.flat_map(|(mode, elicit)| {
        [
            trial(format!("workflows: Python SDK, {mode}, asks {elicit}"), move || python(mode, elicit)),
            trial(format!("workflows: TypeScript SDK, {mode}, asks {elicit}"), move || typescript(mode, elicit)),
        ]
    });
    both.collect()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

fn python(mode: &str, elicit: &str) -> Result<(), Stop> {
    let dir = reference::scratch(&format!("workflows-py-{mode}-{elicit}"));
    let mut command = Command::new(reference::mcp_python()?);
    judge(command.arg(script("workflows.py")).arg(SERVER).arg(&dir).args([mode, elicit]), elicit)
}

fn typescript(mode: &str, elicit: &str) -> Result<(), Stop> {
    let dir = reference::scratch(&format!("workflows-ts-{mode}-{elicit}"));
    // The files of the Python script; the module is looked up beside the script.
    let make = "import workflows, pathlib, sys\nworkflows.prepare(sys.argv[1], pathlib.Path(sys.argv[2]))\n";
    let here = script("");
    reference::run(Command::new(reference::mcp_python()?).args(["-c", make, SERVER]).arg(&dir).current_dir(&here))?;
    let home = packages()?;
    let copy = home.join(format!("workflows-{mode}-{elicit}.mjs"));
    fs::copy(script("workflows.mjs"), &copy)?;
    let mut command = Command::new(node()?.join("bin/node"));
    command.arg(&copy).arg(SERVER).arg(&dir).args([mode, elicit]).arg(script("workflows.json"));
    judge(command.current_dir(&home), elicit)
}

/// All steps came back well; the burn was done, after one question where there was somebody to ask.
fn judge(command: &mut Command, elicit: &str) -> Result<(), Stop> {
    let output = reference::run(command)?;
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    let results = seen["results"].as_array().cloned().unwrap_or_default();
    let of = |tool: &'static str| results.iter().filter(move |step| step[0] == tool).map(|step| &step[1]);
    let steps: Vec<Value> = serde_json::from_str(&fs::read_to_string(script("workflows.json"))?)?;
    let wanted: usize = steps.iter().filter_map(|workflow| workflow["steps"].as_array()).map(Vec::len).sum();
    let units: Vec<Value> =
        of("esp_batch_program").filter_map(|data| data["units"].as_array()).flatten().cloned().collect();
    let identities: BTreeSet<String> = units.iter().map(|unit| unit["identities"].to_string()).collect();
    let burned = |data: &Value| data["state"] == "burned";
    let secured = ["esp_secure_boot_enable", "esp_encryption_enable", "esp_efuse_burn"];
    let good = results.len() == wanted
        && of("esp_flash_verify").all(|data| data["matches"] == true)
        && ["esp_batch_program", "esp_quality_control", "esp_production_test"]
            .iter()
            .all(|tool| of(tool).all(|data| data["passed"] == true))
        && identities.len() == 3
        && secured.iter().all(|tool| of(tool).all(burned))
        && seen["asked"] == if elicit == "yes" { 4 } else { 0 };
    if good { Ok(()) } else { fail(format!("{} of {wanted} steps: {seen:#}", results.len())) }
}
