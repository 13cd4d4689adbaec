//! The last part of a stream that has no end.

use std::collections::VecDeque;

/// Keeps the newest bytes, and knows how many there were.
#[derive(Debug)]
pub struct Log {
    bytes: VecDeque<u8>,
    /// Bytes that came before the oldest one kept.
    dropped: u64,
    limit: usize,
}

impl Log {
    /// Keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), dropped: 0, limit }
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.dropped += over as u64;
    }

    /// How many bytes came in all.
    pub fn end(&self) -> u64 {
        self.dropped + self.bytes.len() as u64
    }

    /// At most `limit` bytes from offset `from` of the whole stream, and the offset where they really begin: later
    /// when what was there is gone.
    pub fn read(&self, from: u64, limit: usize) -> (u64, Vec<u8>) {
        let begin = from.clamp(self.dropped, self.end());
        let skip = usize::try_from(begin - self.dropped).unwrap_or(usize::MAX);
        (begin, self.bytes.iter().skip(skip).take(limit).copied().collect())
    }

    /// The end of the stream as text.
    pub fn tail(&self, limit: usize) -> String {
        let (_, bytes) = self.read(self.end().saturating_sub(limit as u64), limit);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let mut log = Log::new(4);
        log.push(b"abc");
        assert_eq!(log.read(1, 9), (1, b"bc".to_vec()));
        log.push(b"defg");
        assert_eq!(log.read(0, 9), (3, b"defg".to_vec()));
        assert_eq!(log.read(4, 2), (4, b"ef".to_vec()));
        assert_eq!(log.read(99, 2), (7, Vec::new()));
        assert_eq!((log.end(), log.tail(2).as_str()), (7, "fg"));
    }
}
