//! `--spi-connection` and `--override-vddsdio`: a flash on other pins, or with another supply, than the chip's own.

use clap::Arg;
use esp_model::chip::Chip;

use super::session::{Session, failed};
use crate::command::{Call, option};
use crate::fault::Fault;
use crate::text;

/// The option as the usage shows it.
const SHOWN: &str = "--spi-connection' / '-sc";

/// `--spi-connection`.
pub fn spi_connection() -> Arg {
    option("spi-connection", "Pins of the flash: SPI, HSPI or CLK,Q,D,HD,CS")
}

/// Where the flash is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pins {
    /// The chip's own pins.
    Spi,
    /// The second SPI controller's.
    Hspi,
    /// CLK, Q, D, HD, CS.
    Custom([u8; 5]),
}

/// The pins that the command names, if it does.
pub fn named(call: &Call<'_>) -> Result<Option<Pins>, Fault> {
    call.optional("spi-connection").map(parse).transpose()
}

fn parse(value: &str) -> Result<Pins, Fault> {
    match value.to_uppercase().as_str() {
        "SPI" => return Ok(Pins::Spi),
        "HSPI" => return Ok(Pins::Hspi),
        _ => {}
    }
    let words: Vec<&str> = value.split(',').collect();
    if words.len() == 1 {
        return Err(Fault::value(
            SHOWN,
            format_args!(
                "{value} is not a valid spi-connection value. Values are SPI, HSPI, or a sequence of 5 pin numbers - \
                 CLK,Q,D,HD,CS."
            ),
        ));
    }
    if words.len() != 5 {
        let text = "is not a valid list of comma-separated pin numbers. Must be 5 numbers - CLK,Q,D,HD,CS.";
        return Err(Fault::value(SHOWN, format_args!("{value} {text}")));
    }
    let numbers: Option<Vec<u8>> = words.iter().map(|word| u8::try_from(text::integer(word)?).ok()).collect();
    let pins = numbers.and_then(|numbers| <[u8; 5]>::try_from(numbers).ok());
    pins.map(Pins::Custom).ok_or_else(|| {
        Fault::value(SHOWN, format_args!("{words:?} is not a valid argument. All pins must be numeric values."))
    })
}

/// Sets the supply that `--override-vddsdio` names, until the next reset.
pub fn override_voltage(call: &Call<'_>, session: &mut Session) -> Result<(), Fault> {
    let Some(name) = call.option("override-vddsdio") else { return Ok(()) };
    let chip = session.loader.chip();
    let known = chip.flash.voltage_override.as_ref();
    let (register, value) = known
        .and_then(|known| known.values.get(name).map(|value| (known.register, *value)))
        .ok_or_else(|| Fault::Fatal(format!("{} has no register for the voltage of its flash.", chip.name)))?;
    session.loader.write_reg(&session.job, register, value, u32::MAX).map_err(failed)?;
    call.terminal.say(format_args!("VDDSDIO regulator set to {name}."));
    Ok(())
}

/// Connects the flash at the pins that the command names.
pub fn connect(call: &Call<'_>, session: &mut Session, pins: Option<Pins>) -> Result<(), Fault> {
    let Some(pins) = pins else { return Ok(()) };
    let (shown, word) = match pins {
        Pins::Spi => ("SPI".to_string(), 0),
        Pins::Hspi => ("HSPI".to_string(), 1),
        Pins::Custom(numbers) => {
            check(call, session.loader.chip(), numbers)?;
            let [clk, q, d, hd, cs] = numbers.map(u32::from);
            let shown = format!("CLK:{clk}, Q:{q}, D:{d}, HD:{hd}, CS:{cs}");
            (shown, hd << 24 | cs << 18 | d << 12 | q << 6 | clk)
        }
    };
    call.terminal.say(format_args!("Configuring SPI NOR flash mode ({shown})..."));
    session.loader.attach_flash_on(&session.job, word).map_err(failed)
}

/// The chip must have the pins, and pins of USB are used with a warning.
fn check(call: &Call<'_>, chip: &Chip, numbers: [u8; 5]) -> Result<(), Fault> {
    let ranges = &chip.spi.custom_pins;
    if ranges.is_empty() {
        return Err(Fault::Fatal(format!("Setting --spi-connection is not supported on {}.", chip.name)));
    }
    let known = |pin: &u8| ranges.iter().any(|[first, last]| (*first..=*last).contains(pin));
    if !numbers.iter().all(known) {
        let range = |[first, last]: &[u8; 2]| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let shown: Vec<String> = ranges.iter().map(range).collect();
        return Err(Fault::Fatal(format!("SPI Pin numbers must be in the range {}.", shown.join(", or "))));
    }
    if let Some(most) = chip.spi.custom_hd_max.filter(|most| numbers[3] > *most) {
        return Err(Fault::Fatal(format!("SPI HD Pin number must be <= {most}.")));
    }
    let usb = &chip.spi.usb_pins;
    if numbers.iter().any(|pin| usb.contains(pin)) {
        let names: Vec<String> = usb.iter().map(u8::to_string).collect();
        call.terminal.warn(format_args!(
            "GPIO pins {} are used by USB, consider using other pins for SPI flash connection.",
            names.join(" and ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Pins, parse};

    #[test]
    fn pins_are_names_or_five_numbers() {
        assert_eq!(parse("hspi").ok(), Some(Pins::Hspi));
        assert_eq!(parse("6,7,8,0x9,11").ok(), Some(Pins::Custom([6, 7, 8, 9, 11])));
        for wrong in ["6", "1,2,3", "a,b,c,d,e", "1,2,3,4,300"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
