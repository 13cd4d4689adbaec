//! Fields of a project's own table, and blocks with lost bits that are burned again: the same by espefuse and our face.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use crate::callers::Sim;
use crate::reference::{Stop, fail, scratch, tool, trial};
use crate::{Ran, face, ran};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faces: espefuse burns the fields of a project's own table", own_table),
        trial("faces: espefuse burns blocks again whose bits were lost", recovery),
    ]
}

const TABLE: &str = "# name, block, start, count, comment\nMODULE, EFUSE_BLK3, 56, 8, Module\n\
                     ROLE, EFUSE_BLK3, 64, 3, [ROLE_OLD] Role\nFLAG, EFUSE_BLK3, 67, 1, Flag\n\
                     ID, EFUSE_BLK3, 140, 8, [MY_ID] part\n, EFUSE_BLK3, 132, 8, [MY_ID] part\n\
                     DATA.ONE, EFUSE_BLK3, 190, 7, One\n";

fn own_table() -> Result<(), Stop> {
    let folder = scratch("faces-own-table");
    fs::write(folder.join("t.csv"), TABLE)?;
    fs::write(folder.join("bad.csv"), "A, EFUSE_BLK3, 0, 3, A\nA, EFUSE_BLK3, x, 3, A\n")?;
    let run = |own: bool, file: &str, words: &str| -> Result<Ran, Stop> {
        let mut command = if own { face("espefuse") } else { Command::new(tool("espefuse")?) };
        let line = format!("--chip esp32c3 --virt --path-efuse-file {file} --do-not-confirm {words}");
        ran(command.args(line.split(' ')), &folder)
    };
    let burn = "--extend-efuse-table t.csv burn-efuse MODULE 17 ROLE_OLD 5 FLAG 1 ID_0 0x81 MY_ID_1 2 DATA_ONE 99";
    for words in [burn, "--extend-efuse-table bad.csv summary", "--extend-efuse-table none.csv summary"] {
        let (got, wanted) = (run(true, "ours", words)?, run(false, "theirs", words)?);
        if (got.code == 0) != (wanted.code == 0) {
            return fail(format!("{words}: {got:?} not {wanted:?}"));
        }
    }
    let values = |own: bool, file: &str| -> Result<Vec<String>, Stop> {
        let shown = run(own, file, "--extend-efuse-table t.csv summary MODULE ROLE FLAG ID_0 ID_1 DATA_ONE")?;
        let rows = shown.text.lines().filter(|line| line.contains("(BLOCK3)"));
        let value = |row: &str| row.split(" = ").nth(1).unwrap_or_default().trim().to_string();
        let rows: Vec<String> = rows.map(value).collect();
        if rows.len() == 6 { Ok(rows) } else { fail(shown.text) }
    };
    let shown = [values(true, "ours")?, values(false, "ours")?, values(true, "theirs")?, values(false, "theirs")?];
    if shown.iter().all(|rows| *rows == shown[0]) { Ok(()) } else { fail(format!("{shown:#?}")) }
}

/// A block that lost a bit is found, burned again and found right. espefuse does the same, in minutes over RFC 2217.
fn recovery() -> Result<(), Stop> {
    let folder = scratch("faces-recovery");
    fs::write(folder.join("data"), (1..=32).collect::<Vec<u8>>())?;
    fs::write(folder.join("policy.toml"), "burn_macs = [\"*\"]\n")?;
    let efuse = folder.join("efuse").display().to_string();
    let run = |sim: &Sim, words: &str| -> Result<Ran, Stop> {
        let line = format!("--chip esp32c3 --port {} --do-not-confirm {words}", sim.port);
        let mut command = face("espefuse");
        ran(command.args(line.split(' ')).env("MCP_ESPTOOL_POLICY", folder.join("policy.toml")), &folder)
    };
    let healthy = Sim::start_with("esp32c3", &folder, "healthy", &["--efuse", &efuse])?;
    let burned = run(&healthy, "burn-block-data BLOCK3 data")?;
    drop(healthy);
    let sim = Sim::start_with("esp32c3", &folder, "lossy", &["--efuse", &efuse, "--fault", "efuse-lost-bits"])?;
    let (found, mended, again) =
        (run(&sim, "check-error")?, run(&sim, "check-error --recovery")?, run(&sim, "check-error")?);
    let codes = (burned.code, found.code, mended.code, again.code);
    if codes != (0, 2, 0, 0) || !mended.text.contains("No errors detected") {
        return fail(format!("{codes:?}\n{}\n{}\n{}", burned.text, found.text, mended.text));
    }
    Ok(())
}
