//! Addresses to source lines against GNU addr2line, on the ELF files of the corpus.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::testing::{Random, mutate};
use esp_debug::symbols::{Program, SourceLocation};
use libtest_mimic::Trial;

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("symbols: functions and lines as addr2line", lines),
        trial("symbols: 10,000 lookups in damaged ELF files", damaged),
    ]
}

fn elfs() -> Result<Vec<PathBuf>, Stop> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, found)?;
            } else if path.extension().is_some_and(|ext| ext == "elf") {
                found.push(path);
            }
        }
        Ok(())
    }
    let corpus = reference::corpus()?;
    let mut found = Vec::new();
    for dir in ["coredump", "build", "elf"] {
        walk(&corpus.join(dir), &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Code addresses spread over a program.
fn addresses(program: &Program<'_>, count: usize) -> Vec<u32> {
    let mut random = Random::new(7);
    let ranges = program.code();
    let size: usize = ranges.iter().map(|(_, size)| *size as usize).sum();
    (0..count)
        .map(|_| {
            let mut at = random.below(size);
            for (start, size) in ranges {
                if at < *size as usize {
                    return (start + at as u32) & !1;
                }
                at -= *size as usize;
            }
            0
        })
        .collect()
}

fn lines() -> Result<(), Stop> {
    if Command::new("addr2line").arg("--version").output().is_err() {
        return reference::missing("addr2line is not installed (package binutils)".into());
    }
    let (mut compared, mut differ, mut other_file, mut shown) = (0, 0, 0, String::new());
    for path in elfs()? {
        let bytes = fs::read(&path)?;
        let Ok(program) = Program::parse(&bytes) else { continue };
        if program.code().is_empty() {
            continue;
        }
        let list = addresses(&program, 150);
        let mut oracle = Command::new("addr2line");
        oracle.args(["-f", "-i", "-C", "-a", "-e"]).arg(&path).args(list.iter().map(|at| format!("{at:#x}")));
        let output = oracle.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        for (address, theirs) in list.iter().zip(text.split("0x").skip(1)) {
            // Function and place alternate behind the address.
            let rows: Vec<&str> = theirs.lines().skip(1).collect();
            let theirs: Vec<(&str, &str)> = rows.chunks(2).filter_map(|c| Some((*c.first()?, *c.get(1)?))).collect();
            let Some((_, place)) =
                theirs.first().filter(|(_, place)| !place.starts_with("??") && !place.ends_with(":?"))
            else {
                continue;
            };
            compared += 1;
            match verdict(&program.locate(*address), &theirs, place) {
                Verdict::Same => {}
                Verdict::File => other_file += 1,
                Verdict::Differs => {
                    differ += 1;
                    if differ < 12 {
                        let _ = writeln!(shown, "{} {address:#x} theirs {theirs:?}", path.display());
                    }
                }
            }
        }
    }
    if compared < 1000 {
        return fail(format!("only {compared} addresses were compared"));
    }
    // binutils up to 2.41 takes the wrong entry of DWARF 5 file tables that name the main file twice
    // (newlib's vfiprintf.c, which is all `#include "vfprintf.c"`); llvm-addr2line gives the name that we give.
    if differ * 200 > compared || other_file * 20 > compared {
        return fail(format!("{differ} of {compared} differ, {other_file} in the file only:\n{shown}"));
    }
    Ok(())
}

enum Verdict {
    Same,
    /// Same function and line, another file name.
    File,
    Differs,
}

fn verdict(ours: &[SourceLocation], theirs: &[(&str, &str)], place: &str) -> Verdict {
    let tail = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let plain = |name: &str| {
        let name = name.split(['(', '<']).next().unwrap_or_default();
        name.rsplit("::").next().unwrap_or_default().to_owned()
    };
    let (file, line) = place.split(" (").next().unwrap_or_default().rsplit_once(':').unwrap_or_default();
    let Some(first) = ours.first() else { return Verdict::Differs };
    let names =
        ours.iter().zip(theirs).all(|(a, (b, _))| *b == "??" || a.function.as_deref().map(plain) == Some(plain(b)));
    if !names || ours.len() != theirs.len() || first.line.unwrap_or(0).to_string() != line {
        return Verdict::Differs;
    }
    if first.file.as_deref().map(tail) == Some(tail(file)) { Verdict::Same } else { Verdict::File }
}

fn damaged() -> Result<(), Stop> {
    let mut files = elfs()?;
    files.retain(|path| fs::metadata(path).is_ok_and(|meta| meta.len() < 800_000));
    let seeds: Vec<Vec<u8>> = files.iter().map(fs::read).collect::<Result<_, _>>()?;
    let mut found = 0;
    mutate(&seeds, 400, |bytes| {
        if let Ok(program) = Program::parse(bytes) {
            for address in addresses(&program, 25) {
                found += usize::from(!program.locate(address).is_empty());
            }
        }
    });
    if found > 1000 { Ok(()) } else { fail(format!("only {found} lookups found something")) }
}
