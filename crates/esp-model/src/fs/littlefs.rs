//! LittleFS 2.x.
//!
//! Facts: littlefs `SPEC.md` (disk version 2.0 and 2.1). A folder is a chain of pairs of blocks; of a pair the one with the
//! newer revision counts. A block is a log of commits: tags, each xored with the one before, ended by a CRC.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::names::join;
use super::{Entry, FileSystem, Kind, MOST_ENTRIES, Pieces, u32_at};

const NO_BLOCK: u32 = u32::MAX;
/// Block sizes to try when block 0 is damaged; ESP-IDF uses 4096.
const BLOCKS: [usize; 8] = [4096, 128, 256, 512, 1024, 2048, 8192, 16384];

type Pair = [u32; 2];

/// What a tag says.
#[derive(Debug, Clone, Copy)]
struct Tag(u32);

impl Tag {
    fn kind(self) -> u32 {
        self.0 >> 20 & 0x7ff
    }
    fn id(self) -> usize {
        (self.0 >> 10 & 0x3ff) as usize
    }
    /// Bytes behind the tag; a removed one has none.
    fn len(self) -> usize {
        if self.0 & 0x3ff == 0x3ff { 0 } else { (self.0 & 0x3ff) as usize }
    }
    fn is_crc(self) -> bool {
        self.kind() & 0x780 == 0x500
    }
}

/// A file or folder in a metadata block: where its name and its structure stand.
#[derive(Debug, Clone, Default)]
struct Item {
    name: Option<(u32, Range<usize>)>,
    content: Option<(u32, Range<usize>)>,
}

/// One metadata block as its last whole commit left it.
#[derive(Debug, Default)]
struct Log {
    revision: u32,
    items: Vec<Item>,
    /// The next pair, and whether it belongs to the same folder.
    tail: Option<(bool, Pair)>,
}

struct Disk<'a> {
    image: &'a [u8],
    block: usize,
}

/// A superblock in one of the first two blocks.
pub(super) fn is_volume(first: &[u8]) -> bool {
    superblock(first).is_some()
}

pub(super) fn read(image: &[u8]) -> Option<FileSystem> {
    let (version, block, count) = superblock(image)?;
    let disk = Disk { image, block };
    let mut walk = Walk {
        pieces: Pieces::new(image, block),
        seen: BTreeSet::from([0, 1]),
        entries: Vec::new(),
        findings: Vec::new(),
        used: 0,
    };
    let mut folders = VecDeque::from([(String::new(), [0, 1])]);
    while let Some((path, pair)) = folders.pop_front() {
        disk.folder(&path, pair, &mut walk, &mut folders);
    }
    let size = u64::from(count) * block as u64;
    let used = (walk.used + walk.seen.len() as u64) * block as u64;
    if size > image.len() as u64 {
        walk.findings.push(format!("the file system has {size} bytes, {} are there", image.len()));
    }
    walk.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Some(FileSystem {
        kind: Kind::Littlefs,
        form: format!("{}.{}", version >> 16, version & 0xffff),
        wear_levelled: false,
        block_bytes: block as u32,
        size_bytes: size,
        free_bytes: Some(size.saturating_sub(used)),
        label: None,
        entries: walk.entries,
        findings: walk.findings,
    })
}

/// Version, block size and count of blocks, from either of the first two blocks.
fn superblock(image: &[u8]) -> Option<(u32, usize, u32)> {
    let parse = |start: usize, limit: usize| {
        let log = Log::read(image, start, limit)?;
        let item = log.items.first()?;
        let (kind, name) = item.name.clone()?;
        let (_, data) = item.content.clone()?;
        if kind != 0x0ff || image.get(name)? != b"littlefs" {
            return None;
        }
        let word = |index: usize| u32_at(image, data.start + index * 4);
        let (version, block, count) = (word(0)?, word(1)? as usize, word(2)?);
        let good = version >> 16 == 2 && block.is_power_of_two() && (128..=1 << 20).contains(&block);
        good.then_some((log.revision, (version, block, count)))
    };
    let first = parse(0, image.len().min(1 << 20));
    let second = match &first {
        Some((_, (_, block, _))) => parse(*block, *block),
        None => BLOCKS.iter().find_map(|block| parse(*block, *block).filter(|(_, (_, size, _))| size == block)),
    };
    match (first, second) {
        (Some(a), Some(b)) => Some(if newer(b.0, a.0) { b.1 } else { a.1 }),
        (a, b) => a.or(b).map(|(_, found)| found),
    }
}

