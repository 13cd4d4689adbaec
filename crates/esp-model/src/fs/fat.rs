//! FAT12, FAT16 and FAT32, with long names; on ESP-IDF's wear levelling too.
//!
//! Facts: Microsoft's FAT specification (fatgen103), FatFs as ESP-IDF uses it (sectors of 512 to 4096 bytes).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::names::{checksum, join, short};
use super::wear::Wear;
use super::{Entry, FileSystem, Kind, MOST_ENTRIES, Pieces, u16_at, u32_at};

const ENTRY: usize = 32;
const ATTR_LONG: u8 = 0x0f;
const ATTR_LABEL: u8 = 0x08;
const ATTR_FOLDER: u8 = 0x10;
/// Most parts of a long name: 20 × 13 characters.
const LONG_PARTS: u8 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

struct Volume<'a> {
    image: &'a [u8],
    wear: Option<Wear>,
    sector: usize,
    width: Width,
    /// Bytes from the start to the first FAT, the root folder (FAT12 and FAT16) and cluster 2.
    fat: usize,
    root: Range<usize>,
    data: usize,
    cluster: usize,
    clusters: usize,
    root_cluster: u32,
    size: u64,
}

/// A boot sector that makes sense.
pub(super) fn is_volume(first: &[u8]) -> bool {
    Volume::open(first, None).is_some()
}

pub(super) fn read(image: &[u8]) -> Option<FileSystem> {
    let wear = Wear::find(image);
    let volume = wear.and_then(|wear| Volume::open(image, Some(wear))).or_else(|| Volume::open(image, None))?;
    let mut walk = Walk {
        pieces: Pieces::new(image, volume.cluster.min(512)),
        entries: Vec::new(),
        findings: Vec::new(),
        label: None,
        seen: BTreeSet::new(),
    };
    let mut folders = VecDeque::from([(String::new(), None)]);
    while let Some((path, first)) = folders.pop_front() {
        volume.folder(&path, first, &mut walk, &mut folders);
    }
    if volume.size > volume.available() as u64 {
        walk.findings.push(format!("the file system has {} bytes, {} are there", volume.size, volume.available()));
    }
    walk.entries.sort_by(|a, b| a.path.cmp(&b.path));
    let free = (2..volume.clusters as u32 + 2).filter(|cluster| volume.next(*cluster) == Some(0)).count();
    Some(FileSystem {
        kind: Kind::Fat,
        form: format!("{:?}", volume.width).to_ascii_uppercase(),
        wear_levelled: volume.wear.is_some(),
        block_bytes: volume.cluster as u32,
        size_bytes: volume.size,
        free_bytes: Some(free as u64 * volume.cluster as u64),
        label: walk.label,
        entries: walk.entries,
        findings: walk.findings,
    })
}

struct Walk {
    pieces: Pieces,
    entries: Vec<Entry>,
    findings: Vec<String>,
    label: Option<String>,
    /// First clusters of folders that were read.
    seen: BTreeSet<u32>,
}

