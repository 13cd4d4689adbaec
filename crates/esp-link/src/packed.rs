//! Compressed data that several devices get: packed once, by whoever needs it first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

/// Most bytes that are kept; beyond that, data is packed for each device.
const MOST: usize = 64 << 20;

type Slot = Arc<OnceLock<Option<Arc<Vec<u8>>>>>;

/// Compressed pieces by the SHA-256 of their content. Share one among the loaders of a batch.
#[derive(Default)]
pub struct Packed {
    pieces: Mutex<(HashMap<[u8; 32], Slot>, usize)>,
}

impl Packed {
    /// The compressed piece; `pack` runs once for each content, and the others wait for it. `None`: packing failed.
    pub(crate) fn get(&self, data: &[u8], pack: impl FnOnce() -> Option<Vec<u8>>) -> Option<Arc<Vec<u8>>> {
        let key: [u8; 32] = Sha256::digest(data).into();
        let slot = {
            let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
            let (map, held) = &mut *pieces;
            match map.get(&key) {
                Some(slot) => slot.clone(),
                None if *held + data.len() > MOST => Slot::default(),
                None => {
                    *held += data.len();
                    map.entry(key).or_default().clone()
                }
            }
        };
        slot.get_or_init(|| pack().map(Arc::new)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_packed_once() {
        let (packed, mut count) = (Packed::default(), 0);
        for _ in 0..3 {
            let piece = packed.get(b"same", || {
                count += 1;
                Some(vec![1])
            });
            assert_eq!(*piece.unwrap(), [1]);
        }
        assert_eq!(count, 1);
        assert_eq!(*packed.get(b"other", || Some(vec![2])).unwrap(), [2]);
    }
}
