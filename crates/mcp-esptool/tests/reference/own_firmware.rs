//! Programs for the chips (tests/firmware, with esp-hal from crates.io) are built, flashed over MCP, and run on the built-in
//! device; their console says whether the blocks that they use behave.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::client::Client;
use crate::reference::{self, Skip, Stop, fail, scratch, trial};

/// The chips, with the target that the compiler knows for them. The first is tried in every run, all others with
/// `MCP_ESPTOOL_LONG`: each one compiles the library anew, which takes a minute.
const CHIPS: &[(&str, &str)] = &[
    ("esp32c3", "riscv32imc-unknown-none-elf"),
    ("esp32c2", "riscv32imc-unknown-none-elf"),
    ("esp32c6", "riscv32imac-unknown-none-elf"),
    ("esp32h2", "riscv32imac-unknown-none-elf"),
    ("esp32c5", "riscv32imac-unknown-none-elf"),
];

/// What the program says when all is as on a board, in this order.
const CONSOLE: &[&str] = &[
    "clock: 20 ms passed",
    "timer: 5 interrupts, in time",
    "pin: 4 edges, low",
    "bus: AcknowledgeCheckFailed",
    "panic: on purpose",
    "rst:0x3",
    "hello from",
];

/// What is around the chip while the second program runs. It reads the ADC when the button is pressed and 0.2 s later.
const BOARD: &str = "\
[[pin]]
number = 10
level = 1
[[pin]]
at = 0.3
number = 10
level = 0
[[adc]]
channel = CHANNEL
value = 1000
[[adc]]
at = 0.4
channel = CHANNEL
value = 3000
[[spi]]
select = 0
registers = { 0xd0 = [0x60, 0x01] }
[[spi]]
commands = { 0x00 = [1, 2, 3, 4, 5] }
";

/// What the second program says, in this order; the lines of blocks that a chip does not have are left out.
const BOARD_CONSOLE: &[(&str, &[&str])] = &[
    ("button: pressed, it blinks", &[]),
    ("adc: 1000, then 3000, ground 0", &[]),
    ("spi: true [ff, 60, 01], then [ff, 77]", &[]),
    ("spi: true, 300 bytes by DMA, sum 75240, in time", &[]),
    ("led: true, faded", &["esp32c5"]),
    ("led: true", &["esp32c5"]),
    ("pulses: true, 199 sent in time", &["esp32c2"]),
    ("count: 5, threshold true", &["esp32c2", "esp32c3"]),
];

/// What of it is seen from outside, in this order: the PWM's values as shares of their steps, and transfers.
const BOARD_TRACE: &[(&str, &[&str])] = &[
    ("gpio8 1", &[]),
    ("spi2 sent d00000 received ff6001", &[]),
    ("spi2 sent 5177", &[]),
    ("pwm2 0.2461 63/256", &["esp32c5"]),
    ("pwm2 0.7461 191/256", &["esp32c5"]),
    ("pwm2 0.0000 0/256", &["esp32c5"]),
];

pub fn trials() -> Vec<Trial> {
    let count = if std::env::var_os("MCP_ESPTOOL_LONG").is_some() { CHIPS.len() } else { 1 };
    let chosen = CHIPS.iter().take(count);
    let mut trials = vec![trial("firmware::the demo's program is what its source says", demo_program)];
    for (chip, target) in chosen {
        // One after the other: the first compiles the library for both.
        trials.push(trial(format!("firmware::esp_hal_{chip}"), || {
            esp_hal(chip, target)?;
            board(chip, target)
        }));
    }
    trials
}

/// Builds the programs for a chip; where they are.
fn build(chip: &str, target: &str) -> Result<PathBuf, Stop> {
    let folder = reference::root().join("tests/firmware");
    let installed = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output()?;
    let library = PathBuf::from(reference::text(&installed).lines().next().unwrap_or_default());
    if !library.is_dir() {
        return Err(Skip(format!("no target {target} (rustup target add {target})")).into());
    }
    let built_into = reference::home().join("firmware");
    let cargo = |words: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(words).current_dir(&folder).env("CARGO_TARGET_DIR", &built_into);
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL"] {
            command.env_remove(name);
        }
        command.output()
    };
    let fetched = [&["fetch", "--locked", "--offline"][..], &["fetch", "--locked"]]
        .into_iter()
        .any(|words| cargo(words).is_ok_and(|output| output.status.success()));
    if !fetched {
        return Err(Skip("esp-hal cannot be fetched from crates.io".into()).into());
    }
    let output = cargo(&["build", "--release", "--locked", "--offline", "--features", chip, "--target", target])?;
    if !output.status.success() {
        return fail(String::from_utf8_lossy(&output.stderr));
    }
    Ok(built_into.join(target).join("release"))
}

