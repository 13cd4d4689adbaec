//! espefuse: the same virtual chip after the same commands, and what keeps a real one from being burned unasked.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use crate::callers::Sim;
use crate::reference::{Stop, fail, scratch, tool, trial};
use crate::{face, ran};

pub fn trials() -> Vec<Trial> {
    let chips = ["esp32", "esp32c3", "esp32s3", "esp32c2"];
    let mut trials: Vec<Trial> =
        chips.map(|chip| trial(format!("faces: espefuse burns a virtual {chip} alike"), move || alike(chip))).into();
    trials
        .push(trial("faces: espefuse refuses what the tools refuse, and what the policy vouches for it takes", facts));
    trials.push(trial("faces: a device behind a port is not burned unasked without a policy line", unasked));
    trials
}

fn commands(chip: &str) -> Vec<String> {
    let key = match chip {
        "esp32" => "burn-key flash_encryption key",
        _ => "burn-key BLOCK_KEY0 key XTS_AES_128_KEY",
    };
    let flag = if chip == "esp32" { "JTAG_DISABLE" } else { "DIS_PAD_JTAG" };
    vec![
        format!("burn-efuse {flag} 1"),
        key.into(),
        "burn-custom-mac 02:11:22:33:44:55".into(),
        format!("write-protect-efuse {flag}"),
        format!("burn-efuse {flag} 2"),
        "check-error".into(),
    ]
}

fn alike(chip: &'static str) -> Result<(), Stop> {
    let folder = scratch(&format!("faces-efuse-{chip}"));
    fs::write(folder.join("key"), (1..=32u8).collect::<Vec<_>>())?;
    let words = |file: &str, command: &str| -> Vec<String> {
        let head = format!("--chip {chip} --virt --path-efuse-file {file} --do-not-confirm {command}");
        head.split(' ').map(str::to_string).collect()
    };
    for command in commands(chip) {
        let wanted = ran(Command::new(tool("espefuse")?).args(words("theirs", &command)), &folder)?;
        let got = ran(face("espefuse").args(words("ours", &command)), &folder)?;
        if got.code != wanted.code {
            return fail(format!("{command}: code {}, not {}\n{}\n{}", got.code, wanted.code, got.text, wanted.text));
        }
        // Each file is read by the other side too.
        let mut dumps = Vec::new();
        for file in ["ours", "theirs"] {
            let dump = words(file, "dump --format token");
            dumps.push(token(&ran(Command::new(tool("espefuse")?).args(&dump), &folder)?.text));
            dumps.push(token(&ran(face("espefuse").args(&dump), &folder)?.text));
        }
        if dumps.iter().any(|dump| dump.is_none() || *dump != dumps[0]) {
            return fail(format!("{command}: {dumps:#?}"));
        }
    }
    Ok(())
}

/// The blocks of a token; chip and revision before them, error registers and checksum behind them are not compared.
fn token(text: &str) -> Option<Vec<String>> {
    let line = text.lines().find(|line| line.starts_with("EFSR:"))?;
    let parts: Vec<String> = line.split(':').map(str::to_string).collect();
    parts.get(3..parts.len().checked_sub(2)?).map(<[String]>::to_vec)
}

fn unasked() -> Result<(), Stop> {
    let folder = scratch("faces-unasked");
    let sim = Sim::start("esp32c3", &folder, "burn")?;
    let line = format!("--port {} --do-not-confirm burn-efuse DIS_PAD_JTAG 1", sim.port);
    let burn = |policy: Option<&str>| -> Result<_, Stop> {
        let mut command = face("espefuse");
        command.args(line.split(' ')).env("XDG_CONFIG_HOME", &folder).env("HOME", &folder);
        if let Some(policy) = policy {
            fs::write(folder.join("policy.toml"), policy)?;
            command.env("MCP_ESPTOOL_POLICY", folder.join("policy.toml"));
        }
        ran(&mut command, &folder)
    };
    let refused = burn(None)?;
    if refused.code != 2 || !refused.text.contains("burn_macs") {
        return fail(format!("not refused: {refused:?}"));
    }
    let burned = burn(Some("burn_macs = [\"*\"]\n"))?;
    if burned.code == 0 && burned.text.contains("Successful") {
        Ok(())
    } else {
        fail(format!("not burned: {burned:?}"))
    }
}

/// The rules look at the same facts as the tools' do: what other devices have, what is in flash, what the policy says.
fn facts() -> Result<(), Stop> {
    let folder = scratch("faces-facts");
    let devices = [("esp32c3", "02:00:00:00:00:01"), ("esp32c3", "02:00:00:00:00:02"), ("esp32", "02:00:00:00:00:03")];
    let start = |(number, (chip, mac)): (usize, (&str, &str))| {
        Sim::start_with(chip, &folder, &format!("device-{number}"), &["--mac", mac])
    };
    let sims = devices.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
    let burn = |device: usize, vouch: &str, what: &str| -> Result<crate::Ran, Stop> {
        fs::write(folder.join("policy.toml"), format!("burn_macs = [\"*\"]\nvouch = [{vouch}]\n"))?;
        let mut command = face("espefuse");
        command.env("XDG_CONFIG_HOME", &folder).env("HOME", &folder).env("MCP_ESPTOOL_STATE_DIR", folder.join("state"));
        command.env("MCP_ESPTOOL_POLICY", folder.join("policy.toml"));
        let line = format!("--port {} --do-not-confirm {what}", sims[device].port);
        ran(command.args(line.split(' ')), &folder)
    };
    let expect = |done: crate::Ran, code: i32, text: &str| -> Result<(), Stop> {
        if done.code == code && done.text.contains(text) { Ok(()) } else { fail(format!("no {code} {text}: {done:?}")) }
    };
    let mac = "burn-custom-mac 02:11:22:33:44:55";
    expect(burn(0, "", mac)?, 0, "Successful")?;
    expect(burn(1, "", mac)?, 2, "belongs to another device")?;
    let voltage = "set-flash-voltage 1.8V";
    expect(burn(2, "", voltage)?, 2, "vouch = [\"flash_voltage\"]")?;
    expect(burn(2, "\"flash_voltage\"", voltage)?, 0, "Successful")
}
