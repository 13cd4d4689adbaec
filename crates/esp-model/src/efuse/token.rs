//! The text form in which eFuse contents are exchanged between tools (`EFSR:…`), as espefuse writes and reads it.
//!
//! `EFSR:chip:revision:block0:block1:…:errors:crc`, each part in base64 (URL alphabet, no padding), empty when all 0.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::bits::{self, Words};
use super::{EfuseTable, Efuses};

const READ: &str = "EFSR";
const WRITE: &str = "EFSW";

/// What can be wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("not an eFuse token")]
    Form,
    /// The checksum is wrong.
    #[error("the token's checksum is wrong")]
    Checksum,
    /// It describes another number or size of blocks than the chip has.
    #[error("the token's blocks are not those of this chip")]
    Blocks,
}

/// A token of what can be read, without error registers.
pub fn encode(chip_id: &str, revision: u16, efuses: &Efuses) -> String {
    encode_words(READ, chip_id, revision, efuses, &efuses.words)
}

/// A token of what is to be burned. It shows keys.
pub fn encode_write(chip_id: &str, revision: u16, efuses: &Efuses, words: &Words) -> String {
    encode_words(WRITE, chip_id, revision, efuses, words)
}

fn encode_words(magic: &str, chip_id: &str, revision: u16, efuses: &Efuses, words: &Words) -> String {
    let mut token = format!("{magic}:{chip_id}:{revision:03}:");
    for block in &efuses.table.blocks {
        let mut bytes = bits::to_bytes(words.get(&block.id).map_or(&[], Vec::as_slice));
        bytes.truncate(efuses.capacity(block));
        if bytes.iter().any(|byte| *byte != 0) {
            token.push_str(&URL_SAFE_NO_PAD.encode(&bytes));
        }
        token.push(':');
    }
    token.push(':');
    let crc = crc32fast::hash(token.as_bytes());
    token + &URL_SAFE_NO_PAD.encode(crc.to_le_bytes())
}

/// The chip id, revision (major × 100 + minor) and words of a token. `table` finds the map for both.
pub fn decode(
    token: &str,
    table: impl FnOnce(&str, u16) -> Option<&'static EfuseTable>,
) -> Result<(String, u16, Words), TokenError> {
    let token = token.trim();
    let (signed, crc) = token.rsplit_once(':').ok_or(TokenError::Form)?;
    let expected = crc32fast::hash(format!("{signed}:").as_bytes()).to_le_bytes();
    let parts: Vec<_> = signed.split(':').collect();
    let [magic, chip, revision, blocks @ .., _errors] = parts.as_slice() else { return Err(TokenError::Form) };
    if !matches!(*magic, "EFSR" | "EFSW" | "EFSRW") {
        return Err(TokenError::Form);
    }
    if URL_SAFE_NO_PAD.decode(crc).map_err(|_| TokenError::Form)? != expected {
        return Err(TokenError::Checksum);
    }
    let revision = revision.parse().map_err(|_| TokenError::Form)?;
    let table = table(chip, revision).ok_or(TokenError::Blocks)?;
    if blocks.len() != table.blocks.len() {
        return Err(TokenError::Blocks);
    }
    let mut words = bits::blank(table);
    for (text, block) in blocks.iter().zip(&table.blocks) {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form)?;
        if bytes.len() > usize::from(block.words) * 4 {
            return Err(TokenError::Blocks);
        }
        if let Some(words) = words.get_mut(&block.id) {
            bits::combine(words, &bits::to_words(&bytes), |_, word| word);
        }
    }
    Ok(((*chip).into(), revision, words))
}
