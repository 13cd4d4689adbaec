//! Keys: where they go, in which byte order, with which purpose and protection.

use std::borrow::Cow;

use super::super::{Block, Efuses, Field, KeyPurpose, bits};
use super::{Burn, BurnError};

/// Bytes of a key digest: SHA-256.
const DIGEST: usize = 32;

impl Efuses {
    /// Software can see that this key stands in the block, with this purpose or none yet: what a burn that was cut off
    /// leaves behind.
    pub fn holds_key(&self, block: &Block, purpose: &KeyPurpose, key: &[u8]) -> bool {
        let has = self.purpose(block);
        let fits = has.is_none_or(|has| has == purpose.name || has == "USER");
        let mut wanted = key.to_vec();
        if purpose.reversed {
            wanted.reverse();
        }
        let name = purpose.field.as_deref().unwrap_or(&block.name);
        let Some(field) = self.table.field(name).filter(|field| field.block == block.id && block.is_key) else {
            return false;
        };
        let mut bytes = field.bytes(self.block(block.id));
        bytes.truncate(self.byte_capacity(field));
        if purpose.digest && purpose.field.is_some() {
            wanted.truncate(bytes.len());
        }
        fits && self.readable(&field.read_protect) && bytes == wanted && bytes.iter().any(|byte| *byte != 0)
    }
}

impl Burn {
    pub(super) fn add_key(
        &mut self,
        block: &str,
        key: &[u8],
        purpose: &str,
        read_protect: bool,
        write_protect: bool,
    ) -> Result<(), BurnError> {
        let block = self.block(block)?;
        let purpose = self.purpose(purpose)?;
        if !block.is_key {
            return Err(BurnError::NotAKeyBlock(block.name.clone()));
        }
        let [first, second] = purpose.split.as_slice() else {
            return self.add_one_key(block, key, &purpose, read_protect, write_protect);
        };
        // A long key: its second half goes into the next block that is free.
        let Some((low, high)) = key.split_at_checked(32).filter(|_| key.len() == 64) else {
            return Err(BurnError::Length { name: block.name.clone(), found: key.len(), wanted: 64 });
        };
        let (first, second) = (self.purpose(first)?, self.purpose(second)?);
        // A burn that was cut off may have left the second half in its place already.
        let next = self.block_with(&second, high).or_else(|| self.next_free_block(block));
        let next = next.ok_or_else(|| BurnError::NoSecondBlock(purpose.name.clone()))?;
        self.add_one_key(block, low, &first, read_protect, write_protect)?;
        self.add_one_key(next, high, &second, read_protect, write_protect)
    }

