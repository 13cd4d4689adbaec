//! Names, links and wrapper files.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;

use crate::ran;
use crate::reference::{Stop, fail, scratch, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("faces: links, shims and the wrapper of ESP-IDF run the faces", links)]
}

fn links() -> Result<(), Stop> {
    let folder = scratch("faces-links");
    let program = env!("CARGO_BIN_EXE_mcp-esptool");
    let bin = folder.join("bin");
    let made = ran(Command::new(program).arg("link").arg(&bin), &folder)?;
    if made.code != 0 {
        return fail(made.text);
    }
    let version = |command: &mut Command| -> Result<(), Stop> {
        let ran = ran(command, &folder)?;
        // The old name is served, and said to be old.
        let said = ran.text.lines().filter(|line| !line.contains("'esptool.py' is deprecated")).collect::<Vec<_>>();
        let right = ran.code == 0 && said == ["esptool v5.6.0", "5.6.0"];
        if right { Ok(()) } else { fail(format!("{command:?}: {ran:?}")) }
    };
    version(Command::new(bin.join("esptool")).arg("version"))?;
    version(Command::new("python3").arg(bin.join("esptool.py")).arg("version"))?;
    version(Command::new("python3").arg(bin.join("esptool_wrapper.py")).args(["esptool", "version"]))?;
    version(Command::new("python3").args(["-m", "esptool", "version"]).env("PYTHONPATH", bin.join("python")))?;
    // A second time nothing is in the way; a file of somebody else's is.
    let again = ran(Command::new(program).arg("link").arg(&bin), &folder)?;
    fs::remove_file(bin.join("espsecure"))?;
    fs::write(bin.join("espsecure"), "mine")?;
    let refused = ran(Command::new(program).arg("link").arg(&bin), Path::new(&folder))?;
    let kept = fs::read_to_string(bin.join("espsecure"))? == "mine";
    if again.code == 0 && refused.code != 0 && kept { Ok(()) } else { fail(format!("{again:?} {refused:?} {kept}")) }
}