/// Revisions count on and wrap.
fn newer(a: u32, than: u32) -> bool {
    (a.wrapping_sub(than) as i32) > 0
}

impl Log {
    /// Reads a block's commits; None when not even the first one is whole.
    fn read(image: &[u8], start: usize, block: usize) -> Option<Self> {
        let bytes = image.get(start..)?;
        let bytes = bytes.get(..block).unwrap_or(bytes);
        let revision = u32_at(bytes, 0)?;
        let mut tags = Vec::new();
        let mut whole = None;
        let (mut at, mut last) = (4, u32::MAX);
        let mut crc = crc(u32::MAX, bytes.get(..4)?);
        while let Some(raw) = bytes.get(at..at + 4) {
            let tag = Tag(u32::from_be_bytes(raw.try_into().ok()?) ^ last);
            let data = at + 4..at + 4 + tag.len();
            if tag.0 >> 31 != 0 || data.end > bytes.len() {
                break;
            }
            crc = self::crc(crc, raw);
            last = tag.0;
            if tag.is_crc() {
                if u32_at(bytes, data.start) != Some(crc) || tag.len() < 4 {
                    break;
                }
                // The CRC's tag tells the phase of the next one.
                last ^= (tag.kind() & 1) << 31;
                crc = u32::MAX;
                whole = Some(tags.len());
            } else {
                crc = self::crc(crc, bytes.get(data.clone())?);
                tags.push((tag, start + data.start..start + data.end));
            }
            at = data.end;
        }
        tags.truncate(whole?);
        let mut log = Self { revision, ..Self::default() };
        tags.into_iter().for_each(|(tag, data)| log.apply(tag, data, image));
        Some(log)
    }

    fn apply(&mut self, tag: Tag, data: Range<usize>, image: &[u8]) {
        let id = tag.id();
        match tag.kind() {
            0x401 if id <= self.items.len() => self.items.insert(id, Item::default()),
            0x4ff if id < self.items.len() => drop(self.items.remove(id)),
            kind @ (0x001 | 0x002 | 0x0ff) => self.item(id).name = Some((kind, data)),
            kind @ 0x200..=0x202 => self.item(id).content = Some((kind, data)),
            kind @ (0x600 | 0x601) => {
                let pair = u32_at(image, data.start).zip(u32_at(image, data.start + 4));
                self.tail = pair.map(|(a, b)| (kind & 1 != 0, [a, b]));
            }
            _ => {}
        }
    }

    /// At most 1,023 of them: an id has ten bits.
    fn item(&mut self, id: usize) -> &mut Item {
        if id >= self.items.len() {
            self.items.resize_with(id + 1, Item::default);
        }
        &mut self.items[id]
    }
}

struct Walk {
    pieces: Pieces,
    /// Blocks of metadata that were read.
    seen: BTreeSet<u32>,
    entries: Vec<Entry>,
    findings: Vec<String>,
    /// Blocks of file contents.
    used: u64,
}

