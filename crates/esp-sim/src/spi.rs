//! The SPI controller that reaches the flash, as far as clients drive it: user transactions of up to 64 bytes.

use std::time::Duration;

use esp_model::chip::Spi;

use crate::nor::Nor;

/// Fields of the SPI_USER register (technical reference manuals, "SPI controller").
const USR_COMMAND: u32 = 1 << 31;
const USR_ADDR: u32 = 1 << 30;
const USR_DUMMY: u32 = 1 << 29;
const USR_MISO: u32 = 1 << 28;
const USR_MOSI: u32 = 1 << 27;
/// SPI_ADDR stands behind SPI_CMD on all chips.
const ADDR: u32 = 4;
/// Words of the data buffer W0…W15.
const BUFFER_WORDS: u32 = 16;
/// The controller's registers, as far as they are kept.
const SPAN: u32 = 0x100;

/// The controller's registers.
#[derive(Debug)]
pub struct SpiController {
    map: &'static Spi,
    registers: [u32; (SPAN / 4) as usize],
}

impl SpiController {
    pub fn new(map: &'static Spi) -> Self {
        Self { map, registers: [0; (SPAN / 4) as usize] }
    }

    pub fn reset(&mut self) {
        self.registers.fill(0);
    }

    fn offset(&self, address: u32) -> Option<u32> {
        address.checked_sub(self.map.base).filter(|&offset| offset < SPAN)
    }

    pub fn read(&self, address: u32) -> Option<u32> {
        self.offset(address).map(|offset| self.get(offset))
    }

    fn get(&self, offset: u32) -> u32 {
        self.registers.get((offset / 4) as usize).copied().unwrap_or(0)
    }

    /// Takes a register write. `flash` is the part, when its pins are connected. Returns the time the part is busy,
    /// or `None` when the address is not of this controller.
    pub fn write(&mut self, address: u32, value: u32, flash: Option<&mut Nor>) -> Option<Duration> {
        let offset = self.offset(address)?;
        if let Some(register) = self.registers.get_mut((offset / 4) as usize) {
            *register = value;
        }
        if offset != 0 {
            return Some(Duration::ZERO);
        }
        // The start bit clears itself when the transaction is done.
        self.registers[0] = 0;
        let start = 1u32.checked_shl(self.map.cmd_usr_bit.into()).unwrap_or(0);
        Some(if value & start != 0 { self.transact(flash) } else { Duration::ZERO })
    }

    fn transact(&mut self, flash: Option<&mut Nor>) -> Duration {
        let user = self.get(self.map.usr);
        let opcode = if user & USR_COMMAND != 0 { self.get(self.map.usr2) as u8 } else { 0 };
        let sent = self.sent(user);
        let mut received = vec![0; if user & USR_MISO != 0 { self.miso_bits().div_ceil(8) as usize } else { 0 }];
        let busy = match flash {
            Some(flash) => flash.transfer(opcode, &sent, &mut received),
            None => {
                received.fill(0xff);
                Duration::ZERO
            }
        };
        self.keep(&received);
        busy
    }

    /// What goes out after the opcode: address, dummy cycles, data.
    fn sent(&self, user: u32) -> Vec<u8> {
        let user1 = self.get(self.map.usr1);
        let mut sent = Vec::with_capacity(72);
        if user & USR_ADDR != 0 {
            let bits = (user1 >> 26) + 1;
            let address = self.get(ADDR);
            let left = if self.map.addr_msb { address } else { address.checked_shl(32 - bits.min(32)).unwrap_or(0) };
            sent.extend_from_slice(&left.to_be_bytes()[..bits.div_ceil(8).min(4) as usize]);
        }
        if user & USR_DUMMY != 0 {
            sent.resize(sent.len() + ((user1 & 0xff) + 1).div_ceil(8) as usize, 0);
        }
        if user & USR_MOSI != 0 {
            let bytes = (self.mosi_bits().div_ceil(8) as usize).min(BUFFER_WORDS as usize * 4);
            let words = (0..BUFFER_WORDS).flat_map(|i| self.get(self.map.w0 + 4 * i).to_le_bytes());
            sent.extend(words.take(bytes));
        }
        sent
    }

    fn mosi_bits(&self) -> u32 {
        match self.map.mosi_dlen {
            Some(register) => (self.get(register) & 0x3ff) + 1,
            None => ((self.get(self.map.usr1) >> 17) & 0x1ff) + 1,
        }
    }

    fn miso_bits(&self) -> u32 {
        match self.map.miso_dlen {
            Some(register) => (self.get(register) & 0x3ff) + 1,
            None => ((self.get(self.map.usr1) >> 8) & 0x1ff) + 1,
        }
    }

    fn keep(&mut self, received: &[u8]) {
        for (i, chunk) in received.chunks(4).take(BUFFER_WORDS as usize).enumerate() {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            if let Some(slot) = self.registers.get_mut((self.map.w0 / 4) as usize + i) {
                *slot = u32::from_le_bytes(word);
            }
        }
    }
}
