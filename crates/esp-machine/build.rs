//! Lists the chip folders, and packs the mask ROMs of the published `espflash` package (`resources/roms`, from
//! espressif/esp-rom-elfs).
//!
//! The package is a dependency for a target that does not exist: cargo fetches it but never compiles it. A ROM image is
//! kept as its sections in the ROM's address range, deflated. Without the package, or without the feature `roms`, the
//! build has none; the program says so at run time and can be given the ELF files.
// The build may touch files; the crate itself may not.
#![allow(clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// The version in Cargo.toml.
const VERSION: &str = "4.7.0";
/// Set: a build without the package's files is wanted.
const WITHOUT: &str = "MCP_ESPTOOL_WITHOUT_RESOURCES";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    fs::write(out.join("machines.rs"), machines()?)?;
    let mut list = String::from("&[\n");
    if env::var_os("CARGO_FEATURE_ROMS").is_some() {
        match package_folder("espflash") {
            Some(folder) => {
                let folder = folder.join("resources/roms");
                list += &roms(&folder, &out)?;
                // Tests read what is not packed: which parts of a ROM are instructions.
                println!("cargo::rustc-env=ESP_ROM_FILES={}", folder.display());
            }
            None => missing(),
        }
    }
    list.push(']');
    fs::write(out.join("roms.rs"), list)
}

fn machines() -> io::Result<String> {
    let chips = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("chips");
    println!("cargo::rerun-if-changed={}", chips.display());
    let mut folders: Vec<_> = fs::read_dir(&chips)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("machine.toml").is_file());
    folders.sort();
    let mut list = String::from("&[\n");
    for folder in folders {
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (machine, registers) = (folder.join("machine.toml"), folder.join("registers.txt"));
        println!("cargo::rerun-if-changed={}", machine.display());
        println!("cargo::rerun-if-changed={}", registers.display());
        writeln!(
            list,
            "ChipFiles {{ id: {id:?}, machine: include_str!({machine:?}), registers: include_str!({registers:?}) }},"
        )
        .map_err(io::Error::other)?;
    }
    list.push(']');
    Ok(list)
}

/// A program that lacks them works differently: the build does not go on without being told to.
fn missing() {
    println!("cargo::rerun-if-env-changed={WITHOUT}");
    if env::var_os(WITHOUT).is_none() {
        println!("cargo::error=the espflash package was not found: no mask ROMs would be built in");
        println!("cargo::error=run `cargo fetch` where there is a network, or set {WITHOUT}=1 to build without them");
    }
}

/// Where cargo keeps the source of a package of our dependency graph: beside this one, where both come from a registry or
/// a vendored folder, else where cargo says. Without network first.
fn package_folder(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let beside = [name.to_owned(), format!("{name}-{VERSION}")].map(|folder| own.with_file_name(folder));
    let is_it = |folder: &&PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains(&format!("\nversion = \"{VERSION}\""))
    };
    beside.iter().find(is_it).cloned().or_else(|| asked(name))
}

fn asked(name: &str) -> Option<PathBuf> {
    [&["--offline"][..], &[]].into_iter().find_map(|extra| {
        let mut cargo = Command::new(env::var_os("CARGO")?);
        cargo.args(["metadata", "--format-version", "1", "--manifest-path"]);
        cargo.arg(Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("Cargo.toml")).args(extra);
        let metadata: serde_json::Value = serde_json::from_slice(&cargo.output().ok()?.stdout).ok()?;
        let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == name)?;
        Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf())
    })
}

/// One entry of the list for each `NAME_rom.elf`.
fn roms(folder: &Path, out: &Path) -> io::Result<String> {
    let mut paths: Vec<_> = fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "elf"));
    paths.sort();
    let mut list = String::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let packed = pack(&fs::read(&path)?)?;
        let copy = out.join(format!("{name}.z"));
        fs::write(&copy, packed)?;
        writeln!(list, "({name:?}, include_bytes!({copy:?}) as &[u8]),").map_err(io::Error::other)?;
    }
    Ok(list)
}

/// Sections with bytes (address, flags as ELF has them, name, bytes), the entry, and the functions' names; deflated.
/// Debug information is left out.
fn pack(elf: &[u8]) -> io::Result<Vec<u8>> {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};
    let file = object::File::parse(elf).map_err(io::Error::other)?;
    let mut plain = Vec::new();
    plain.extend((file.entry() as u32).to_le_bytes());
    let sections: Vec<_> = file
        .sections()
        .filter(|section| {
            section.address() != 0 && section.size() != 0 && section.kind() != SectionKind::UninitializedData
        })
        .collect();
    plain.extend((sections.len() as u32).to_le_bytes());
    for section in sections {
        let (name, data) = (section.name().map_err(io::Error::other)?, section.data().map_err(io::Error::other)?);
        plain.extend((section.address() as u32).to_le_bytes());
        text(&mut plain, name.as_bytes());
        text(&mut plain, data);
    }
    let mut functions: Vec<_> = file
        .symbols()
        .filter(|symbol| {
            symbol.kind() == SymbolKind::Text || (symbol.kind() == SymbolKind::Unknown && symbol.is_global())
        })
        .filter_map(|symbol| Some((symbol.address() as u32, symbol.name().ok()?.to_owned())))
        .filter(|(address, name)| *address != 0 && !name.is_empty())
        .collect();
    functions.sort();
    functions.dedup_by_key(|(address, _)| *address);
    plain.extend((functions.len() as u32).to_le_bytes());
    for (address, name) in functions {
        plain.extend(address.to_le_bytes());
        text(&mut plain, name.as_bytes());
    }
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&plain)?;
    packer.finish()
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}
