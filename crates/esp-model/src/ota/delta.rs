//! Compressed differences between two images. Applying one to its base gives the new image back, byte for byte.
//!
//! As in bsdiff, stretches of the base are reused even where single bytes changed (addresses in code do): the
//! difference of such a stretch is mostly zeros and compresses well. Everything is checked by SHA-256 on both ends.
//!
//! Layout, numbers little-endian: `EDLT`, version 1, three zeros; length and SHA-256 of the base, length and SHA-256 of the
//! new image; lengths of the three zlib streams; the streams: steps, differences, new bytes. A step is three LEB128
//! numbers: new bytes, offset in the base, length taken from the base.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sha2::{Digest, Sha256};

const MAGIC: [u8; 8] = *b"EDLT\x01\0\0\0";
/// Largest image in bytes: the flash that ESP-IDF's bootloader can map.
pub const LARGEST: usize = 0x200_0000;
/// Bytes that must be the same for a stretch to begin.
const SEED: usize = 16;
/// Distance of indexed places in the base.
const STRIDE: usize = 8;
/// A stretch ends when this many more bytes differ than fit since its best end.
const PATIENCE: i64 = 48;

/// A delta cannot be made or applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// Not a delta of this version.
    #[error("not a delta of version 1")]
    Form,
    /// The base is another image.
    #[error("the delta is for another base image")]
    Base,
    /// A stream is damaged.
    #[error("the delta is damaged")]
    Damaged,
    /// Too large.
    #[error("images of more than 32 MB are not handled")]
    TooLarge,
}

/// The lengths and hashes in a delta's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the base in bytes.
    pub base_length: u32,
    /// SHA-256 of the base.
    pub base_sha256: [u8; 32],
    /// Length of the new image in bytes.
    pub length: u32,
    /// SHA-256 of the new image.
    pub sha256: [u8; 32],
    streams: [u32; 3],
}

const HEADER: usize = 8 + 2 * 36 + 12;

impl Header {
    /// Reads the header.
    pub fn read(delta: &[u8]) -> Result<Self, DeltaError> {
        let head: &[u8; HEADER] = delta.first_chunk().ok_or(DeltaError::Form)?;
        if !head.starts_with(&MAGIC) {
            return Err(DeltaError::Form);
        }
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let hash = |at: usize| {
            let mut hash = [0; 32];
            hash.copy_from_slice(&head[at..at + 32]);
            hash
        };
        Ok(Self {
            base_length: word(8),
            base_sha256: hash(12),
            length: word(44),
            sha256: hash(48),
            streams: [word(80), word(84), word(88)],
        })
    }
}

