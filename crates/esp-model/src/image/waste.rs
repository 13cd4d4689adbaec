//! Where a binary's bytes go, and what could be saved.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::Image;

/// A run of equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Where it begins in the file.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
    /// The byte.
    pub value: u8,
}

/// Shorter runs are left out.
pub const RUN: usize = 256;

/// Runs of 0xFF or 0x00 of at least [`RUN`] bytes.
pub fn runs(bytes: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut offset = 0;
    for chunk in bytes.chunk_by(|a, b| a == b) {
        if let Some(value) = chunk.first().copied().filter(|value| matches!(value, 0 | 0xff) && chunk.len() >= RUN) {
            runs.push(Run { offset, len: chunk.len(), value });
        }
        offset += chunk.len();
    }
    runs
}

/// Bytes after compression, as the loader's stub takes them (zlib, level 9).
pub fn compressed_len(bytes: &[u8]) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut encoder = ZlibEncoder::new(Count(0), Compression::new(9));
    // Counting does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().map_or(0, |count| count.0)
}

/// Bytes of an image that are neither code nor data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overhead {
    /// Segments that only move others to an MMU page, with their headers.
    pub padding: usize,
    /// Headers, checksum, SHA-256 and filling to 16.
    pub headers: usize,
    /// Behind the image: filling, signatures.
    pub trailer: usize,
}

/// What of an image is overhead.
pub fn overhead(image: &Image<'_>) -> Overhead {
    let segment = |segment: &super::Segment<'_>| super::SEGMENT_HEADER_LEN + segment.data.len();
    let is_padding = |of: &&super::Segment<'_>| of.addr == 0 && of.checksummed;
    let padding = image.segments.iter().filter(is_padding).map(segment).sum();
    let data: usize = image.segments.iter().map(|segment| segment.data.len()).sum();
    let padding_data: usize = image.segments.iter().filter(is_padding).map(|segment| segment.data.len()).sum();
    let padding_headers = padding - padding_data;
    Overhead { padding, headers: image.len().saturating_sub(data + padding_headers), trailer: image.trailer().len() }
}

/// 4 KiB sectors that differ between two files, and sectors in all: what an update by sectors would send.
pub fn changed_sectors(base: &[u8], new: &[u8]) -> (usize, usize) {
    const SECTOR: usize = 0x1000;
    let old = base.chunks(SECTOR).map(Some).chain(std::iter::repeat(None));
    let changed = new.chunks(SECTOR).zip(old).filter(|(new, old)| *old != Some(*new)).count();
    (changed, new.len().div_ceil(SECTOR))
}

/// A run of readable characters in a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Where it begins in the file.
    pub offset: usize,
    /// What it says. Untrusted: it comes from the file.
    pub text: String,
}

/// Readable text of at least `least` characters.
pub fn texts(bytes: &[u8], least: usize) -> impl Iterator<Item = Text> + '_ {
    let readable = |byte: u8| byte == b'\t' || (0x20..0x7f).contains(&byte);
    let mut offset = 0;
    bytes.chunk_by(move |a, b| readable(*a) == readable(*b)).filter_map(move |chunk| {
        let start = offset;
        offset += chunk.len();
        let is_text = chunk.first().is_some_and(|byte| readable(*byte)) && chunk.len() >= least;
        is_text.then(|| Text { offset: start, text: String::from_utf8_lossy(chunk).into_owned() })
    })
}

/// What a text may be worth a look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    /// A private key or certificate in PEM form.
    KeyMaterial,
    /// A web or MQTT address.
    Url,
    /// A word like password or token.
    Credential,
    /// A source file's path: asserts and logs keep them.
    SourcePath,
}

/// Whether a text is worth a look.
pub fn interest(text: &str) -> Option<Interest> {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["-----BEGIN "]) {
        return Some(Interest::KeyMaterial);
    }
    if has(&["http://", "https://", "mqtt://", "mqtts://", "ws://", "wss://"]) {
        return Some(Interest::Url);
    }
    let lower = text.to_ascii_lowercase();
    let ends = [".c", ".cpp", ".h", ".rs", ".cc", ".s"].iter().any(|end| lower.ends_with(end));
    if ends && text.contains(['/', '\\']) {
        return Some(Interest::SourcePath);
    }
    let words = ["password", "passwd", "secret", "api_key", "apikey", "token="];
    words.iter().any(|word| lower.contains(word)).then_some(Interest::Credential)
}

/// The file without the 0xFF filling behind its contents, in whole 16 bytes; None when nothing can go. What is signed
/// or not an image is left alone by the caller.
pub fn without_filling(bytes: &[u8], keep: usize) -> Option<&[u8]> {
    let used = bytes.iter().rposition(|byte| *byte != 0xff).map_or(0, |at| at + 1);
    let end = used.max(keep).next_multiple_of(16).min(bytes.len());
    bytes.get(..end).filter(|short| short.len() < bytes.len())
}
