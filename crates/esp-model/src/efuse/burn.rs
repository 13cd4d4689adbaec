//! From requests to the words that are programmed, in the order in which they are.

mod keys;

use super::bits::{self, Words};
use super::request::{BurnError, Request, Voltage};
use super::state::{ActiveCoding, Efuses};
use super::{Block, Field, FieldKind, coding};
use crate::mac::Mac;

/// Requests put together on top of what a chip holds.
#[derive(Debug, Clone)]
pub struct Burn {
    before: Efuses,
    /// Bits to set, by block.
    pending: Words,
}

/// One programming command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Block number.
    pub block: u8,
    /// Bits that this step sets, as software sees them.
    pub data: Vec<u32>,
    /// Words for the programming registers, check symbols included.
    pub coded: Vec<u32>,
    /// Where the step stands in the order.
    pub stage: Stage,
}

/// The order of steps: what can go wrong comes before what closes doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Keys, digests, user data.
    Data,
    /// BLOCK0 without the last stage.
    Settings,
    /// Protection bits, and fields that enable security or end the connection.
    Last,
}

/// Fields that are burned only when everything else is read back right.
pub const LAST_STAGE: [&str; 10] = [
    "WR_DIS",
    "RD_DIS",
    "UART_DOWNLOAD_DIS",
    "ABS_DONE_0",
    "ABS_DONE_1",
    "FLASH_CRYPT_CNT",
    "ENABLE_SECURITY_DOWNLOAD",
    "DIS_DOWNLOAD_MODE",
    "SPI_BOOT_CRYPT_CNT",
    "SECURE_BOOT_EN",
];

/// Protection fields: bits may be added one by one.
const PROTECTION: [&str; 2] = ["WR_DIS", "RD_DIS"];
/// Fields that the factory burns and no tool.
const FACTORY: [&str; 3] = ["MAC", "MAC_EXT", "ADC_VREF"];

impl Burn {
    /// Nothing to burn yet.
    pub fn new(before: Efuses) -> Self {
        let pending = bits::blank(before.table);
        Self { before, pending }
    }

    /// What the chip holds now.
    pub fn before(&self) -> &Efuses {
        &self.before
    }

    /// The bits that were asked for, by block.
    pub fn pending(&self) -> &Words {
        &self.pending
    }

    /// Adds a request. On an error nothing of it is added.
    pub fn add(&mut self, request: &Request) -> Result<(), BurnError> {
        let kept = self.pending.clone();
        let added = self.add_all(request);
        if added.is_err() {
            self.pending = kept;
        }
        added
    }

    fn add_all(&mut self, request: &Request) -> Result<(), BurnError> {
        match request {
            Request::Field { name, value } => self.add_named(name, value),
            Request::NextBit { name } => self.add_next_bit(name),
            Request::Bits { block, bits } => self.add_bits(block, bits),
            Request::Block { block, data, offset } => self.add_block(block, data, *offset),
            Request::Key { block, key, purpose, read_protect, write_protect } => {
                self.add_key(block, key, purpose, *read_protect, *write_protect)
            }
            Request::CustomMac(mac) => self.add_custom_mac(*mac),
            Request::ReadProtect { name } => self.add_protection(name, "RD_DIS"),
            Request::WriteProtect { name } => self.add_protection(name, "WR_DIS"),
            Request::FlashVoltage(voltage) => self.add_voltage(*voltage),
        }
    }

    /// The chip's eFuses after the burn, as far as they can be read then.
    pub fn after(&self) -> Result<Efuses, BurnError> {
        let mut after = self.before.clone();
        for step in self.steps()? {
            if let Some(block) = after.table.block(step.block) {
                after.burn(block, &step.data);
            }
        }
        Ok(after)
    }

    /// The programming commands in order. Empty when everything asked for is already burned.
    pub fn steps(&self) -> Result<Vec<Step>, BurnError> {
        let mut steps = Vec::new();
        for block in self.before.table.blocks.iter().rev() {
            let data = self.to_program(block)?;
            if block.id != 0 {
                steps.extend(self.step(block, data, Stage::Data));
                continue;
            }
            let mut last = self.last_stage_mask(block);
            let mut settings = data.clone();
            bits::combine(&mut settings, &last, |bit, last| bit & !last);
            bits::combine(&mut last, &data, |last, bit| last & bit);
            steps.extend(self.step(block, settings, Stage::Settings));
            steps.extend(self.step(block, last, Stage::Last));
        }
        Ok(steps)
    }

