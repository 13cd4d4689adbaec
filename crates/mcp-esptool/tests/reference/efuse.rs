//! `espefuse` burns the simulator's eFuses over a socket, and its virtual chip comes to the same.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use esp_model::chip;
use libtest_mimic::Trial;

use crate::reference::{Stop, batch, fail, scratch, trial};

pub fn trials() -> Vec<Trial> {
    ["esp32", "esp32c2", "esp32c3", "esp32c6", "esp32p4", "esp32s3"]
        .map(|chip| trial(format!("espefuse: burns the simulated {chip}"), move || burns(chip)))
        .into_iter()
        .collect()
}

/// A simulator process, ended with this value.
pub struct Sim {
    process: Child,
    /// Where it listens, `socket://…`.
    pub port: String,
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a simulator whose eFuses are kept in this file.
pub fn start(chip: &str, efuse: &Path) -> Result<Sim, Stop> {
    start_with(chip, efuse, &[])
}

/// The same with more options.
pub fn start_with(chip: &str, efuse: &Path, options: &[&str]) -> Result<Sim, Stop> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["sim", chip, "--tcp", "127.0.0.1:0", "--efuse"]).arg(efuse).args(options).stderr(Stdio::piped());
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let Some(stderr) = process.stderr.take() else { return fail("no stderr") };
    let mut lines = BufReader::new(stderr).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    std::thread::spawn(move || lines.for_each(drop));
    let Some(port) = line.split_whitespace().find_map(|word| word.strip_prefix("socket://")) else {
        let _ = process.kill();
        return fail(format!("the simulator said {line:?}"));
    };
    Ok(Sim { process, port: format!("socket://{port}") })
}

/// Commands for every kind of burn, as far as the chip has it.
fn commands(id: &str, dir: &Path) -> Vec<String> {
    let table = chip::by_name(id).map(chip::Chip::efuse);
    let Some(table) = table else { return Vec::new() };
    let key = dir.join("key").display().to_string();
    let key_command = match id {
        "esp32" => format!("burn-key flash_encryption {key}"),
        "esp32c2" => format!("burn-key BLOCK_KEY0 {key} XTS_AES_128_KEY"),
        _ => format!("burn-key BLOCK_KEY0 {key} XTS_AES_128_KEY"),
    };
    let flag = table.fields.iter().find(|field| field.block == 0 && field.len() == 1 && field.name.contains("JTAG"));
    let flag = flag.map_or("JTAG_DISABLE", |field| field.name.as_str());
    let mut list = vec![
        "summary --format json".to_string(),
        format!("burn-efuse {flag} 1"),
        "burn-custom-mac 02:11:22:33:44:55".into(),
        key_command,
        format!("write-protect-efuse {flag}"),
        "check-error".into(),
        "dump --format token".into(),
    ];
    if table.field("BLOCK_KEY3").is_some() {
        list.insert(4, format!("burn-block-data BLOCK_KEY3 {key}"));
        list.insert(5, "burn-bit BLOCK_KEY4 3 7 200".into());
    }
    if table.field("XPD_SDIO_FORCE").or(table.field("VDD_SPI_FORCE")).is_some() {
        list.insert(4, "set-flash-voltage 3.3V".into());
    }
    list
}

/// The blocks of the last token in an output: those that tools burn, without the factory's.
fn token(text: &str) -> Option<Vec<String>> {
    let token = text.lines().rev().find(|line| line.starts_with("EFSR:"))?;
    Some(token.split(':').skip(3).map(str::to_string).collect())
}

fn burns(id: &'static str) -> Result<(), Stop> {
    let dir = scratch(&format!("espefuse-{id}"));
    std::fs::write(dir.join("key"), (1..=32u8).collect::<Vec<_>>())?;
    let sim = start(id, &dir.join("efuse.bin"))?;
    let words = |head: &[&str], command: &str| -> Vec<String> {
        head.iter().copied().chain(command.split_whitespace()).map(str::to_string).collect()
    };
    let commands = commands(id, &dir);
    let head = ["--chip", id, "--port", &sim.port, "--before", "no-reset", "--do-not-confirm"];
    // The virtual chip begins as the simulated one is.
    let first = batch("espefuse", &[words(&head, "dump --format token")])?;
    let Some(line) = first[0].text.lines().find(|line| line.starts_with("EFSR:")) else { return fail(&first[0].text) };
    let burned: Vec<_> = commands.iter().map(|command| words(&head, command)).collect();
    let answers = batch("espefuse", &burned)?;
    for (command, answer) in commands.iter().zip(&answers) {
        if !answer.ok {
            return fail(format!("{command}: {}", answer.text));
        }
    }
    let file = dir.join("virtual").display().to_string();
    let seed = ["--chip", id, "--virt", "--token", line, "--path-efuse-file", &file, "--do-not-confirm"];
    let next = ["--chip", id, "--virt", "--path-efuse-file", &file, "--do-not-confirm"];
    let wanted = commands.iter().enumerate().map(|(at, command)| words(if at == 0 { &seed } else { &next }, command));
    let wanted: Vec<_> = wanted.collect();
    let expected = batch("espefuse", &wanted)?;
    let (ours, theirs) = (answers.last(), expected.last());
    let both = (ours.and_then(|one| token(&one.text)), theirs.and_then(|one| token(&one.text)));
    let (Some(mut ours), Some(mut theirs)) = both else { return fail("no token at the end") };
    // The last part is a checksum over the whole.
    ours.pop();
    theirs.pop();
    drop(sim);
    if ours == theirs { Ok(()) } else { fail(format!("simulator {ours:?}\nvirtual   {theirs:?}")) }
}