impl<'a> Volume<'a> {
    fn open(image: &'a [u8], wear: Option<Wear>) -> Option<Self> {
        let start = wear.map_or(0, |wear| wear.place(0));
        let boot = image.get(start..start.checked_add(512)?)?;
        let byte = |at: usize| boot.get(at).copied();
        let half = |at: usize| u16_at(boot, at).map(usize::from);
        let sector = half(11)?;
        let per_cluster = usize::from(byte(13)?);
        let (reserved, fats) = (half(14)?, usize::from(byte(16)?));
        let jump = matches!((byte(0)?, byte(2)?), (0xeb, 0x90) | (0xe9, _));
        let sizes = matches!(sector, 512 | 1024 | 2048 | 4096) && per_cluster.is_power_of_two();
        if !jump || !sizes || half(510)? != 0xaa55 || reserved == 0 || !matches!(fats, 1 | 2) || byte(21)? < 0xf0 {
            return None;
        }
        let root_entries = half(17)?;
        let total = match half(19)? {
            0 => u32_at(boot, 32)? as usize,
            small => small,
        };
        let fat_sectors = match half(22)? {
            0 => u32_at(boot, 36)? as usize,
            small => small,
        };
        let root_sectors = (root_entries * ENTRY).div_ceil(sector);
        let head = reserved.checked_add(fats.checked_mul(fat_sectors)?)?.checked_add(root_sectors)?;
        let clusters = total.checked_sub(head)? / per_cluster;
        let width = match clusters {
            0..4085 => Width::Fat12,
            4085..65525 => Width::Fat16,
            _ => Width::Fat32,
        };
        let root = (head - root_sectors) * sector..head * sector;
        // A count of clusters beyond what the image can hold is cut.
        let clusters = clusters.min(image.len() / (sector * per_cluster) + 1);
        Some(Self {
            image,
            wear,
            sector,
            width,
            fat: reserved * sector,
            root,
            data: head * sector,
            cluster: sector * per_cluster,
            clusters,
            root_cluster: if width == Width::Fat32 { u32_at(boot, 44)? } else { 0 },
            size: total as u64 * sector as u64,
        })
    }

    /// Bytes that the file system can have here.
    fn available(&self) -> usize {
        self.wear.map_or(self.image.len(), Wear::size)
    }

    /// Where bytes of the file system are in the image; they do not cross a sector.
    fn place(&self, at: usize, len: usize) -> Option<Range<usize>> {
        let end = at.checked_add(len).filter(|end| *end <= self.available())?;
        let Some(wear) = self.wear else { return Some(at..end) };
        let inside = at % 0x1000;
        let start = wear.place(at - inside) + inside;
        Some(start..start + len)
    }

    fn bytes(&self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.image.get(self.place(at, len)?)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes(at, 1)?.first().copied()
    }

    /// What the FAT says of a cluster: 0 free, a following cluster, or an end.
    fn next(&self, cluster: u32) -> Option<u32> {
        let at = |unit: usize| self.fat.checked_add(cluster as usize * unit);
        match self.width {
            Width::Fat16 => Some(u32::from(u16_at(self.bytes(at(2)?, 2)?, 0)?)),
            Width::Fat32 => Some(u32_at(self.bytes(at(4)?, 4)?, 0)? & 0x0fff_ffff),
            Width::Fat12 => {
                let at = self.fat.checked_add(cluster as usize * 3 / 2)?;
                let both = u32::from(self.byte(at)?) | u32::from(self.byte(at + 1)?) << 8;
                Some(if cluster & 1 == 0 { both & 0xfff } else { both >> 4 })
            }
        }
    }

