//! Input for parsers that should survive anything.

/// A small random generator (xorshift64*): the same cases in every run.
pub struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }
}

/// Calls `parse` with `count` damaged copies of the seeds.
pub fn mutate(seeds: &[Vec<u8>], count: usize, mut parse: impl FnMut(&[u8])) {
    let mut random = Random::new(0x5eed);
    for round in 0..count {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(4) {
            damage(&mut bytes, &mut random);
        }
        parse(&bytes);
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const TELLING: [u8; 12] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, b',', b'\n', b'-', b'"', b'9'];
    let at = random.below(bytes.len());
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.next() as u8),
        2 if !bytes.is_empty() => drop(bytes.remove(at)),
        3 => {
            let end = (at + random.below(16)).min(bytes.len());
            bytes[at..end].fill(0xff);
        }
        4 => {
            let end = (at + 4).min(bytes.len());
            let word = [u32::MAX, 0, 0x8000_0000, random.next() as u32][random.below(4)].to_le_bytes();
            bytes[at..end].iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
        5 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = TELLING[random.below(TELLING.len())]),
        6 => {
            let end = (at + random.below(64)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, part);
        }
        _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
    }
}