    /// The command that burns a block once more as it reads, so that bits that came back to 0 are set again. None where
    /// there is nothing, and where software cannot know what was burned or cannot burn it.
    pub fn again(efuses: &Efuses, block: &Block) -> Option<Step> {
        let coded = matches!(efuses.coding(block), ActiveCoding::ReedSolomon);
        let lost = efuses.errors.iter().any(|error| error.block == block.id && error.fail);
        let known = efuses.readable(&block.read_protect) && !(coded && lost);
        let data = efuses.block(block.id).to_vec();
        let stage = if block.id == 0 { Stage::Last } else { Stage::Data };
        let burn = Self::new(efuses.clone());
        burn.step(block, data, stage).filter(|_| known && efuses.writeable(block.write_protect))
    }

    fn step(&self, block: &Block, data: Vec<u32>, stage: Stage) -> Option<Step> {
        let coded = self.encode(block, &data);
        (!bits::is_zero(&data)).then_some(Step { block: block.id, data, coded, stage })
    }

    fn encode(&self, block: &Block, data: &[u32]) -> Vec<u32> {
        let mut bytes = bits::to_bytes(data);
        match self.before.coding(block) {
            ActiveCoding::ReedSolomon => {
                bytes.resize(coding::RS_DATA, 0);
                let mut plain = [0; coding::RS_DATA];
                plain.copy_from_slice(&bytes);
                bytes.extend(coding::rs_check(&plain));
                bits::to_words(&bytes)
            }
            ActiveCoding::ThreeQuarters => {
                bytes.truncate(self.before.capacity(block));
                bits::to_words(&coding::encode_34(&bytes))
            }
            _ => data.to_vec(),
        }
    }

    fn last_stage_mask(&self, block: &Block) -> Vec<u32> {
        let mut mask = vec![0; usize::from(block.words)];
        for field in LAST_STAGE.iter().filter_map(|name| self.before.table.field(name)) {
            if field.block == block.id {
                bits::combine(&mut mask, &self.before.bits_of(field), |a, b| a | b);
            }
        }
        mask
    }

    /// The bits of a block that have to be programmed, checked against what its coding and protection allow.
    fn to_program(&self, block: &Block) -> Result<Vec<u32>, BurnError> {
        let (present, mut wanted) = (self.before.block(block.id), self.pending_of(block.id).to_vec());
        if bits::is_zero(&wanted) {
            return Ok(wanted);
        }
        if !self.before.readable(&block.read_protect) {
            return Err(BurnError::ReadProtected(block.name.clone()));
        }
        // What is there already needs no burn: a frozen block that holds the wanted key is as it shall be.
        if bits::contains(present, &wanted) {
            wanted.fill(0);
            return Ok(wanted);
        }
        if !self.before.writeable(block.write_protect) {
            return Err(BurnError::WriteProtected(block.name.clone()));
        }
        match self.before.coding(block) {
            ActiveCoding::None => Ok(wanted),
            ActiveCoding::ReedSolomon if bits::is_zero(present) => Ok(wanted),
            ActiveCoding::ReedSolomon => Err(BurnError::ReedSolomonUsed(block.name.clone())),
            ActiveCoding::ThreeQuarters => three_quarters(block, present, &wanted),
            ActiveCoding::Repeat => Err(BurnError::Coding(block.name.clone())),
        }
    }

    fn pending_of(&self, block: u8) -> &[u32] {
        self.pending.get(&block).map_or(&[], Vec::as_slice)
    }