    /// The clusters of a chain, no more than there are.
    fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let inside = |cluster: &u32| (2..self.clusters as u32 + 2).contains(cluster);
        let after = move |cluster: &u32| self.next(*cluster).filter(inside);
        std::iter::successors(Some(first).filter(inside), after).take(self.clusters)
    }

    /// The pieces of a cluster in the image.
    fn cluster_pieces(&self, cluster: u32) -> impl Iterator<Item = Range<usize>> + '_ {
        let start = self.data + (cluster as usize - 2) * self.cluster;
        (0..self.cluster / self.sector).filter_map(move |index| self.place(start + index * self.sector, self.sector))
    }

    fn folder(&self, path: &str, first: Option<u32>, walk: &mut Walk, folders: &mut VecDeque<(String, Option<u32>)>) {
        let mut long = LongName::default();
        let first = first.unwrap_or(self.root_cluster);
        let mut slots: Box<dyn Iterator<Item = &'a [u8]>> = if first == 0 {
            let count = self.root.len() / ENTRY;
            Box::new((0..count).map_while(|index| self.bytes(self.root.start + index * ENTRY, ENTRY)))
        } else {
            let sectors = self.chain(first).flat_map(|cluster| self.cluster_pieces(cluster));
            let image = self.image;
            Box::new(sectors.flat_map(move |sector| image.get(sector).unwrap_or_default().chunks_exact(ENTRY)))
        };
        while let Some(slot) = slots.next().filter(|slot| slot.first() != Some(&0)) {
            if walk.entries.len() >= MOST_ENTRIES {
                return;
            }
            let attributes = slot.get(11).copied().unwrap_or(0);
            if slot.first() == Some(&0xe5) {
                long = LongName::default();
            } else if attributes & 0x3f == ATTR_LONG {
                long.add(slot);
            } else if attributes & ATTR_LABEL != 0 {
                let label = String::from_utf8_lossy(slot.get(..11).unwrap_or_default()).trim_end().to_owned();
                walk.label.get_or_insert(label);
            } else {
                let name = std::mem::take(&mut long).name(slot).unwrap_or_else(|| short(slot));
                if name != "." && name != ".." {
                    self.entry(join(path, &name), slot, attributes & ATTR_FOLDER != 0, walk, folders);
                }
            }
        }
    }

    fn entry(
        &self,
        path: String,
        slot: &[u8],
        is_folder: bool,
        walk: &mut Walk,
        folders: &mut VecDeque<(String, Option<u32>)>,
    ) {
        let high = if self.width == Width::Fat32 { u16_at(slot, 20).unwrap_or(0) } else { 0 };
        let first = u32::from(high) << 16 | u32::from(u16_at(slot, 26).unwrap_or(0));
        let size = if is_folder { 0 } else { u32_at(slot, 28).unwrap_or(0) };
        let mut pieces = Vec::new();
        let mut left = size as usize;
        let clusters = self.chain(first).take((size as usize).div_ceil(self.cluster));
        'file: for cluster in clusters {
            for piece in self.cluster_pieces(cluster) {
                let len = piece.len().min(left);
                if len == 0 || !walk.pieces.add(&mut pieces, piece.start..piece.start + len) {
                    break 'file;
                }
                left -= len;
            }
        }
        if is_folder {
            if first != 0 && walk.seen.insert(first) {
                folders.push_back((path.clone(), Some(first)));
            } else {
                walk.findings.push(format!("/{path}: a folder that contains itself or is another one"));
            }
        }
        walk.entries.push(Entry { path, is_folder, size: u64::from(size), pieces });
    }
}

/// The parts of a long name, which come before the short one, last part first.
#[derive(Default)]
struct LongName {
    parts: VecDeque<[u16; 13]>,
    /// The number of the part that was read last, and the short name's checksum.
    last: Option<(u8, u8)>,
}

impl LongName {
    fn add(&mut self, slot: &[u8]) {
        let (order, sum) = (slot.first().copied().unwrap_or(0), slot.get(13).copied().unwrap_or(0));
        let number = order & 0x3f;
        if order & 0x40 != 0 {
            *self = Self::default();
        }
        let follows = match self.last {
            None => order & 0x40 != 0,
            Some((last, check)) => number + 1 == last && check == sum,
        };
        if !follows || !(1..=LONG_PARTS).contains(&number) {
            *self = Self::default();
            return;
        }
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
        let mut part = [0u16; 13];
        part.iter_mut().zip(places).for_each(|(to, at)| *to = u16_at(slot, at).unwrap_or(0));
        self.parts.push_front(part);
        self.last = Some((number, sum));
    }

    /// The name, when all parts are there and belong to this short name.
    fn name(self, slot: &[u8]) -> Option<String> {
        let (number, sum) = self.last?;
        let units: Vec<u16> = self.parts.iter().flatten().copied().take_while(|unit| *unit != 0).collect();
        (number == 1 && sum == checksum(slot) && !units.is_empty()).then(|| String::from_utf16_lossy(&units))
    }
}
