//! `selftest`: the tools, one after the other, on one device, so that users can prove on silicon what we could not.
//!
//! Without a scratch region nothing on the device changes. With one, which must be blank, it is written, read back and
//! erased.

use std::fmt::Write as _;

use esp_model::job::Job;
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::tools;

/// Bytes of the scratch region.
const SCRATCH: u32 = 0x1_0000;

/// What one step came to.
struct Step {
    name: &'static str,
    outcome: Result<String, String>,
}

/// Runs all steps and writes the report; `Err` holds the report when a step failed.
pub fn run(ctx: &Ctx, job: &Job, port: &str, scratch: Option<&str>) -> Result<String, String> {
    let mut steps = Vec::new();
    let plain = json!({ "port": port });
    for tool in ["esp_detect_chip", "esp_get_chip_info", "esp_flash_size_detect", "esp_test_connection"] {
        steps.push(Step { name: tool, outcome: call(ctx, job, tool, plain.clone()) });
    }
    steps.push(Step { name: "two reads of the same region agree", outcome: reads_agree(ctx, job, port) });
    if let Some(address) = scratch {
        steps.push(Step { name: "write, read back and erase", outcome: write(ctx, job, port, address) });
    }
    steps.push(Step { name: "esp_reset_chip", outcome: call(ctx, job, "esp_reset_chip", plain) });
    report(port, scratch, &steps)
}

fn call(ctx: &Ctx, job: &Job, tool: &str, input: Value) -> Result<String, String> {
    let entry = tools::find(tool).ok_or_else(|| format!("there is no tool `{tool}`"))?;
    entry.call(ctx, job, input).map(|reply| reply.text).map_err(|error| format!("{}: {}", error.code, error.message))
}

/// Reads `size` bytes into a file below the first project root; its bytes.
fn read(ctx: &Ctx, job: &Job, port: &str, address: &str, size: u32) -> Result<Vec<u8>, String> {
    let name = format!("selftest-{}.bin", std::process::id());
    let input = json!({ "port": port, "address": address, "size": size, "output_file": name });
    call(ctx, job, "esp_flash_read", input)?;
    let path = ctx.files.input(&name).map_err(|error| error.message)?;
    let bytes = std::fs::read(&path).map_err(|error| error.to_string());
    let _ = std::fs::remove_file(&path);
    bytes
}

fn reads_agree(ctx: &Ctx, job: &Job, port: &str) -> Result<String, String> {
    let first = read(ctx, job, port, "0", SCRATCH)?;
    match first == read(ctx, job, port, "0", SCRATCH)? {
        true => Ok(format!("{SCRATCH} bytes from 0x0 read twice, the same")),
        false => Err("two reads of the same region differ".into()),
    }
}

/// Only a blank region is written: erasing it is then the whole way back.
fn write(ctx: &Ctx, job: &Job, port: &str, address: &str) -> Result<String, String> {
    if read(ctx, job, port, address, SCRATCH)?.iter().any(|byte| *byte != 0xff) {
        return Err(format!("{SCRATCH} bytes at {address} are not blank: nothing was written"));
    }
    let pattern: Vec<u8> = (0..SCRATCH).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let name = format!("selftest-{}.bin", std::process::id());
    let path = ctx.files.write(&name, &pattern).map_err(|error| error.message)?;
    let files = json!([{ "path": name, "address": address }]);
    let written = call(ctx, job, "esp_flash_firmware", json!({ "port": port, "files": files }));
    let _ = std::fs::remove_file(&path);
    let same = written.and_then(|_| Ok(read(ctx, job, port, address, SCRATCH)? == pattern));
    // Whatever happened, the region is left as it was found.
    let region = format!("{address}+{SCRATCH:#x}");
    call(ctx, job, "esp_flash_erase", json!({ "port": port, "region": region, "no_backup": true }))?;
    if !same? {
        return Err("what was read back is not what was written".into());
    }
    match read(ctx, job, port, address, SCRATCH)?.iter().all(|byte| *byte == 0xff) {
        true => Ok(format!("{SCRATCH} bytes at {address} written, read back and erased")),
        false => Err("the region is not blank after the erase".into()),
    }
}

fn report(port: &str, scratch: Option<&str>, steps: &[Step]) -> Result<String, String> {
    let mut text = format!("self-test of {port} with mcp-esptool {}\n", env!("CARGO_PKG_VERSION"));
    for step in steps {
        let (verdict, detail) = match &step.outcome {
            Ok(detail) => ("pass", detail),
            Err(detail) => ("FAIL", detail),
        };
        let _ = writeln!(text, "{verdict}  {}: {}", step.name, detail.replace('\n', "\n      "));
    }
    if scratch.is_none() {
        text.push_str("not tested: writing and erasing (name a blank region of 64 KiB with --scratch ADDRESS)\n");
    }
    let text = text.trim_end().to_string();
    if steps.iter().all(|step| step.outcome.is_ok()) { Ok(text) } else { Err(text) }
}
