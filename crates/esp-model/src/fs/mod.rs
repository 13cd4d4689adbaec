//! File systems in flash, read only: SPIFFS, LittleFS and FAT (with and without wear levelling).
//!
//! Reading never trusts a length: pieces of files are ranges of the image that is there, and their number is bounded by
//! its size.

mod fat;
mod littlefs;
mod names;
mod spiffs;
mod wear;

use std::ops::Range;

use serde::Serialize;

/// Most files and folders that are listed.
pub const MOST_ENTRIES: usize = 20_000;

/// What kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// SPIFFS 0.3: ESP-IDF's `spiffs` component, Arduino's SPIFFS.
    Spiffs,
    /// LittleFS 2.x.
    Littlefs,
    /// FAT12, FAT16 or FAT32.
    Fat,
}

impl Kind {
    /// The usual spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spiffs => "SPIFFS",
            Self::Littlefs => "LittleFS",
            Self::Fat => "FAT",
        }
    }
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path from the root, parts divided by `/`, without a leading one. Untrusted; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// It is a folder.
    pub is_folder: bool,
    /// Length in bytes as the file system says.
    pub size: u64,
    pieces: Vec<Range<usize>>,
}

impl Entry {
    /// Bytes of the file that are really there; less than `size` when the file is damaged.
    pub fn present(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum::<u64>().min(self.size)
    }

    /// The file's bytes out of the image that it was found in.
    pub fn read(&self, image: &[u8]) -> Vec<u8> {
        let size = usize::try_from(self.present()).unwrap_or(usize::MAX);
        let mut data = Vec::with_capacity(size.min(image.len()));
        for piece in &self.pieces {
            data.extend_from_slice(image.get(piece.clone()).unwrap_or_default());
        }
        data.truncate(size);
        data
    }
}

/// A file system that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// The kind.
    pub kind: Kind,
    /// Which form of it: `FAT12`, `2.1`, `page 256`.
    pub form: String,
    /// Wear levelling of ESP-IDF lies below it.
    pub wear_levelled: bool,
    /// Bytes of a block (FAT: cluster).
    pub block_bytes: u32,
    /// Bytes that the file system covers, as it says itself.
    pub size_bytes: u64,
    /// Bytes not used by files or the file system's own data, where it can be told.
    pub free_bytes: Option<u64>,
    /// Volume label, FAT only. Untrusted.
    pub label: Option<String>,
    /// Files and folders.
    pub entries: Vec<Entry>,
    /// What is not as it should be.
    pub findings: Vec<String>,
}

/// Recognises and reads the file system that begins at the image's first byte. None: there is none that is known.
pub fn identify(image: &[u8]) -> Option<FileSystem> {
    let mut found = littlefs::read(image).or_else(|| fat::read(image)).or_else(|| spiffs::read(image))?;
    for entry in found.entries.iter().filter(|entry| !entry.is_folder && entry.present() < entry.size) {
        let (path, there, size) = (&entry.path, entry.present(), entry.size);
        found.findings.push(format!("{path}: {there} of {size} bytes are there"));
        if found.findings.len() >= 100 {
            break;
        }
    }
    Some(found)
}

/// Which file system begins here, told by the first bytes (64 KiB are enough) of a partition of `size` bytes.
pub fn peek(first: &[u8], size: usize) -> Option<Kind> {
    // Wear levelling begins with its spare sector until that has moved.
    let fat = |start: usize| first.get(start..).is_some_and(fat::is_volume);
    if littlefs::is_volume(first) {
        Some(Kind::Littlefs)
    } else if fat(0) || fat(wear::SECTOR) {
        Some(Kind::Fat)
    } else {
        spiffs::is_volume(first, size).then_some(Kind::Spiffs)
    }
}

/// Pieces of files, joined where they touch; no more than the image can hold.
struct Pieces {
    left: usize,
}

impl Pieces {
    /// A file system whose files share nothing has at most as many pieces as blocks. Some slack is for what was copied.
    fn new(image: &[u8], block: usize) -> Self {
        Self { left: image.len() / block.max(1) * 2 + 1024 }
    }

    /// Adds a range; false when there were too many.
    fn add(&mut self, pieces: &mut Vec<Range<usize>>, range: Range<usize>) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return false,
        }
        match pieces.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => pieces.push(range),
        }
        true
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
