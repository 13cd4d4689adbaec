//! Words of eFuse blocks.

use std::collections::BTreeMap;

use super::{EfuseTable, Field};

/// Words of eFuse blocks by block number, lowest word first, as the read registers hold them.
pub type Words = BTreeMap<u8, Vec<u32>>;

/// All blocks of a table, filled with zeros.
pub fn blank(table: &EfuseTable) -> Words {
    table.blocks.iter().map(|block| (block.id, vec![0; usize::from(block.words)])).collect()
}

/// Little-endian words as bytes.
pub fn to_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Bytes as little-endian words; a short last word is filled up with zeros.
pub fn to_words(bytes: &[u8]) -> Vec<u32> {
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    bytes.chunks(4).map(word).collect()
}

/// Words with exactly the field's bits set.
pub fn mask(field: &Field, words: usize) -> Vec<u32> {
    let mut mask = vec![0; words];
    field.store(&mut mask, &vec![0xff; usize::from(field.len()).div_ceil(8)]);
    mask
}

/// `a[i] = op(a[i], b[i])` as far as both go.
pub fn combine(a: &mut [u32], b: &[u32], op: impl Fn(u32, u32) -> u32) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = op(*a, *b));
}

/// Every bit of `part` is set in `whole`.
pub fn contains(whole: &[u32], part: &[u32]) -> bool {
    part.iter().enumerate().all(|(at, part)| part & !whole.get(at).copied().unwrap_or(0) == 0)
}

/// No bit is set.
pub fn is_zero(words: &[u32]) -> bool {
    words.iter().all(|word| *word == 0)
}
