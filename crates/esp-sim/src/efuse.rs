//! The eFuse controller: what is burned, what of it can be read, and the registers by which it is programmed.
//!
//! Source: technical reference manuals, chapter "eFuse Controller". Bits only ever become 1. A coded block that is
//! burned twice keeps both code words' bits, and reports the errors that come of it.

use std::collections::BTreeMap;

use esp_model::efuse::coding::{RS_CODE, RS_DATA, decode_34, encode_34, rs_check, rs_decode};
use esp_model::efuse::{ActiveCoding, Block, BlockError, Controller, ControllerStyle, EfuseTable, Efuses, bits};

/// Bits of EFUSE_CMD.
const READ: u32 = 1;
const PROGRAM: u32 = 2;
/// Registers that can take part in programming at once; more are not kept.
const MAX_REGISTERS: usize = 256;

/// The chip's eFuses.
#[derive(Debug, Clone)]
pub struct Efuse {
    table: &'static EfuseTable,
    /// What is burned, with check symbols, by block.
    burned: BTreeMap<u8, Vec<u8>>,
    /// What the hardware makes of it: nothing hidden.
    decoded: Efuses,
    /// What software can read since the last read command.
    visible: Efuses,
    /// Programming and timing registers.
    registers: BTreeMap<u32, u32>,
    /// What is loaded has lost bits.
    loses_bits: bool,
}

impl Efuse {
    /// eFuses with this content, by block number; a block that is missing is blank.
    pub fn new(table: &'static EfuseTable, content: BTreeMap<u8, Vec<u32>>) -> Self {
        let plain = Efuses::new(table, &content);
        let mut efuse = Self {
            table,
            burned: BTreeMap::new(),
            decoded: plain.clone(),
            visible: plain.clone(),
            registers: BTreeMap::new(),
            loses_bits: false,
        };
        efuse.burned = table.blocks.iter().map(|block| (block.id, encode(&plain, block))).collect();
        efuse.reload();
        efuse
    }

    /// Takes the blocks' words from `image`, in order, little endian; what is missing stays 0.
    pub fn load(&mut self, image: &[u8]) {
        let mut words = bits::to_words(image).into_iter();
        let mut content = bits::blank(self.table);
        for block in &self.table.blocks {
            content.entry(block.id).or_default().iter_mut().for_each(|word| *word = words.next().unwrap_or(0));
        }
        let loses_bits = self.loses_bits;
        *self = Self::new(self.table, content);
        if loses_bits {
            self.lose_bits();
        }
    }

    /// The blocks' words in order, little endian, without check symbols; what is hidden from software is in it.
    pub fn image(&self) -> Vec<u8> {
        self.table.blocks.iter().flat_map(|block| bits::to_bytes(self.decoded.block(block.id))).collect()
    }

    /// The word at this register, when it belongs to the controller.
    pub fn read(&self, address: u32) -> Option<u32> {
        let word = self.table.blocks.iter().find_map(|block| {
            let offset = address.checked_sub(block.read)?;
            self.visible.block(block.id).get((offset / 4) as usize).copied()
        });
        word.or_else(|| self.error_register(address)).or_else(|| self.registers.get(&address).copied())
    }

    /// Takes a write to one of the controller's registers; false when the register is somebody else's.
    pub fn write(&mut self, address: u32, value: u32) -> bool {
        let Some(controller) = &self.table.controller else { return false };
        if address == controller.cmd {
            self.command(controller, value);
            return true;
        }
        let setting = [controller.conf, controller.clk, controller.dac_conf];
        let timing =
            [controller.rd_tim_conf, controller.wr_tim_conf0, controller.wr_tim_conf1, controller.wr_tim_conf2];
        let data = self.programming_registers(controller).any(|(first, count)| in_range(address, first, count));
        let own = setting.contains(&address) || timing.contains(&Some(address)) || data;
        if own && (self.registers.len() < MAX_REGISTERS || self.registers.contains_key(&address)) {
            self.registers.insert(address, value);
        }
        // Read registers ignore what is written to them.
        own || self.read(address).is_some()
    }

