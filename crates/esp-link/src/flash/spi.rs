//! Commands to the flash chip itself, through the SPI controller's registers.

use esp_model::job::Job;

use crate::error::LoaderError;
use crate::loader::Loader;

/// One transaction: opcode, address, data out or bits in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpiCommand {
    /// Opcode.
    pub opcode: u8,
    /// Address and its length in bits.
    pub address: Option<(u32, u8)>,
    /// Dummy cycles between address and data.
    pub dummy: u8,
    /// Bytes to send, at most 64.
    pub data: Vec<u8>,
    /// Bits to receive, at most 512: the controller's buffer.
    pub read_bits: u16,
}

impl SpiCommand {
    /// An opcode alone.
    pub fn bare(opcode: u8) -> Self {
        Self { opcode, ..Self::default() }
    }

    /// An opcode that returns `bits` bits.
    pub fn read(opcode: u8, bits: u16) -> Self {
        Self { opcode, read_bits: bits, ..Self::default() }
    }

    /// SFDP read (0x5A) of 32 bits at a byte address.
    pub fn sfdp(address: u32) -> Self {
        Self { opcode: 0x5a, address: Some((address, 24)), dummy: 8, read_bits: 32, ..Self::default() }
    }

    /// The part's unique id (0x4B): 64 bits after four bytes that mean nothing.
    pub fn unique_id() -> Self {
        Self { opcode: 0x4b, address: Some((0, 24)), dummy: 8, read_bits: 64, ..Self::default() }
    }
}

// Bits of SPI_USER and SPI_CMD (ESP-IDF, soc/spi_reg.h).
const USR_COMMAND: u32 = 1 << 31;
const USR_ADDR: u32 = 1 << 30;
const USR_DUMMY: u32 = 1 << 29;
const USR_MISO: u32 = 1 << 28;
const USR_MOSI: u32 = 1 << 27;

/// Bytes of the controller's data buffer.
const BUFFER: usize = 64;

impl Loader {
    /// Runs one flash command; the bits received (at most 32), first byte lowest.
    pub fn spi_command(&mut self, job: &Job, command: SpiCommand) -> Result<u32, LoaderError> {
        let bits = u32::from(command.read_bits.min(32));
        let bytes = self.spi_transfer(job, command)?;
        let word = bytes.iter().take(4).rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        Ok(word & u32::MAX.checked_shr(32 - bits.clamp(1, 32)).unwrap_or(u32::MAX))
    }

    /// Bytes of the part's SFDP area.
    pub fn read_sfdp(&mut self, job: &Job, address: u32, length: usize) -> Result<Vec<u8>, LoaderError> {
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            let count = (length - out.len()).min(BUFFER);
            let at = address + out.len() as u32;
            let command = SpiCommand { read_bits: count as u16 * 8, ..SpiCommand::sfdp(at) };
            out.extend(self.surely(job, |loader| loader.spi_transfer(job, command.clone()))?);
        }
        Ok(out)
    }

    /// Runs one flash command; the bytes received.
    pub fn spi_transfer(&mut self, job: &Job, command: SpiCommand) -> Result<Vec<u8>, LoaderError> {
        let spi = &self.chip().spi;
        let reg = |offset: u32| spi.base + offset;
        let (usr, usr1, usr2, w0, start) =
            (reg(spi.usr), reg(spi.usr1), reg(spi.usr2), reg(spi.w0), 1 << spi.cmd_usr_bit);
        let lengths = (spi.mosi_dlen.map(reg), spi.miso_dlen.map(reg));
        let (base, addr_msb) = (spi.base, spi.addr_msb);

        let old = (self.read_reg(job, usr)?, self.read_reg(job, usr2)?);
        let (addr, addr_bits) = command.address.unwrap_or((0, 0));
        let mosi_bits = command.data.len().min(64) as u32 * 8;
        let mut flags = USR_COMMAND;
        flags |= if addr_bits > 0 { USR_ADDR } else { 0 };
        flags |= if command.dummy > 0 { USR_DUMMY } else { 0 };
        flags |= if command.read_bits > 0 { USR_MISO } else { 0 };
        flags |= if mosi_bits > 0 { USR_MOSI } else { 0 };
        let mut word1 = u32::from(command.dummy.saturating_sub(1)) | u32::from(addr_bits.saturating_sub(1)) << 26;
        let read_bits = u32::from(command.read_bits).min(BUFFER as u32 * 8);
        match lengths {
            (Some(mosi), Some(miso)) => {
                if mosi_bits > 0 {
                    self.set(job, mosi, mosi_bits - 1)?;
                }
                if read_bits > 0 {
                    self.set(job, miso, read_bits - 1)?;
                }
            }
            // The ESP8266 has the lengths in SPI_USER1.
            _ => word1 |= read_bits.saturating_sub(1) << 8 | mosi_bits.saturating_sub(1) << 17,
        }
        self.set(job, usr1, word1)?;
        self.set(job, usr, flags)?;
        self.set(job, usr2, 7 << 28 | u32::from(command.opcode))?;
        if addr_bits > 0 {
            let shift = if addr_msb { 32 - u32::from(addr_bits.min(32)) } else { 0 };
            self.set(job, base + 4, addr.checked_shl(shift).unwrap_or(0))?;
        }
        if mosi_bits == 0 {
            self.set(job, w0, 0)?;
        }
        for (index, bytes) in command.data.chunks(4).take(16).enumerate() {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.set(job, w0 + index as u32 * 4, u32::from_le_bytes(word))?;
        }
        self.set(job, base, start)?;
        let mut polls = 0;
        while self.read_reg(job, base)? & start != 0 {
            polls += 1;
            if polls > 10 {
                return Err(LoaderError::Range("the SPI controller stays busy".into()));
            }
        }
        let mut received = Vec::new();
        for index in 0..read_bits.div_ceil(32) {
            received.extend(self.read_reg(job, w0 + index * 4)?.to_le_bytes());
        }
        received.truncate(read_bits.div_ceil(8) as usize);
        self.set(job, usr, old.0)?;
        self.set(job, usr2, old.1)?;
        Ok(received)
    }

    fn set(&mut self, job: &Job, address: u32, value: u32) -> Result<(), LoaderError> {
        self.write_reg(job, address, value, u32::MAX)
    }
}