/// Makes the delta from `base` to `new`.
pub fn make(base: &[u8], new: &[u8]) -> Result<Vec<u8>, DeltaError> {
    if base.len() > LARGEST || new.len() > LARGEST {
        return Err(DeltaError::TooLarge);
    }
    let (mut steps, mut differences, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 0;
    for stretch in stretches(base, new) {
        let unlike = new.get(done..stretch.to).unwrap_or_default();
        push_number(&mut steps, unlike.len());
        push_number(&mut steps, stretch.from);
        push_number(&mut steps, stretch.length);
        fresh.extend_from_slice(unlike);
        let pairs = new.iter().skip(stretch.to).zip(base.iter().skip(stretch.from)).take(stretch.length);
        differences.extend(pairs.map(|(new, old)| new.wrapping_sub(*old)));
        done = stretch.to + stretch.length;
    }
    let rest = new.get(done..).unwrap_or_default();
    for number in [rest.len(), 0, 0] {
        push_number(&mut steps, number);
    }
    fresh.extend_from_slice(rest);
    let streams = [deflate(&steps), deflate(&differences), deflate(&fresh)];
    let mut out = MAGIC.to_vec();
    for image in [base, new] {
        out.extend_from_slice(&(image.len() as u32).to_le_bytes());
        out.extend_from_slice(&Sha256::digest(image));
    }
    streams.iter().for_each(|stream| out.extend_from_slice(&(stream.len() as u32).to_le_bytes()));
    streams.iter().for_each(|stream| out.extend_from_slice(stream));
    Ok(out)
}

/// Applies a delta to its base.
pub fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let header = Header::read(delta)?;
    let (length, limit) = (header.length as usize, header.length as u64);
    if length > LARGEST {
        return Err(DeltaError::TooLarge);
    }
    if base.len() != header.base_length as usize || Sha256::digest(base)[..] != header.base_sha256 {
        return Err(DeltaError::Base);
    }
    let mut rest = delta.get(HEADER..).unwrap_or_default();
    let mut stream = |index: usize, limit: u64| {
        let (head, tail) = rest.split_at_checked(header.streams[index] as usize).ok_or(DeltaError::Damaged)?;
        rest = tail;
        inflate(head, limit)
    };
    // A step takes at most 15 bytes and gives at least one, except for the last.
    let steps = stream(0, limit.saturating_mul(15) + 15)?;
    let (differences, fresh) = (stream(1, limit)?, stream(2, limit)?);
    let out = rebuild(base, length, &steps, &differences, &fresh).ok_or(DeltaError::Damaged)?;
    if Sha256::digest(&out)[..] == header.sha256 { Ok(out) } else { Err(DeltaError::Damaged) }
}