    fn purpose(&self, name: &str) -> Result<Cow<'static, KeyPurpose>, BurnError> {
        self.before.table.purpose(name).ok_or_else(|| BurnError::UnknownPurpose(name.into()))
    }

    fn add_one_key(
        &mut self,
        block: &'static Block,
        key: &[u8],
        purpose: &KeyPurpose,
        read_protect: bool,
        write_protect: bool,
    ) -> Result<(), BurnError> {
        if !purpose.blocks.is_empty() && !purpose.blocks.contains(&block.id) {
            return Err(BurnError::PurposeNotHere { block: block.name.clone(), purpose: purpose.name.clone() });
        }
        let field = self.key_field(block, purpose)?;
        let wanted = self.before.byte_capacity(field);
        // A part of a block takes the first bytes of a digest.
        let key = match &purpose.field {
            Some(_) if purpose.digest && key.len() == DIGEST => key.get(..wanted).unwrap_or(key),
            _ => key,
        };
        if key.len() != wanted {
            return Err(BurnError::Length { name: field.name.clone(), found: key.len(), wanted });
        }
        let mut key = key.to_vec();
        if purpose.reversed {
            key.reverse();
        }
        self.set(field, &key)?;
        self.set_purpose(block, purpose)?;
        for (name, value) in &purpose.sets {
            if let Some(field) = self.before.table.field(name) {
                self.set(field, &value.to_le_bytes())?;
            }
        }
        if read_protect && purpose.read_protect {
            self.protect("RD_DIS", &field.read_protect)?;
        }
        match field.write_protect.or(block.write_protect) {
            Some(bit) if write_protect => self.protect("WR_DIS", &[bit]),
            _ => Ok(()),
        }
    }

    /// The field that stands for the block or for the part of it that the purpose takes.
    fn key_field(&self, block: &'static Block, purpose: &KeyPurpose) -> Result<&'static Field, BurnError> {
        let name = purpose.field.as_deref().unwrap_or(&block.name);
        self.before
            .table
            .field(name)
            .filter(|field| field.block == block.id)
            .ok_or_else(|| BurnError::Unknown(name.into()))
    }

    /// Burns the purpose and freezes it, so that nobody can turn the key to another use.
    fn set_purpose(&mut self, block: &'static Block, purpose: &KeyPurpose) -> Result<(), BurnError> {
        let (Some(name), Some(value)) = (&block.purpose_field, purpose.value) else { return Ok(()) };
        let field = self.field(name)?;
        let present = field.number(self.before.block(field.block));
        let frozen = !self.before.writeable(field.write_protect);
        if present != u32::from(value) {
            // Bits can be added to a purpose, as to anything that is not frozen.
            if frozen || present & !u32::from(value) != 0 {
                let has = self.before.purpose_name(present);
                return Err(BurnError::OtherPurpose { block: block.name.clone(), has });
            }
            self.set(field, &[value])?;
        }
        match field.write_protect {
            Some(bit) if !frozen => self.protect("WR_DIS", &[bit]),
            _ => Ok(()),
        }
    }

    /// The block that holds this key for this purpose already, or the key without any purpose yet.
    fn block_with(&self, purpose: &KeyPurpose, key: &[u8]) -> Option<&'static Block> {
        self.before.table.blocks.iter().find(|block| self.before.holds_key(block, purpose, key))
    }

    /// The next key block, going round from the given one, that nothing is in and nothing is asked for.
    fn next_free_block(&self, after: &Block) -> Option<&'static Block> {
        let blocks: Vec<_> = self.before.table.blocks.iter().filter(|block| block.purpose_field.is_some()).collect();
        let start = blocks.iter().position(|block| block.id == after.id)?;
        let free = |block: &&Block| {
            let purpose = block.purpose_field.as_deref().and_then(|name| self.before.table.field(name));
            let unset = purpose.is_some_and(|field| {
                self.before.writeable(field.write_protect) && field.number(self.before.block(field.block)) == 0
            });
            block.id != after.id
                && unset
                && self.before.readable(&block.read_protect)
                && self.before.writeable(block.write_protect)
                && bits::is_zero(self.before.block(block.id))
                && bits::is_zero(self.pending_of(block.id))
        };
        blocks[start..].iter().chain(&blocks[..start]).copied().find(|block| free(block))
    }

    /// A purpose that is burned as a plain field must exist, and be possible in its block.
    pub(super) fn check_purpose_value(&self, field: &Field, value: &[u8]) -> Result<(), BurnError> {
        let number = value.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let known = self.before.table.key_purposes.iter().find(|purpose| purpose.value.map(u32::from) == Some(number));
        let block = self.before.table.blocks.iter().find(|block| block.purpose_field.as_ref() == Some(&field.name));
        match (known, block) {
            (Some(purpose), Some(block)) if !purpose.blocks.is_empty() && !purpose.blocks.contains(&block.id) => {
                Err(BurnError::PurposeNotHere { block: block.name.clone(), purpose: purpose.name.clone() })
            }
            (None, _) if !self.before.table.custom_purposes => Err(BurnError::UnknownPurpose(number.to_string())),
            _ => Ok(()),
        }
    }
}
