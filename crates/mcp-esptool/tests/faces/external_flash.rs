//! A second flash on other pins: written by one tool, read by the other; the chip's own flash keeps its content.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;

use crate::callers::Sim;
use crate::reference::{Stop, fail, same_bytes, scratch, tool, trial};
use crate::{Ran, face, ran};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faces: esptool writes and reads a flash on other pins", both_ways),
        trial("faces: esptool says which pins a flash cannot be on", refused),
    ]
}

fn both_ways() -> Result<(), Stop> {
    let folder = scratch("faces-external");
    let data: Vec<u8> = (0..5000u32).map(|at| (at * 7) as u8).collect();
    fs::write(folder.join("data"), &data)?;
    let sim = Sim::start_with("esp32c3", &folder, "external", &["--external-flash", "8MB"])?;
    let run = |own: bool, words: &str| -> Result<Ran, Stop> {
        let mut command = if own { face("esptool") } else { Command::new(tool("esptool")?) };
        let line = format!("--port {} {words}", sim.port);
        let done = ran(command.args(line.split(' ')), &folder)?;
        if done.code == 0 { Ok(done) } else { fail(format!("{words} (ours: {own}): {done:?}")) }
    };
    for (writer, stub) in [(true, ""), (false, ""), (true, "--no-stub ")] {
        let pins = "--spi-connection 6,2,7,5,10";
        let erased = run(writer, &format!("{stub}erase-region {pins} 0x10000 0x2000"))?;
        let wrote = run(writer, &format!("{stub}write-flash {pins} 0x10000 data"))?;
        run(!writer, &format!("read-flash {pins} 0x10000 5000 back"))?;
        same_bytes("the second flash", &fs::read(folder.join("back"))?, &data)?;
        let size = run(writer, &format!("{stub}flash-id {pins}"))?;
        let said = "Configuring SPI NOR flash mode (CLK:6, Q:2, D:7, HD:5, CS:10)...";
        let all_say = [&erased, &wrote, &size].iter().all(|ran| ran.text.contains(said));
        if !all_say || !size.text.contains("8MB") {
            return fail(format!("{}\n{}", wrote.text, size.text));
        }
        run(!writer, "read-flash 0x10000 5000 own")?;
        if fs::read(folder.join("own"))?.iter().any(|byte| *byte != 0xff) {
            return fail("the chip's own flash was written");
        }
    }
    Ok(())
}

fn refused() -> Result<(), Stop> {
    let folder = scratch("faces-external-refused");
    let sim = Sim::start("esp32c3", &folder, "refused")?;
    for (pins, text) in [
        ("6,2,7,5,30", "SPI Pin numbers must be in the range 0-21."),
        ("6,2,7", "Must be 5 numbers - CLK,Q,D,HD,CS."),
        ("XSPI", "Values are SPI, HSPI"),
    ] {
        let done = ran(face("esptool").args(["--port", &sim.port, "flash-id", "-sc", pins]), &folder)?;
        if done.code != 2 || !done.text.contains(text) {
            return fail(format!("{pins}: {done:?}"));
        }
    }
    // Nothing is soldered to these pins.
    let nothing = ran(face("esptool").args(["--port", &sim.port, "flash-id", "-sc", "6,2,7,5,10"]), &folder)?;
    if nothing.text.contains("4MB") { fail(nothing.text) } else { Ok(()) }
}