    /// A field's value as the hardware sees it, hidden or not; 0 when the chip has no such field.
    pub fn number(&self, name: &str) -> u32 {
        self.decoded.number(name).unwrap_or(0)
    }

    /// The chip's eFuse map.
    pub fn table(&self) -> &'static EfuseTable {
        self.table
    }

    /// The eFuses as the hardware sees them, nothing hidden.
    pub fn decoded(&self) -> &Efuses {
        &self.decoded
    }

    /// Sets a field's bits to `bytes` (lowest bits first), as the factory does before the chip is sold.
    /// An unknown name changes nothing.
    pub fn set(&mut self, name: &str, bytes: &[u8]) {
        let Some(field) = self.table.field(name) else { return };
        let mut words = self.decoded.words.clone();
        field.store(words.entry(field.block).or_default(), bytes);
        *self = Self::new(self.table, words);
    }

    /// In each coded block one burned bit reads as 0 from now on, until it is burned again.
    pub fn lose_bits(&mut self) {
        self.loses_bits = true;
        for block in self.table.blocks.iter().filter(|block| block.id != 0) {
            if self.decoded.coding(block) == ActiveCoding::None {
                continue;
            }
            let burned = self.burned.get_mut(&block.id).map_or(&mut [][..], Vec::as_mut_slice);
            if let Some(byte) = burned.iter_mut().find(|byte| **byte != 0) {
                *byte &= *byte - 1;
            }
        }
        self.reload();
    }

    /// What a reset and a read command do: the burned bits appear in the read registers, as far as they may be read.
    pub fn reload(&mut self) {
        // The coding of the other blocks stands in block 0, which has none.
        let blocks = self.table.blocks.iter().filter(|block| block.id == 0);
        for block in blocks.chain(self.table.blocks.iter().filter(|block| block.id != 0)) {
            let burned = self.burned.get(&block.id).map_or(&[][..], Vec::as_slice);
            let (words, count, fail) = decode(&self.decoded, block, burned);
            self.decoded.errors.retain(|error| error.block != block.id);
            if count != 0 || fail {
                self.decoded.errors.push(BlockError { block: block.id, count, fail });
            }
            self.decoded.words.insert(block.id, words);
        }
        self.visible = self.decoded.clone();
        self.visible.hide();
    }

    fn command(&mut self, controller: &'static Controller, value: u32) {
        let code = self.registers.get(&controller.conf).copied().unwrap_or(0);
        if value & PROGRAM != 0 && code == controller.write_code {
            match controller.style {
                ControllerStyle::PgmData => self.program(controller, (value >> 2) as u8 & 0xf),
                ControllerStyle::Esp32 => self.table.blocks.iter().for_each(|block| self.program(controller, block.id)),
            }
            let registers: Vec<_> = self.programming_registers(controller).collect();
            self.registers
                .retain(|address, _| !registers.iter().any(|(first, count)| in_range(*address, *first, *count)));
        }
        if value & READ != 0 && code == controller.read_code {
            self.reload();
        }
        // Done at once: the busy bits are never seen.
        self.registers.insert(controller.cmd, 0);
    }

    /// Burns what stands in the programming registers.
    fn program(&mut self, controller: &Controller, id: u8) {
        let Some(block) = self.table.block(id) else { return };
        let first = match controller.style {
            ControllerStyle::PgmData => controller.pgm_data,
            ControllerStyle::Esp32 => block.write,
        };
        let Some(first) = first else { return };
        let Some(burned) = self.burned.get(&id) else { return };
        let registers = (0..burned.len().div_ceil(4) as u32).map(|index| first + 4 * index);
        let words: Vec<u32> = registers.map(|address| self.registers.get(&address).copied().unwrap_or(0)).collect();
        let frozen = bits::to_bytes(&self.decoded.frozen(block));
        let whole = frozen.iter().all(|byte| *byte == 0xff);
        let bytes = bits::to_bytes(&words);
        if let Some(burned) = self.burned.get_mut(&id) {
            for (at, (old, new)) in burned.iter_mut().zip(bytes).enumerate() {
                // Check symbols are frozen with the whole block only.
                let frozen = frozen.get(at).copied().unwrap_or(if whole { 0xff } else { 0 });
                *old |= new & !frozen;
            }
        }
        let (words, ..) = decode(&self.decoded, block, self.burned.get(&id).map_or(&[], Vec::as_slice));
        self.decoded.words.insert(id, words);
    }

    fn programming_registers<'a>(&'a self, controller: &'a Controller) -> impl Iterator<Item = (u32, u32)> + 'a {
        let shared = controller.pgm_data.map(|first| (first, 8));
        let check = controller.check_value.map(|first| (first, 3));
        let own = self.table.blocks.iter().filter_map(|block| Some((block.write?, 8)));
        shared.into_iter().chain(check).chain(own.filter(|_| controller.style == ControllerStyle::Esp32))
    }

    /// Errors as the controller reports them.
    fn error_register(&self, address: u32) -> Option<u32> {
        let controller = self.table.controller.as_ref()?;
        let of = |id: u8| self.visible.errors.iter().find(|error| error.block == id);
        if controller.block0_errors.contains(&address) {
            return Some(0);
        }
        if controller.decode_status == Some(address) {
            // Four bits a block.
            let coded = self.table.blocks.iter().filter(|block| block.id != 0).enumerate();
            return Some(
                coded.map(|(at, block)| if of(block.id).is_some_and(|e| e.fail) { 0xf << (4 * at) } else { 0 }).sum(),
            );
        }
        let mut found = None;
        for errors in &controller.errors {
            let error = of(errors.block);
            let count = errors.count.placed(error.map_or(0, |error| error.count));
            if errors.count.register == address {
                *found.get_or_insert(0) |= count;
            }
            if let Some(fail) = errors.fail.filter(|fail| fail.register == address) {
                *found.get_or_insert(0) |= fail.placed(u32::from(error.is_some_and(|error| error.fail)));
            }
        }
        found
    }
}

