//! AES in Galois/counter mode, as the accelerator does it: additional data, text and their lengths come one behind the other by DMA.

use super::aes::{Block, Cipher};

/// What GCM multiplies by: x^128 + x^7 + x^2 + x + 1, lowest power first.
const POLYNOMIAL: u128 = 0xe1 << 120;

/// The product in GF(2^128) with the bit order of NIST SP 800-38D.
fn multiply(left: u128, right: u128) -> u128 {
    let (mut product, mut factor) = (0, right);
    for bit in (0..128).rev() {
        product ^= if left >> bit & 1 != 0 { factor } else { 0 };
        factor = factor >> 1 ^ if factor & 1 != 0 { POLYNOMIAL } else { 0 };
    }
    product
}

/// The hash key: what a block of zeros is encrypted to.
pub fn hash_key(cipher: &Cipher) -> Block {
    cipher.apply([0; 16], false)
}

/// What a text is made of.
pub struct Job<'a> {
    pub cipher: &'a Cipher,
    pub decrypt: bool,
    /// The first counter block.
    pub first: Block,
    /// Blocks of additional data.
    pub additional: &'a [Block],
    pub text: &'a [Block],
    /// Valid bits of the last block of text; 0 for all.
    pub valid_bits: u32,
    /// Bits of additional data and of text.
    pub lengths: Block,
}

impl Job<'_> {
    /// The other text, and the tag.
    pub fn run(&self) -> (Vec<u8>, Block) {
        let key = u128::from_be_bytes(hash_key(self.cipher));
        let mut hash = 0;
        let mut take = |block: u128| hash = multiply(hash ^ block, key);
        self.additional.iter().for_each(|block| take(u128::from_be_bytes(*block)));
        let mut counter = self.first;
        let mut out = Vec::with_capacity(16 * self.text.len());
        for (index, block) in self.text.iter().enumerate() {
            let next = u32::from_be_bytes([counter[12], counter[13], counter[14], counter[15]]).wrapping_add(1);
            counter[12..].copy_from_slice(&next.to_be_bytes());
            let last = index + 1 == self.text.len();
            let valid = if last && self.valid_bits != 0 { !(u128::MAX >> self.valid_bits) } else { u128::MAX };
            let stream = u128::from_be_bytes(self.cipher.apply(counter, false));
            let given = u128::from_be_bytes(*block) & valid;
            let made = (given ^ stream) & valid;
            take(if self.decrypt { given } else { made });
            out.extend(made.to_be_bytes());
        }
        take(u128::from_be_bytes(self.lengths));
        let tag = hash ^ u128::from_be_bytes(self.cipher.apply(self.first, false));
        (out, tag.to_be_bytes())
    }
}