    fn field(&self, name: &str) -> Result<&'static Field, BurnError> {
        self.before.table.field(name).ok_or_else(|| BurnError::Unknown(name.into()))
    }

    fn block(&self, name: &str) -> Result<&'static Block, BurnError> {
        let fits = |block: &&Block| block.name == name || block.aliases.iter().any(|alias| alias == name);
        self.before.table.blocks.iter().find(fits).ok_or_else(|| BurnError::Unknown(name.into()))
    }

    fn add_named(&mut self, name: &str, value: &[u8]) -> Result<(), BurnError> {
        let field = self.field(name)?;
        if field.name == "CUSTOM_MAC" {
            let mac = <[u8; 6]>::try_from(value);
            let wrong = |_| BurnError::Length { name: name.into(), found: value.len(), wanted: 6 };
            return self.add_custom_mac(Mac(mac.map_err(wrong)?));
        }
        // A field of several parts is burned in all of them; addresses belong to the factory.
        let factory_mac = field.composed && field.kind == FieldKind::Mac;
        if factory_mac || FACTORY.contains(&field.name.as_str()) {
            return Err(BurnError::NotBurnable(field.name.clone()));
        }
        if value.iter().all(|byte| *byte == 0) {
            return Err(BurnError::Zero(field.name.clone()));
        }
        if let FieldKind::Bytes | FieldKind::Key = field.kind {
            let wanted = self.before.byte_capacity(field);
            if value.len() != wanted {
                return Err(BurnError::Length { name: field.name.clone(), found: value.len(), wanted });
            }
        }
        let value = if field.kind == FieldKind::SpiPin { flash_pin(value)? } else { value.to_vec() };
        if self.before.is_purpose(&field.name) {
            self.check_purpose_value(field, &value)?;
        }
        self.set(field, &value)
    }

    fn add_next_bit(&mut self, name: &str) -> Result<(), BurnError> {
        let field = self.field(name)?;
        let present = field.number(self.before.block(field.block));
        let next = present | (!present & present.wrapping_add(1));
        if field.len() < 32 && next >> field.len() != 0 {
            return Err(BurnError::TooWide { name: name.into(), bits: field.len() });
        }
        self.set(field, &next.to_le_bytes())
    }

    /// Sets a field's bits. What is already burned or already asked for is left alone; clearing is refused.
    fn set(&mut self, field: &Field, value: &[u8]) -> Result<(), BurnError> {
        let (name, wanted) = (&field.name, self.spread(field, value)?);
        let mask = self.before.bits_of(field);
        let masked = |words: &[u32]| {
            let mut words = words.to_vec();
            bits::combine(&mut words, &mask, |word, mask| word & mask);
            words
        };
        let (present, pending) = (masked(self.before.block(field.block)), masked(self.pending_of(field.block)));
        if bits::contains(&present, &wanted) || wanted == pending {
            return Ok(());
        }
        let clears = !bits::contains(&wanted, &present) || !bits::contains(&wanted, &pending);
        if clears && !PROTECTION.contains(&name.as_str()) {
            return Err(BurnError::CannotClear(name.clone()));
        }
        if !self.before.readable(&field.read_protect) {
            return Err(BurnError::ReadProtected(name.clone()));
        }
        if !self.before.writeable(field.write_protect) {
            return Err(BurnError::WriteProtected(name.clone()));
        }
        self.merge(field.block, &wanted);
        Ok(())
    }

    /// A value at the place of a field's bits.
    fn spread(&self, field: &Field, value: &[u8]) -> Result<Vec<u32>, BurnError> {
        let mut words = vec![0; self.before.block(field.block).len()];
        field.store(&mut words, value);
        let back = field.bytes(&words);
        let fits = value.iter().enumerate().all(|(at, byte)| back.get(at).copied().unwrap_or(0) == *byte);
        if fits { Ok(words) } else { Err(BurnError::TooWide { name: field.name.clone(), bits: field.len() }) }
    }

    fn merge(&mut self, block: u8, wanted: &[u32]) {
        if let Some(pending) = self.pending.get_mut(&block) {
            bits::combine(pending, wanted, |a, b| a | b);
        }
    }

    fn add_bits(&mut self, name: &str, numbers: &[u16]) -> Result<(), BurnError> {
        let block = self.block(name)?;
        let mut words = vec![0; self.before.capacity(block) / 4];
        for bit in numbers {
            let word = words.get_mut(usize::from(bit / 32));
            *word.ok_or_else(|| BurnError::NoSuchBit { block: name.into(), bit: *bit })? |= 1 << (bit % 32);
        }
        self.merge(block.id, &words);
        Ok(())
    }

    fn add_block(&mut self, name: &str, data: &[u8], offset: usize) -> Result<(), BurnError> {
        let block = self.block(name)?;
        let wanted = self.before.capacity(block);
        let found = offset.saturating_add(data.len());
        if (offset == 0 && found != wanted) || found > wanted || offset >= wanted {
            return Err(BurnError::Length { name: name.into(), found, wanted });
        }
        let mut bytes = vec![0; offset];
        bytes.extend_from_slice(data);
        self.merge(block.id, &bits::to_words(&bytes));
        Ok(())
    }

    fn add_custom_mac(&mut self, mac: Mac) -> Result<(), BurnError> {
        if mac.is_group() {
            return Err(BurnError::GroupMac);
        }
        let field = self.field("CUSTOM_MAC")?;
        // The ESP32 wants a version and a CRC beside it, the C2 a flag.
        if let Some(version) = self.before.table.field("MAC_VERSION") {
            match version.number(self.before.block(version.block)) {
                0 => self.set(version, &[1])?,
                1 => {}
                other => return Err(BurnError::MacVersion(other)),
            }
        }
        self.set(field, &mac.0)?;
        let crc = mac.crc8();
        if let Some(field) = self.before.table.field("CUSTOM_MAC_CRC") {
            self.set(field, &[crc])?;
        }
        match self.before.table.field("CUSTOM_MAC_USED") {
            Some(used) => self.set(used, &[1]),
            None => Ok(()),
        }
    }

    /// Sets the protection bits of a field or block.
    fn add_protection(&mut self, name: &str, register: &'static str) -> Result<(), BurnError> {
        let (read, write) = match self.before.table.field(name) {
            Some(field) => (field.read_protect.clone(), field.write_protect),
            None => self.block(name).map(|block| (block.read_protect.clone(), block.write_protect))?,
        };
        let (wanted, how) = match register {
            "RD_DIS" => (read, "read"),
            _ => (write.into_iter().collect(), "write"),
        };
        if wanted.is_empty() {
            return Err(BurnError::NoProtection { name: name.into(), how });
        }
        self.protect(register, &wanted)
    }

    /// Sets bits of WR_DIS or RD_DIS.
    fn protect(&mut self, register: &'static str, wanted: &[u8]) -> Result<(), BurnError> {
        let field = self.field(register)?;
        let value = wanted.iter().fold(0u32, |value, bit| value | 1 << bit);
        let present = field.number(self.before.block(field.block));
        if present & value == value {
            return Ok(());
        }
        if !self.before.writeable(field.write_protect) {
            return Err(BurnError::WriteProtected(register.into()));
        }
        self.set(field, &value.to_le_bytes())
    }

    fn add_voltage(&mut self, voltage: Voltage) -> Result<(), BurnError> {
        let names = ["XPD_SDIO", "VDD_SPI"];
        let fields = |suffixes: [&'static str; 3]| suffixes.map(|name| self.before.table.field(name));
        let found = match names {
            _ if self.before.table.field("XPD_SDIO_FORCE").is_some() => {
                fields(["XPD_SDIO_FORCE", "XPD_SDIO_REG", "XPD_SDIO_TIEH"])
            }
            _ => fields(["VDD_SPI_FORCE", "VDD_SPI_XPD", "VDD_SPI_TIEH"]),
        };
        let [Some(force), Some(regulator), Some(tie_high)] = found else {
            return Err(BurnError::Unknown("VDD_SPI_FORCE".into()));
        };
        let burned = |field: &'static Field| (self.before.is_set(&field.name)).then_some(field.name.as_str());
        let taken = match voltage {
            Voltage::Off => burned(regulator),
            Voltage::V1_8 => burned(tie_high),
            Voltage::V3_3 => None,
        };
        if let Some(name) = taken {
            return Err(BurnError::VoltageTaken(name));
        }
        self.set(force, &[1])?;
        if voltage != Voltage::Off {
            self.set(regulator, &[1])?;
        }
        if voltage == Voltage::V3_3 { self.set(tie_high, &[1]) } else { Ok(()) }
    }
}

/// A group of six bytes is burned once: what is there already is left out, anything else is refused.
fn three_quarters(block: &Block, present: &[u32], wanted: &[u32]) -> Result<Vec<u32>, BurnError> {
    let present = bits::to_bytes(present);
    let mut wanted = bits::to_bytes(wanted);
    for (group, old) in wanted.chunks_mut(6).zip(present.chunks(6)) {
        if old.iter().all(|byte| *byte == 0) || group.iter().all(|byte| *byte == 0) {
            continue;
        }
        if group != old {
            return Err(BurnError::ThreeQuartersUsed(block.name.clone()));
        }
        group.fill(0);
    }
    Ok(bits::to_words(&wanted))
}

/// The code of a flash pin.
fn flash_pin(value: &[u8]) -> Result<Vec<u8>, BurnError> {
    let pin = value.iter().rev().fold(0u32, |pin, byte| pin << 8 | u32::from(*byte));
    match pin {
        0..=29 => Ok(value.to_vec()),
        32 | 33 => Ok(vec![pin as u8 - 2]),
        _ => Err(BurnError::FlashPin(pin)),
    }
}