fn esp_hal(chip: &str, target: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("firmware-{chip}"));
    std::fs::copy(build(chip, target)?.join("firmware"), dir.join("firmware.elf"))?;
    let port = format!("sim://{chip}-firmware");
    let root = format!("project_roots={}", dir.display());
    let mut client = Client::initialized(&dir, &["--set", &root]);
    let flashed = client.call("esp_flash_firmware", json!({"port": port, "project": "firmware.elf"}));
    if flashed["isError"] == true {
        return fail(flashed.to_string());
    }
    let arguments = json!({"port": port, "capture_s": 3, "until": "(?s)rst:0x3.*hello from"});
    let run: Value = client.call("esp_run_firmware", arguments);
    let console = run["structuredContent"]["console"]["text"].as_str().unwrap_or_default().to_owned();
    let mut rest = console.as_str();
    for wanted in CONSOLE {
        match rest.split_once(wanted) {
            Some((_, after)) => rest = after,
            None => return fail(format!("no {wanted:?} in its place in {console:?} of {run}")),
        }
    }
    Ok(())
}

/// The second program, with what is around the chip by a script: what it says, and what is seen from outside.
fn board(chip: &str, target: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("board-{chip}"));
    std::fs::copy(build(chip, target)?.join("board"), dir.join("board.elf"))?;
    let root = format!("project_roots={}", dir.display());
    let mut client = Client::initialized(&dir, &["--set", &root]);
    let mut call = |tool: &str, input: Value| -> Result<Value, Stop> {
        let answer = client.call(tool, input);
        if answer["isError"] == true {
            fail(format!("{tool}: {answer}"))
        } else {
            Ok(answer["structuredContent"].clone())
        }
    };
    let id = format!("board-{chip}");
    call("esp_qemu_start", json!({"id": id, "chip_type": chip, "backend": "builtin"}))?;
    let port = format!("qemu://{id}");
    call("esp_flash_firmware", json!({"port": port, "project": "board.elf"}))?;
    // It lets go of the line, whose rate was that of the writing.
    call("esp_run_firmware", json!({"port": port}))?;
    call("esp_qemu_start", json!({"id": id, "boot_mode": "normal"}))?;
    // GPIO2's channel: on some chips pins are counted from 1.
    let channel = if ["esp32h2", "esp32c5"].contains(&chip) { "1" } else { "2" };
    call("esp_debug", json!({"id": id, "action": "reset", "stimuli": BOARD.replace("CHANNEL", channel)}))?;
    let run =
        call("esp_debug", json!({"id": id, "action": "run", "until": ["console:board: done"], "timeout_s": 120}))?;
    let trace = call("esp_debug", json!({"id": id, "action": "trace", "output_file": "board.vcd"}))?;
    let dump = std::fs::read_to_string(dir.join("board.vcd"))?;
    call("esp_qemu_stop", json!({"id": id}))?;
    in_order(run["console"].as_str().unwrap_or_default(), BOARD_CONSOLE, chip)?;
    in_order(trace["output"].as_str().unwrap_or_default(), BOARD_TRACE, chip)?;
    if chip != "esp32c5" && !dump.contains("r0.2461 ") {
        return fail(format!("no PWM in {dump}"));
    }
    Ok(())
}

/// The text has these in their order, but for those that the chip does not have.
fn in_order(text: &str, wanted: &[(&str, &[&str])], chip: &str) -> Result<(), Stop> {
    let mut rest = text;
    for (wanted, _) in wanted.iter().filter(|(_, without)| !without.contains(&chip)) {
        match rest.split_once(wanted) {
            Some((_, after)) => rest = after,
            None => return fail(format!("no {wanted:?} in its place in {text}")),
        }
    }
    Ok(())
}

/// The demonstration's program, assembled anew, is what is built in.
fn demo_program() -> Result<(), Stop> {
    let source = reference::root().join("crates/esp-ops/src/firmware/program.S");
    let dir = scratch("demo-program");
    let (object, binary) = (dir.join("program.o"), dir.join("program.bin"));
    let mut assemble = Command::new("riscv64-unknown-elf-as");
    assemble.args(["-march=rv32im_zicsr", "-mabi=ilp32"]).arg(&source).arg("-o").arg(&object);
    if Command::new("riscv64-unknown-elf-as").arg("--version").output().is_err() {
        return Err(Skip("no riscv64-unknown-elf-as (binutils-riscv64-unknown-elf)".into()).into());
    }
    reference::run(&mut assemble)?;
    reference::run(Command::new("riscv64-unknown-elf-objcopy").args(["-O", "binary"]).arg(&object).arg(&binary))?;
    reference::same_bytes("program.bin", esp_ops::firmware::sample::PROGRAM, &std::fs::read(&binary)?)
}
