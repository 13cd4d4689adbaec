//! An I2C bus with devices that are register maps: a write's first byte points at a register, further bytes go there; a read
//! gives what stands at the pointer and behind it.

use std::collections::BTreeMap;

/// Bytes of a message that are kept for the event.
const SHOWN: usize = 64;
/// Registers that a device may have in all.
const MOST: usize = 1024;

/// What passed between a start and the next start or stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// The device's address.
    pub address: u8,
    /// The controller read.
    pub read: bool,
    /// A device has acknowledged its address.
    pub acknowledged: bool,
    /// The bytes behind the address.
    pub bytes: Vec<u8>,
}

/// A device: blocks of bytes by the register that they begin at.
#[derive(Debug, Clone, Default)]
struct Target {
    blocks: BTreeMap<u8, Vec<u8>>,
    /// Block and place in it that the next read gives, when there is one.
    at: Option<(u8, usize)>,
    pointer: u8,
}

impl Target {
    fn point(&mut self, register: u8) {
        self.pointer = register;
        self.at = self.block_of(register);
    }

    fn block_of(&self, register: u8) -> Option<(u8, usize)> {
        let (start, bytes) = self.blocks.range(..=register).next_back()?;
        let offset = usize::from(register - start);
        (offset < bytes.len()).then_some((*start, offset))
    }

    fn read(&mut self) -> u8 {
        let Some((start, offset)) = self.at else {
            self.point(self.pointer.wrapping_add(1));
            return 0xff;
        };
        let byte = self.blocks.get(&start).and_then(|bytes| bytes.get(offset)).copied();
        let there = |at: usize| self.blocks.get(&start).is_some_and(|bytes| at < bytes.len());
        self.pointer = self.pointer.wrapping_add(1);
        self.at = if there(offset + 1) { Some((start, offset + 1)) } else { self.block_of(self.pointer) };
        byte.unwrap_or(0xff)
    }

    fn write(&mut self, byte: u8) {
        match self.at {
            Some((start, offset)) => {
                if let Some(slot) = self.blocks.get_mut(&start).and_then(|bytes| bytes.get_mut(offset)) {
                    *slot = byte;
                }
            }
            None if self.blocks.len() < MOST => drop(self.blocks.insert(self.pointer, vec![byte])),
            None => {}
        }
        self.pointer = self.pointer.wrapping_add(1);
        self.at = self.block_of(self.pointer);
    }
}

/// The bus as a controller drives it.
#[derive(Debug, Clone, Default)]
pub struct Bus {
    targets: BTreeMap<u8, Target>,
    /// The message under way.
    message: Option<Message>,
}

impl Bus {
    /// A device is there, or what its registers hold is something else now.
    pub fn attach(&mut self, address: u8, registers: &BTreeMap<u8, Vec<u8>>) {
        let target = self.targets.entry(address).or_default();
        for (register, bytes) in registers {
            target.blocks.insert(*register, bytes.clone());
        }
        target.point(target.pointer);
    }

    /// A byte of the controller, after a start the address; whether it is acknowledged.
    pub fn write(&mut self, byte: u8) -> bool {
        let Some(message) = &mut self.message else {
            let address = byte >> 1;
            let acknowledged = self.targets.contains_key(&address);
            self.message = Some(Message { address, read: byte & 1 != 0, acknowledged, bytes: Vec::new() });
            return acknowledged;
        };
        let first = message.bytes.is_empty();
        if message.bytes.len() < SHOWN {
            message.bytes.push(byte);
        }
        let Some(target) = self.targets.get_mut(&message.address) else { return false };
        if first {
            target.point(byte)
        } else {
            target.write(byte)
        }
        true
    }

    /// A byte for the controller; an empty bus reads as ones.
    pub fn read(&mut self) -> u8 {
        let Some(message) = &mut self.message else { return 0xff };
        let byte = self.targets.get_mut(&message.address).map_or(0xff, Target::read);
        if message.bytes.len() < SHOWN {
            message.bytes.push(byte);
        }
        byte
    }

    /// The next start, or a stop: what has passed.
    pub fn end(&mut self) -> Option<Message> {
        self.message.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_answers_from_its_registers_and_keeps_what_is_written() {
        let mut bus = Bus::default();
        bus.attach(0x44, &BTreeMap::from([(0x10, vec![1, 2]), (0x12, vec![3]), (0xfd, vec![7, 8, 9, 10])]));
        assert!(!bus.write(0x45 << 1), "nobody is there");
        assert_eq!(bus.end().map(|message| (message.address, message.acknowledged)), Some((0x45, false)));
        let read = |bus: &mut Bus, register: u8, count: usize| {
            assert!(bus.write(0x44 << 1) && bus.write(register));
            bus.end();
            assert!(bus.write(0x44 << 1 | 1));
            let bytes: Vec<u8> = (0..count).map(|_| bus.read()).collect();
            assert_eq!(
                bus.end().unwrap(),
                Message { address: 0x44, read: true, acknowledged: true, bytes: bytes.clone() }
            );
            bytes
        };
        assert_eq!(read(&mut bus, 0x10, 4), [1, 2, 3, 0xff]);
        assert_eq!(read(&mut bus, 0x11, 1), [2]);
        assert_eq!(read(&mut bus, 0xfd, 4), [7, 8, 9, 10], "a command's answer is longer than the map");
        assert!(bus.write(0x44 << 1) && bus.write(0x11) && bus.write(0x55) && bus.write(0x66));
        bus.end();
        assert_eq!(read(&mut bus, 0x10, 3), [1, 0x55, 0x66]);
    }
}
