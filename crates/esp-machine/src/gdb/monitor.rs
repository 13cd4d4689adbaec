//! `monitor` commands of GDB: what its protocol has no packets for.

use std::fmt::Write as _;

use crate::debugger::{Until, seconds};
use crate::events::What;
use crate::firmware::Engine;

const HELP: &str = "\
time                     virtual time since power-on
why                      which condition ended the last run
reset                    restart from flash, standing still at the reset vector
snapshot NAME            keep all of the machine, flash and eFuses included
restore NAME             go back there; breakpoints stay
snapshots                what is kept
until console TEXT       the next run ends when the console has said TEXT
until pin N [0|1]        … when the chip changes pin N
until time SECONDS       … at that virtual time; +SECONDS from now
until reset              … at a reset
until                    forget these conditions
trace                    edges of pins, PWM, I2C and SPI messages, resets since the last trace, as TIME_PS NAME VALUE
script TOML              let these things happen from now on: pin, uart, adc, i2c, spi, reset, power_cut
";

/// Carries a command out; what it says.
pub fn carry_out(engine: &mut Engine, command: &str) -> String {
    let (word, rest) = command.trim().split_once(char::is_whitespace).unwrap_or((command.trim(), ""));
    let rest = rest.trim();
    let done = match word {
        "time" => Ok(format!("{}\n", seconds(engine.machine.now()))),
        "why" => Ok(engine.met().map_or("no condition\n".into(), |until| format!("{until}\n"))),
        "reset" => {
            engine.reset();
            Ok("stopped at the reset vector\n".into())
        }
        "snapshot" | "restore" if rest.is_empty() => Err("a name is missing".into()),
        "snapshot" => engine.snapshot(rest).map(|()| format!("kept {rest:?} at {}\n", seconds(engine.machine.now()))),
        "restore" => engine.restore(rest).map(|()| format!("back at {}\n", seconds(engine.machine.now()))),
        "snapshots" => Ok(engine.snapshots().map(|(name, time)| format!("{name} at {}\n", seconds(time))).collect()),
        "until" => until(engine, rest),
        "trace" => Ok(trace(engine)),
        "script" => engine.stimulate(rest).map(|count| format!("{count} steps\n")),
        "help" | "" => Ok(HELP.into()),
        _ => Err(format!("{word:?} is not known; `monitor help` lists what is")),
    };
    done.unwrap_or_else(|error| format!("error: {error}\n"))
}

fn until(engine: &mut Engine, text: &str) -> Result<String, String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let condition = match word {
        "" => {
            engine.forget_conditions();
            return Ok("no conditions\n".into());
        }
        "console" if !rest.is_empty() => Until::Console(rest.into()),
        "time" => Until::Time(time(engine.machine.now(), rest)?),
        "reset" => Until::Reset,
        "pin" => {
            let mut words = rest.split_whitespace();
            let number = words.next().and_then(|word| word.parse().ok()).ok_or("which pin?")?;
            let level = match words.next() {
                None => None,
                Some("0") => Some(false),
                Some("1") => Some(true),
                Some(other) => return Err(format!("{other:?} is no level (0 or 1)")),
            };
            Until::Pin(number, level)
        }
        _ => return Err("until console TEXT, pin N [0|1], time SECONDS, reset".into()),
    };
    let said = format!("the next run ends at {condition}\n");
    engine.run_until(condition);
    Ok(said)
}

/// Seconds since power-on, or from now on with a `+`, in picoseconds.
fn time(now: u64, text: &str) -> Result<u64, String> {
    let (base, digits) = text.strip_prefix('+').map_or((0, text), |digits| (now, digits));
    let value: f64 = digits.parse().map_err(|_| format!("{text:?} is no time in seconds"))?;
    if !(0.0..=1e6).contains(&value) {
        return Err(format!("{text:?} is not between 0 and 1000000 s"));
    }
    Ok(base + (value * 1e12) as u64)
}

fn trace(engine: &mut Engine) -> String {
    let mut text = String::new();
    for event in engine.take_trace() {
        let _ = match &event.what {
            What::Pin { number, level } => writeln!(text, "{} gpio{number} {}", event.time, u8::from(*level)),
            What::I2c { bus, message } => {
                let way = if message.read { "read" } else { "write" };
                let there = if message.acknowledged { "" } else { " no acknowledge" };
                let bytes = esp_model::hex::encode(&message.bytes);
                writeln!(text, "{} i2c{bus} {:#04x} {way} {bytes}{there}", event.time, message.address)
            }
            What::Spi { bus, sent, received } => {
                let [sent, received] = [sent, received].map(esp_model::hex::encode);
                writeln!(text, "{} spi{bus} sent {sent} received {received}", event.time)
            }
            What::Pwm { channel, millihertz, duty, full } => {
                let share = f64::from(*duty) / f64::from((*full).max(1));
                let hertz = *millihertz as f64 / 1000.0;
                writeln!(text, "{} pwm{channel} {share:.4} {duty}/{full} {hertz:.1} Hz", event.time)
            }
            What::Reset { cause, .. } => writeln!(text, "{} reset {cause}", event.time),
            _ => Ok(()),
        };
    }
    text
}