impl Disk<'_> {
    fn log(&self, pair: Pair) -> Option<Log> {
        let log = |block: u32| {
            let start = (block as usize).checked_mul(self.block)?;
            Log::read(self.image, start, self.block)
        };
        match (log(pair[0]), log(pair[1])) {
            (Some(a), Some(b)) => Some(if newer(b.revision, a.revision) { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    fn folder(&self, path: &str, first: Pair, walk: &mut Walk, folders: &mut VecDeque<(String, Pair)>) {
        let mut next = Some(first);
        while let Some(pair) = next.take() {
            let Some(log) = self.log(pair) else {
                walk.findings.push(format!("/{path}: the metadata in blocks {} and {} is damaged", pair[0], pair[1]));
                return;
            };
            for item in &log.items {
                let Some((kind, name)) = &item.name else { continue };
                let name = String::from_utf8_lossy(self.image.get(name.clone()).unwrap_or_default()).into_owned();
                let path = join(path, &name);
                if walk.entries.len() >= MOST_ENTRIES {
                    return;
                }
                match (*kind, &item.content) {
                    (0x001, content) => {
                        let entry = self.file(path, content.as_ref(), walk);
                        walk.entries.push(entry);
                    }
                    (0x002, Some((0x200, data))) => {
                        walk.entries.push(Entry { path: path.clone(), is_folder: true, size: 0, pieces: Vec::new() });
                        let pair = u32_at(self.image, data.start).zip(u32_at(self.image, data.start + 4));
                        match pair.filter(|(a, b)| walk.seen.insert(*a) | walk.seen.insert(*b)) {
                            Some((a, b)) => folders.push_back((path, [a, b])),
                            None => walk.findings.push(format!("/{path}: a folder that contains itself")),
                        }
                    }
                    _ => {}
                }
            }
            // A soft tail leads to another folder, which its own entry names.
            let inside = log.tail.filter(|(hard, _)| *hard).map(|(_, pair)| pair);
            next = inside.filter(|pair| walk.seen.insert(pair[0]) | walk.seen.insert(pair[1]));
        }
    }

    fn file(&self, path: String, content: Option<&(u32, Range<usize>)>, walk: &mut Walk) -> Entry {
        let (size, pieces) = match content {
            Some((0x201, data)) => (data.len() as u64, vec![data.clone()]),
            Some((0x202, data)) => {
                let word = |at: usize| u32_at(self.image, at).unwrap_or(NO_BLOCK);
                let (head, size) = (word(data.start), word(data.start + 4));
                let (pieces, blocks) = self.chain(head, size as usize, &mut walk.pieces);
                walk.used += blocks;
                (u64::from(size), pieces)
            }
            _ => (0, Vec::new()),
        };
        Entry { path, is_folder: false, size, pieces }
    }

    /// The pieces of a file that is a list of blocks, each of which points back. Empty when the list is broken.
    fn chain(&self, head: u32, size: usize, pieces: &mut Pieces) -> (Vec<Range<usize>>, u64) {
        let count = self.blocks_of(size);
        if count > self.image.len() / self.block + 1 {
            return (Vec::new(), 0);
        }
        let (mut found, mut block) = (Vec::new(), head as usize);
        for index in (0..count).rev() {
            let Some(start) = block.checked_mul(self.block).filter(|start| *start < self.image.len()) else {
                return (Vec::new(), 0);
            };
            found.push(start + skip(index)..start + self.block);
            if index > 0 {
                block = u32_at(self.image, start).unwrap_or(NO_BLOCK) as usize;
            }
        }
        let mut joined = Vec::new();
        for range in found.into_iter().rev() {
            if !pieces.add(&mut joined, range) {
                break;
            }
        }
        (joined, count as u64)
    }

    /// How many blocks a file of this many bytes has.
    fn blocks_of(&self, size: usize) -> usize {
        let (mut left, mut count) = (size, 0);
        // Block sizes are at least 128 and an index has at most 32 pointers: this ends.
        while left > 0 && count <= self.image.len() / self.block + 1 {
            left = left.saturating_sub(self.block.saturating_sub(skip(count)).max(1));
            count += 1;
        }
        count
    }
}

/// Bytes of pointers at the start of a file's block with this index: one for each power of two that divides it.
fn skip(index: usize) -> usize {
    if index == 0 { 0 } else { 4 * (index.trailing_zeros() as usize + 1) }
}

/// CRC-32 without the final inversion.
fn crc(start: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!start);
    hasher.update(bytes);
    !hasher.finalize()
}
