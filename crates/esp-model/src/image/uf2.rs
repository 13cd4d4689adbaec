//! UF2, the format of USB mass storage loaders (<https://github.com/microsoft/uf2>), read and written.

use md5::{Digest as _, Md5};

use super::hex::Part;

/// Bytes of a block.
pub const BLOCK: usize = 512;
const MAGICS: [u32; 2] = [0x0a32_4655, 0x9e5d_5157];
const FINAL_MAGIC: u32 = 0x0ab1_6f30;
/// The block is not for flash.
const NOT_FLASH: u32 = 0x0000_0001;
const FAMILY_PRESENT: u32 = 0x0000_2000;
const MD5_PRESENT: u32 = 0x0000_4000;
const HEADER: usize = 32;
/// Room for data and the MD5 part.
const DATA: usize = BLOCK - HEADER - 4;
/// Address, length and MD5 of the block's data.
const MD5_PART: usize = 24;

/// What is wrong with UF2 bytes or settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uf2Error {
    /// No whole block.
    #[error("not UF2: the file is shorter than a block of 512 bytes")]
    Short,
    /// Another magic word.
    #[error("block {0} is not a UF2 block")]
    Magic(usize),
    /// The data would not fit.
    #[error("block {0} claims {1} bytes, {DATA} are possible")]
    Length(usize, u32),
    /// The data does not have the MD5 that stands beside it.
    #[error("block {0} is damaged: its MD5 does not fit")]
    Md5(usize),
    /// Two blocks for one address.
    #[error("blocks overlap at {0:#x}")]
    Overlap(u32),
    /// Blocks for several families.
    #[error("blocks for several chip families")]
    Families,
    /// Chunks of this size are not possible.
    #[error("{0} data bytes in a block are not possible: a multiple of 4 up to {1} is")]
    Chunk(u32, usize),
    /// Addresses beyond 4 GB.
    #[error("addresses beyond 4 GB")]
    Address,
}

/// The content of a UF2 file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uf2 {
    /// Family id, when the blocks carry one.
    pub family: Option<u32>,
    /// All blocks carry an MD5.
    pub md5: bool,
    /// Number of blocks.
    pub blocks: usize,
    /// One part for each run of addresses without gap, by address.
    pub parts: Vec<Part>,
}

/// The bytes begin like a UF2 file.
pub fn is_uf2(bytes: &[u8]) -> bool {
    bytes.len() >= BLOCK && word(bytes, 0) == Some(MAGICS[0]) && word(bytes, 4) == Some(MAGICS[1])
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// Reads a UF2 file.
///
/// # Errors
/// A block that is not valid, MD5 sums that do not fit, overlapping blocks, several families.
pub fn read(bytes: &[u8]) -> Result<Uf2, Uf2Error> {
    if bytes.len() < BLOCK {
        return Err(Uf2Error::Short);
    }
    let mut file = Uf2 { family: None, md5: true, blocks: 0, parts: Vec::new() };
    let mut chunks: Vec<(u32, &[u8])> = Vec::new();
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        let fields = [0, 4, 8, 12, 16, 28, BLOCK - 4].map(|at| word(block, at).unwrap_or(0));
        let [first, second, flags, address, len, family, last] = fields;
        if block.len() != BLOCK || [first, second] != MAGICS || last != FINAL_MAGIC {
            return Err(Uf2Error::Magic(index));
        }
        file.blocks += 1;
        if flags & NOT_FLASH != 0 {
            continue;
        }
        let room = if flags & MD5_PRESENT != 0 { DATA - MD5_PART } else { DATA };
        let data = block.get(HEADER..HEADER + (len as usize).min(BLOCK)).filter(|data| data.len() <= room);
        let data = data.ok_or(Uf2Error::Length(index, len))?;
        if flags & MD5_PRESENT == 0 {
            file.md5 = false;
        } else if !md5_fits(block, data.len()) {
            return Err(Uf2Error::Md5(index));
        }
        if flags & FAMILY_PRESENT != 0 {
            if file.family.is_some_and(|known| known != family) {
                return Err(Uf2Error::Families);
            }
            file.family = Some(family);
        }
        chunks.push((address, data));
    }
    file.parts = join(chunks)?;
    Ok(file)
}

/// The MD5 part stands behind the data: address and length of what it covers, here always the block itself.
fn md5_fits(block: &[u8], len: usize) -> bool {
    let sum = block.get(HEADER + len + 8..HEADER + len + MD5_PART).unwrap_or_default();
    let data = block.get(HEADER..HEADER + len).unwrap_or_default();
    // Blocks of other writers cover more than one block: these cannot be checked one by one.
    let own = word(block, HEADER + len) == word(block, 12) && word(block, HEADER + len + 4) == word(block, 16);
    !own || Md5::digest(data).as_slice() == sum
}

fn join(mut chunks: Vec<(u32, &[u8])>) -> Result<Vec<Part>, Uf2Error> {
    chunks.sort_by_key(|(address, _)| *address);
    let mut parts: Vec<Part> = Vec::new();
    for (address, data) in chunks.into_iter().filter(|(_, data)| !data.is_empty()) {
        let end = parts.last().map_or(0, Part::end);
        match parts.last_mut() {
            Some(last) if end == u64::from(address) => last.data.extend_from_slice(data),
            Some(_) if end > u64::from(address) => return Err(Uf2Error::Overlap(address)),
            _ => parts.push(Part { address, data: data.to_vec() }),
        }
    }
    Ok(parts)
}

/// Writes parts; blocks are numbered for each part on its own, as the ESP loaders expect.
///
/// `chunk`: data bytes in a block, a multiple of 4; None: as many as fit.
///
/// # Errors
/// A chunk size that is not possible, or addresses beyond 4 GB.
pub fn write(parts: &[Part], family: u32, chunk: Option<u32>, md5: bool) -> Result<Vec<u8>, Uf2Error> {
    let room = if md5 { DATA - MD5_PART } else { DATA };
    let size = chunk.map_or(room, |chunk| chunk as usize);
    if size == 0 || !size.is_multiple_of(4) || parts.iter().any(|part| part.data.len().min(size) > room) {
        return Err(Uf2Error::Chunk(size as u32, room));
    }
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.data.len().div_ceil(size) * BLOCK).sum());
    for part in parts {
        let blocks = part.data.len().div_ceil(size) as u32;
        for (index, data) in part.data.chunks(size).enumerate() {
            let address = u64::from(part.address) + (index * size) as u64;
            let address = u32::try_from(address).map_err(|_| Uf2Error::Address)?;
            let start = out.len();
            let flags = FAMILY_PRESENT | if md5 { MD5_PRESENT } else { 0 };
            let head = [MAGICS[0], MAGICS[1], flags, address, data.len() as u32, index as u32, blocks, family];
            head.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            out.extend_from_slice(data);
            if md5 {
                out.extend_from_slice(&address.to_le_bytes());
                out.extend_from_slice(&(data.len() as u32).to_le_bytes());
                out.extend_from_slice(&Md5::digest(data));
            }
            out.resize(start + BLOCK - 4, 0);
            out.extend_from_slice(&FINAL_MAGIC.to_le_bytes());
        }
    }
    Ok(out)
}
