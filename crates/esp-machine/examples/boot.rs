//! Boots files on a chip and shows its console, speed and time: `boot CHIP MILLISECONDS OFFSET=FILE…`.
//!
//! The processor time is that of the whole run; compile with `--release` to measure.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::disallowed_types)]

use std::io::Write as _;

use esp_machine::{Config, Input, Machine, What};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let chip = words.next().ok_or("which chip?")?;
    let milliseconds: u64 = words.next().ok_or("how long?")?.parse()?;
    let size = std::env::var("FLASH_MB").map_or(Ok(4), |size| size.parse::<u32>())? << 20;
    let mut config = match std::env::var("REVISION") {
        Ok(revision) => Config::with_revision(&chip, size, revision.parse()?),
        Err(_) => Config::new(&chip, size),
    }
    .ok_or("no machine for this chip")?;
    let (mut trace, mut sync) = (false, false);
    for word in words {
        match word.split_once('=') {
            Some((offset, file)) => {
                let offset = u32::from_str_radix(offset.trim_start_matches("0x"), 16)?;
                config.flash.load(offset, &std::fs::read(file)?);
            }
            None if word == "download" => config.download = true,
            None if word == "sync" => sync = true,
            None => trace = true,
        }
    }
    if let Ok(bytes) = std::env::var("PSRAM") {
        config.psram = bytes.parse()?;
    }
    let started = std::time::Instant::now();
    let mut machine = Machine::new(config)?;
    machine.soc.shared.radio.lets_through = std::env::var_os("RADIO").is_some();
    println!("made in {:?}", started.elapsed());
    // SYNC requests of the loader protocol, every 30 ms.
    let request = [&[0xc0, 0, 8, 0x24, 0, 0, 0, 0, 0, 7, 7, 0x12, 0x20][..], &[0x55; 32], &[0xc0]].concat();
    for attempt in 1..=if sync { 8 } else { 0 } {
        machine.input(attempt * 30_000_000_000, Input::Uart { port: 0, bytes: request.clone() });
    }
    if let Ok(script) = std::env::var("STIMULI") {
        for (time, input) in esp_machine::stimuli::parse(&std::fs::read_to_string(script)?, false)? {
            machine.input(time, input);
        }
    }
    if let Ok(steps) = std::env::var("STEPS") {
        for _ in 0..steps.parse::<u64>()? {
            let core = machine.cores[0].get();
            let registers: Vec<u32> = (1..32).filter_map(|n| core.register(n)).collect();
            println!("{:#010x} {} {registers:x?}", core.pc(), machine.rom().function(core.pc()).unwrap_or_default());
            let time = machine.now() + 1;
            machine.run(time);
        }
        return Ok(());
    }
    let started = std::time::Instant::now();
    let end = milliseconds * 1_000_000_000;
    let mut at_line_start = true;
    while machine.now() < end {
        machine.run(end);
        let mut out = std::io::stdout().lock();
        for event in machine.take_events() {
            match event.what {
                What::Uart { port: 0, byte } => {
                    if at_line_start {
                        write!(out, "[{:9} us] ", event.time / 1_000_000)?;
                    }
                    at_line_start = byte == b'\n';
                    out.write_all(&[byte])?;
                }
                What::Uart { .. } | What::Usb(_) => {}
                What::Unmodelled { address, name, pc, write } => {
                    if trace {
                        let function = machine.rom().function(pc).unwrap_or_default();
                        let what = if write { "write" } else { "read" };
                        writeln!(out, "{{{what} {address:#010x} {name} at {pc:#010x} {function}}}")?;
                    }
                }
                other => writeln!(out, "{{{} us: {other:x?}}}", event.time / 1_000_000)?,
            }
        }
    }
    let (pc, seconds) = (machine.cores[0].get().pc(), started.elapsed().as_secs_f64());
    println!(
        "\npc {pc:#010x} {}, {seconds:.3} s, memory {} KB",
        machine.rom().function(pc).unwrap_or_default(),
        machine.soc.memory.size() / 1024
    );
    println!(
        "{} instructions, {:.0} million a second",
        machine.instructions(),
        machine.instructions() as f64 / seconds / 1e6
    );
    Ok(())
}
