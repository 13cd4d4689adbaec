//! Lists the chip folders, so that a new chip needs a folder and no Rust.
// The build may touch files; the crate itself may not.
#![allow(clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let chips = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("chips");
    println!("cargo::rerun-if-changed={}", chips.display());
    let mut folders: Vec<_> = fs::read_dir(&chips)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("chip.toml").is_file());
    folders.sort();

    let mut list = String::from("&[\n");
    for folder in folders {
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = |file: &str| {
            let path = folder.join(file);
            if !path.is_file() {
                // A file that is not there would be a change at every build; a new one changes its folder.
                return String::from("\"\"");
            }
            println!("cargo::rerun-if-changed={}", path.display());
            format!("include_str!({path:?})")
        };
        let (chip, efuse, registers) = (text("chip.toml"), text("efuse.toml"), text("registers.toml"));
        let (size, qemu) = (text("size.toml"), text("qemu.toml"));
        // The first line that sets a key; a test compares with what the whole file says.
        let data = fs::read_to_string(folder.join("chip.toml"))?;
        let value = |key: &str| data.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
        let chip_id = value("chip_id").map_or("None".into(), |id| format!("Some({})", id.trim()));
        let offset = value("bootloader_offset").unwrap_or("0").trim();
        writeln!(
            list,
            "ChipFiles {{ id: {id:?}, chip: {chip}, efuse: {efuse}, registers: {registers}, size: {size}, qemu: {qemu}, \
             chip_id: {chip_id}, bootloader_offset: {offset} }},"
        )
        .map_err(io::Error::other)?;
    }
    list.push(']');
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("chips.rs"), list)
}
