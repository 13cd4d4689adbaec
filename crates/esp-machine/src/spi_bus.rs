//! An SPI bus with devices as a script describes them.

use std::collections::BTreeMap;

/// What a line that nobody drives reads as.
const EMPTY: u8 = 0xff;
/// Registers that a device may have in all.
const MOST: usize = 1024;

/// How a device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// The first byte of a message is a register's number; with this bit set in it, the register and those behind it are read,
    /// else what follows is written there.
    Registers {
        /// The bit that says that the message reads.
        read_bit: u8,
        /// What stands in them.
        registers: BTreeMap<u8, u8>,
    },
    /// The first byte is a command; these bytes follow it.
    Commands(BTreeMap<u8, Vec<u8>>),
    /// Every message is answered by these bytes, from its first one on.
    Always(Vec<u8>),
}

/// A device on a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The pin by which software selects it, low for selected; without one each transfer of the controller is a message to it.
    pub select: Option<u8>,
    /// How it answers.
    pub answers: Answers,
}

#[derive(Debug, Clone)]
struct Target {
    device: Device,
    /// Its pin is low.
    selected: bool,
    /// The message's first byte, and how many have come.
    first: u8,
    count: usize,
}

impl Target {
    fn exchange(&mut self, byte: u8) -> u8 {
        if self.count == 0 {
            self.first = byte;
        }
        let place = self.count;
        self.count += 1;
        match &mut self.device.answers {
            Answers::Always(bytes) => bytes.get(place).copied().unwrap_or(EMPTY),
            Answers::Commands(commands) => {
                let bytes = commands.get(&self.first);
                let byte = place.checked_sub(1).and_then(|place| bytes?.get(place).copied());
                byte.unwrap_or(EMPTY)
            }
            Answers::Registers { read_bit, registers } => {
                let Some(behind) = place.checked_sub(1) else { return EMPTY };
                let register = (self.first & !*read_bit).wrapping_add(behind as u8) & !*read_bit;
                if self.first & *read_bit != 0 {
                    return registers.get(&register).copied().unwrap_or(0);
                }
                if registers.len() < MOST {
                    registers.insert(register, byte);
                }
                EMPTY
            }
        }
    }
}

/// The bus as its controller drives it.
#[derive(Debug, Clone, Default)]
pub struct Bus {
    targets: Vec<Target>,
}

impl Bus {
    /// A device is there; it takes the place of one with the same pin.
    pub fn attach(&mut self, device: Device) {
        let target = Target { device, selected: false, first: 0, count: 0 };
        match self.targets.iter_mut().find(|other| other.device.select == target.device.select) {
            Some(other) => *other = Target { selected: other.selected, ..target },
            None => self.targets.push(target),
        }
    }

    /// A pin has another level.
    pub fn pin(&mut self, number: u8, level: bool) {
        for target in self.targets.iter_mut().filter(|target| target.device.select == Some(number)) {
            target.selected = !level;
            target.count = 0;
        }
    }

    /// A transfer: what comes back for each byte. The controller selects by itself while it lasts, and beyond when `goes_on`.
    pub fn transfer(&mut self, sent: &[u8], goes_on: bool) -> Vec<u8> {
        let by_pin = self.targets.iter().position(|target| target.selected);
        let target = by_pin.or_else(|| self.targets.iter().position(|target| target.device.select.is_none()));
        let Some(target) = target.and_then(|index| self.targets.get_mut(index)) else { return vec![EMPTY; sent.len()] };
        let received = sent.iter().map(|byte| target.exchange(*byte)).collect();
        if target.device.select.is_none() && !goes_on {
            target.count = 0;
        }
        received
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_with_registers_is_read_and_written_by_the_first_byte() {
        let registers = BTreeMap::from([(0x50, 0x60), (0x51, 1)]);
        let mut bus = Bus::default();
        assert_eq!(bus.transfer(&[0xd0, 0], false), [EMPTY; 2], "nobody is there");
        bus.attach(Device { select: Some(10), answers: Answers::Registers { read_bit: 0x80, registers } });
        assert_eq!(bus.transfer(&[0xd0, 0], false), [EMPTY; 2], "it is not selected");
        bus.pin(10, true);
        bus.pin(10, false);
        assert_eq!(bus.transfer(&[0xd0], false), [EMPTY]);
        assert_eq!(bus.transfer(&[0, 0, 0], false), [0x60, 1, 0], "the message goes on while the pin is low");
        bus.pin(10, true);
        bus.pin(10, false);
        bus.transfer(&[0x51, 7], false);
        bus.pin(10, true);
        bus.pin(10, false);
        assert_eq!(bus.transfer(&[0xd0, 0, 0], false), [EMPTY, 0x60, 7]);
    }

    #[test]
    fn device_without_a_pin_takes_each_transfer_as_a_message() {
        let mut bus = Bus::default();
        bus.attach(Device { select: None, answers: Answers::Commands(BTreeMap::from([(0x9f, vec![0xef, 0x40])])) });
        assert_eq!(bus.transfer(&[0x9f, 0, 0, 0], false), [EMPTY, 0xef, 0x40, EMPTY]);
        assert_eq!(bus.transfer(&[0x9f], true), [EMPTY]);
        assert_eq!(bus.transfer(&[0, 0], false), [0xef, 0x40], "the controller has kept it selected");
        bus.attach(Device { select: None, answers: Answers::Always(vec![1, 2]) });
        assert_eq!(bus.transfer(&[0x9f, 0, 0], false), [1, 2, EMPTY]);
    }
}