fn rebuild(base: &[u8], length: usize, steps: &[u8], differences: &[u8], fresh: &[u8]) -> Option<Vec<u8>> {
    let (mut steps, mut differences, mut fresh) = (steps, differences, fresh);
    let mut out = Vec::with_capacity(length.min(LARGEST));
    while !steps.is_empty() {
        let (count, from, taken) = (take_number(&mut steps)?, take_number(&mut steps)?, take_number(&mut steps)?);
        let (head, tail) = fresh.split_at_checked(count)?;
        fresh = tail;
        out.extend_from_slice(head);
        let (changes, tail) = differences.split_at_checked(taken)?;
        differences = tail;
        let old = base.get(from..from.checked_add(taken)?)?;
        out.extend(old.iter().zip(changes).map(|(old, change)| old.wrapping_add(*change)));
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

/// A part of the new image that resembles a part of the base.
struct Stretch {
    from: usize,
    to: usize,
    length: usize,
}

/// Where in the base a seed stands.
struct Index<'a> {
    base: &'a [u8],
    bits: u32,
    places: Vec<u32>,
}

impl<'a> Index<'a> {
    fn new(base: &'a [u8]) -> Self {
        let bits = base.len().next_power_of_two().trailing_zeros().clamp(10, 21);
        let mut places = vec![u32::MAX; 1 << bits];
        for place in (0..base.len().saturating_sub(SEED - 1)).step_by(STRIDE) {
            if let Some(slot) = seed_at(base, place).and_then(|seed| places.get_mut(hash(seed, bits)))
                && *slot == u32::MAX
            {
                *slot = place as u32;
            }
        }
        Self { base, bits, places }
    }

    fn find(&self, seed: &[u8; SEED]) -> Option<usize> {
        let place = *self.places.get(hash(seed, self.bits))? as usize;
        (seed_at(self.base, place) == Some(seed)).then_some(place)
    }

    /// How far the base from `from` on and the new image from `to` on resemble each other.
    fn resemblance(&self, from: usize, new: &[u8], to: usize) -> usize {
        let pairs = self.base.iter().skip(from).zip(new.iter().skip(to));
        let (mut score, mut best, mut length, mut same) = (0i64, 0i64, 0, SEED);
        for (index, (a, b)) in pairs.enumerate() {
            same = if a == b { same + 1 } else { 0 };
            score += if a == b { 1 } else { -1 };
            if score > best {
                (best, length) = (score, index + 1);
            } else if best - score > PATIENCE {
                break;
            }
            // Where it resembles badly, another place of the base may be just the same.
            if same < SEED
                && let Some(place) = seed_at(new, to + index).and_then(|seed| self.find(seed))
                && place != from + index
            {
                return length.min(index);
            }
        }
        length
    }
}

fn stretches(base: &[u8], new: &[u8]) -> Vec<Stretch> {
    let index = Index::new(base);
    let mut out: Vec<Stretch> = Vec::new();
    let (mut to, mut done) = (0, 0);
    while let Some(seed) = seed_at(new, to) {
        let Some(from) = index.find(seed) else {
            to += 1;
            continue;
        };
        let same = |back: &usize| base.get(from - back) == new.get(to - back);
        let back = (1..=from.min(to - done)).take_while(same).count();
        let (from, start) = (from - back, to - back);
        // At least the seed itself, so that the search goes on.
        let length = index.resemblance(from, new, start).max(back + SEED);
        out.push(Stretch { from, to: start, length });
        done = start + length;
        to = done;
    }
    out
}

fn seed_at(bytes: &[u8], at: usize) -> Option<&[u8; SEED]> {
    bytes.get(at..)?.first_chunk()
}

fn hash(seed: &[u8; SEED], bits: u32) -> usize {
    let number = u128::from_le_bytes(*seed);
    let mixed = (number as u64 ^ (number >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - bits)) as usize
}

fn push_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0usize;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn inflate(bytes: &[u8], limit: u64) -> Result<Vec<u8>, DeltaError> {
    let mut out = Vec::new();
    ZlibDecoder::new(bytes).take(limit + 1).read_to_end(&mut out).map_err(|_| DeltaError::Damaged)?;
    if out.len() as u64 > limit { Err(DeltaError::Damaged) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Something like code: words that repeat with changes.
    fn image(random: &mut Random, length: usize) -> Vec<u8> {
        (0..length / 4).flat_map(|_| (0x4200_0000 + random.below(5000) as u32 * 4).to_le_bytes()).collect()
    }

    #[test]
    fn a_small_change_is_a_small_delta() {
        let mut random = Random::new(3);
        let base = image(&mut random, 200_000);
        let mut new = base.clone();
        new.splice(5000..5000, *b"twelve bytes");
        (0..new.len()).step_by(400).for_each(|at| new[at] ^= 4);
        let delta = make(&base, &new).unwrap();
        assert_eq!(apply(&base, &delta).unwrap(), new);
        assert!(delta.len() < base.len() / 50, "{} bytes", delta.len());
        assert_eq!(apply(&new, &delta), Err(DeltaError::Base));
        assert_eq!(Header::read(&delta).unwrap().length as usize, new.len());
    }

    #[test]
    fn any_two_inputs() {
        let mut random = Random::new(9);
        for round in 0..60 {
            let (a, b) = (random.below(3000), random.below(3000));
            let base = image(&mut random, a);
            let mut new = if round % 3 == 0 { image(&mut random, b) } else { base.clone() };
            let at = random.below(new.len());
            new.splice(at..at, (0..random.below(40)).map(|i| i as u8).collect::<Vec<_>>());
            new.truncate(new.len() - random.below(new.len() / 2));
            assert_eq!(apply(&base, &make(&base, &new).unwrap()).as_ref(), Ok(&new));
        }
        assert_eq!(apply(&[], &make(&[], &[]).unwrap()), Ok(vec![]));
    }

    #[test]
    fn damaged_deltas_do_no_harm() {
        let mut random = Random::new(5);
        let base = image(&mut random, 2000);
        let mut new = base.clone();
        new[700..900].reverse();
        let delta = make(&base, &new).unwrap();
        crate::testing::mutate(&[delta], 10_000, |bytes| {
            if let Ok(out) = apply(&base, bytes) {
                assert_eq!(out, new);
            }
        });
    }
}
