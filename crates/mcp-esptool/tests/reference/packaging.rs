//! What is in `packaging/`, against the tools that read it.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use super::conformance::{node, packages};
use crate::reference::{self, Stop, fail, trial};

const SERVER: &str = env!("CARGO_BIN_EXE_mcp-esptool");

pub fn trials() -> Vec<Trial> {
    vec![
        trial("mcpb: manifest valid, bundle packed, its program runs", bundle),
        trial("compose file fits the Compose specification", compose),
    ]
}

fn mcpb(args: &[&str]) -> Result<(), Stop> {
    let program = packages()?.join("node_modules/@anthropic-ai/mcpb/dist/cli/cli.js");
    reference::run(Command::new(node()?.join("bin/node")).arg(program).args(args)).map(drop)
}

fn bundle() -> Result<(), Stop> {
    let dir = reference::scratch("mcpb");
    let packaging = reference::root().join("packaging");
    let (file, out) = (dir.join("mcp-esptool-linux-x64.mcpb"), dir.join("unpacked"));
    mcpb(&["validate", &packaging.join("manifest.json").display().to_string()])?;
    let script = packaging.join("package.py");
    reference::run(Command::new("python3").arg(script).args(["mcpb", "x86_64-unknown-linux-musl", SERVER]).arg(&dir))?;
    mcpb(&["unpack", &file.display().to_string(), &out.display().to_string()])?;
    mcpb(&["validate", &out.join("manifest.json").display().to_string()])?;
    let manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("manifest.json"))?)?;
    let entry = manifest["server"]["entry_point"].as_str().unwrap_or_default();
    let said = reference::run(Command::new(out.join(entry)).arg("--version"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.contains(env!("CARGO_PKG_VERSION")) { Ok(()) } else { fail(said) }
}

fn compose() -> Result<(), Stop> {
    let checker = reference::mcp_python()?.with_file_name("check-jsonschema");
    let file = reference::root().join("packaging/compose.yaml");
    reference::run(Command::new(checker).args(["--builtin-schema", "vendor.compose-spec"]).arg(file)).map(drop)
}
