//! Named registers, read from `chips/ID/registers.toml`: what a register dump shows.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Bits, Boot};

/// The content of `registers.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterTable {
    /// Where the facts come from.
    pub source: String,
    /// Registers by group and address.
    pub registers: Vec<Register>,
}

/// A register that can be read without side effects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The manual's name without `_REG`: `GPIO_STRAP`.
    pub name: String,
    /// Address.
    pub address: u32,
    /// What it belongs to.
    pub group: RegisterGroup,
    /// Content after reset, where the manual names it for all bits.
    pub reset: Option<u32>,
    /// What its bits mean beyond their names.
    pub meaning: Option<Meaning>,
    /// Fields by name: first bit and number of bits.
    #[serde(default)]
    fields: BTreeMap<String, (u8, u8)>,
}

/// What a register belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterGroup {
    /// Reset cause.
    Reset,
    /// Strapping pins as latched at reset.
    Strap,
    /// RTC or low-power domain: watchdogs, stored words, boot control.
    Rtc,
    /// The SPI controller that reaches the flash.
    Spi,
    /// The download UART.
    Uart,
    /// GPIO levels and directions.
    Gpio,
    /// Clocks.
    Clock,
}

/// What a register's bits mean beyond their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// The field at `boot.reset_cause` holds a number of `boot.reset_names`.
    ResetCause,
    /// The bits are the levels of `boot.strap_pins`.
    StrapPins,
}

/// One field of a register's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldValue<'t> {
    /// Name.
    pub name: &'t str,
    /// Where its bits are.
    pub bits: Bits,
    /// Its value.
    pub value: u32,
    /// What the value stands for, where it is known.
    pub meaning: Option<String>,
}

impl RegisterTable {
    /// Reads the text of a `registers.toml`; an empty text is an empty table.
    ///
    /// # Errors
    /// The text is not of this form.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        if text.is_empty() { Ok(Self::default()) } else { toml::from_str(text) }
    }

    /// The register of this name, in any case and with or without `_REG`.
    pub fn by_name(&self, name: &str) -> Option<&Register> {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_suffix("_REG").unwrap_or(&upper);
        self.registers.iter().find(|register| register.name == plain)
    }

    /// The register at this address.
    pub fn at(&self, address: u32) -> Option<&Register> {
        self.registers.iter().find(|register| register.address == address)
    }

    /// The registers of one group.
    pub fn group(&self, group: RegisterGroup) -> impl Iterator<Item = &Register> {
        self.registers.iter().filter(move |register| register.group == group)
    }
}

impl Register {
    /// Names and places of the fields, lowest bit first.
    pub fn fields(&self) -> Vec<(&str, Bits)> {
        let place = |(bit, len): (u8, u8)| Bits { register: self.address, bit, len };
        let mut fields: Vec<_> = self.fields.iter().map(|(name, at)| (name.as_str(), place(*at))).collect();
        fields.sort_by_key(|(_, bits)| bits.bit);
        fields
    }

    /// The fields of a content, with meanings where the chip's boot data has them.
    pub fn decode(&self, content: u32, boot: &Boot) -> Vec<FieldValue<'_>> {
        let one = |(name, bits): (_, Bits)| {
            let value = bits.of(content);
            FieldValue { name, bits, value, meaning: self.meaning_of(bits, value, boot) }
        };
        self.fields().into_iter().map(one).collect()
    }

    fn meaning_of(&self, bits: Bits, value: u32, boot: &Boot) -> Option<String> {
        match self.meaning? {
            Meaning::ResetCause => {
                let cause = boot.reset_cause.filter(|cause| *cause == bits)?;
                boot.reset_name(value).filter(|_| cause.register == self.address).map(str::to_owned)
            }
            Meaning::StrapPins => Some(strap_levels(value, &boot.strap_pins)),
        }
    }
}

/// `GPIO8=1 GPIO9=0` for the bits whose pins are known.
fn strap_levels(value: u32, pins: &[String]) -> String {
    let known = pins.iter().enumerate().filter(|(_, pin)| !pin.is_empty());
    known.map(|(bit, pin)| format!("{pin}={}", value >> bit & 1)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{all, by_name};

    #[test]
    fn every_register_has_its_own_name_and_address_and_fields_that_fit() {
        for chip in all() {
            let table = chip.registers();
            assert!(table.registers.len() > 10, "{}: hardly any registers", chip.id);
            let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
            for register in &table.registers {
                assert!(names.insert(&register.name), "{}: {}", chip.id, register.name);
                assert!(addresses.insert(register.address), "{}: {}", chip.id, register.name);
                assert_eq!(register.address % 4, 0, "{}: {}", chip.id, register.name);
                let mut end = 0;
                for (name, bits) in register.fields() {
                    assert!(bits.len > 0 && bits.bit >= end, "{}: {} {name}", chip.id, register.name);
                    end = bits.bit + bits.len;
                }
                assert!(end <= 32, "{}: {}", chip.id, register.name);
            }
        }
    }

    #[test]
    fn registers_that_the_loader_uses_are_those_of_the_table() {
        for chip in all() {
            let table = chip.registers();
            let known = |address: u32| table.at(address).is_some();
            if let Some(cause) = chip.boot.reset_cause {
                let register = table.at(cause.register).unwrap_or_else(|| panic!("{}: no reset cause", chip.id));
                assert!(register.fields().iter().any(|(_, bits)| *bits == cause), "{}: {register:?}", chip.id);
            }
            if let Some(strap) = chip.boot.strap_register {
                assert!(known(strap), "{}: no strap register", chip.id);
            }
            for address in [chip.spi.base, chip.spi.base + chip.spi.usr, chip.spi.base + chip.spi.usr2] {
                assert!(known(address), "{}: SPI register {address:#x}", chip.id);
            }
            if let Some(force) = chip.reset.force_download {
                assert!(known(force.register), "{}: no force-download register", chip.id);
            }
        }
    }

    #[test]
    fn contents_are_told_by_field_and_meaning() {
        let chip = by_name("esp32c3").unwrap();
        let cause = chip.registers().by_name("rtc_cntl_reset_state_reg").unwrap();
        let fields = cause.decode(0x15, &chip.boot);
        assert_eq!((fields[0].name, fields[0].value), ("RESET_CAUSE_PROCPU", 0x15));
        assert_eq!(fields[0].meaning.as_deref(), Some("USB_UART_CHIP_RESET"));
        assert_eq!(fields[1].meaning, None);

        let strap = chip.registers().by_name("GPIO_STRAP").unwrap();
        assert_eq!(strap.decode(0x4, &chip.boot)[0].meaning.as_deref(), Some("GPIO2=0 GPIO8=1 GPIO9=0"));
    }
}
