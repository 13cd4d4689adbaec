//! What happens to a chip from outside, as a script: levels of pins, text on its console, values of its ADC, I2C and SPI devices,
//! resets, power cuts.
//!
//! ```toml
//! [[pin]]
//! at = 0.5            # seconds from the script's start
//! number = 9
//! level = 0           # 1, or left out: nothing drives the pin any more
//!
//! [[uart]]
//! at = 1.0
//! text = "reboot\r\n"
//! port = 1            # left out: the console
//!
//! [[reset]]
//! at = 2.0
//!
//! [[power_cut]]
//! flash_writes = 3    # in the middle of the third write or erase from now on; or `at`
//!
//! [[i2c]]
//! bus = 0
//! address = 0x44
//! registers = { "0x00" = [0x12, 0x34] }   # pointer byte, bytes that follow
//!
//! [[adc]]
//! channel = 2
//! value = 1234        # what a conversion gives, 0 to 4095; unit = 2 for the second one
//!
//! [[spi]]
//! select = 10         # pin that selects it when low; left out: each transfer is a message to it
//! registers = { 0xd0 = [0x60] }   # number with or without read_bit (0x80), bytes that follow
//! # or commands = { 0x9f = [0xef, 0x40, 0x18] }, or always = [0x01, 0x90]
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::events::Input;
use crate::spi_bus::{self, Answers};

/// Longest script in bytes, and steps that it may have.
const LONGEST: usize = 64 << 10;
const MOST: usize = 1000;