fn in_range(address: u32, first: u32, words: u32) -> bool {
    address.checked_sub(first).is_some_and(|offset| offset < words * 4)
}

/// The bytes that are burned for a block's words.
fn encode(efuses: &Efuses, block: &Block) -> Vec<u8> {
    let mut bytes = bits::to_bytes(efuses.block(block.id));
    match efuses.coding(block) {
        ActiveCoding::ReedSolomon => {
            bytes.resize(RS_DATA, 0);
            let mut data = [0; RS_DATA];
            data.copy_from_slice(&bytes);
            bytes.extend(rs_check(&data));
            bytes
        }
        ActiveCoding::ThreeQuarters => {
            bytes.truncate(efuses.capacity(block));
            encode_34(&bytes)
        }
        _ => bytes,
    }
}

/// What the hardware makes of burned bytes: words, corrected errors, not correctable.
fn decode(efuses: &Efuses, block: &Block, burned: &[u8]) -> (Vec<u32>, u32, bool) {
    let (mut bytes, count, fail) = match efuses.coding(block) {
        ActiveCoding::ReedSolomon => {
            let mut code = [0; RS_CODE];
            code.iter_mut().zip(burned).for_each(|(to, from)| *to = *from);
            match rs_decode(&code) {
                // The counter has three bits.
                Ok((data, wrong)) => (data.to_vec(), wrong.min(7) as u32, false),
                Err(_) => (code[..RS_DATA].to_vec(), 7, true),
            }
        }
        ActiveCoding::ThreeQuarters => {
            let (data, fits) = decode_34(burned);
            (data, 0, !fits)
        }
        _ => (burned.to_vec(), 0, false),
    };
    bytes.resize(usize::from(block.words) * 4, 0);
    (bits::to_words(&bytes), count, fail)
}

#[cfg(test)]
mod tests;