/// Why a script is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StimuliError {
    /// The form.
    #[error("{0}")]
    Form(String),
    /// Too long.
    #[error("the script has {0} bytes or steps, more than {1}")]
    TooLong(usize, usize),
    /// A value out of its range.
    #[error("{0} {1} is not between 0 and {2}")]
    Range(&'static str, String, u32),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Script {
    pin: Vec<Pin>,
    uart: Vec<Uart>,
    reset: Vec<Reset>,
    power_cut: Vec<PowerCut>,
    i2c: Vec<I2c>,
    adc: Vec<Adc>,
    spi: Vec<Spi>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    #[serde(default)]
    at: f64,
    number: u8,
    level: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Uart {
    #[serde(default)]
    at: f64,
    text: String,
    port: Option<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    #[serde(default)]
    at: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerCut {
    at: Option<f64>,
    flash_writes: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct I2c {
    #[serde(default)]
    bus: u8,
    address: u8,
    #[serde(default)]
    registers: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Adc {
    #[serde(default)]
    at: f64,
    #[serde(default = "first")]
    unit: u8,
    channel: u8,
    value: u16,
}

fn first() -> u8 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spi {
    #[serde(default = "usual_bus")]
    bus: u8,
    select: Option<u8>,
    read_bit: Option<u8>,
    registers: Option<BTreeMap<String, Vec<u8>>>,
    commands: Option<BTreeMap<String, Vec<u8>>>,
    always: Option<Vec<u8>>,
}

/// The first controller that is not the flash's.
fn usual_bus() -> u8 {
    2
}

impl Spi {
    fn answers(self) -> Result<Answers, StimuliError> {
        match (self.registers, self.commands, self.always) {
            (Some(registers), None, None) => {
                let read_bit = self.read_bit.unwrap_or(0x80);
                let mut all = BTreeMap::new();
                for (number, bytes) in registers {
                    let first = register(&number)? & !read_bit;
                    all.extend((0..).zip(bytes).map(|(index, byte)| (first.wrapping_add(index) & !read_bit, byte)));
                }
                Ok(Answers::Registers { read_bit, registers: all })
            }
            (None, Some(commands), None) => {
                let commands = commands.into_iter().map(|(number, bytes)| Ok((register(&number)?, bytes)));
                Ok(Answers::Commands(commands.collect::<Result<_, StimuliError>>()?))
            }
            (None, None, Some(bytes)) => Ok(Answers::Always(bytes)),
            _ => Err(StimuliError::Form("an spi device has one of registers, commands and always".into())),
        }
    }
}

/// The inputs of a script in picoseconds from its start. `usb`: the console is the USB-Serial-JTAG port.
pub fn parse(text: &str, usb: bool) -> Result<Vec<(u64, Input)>, StimuliError> {
    if text.len() > LONGEST {
        return Err(StimuliError::TooLong(text.len(), LONGEST));
    }
    let script: Script = toml::from_str(text).map_err(|error| StimuliError::Form(error.message().to_owned()))?;
    let happens = script.pin.len() + script.uart.len() + script.reset.len() + script.power_cut.len() + script.adc.len();
    let steps = happens + script.i2c.len() + script.spi.len();
    if steps > MOST {
        return Err(StimuliError::TooLong(steps, MOST));
    }
    let mut inputs = Vec::new();
    for device in script.i2c {
        let registers = device.registers.into_iter().map(|(number, bytes)| Ok((register(&number)?, bytes)));
        let registers = registers.collect::<Result<_, StimuliError>>()?;
        inputs.push((0, Input::I2cDevice { bus: device.bus, address: device.address & 0x7f, registers }));
    }
    for adc in script.adc {
        if !(1..=2).contains(&adc.unit) {
            return Err(StimuliError::Range("unit", adc.unit.to_string(), 2));
        }
        if adc.value > 0xfff {
            return Err(StimuliError::Range("value", adc.value.to_string(), 0xfff));
        }
        inputs.push((time(adc.at)?, Input::Adc { unit: adc.unit, channel: adc.channel, value: adc.value }));
    }
    for device in script.spi {
        let (bus, select) = (device.bus, device.select);
        inputs.push((0, Input::SpiDevice { bus, device: spi_bus::Device { select, answers: device.answers()? } }));
    }
    for pin in script.pin {
        if pin.number > 63 {
            return Err(StimuliError::Range("pin", pin.number.to_string(), 63));
        }
        inputs.push((time(pin.at)?, Input::Pin { number: pin.number, level: pin.level.map(|level| level != 0) }));
    }
    for uart in script.uart {
        let bytes = uart.text.into_bytes();
        let input = match uart.port {
            None if usb => Input::Usb(bytes),
            port => Input::Uart { port: port.unwrap_or(0), bytes },
        };
        inputs.push((time(uart.at)?, input));
    }
    for reset in script.reset {
        inputs.push((time(reset.at)?, Input::Reset));
    }
    for cut in script.power_cut {
        inputs.push(match (cut.at, cut.flash_writes) {
            (None, Some(count @ 1..)) => (0, Input::CutAtFlashWrite(count)),
            (at, None) => (time(at.unwrap_or(0.0))?, Input::PowerCut),
            _ => return Err(StimuliError::Form("a power_cut has either at or flash_writes from 1 on".into())),
        });
    }
    inputs.sort_by_key(|(time, _)| *time);
    Ok(inputs)
}

fn time(seconds: f64) -> Result<u64, StimuliError> {
    if !(0.0..=1e6).contains(&seconds) {
        return Err(StimuliError::Range("at", seconds.to_string(), 1_000_000));
    }
    Ok((seconds * 1e12) as u64)
}

/// A register's number, in decimal or with `0x`.
fn register(text: &str) -> Result<u8, StimuliError> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| StimuliError::Range("register", text.to_owned(), 255))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_becomes_inputs_in_the_order_of_their_times() {
        let text = "[[uart]]\nat = 1.5\ntext = 'a'\n[[pin]]\nat = 0.5\nnumber = 9\nlevel = 0\n[[power_cut]]\nflash_writes = 3\n\
                    [[i2c]]\naddress = 0x44\nregisters = { 0x00 = [1, 2], 16 = [3] }\n[[reset]]\nat = 2";
        let inputs = parse(text, false).unwrap();
        assert_eq!(
            inputs[0].1,
            Input::I2cDevice { bus: 0, address: 0x44, registers: BTreeMap::from([(0, vec![1, 2]), (16, vec![3])]) }
        );
        assert_eq!(inputs[1], (0, Input::CutAtFlashWrite(3)));
        assert_eq!(inputs[2], (500_000_000_000, Input::Pin { number: 9, level: Some(false) }));
        assert_eq!(inputs[3], (1_500_000_000_000, Input::Uart { port: 0, bytes: b"a".to_vec() }));
        assert_eq!(inputs[4], (2_000_000_000_000, Input::Reset));
        assert_eq!(parse("[[uart]]\ntext = 'a'", true).unwrap()[0].1, Input::Usb(b"a".to_vec()));
    }

    #[test]
    fn devices_and_voltages_become_inputs() {
        let text = "[[adc]]\nchannel = 2\nvalue = 1000\nat = 1\n[[spi]]\nselect = 10\nregisters = { 0xd0 = [0x60, 1] }\n\
                    [[spi]]\nbus = 3\ncommands = { 0x9f = [1, 2] }\n[[spi]]\nalways = [7]";
        let inputs = parse(text, false).unwrap();
        let spi = |bus, select, answers| (0, Input::SpiDevice { bus, device: spi_bus::Device { select, answers } });
        let registers = BTreeMap::from([(0x50, 0x60), (0x51, 1)]);
        assert_eq!(inputs[0], spi(2, Some(10), Answers::Registers { read_bit: 0x80, registers }));
        assert_eq!(inputs[1], spi(3, None, Answers::Commands(BTreeMap::from([(0x9f, vec![1, 2])]))));
        assert_eq!(inputs[2], spi(2, None, Answers::Always(vec![7])));
        assert_eq!(inputs[3], (1_000_000_000_000, Input::Adc { unit: 1, channel: 2, value: 1000 }));
    }

    #[test]
    fn impossible_scripts_are_refused() {
        for text in [
            "[[pin]]\nnumber = 64",
            "[[reset]]\nat = -1",
            "[[power_cut]]\nat = 1\nflash_writes = 2",
            "[[bell]]",
            "[[uart]]",
            "[[adc]]\nchannel = 1\nvalue = 4096",
            "[[adc]]\nchannel = 1\nvalue = 1\nunit = 3",
            "[[spi]]\nselect = 1",
            "[[spi]]\nalways = [1]\ncommands = {}",
        ] {
            assert!(parse(text, false).is_err(), "{text}");
        }
    }
}
