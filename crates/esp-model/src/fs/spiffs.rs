//! SPIFFS, as ESP-IDF and Arduino configure it: 16-bit ids, packed little-endian headers, with magic.
//!
//! Facts: SPIFFS 0.3.7 (`spiffs_nucleus.h`). A block begins with the ids of its pages; a page begins with object id,
//! span index and flags, in which cleared bits say what is true.

use std::collections::BTreeMap;

use super::names::until_nul;
use super::{Entry, FileSystem, Kind, MOST_ENTRIES, Pieces, u16_at, u32_at};

const MAGIC: u32 = 0x2014_0529;
const PAGE_HEADER: usize = 5;
/// Set in the id of pages that list a file's pages.
const INDEX: u16 = 0x8000;
const FREE: u16 = 0xffff;
const DELETED: u16 = 0;
/// Name of an object, behind header, filling, size and type.
const NAME: std::ops::Range<usize> = 13..45;

/// Page size, block size, and whether the magic counts blocks.
struct Layout {
    page: usize,
    block: usize,
    blocks: usize,
}

impl Layout {
    fn lookup_pages(page: usize, block: usize) -> usize {
        (block / page * 2).div_ceil(page).max(1)
    }

    /// Pages of a block that hold objects, as offset in the image, with the id in the lookup table.
    fn pages<'a>(&'a self, image: &'a [u8]) -> impl Iterator<Item = (usize, u16)> + 'a {
        let lookup = Self::lookup_pages(self.page, self.block);
        (0..self.blocks).flat_map(move |index| {
            let start = index * self.block;
            (lookup..self.block / self.page).filter_map(move |page| {
                let id = u16_at(image, start + (page - lookup) * 2)?;
                Some((start + page * self.page, id))
            })
        })
    }
}

/// Magics that fit a partition of `size` bytes of which these are the first.
pub(super) fn is_volume(first: &[u8], size: usize) -> bool {
    layout(first, size).is_some()
}

pub(super) fn read(image: &[u8]) -> Option<FileSystem> {
    let layout = layout(image, image.len())?;
    let mut heads: BTreeMap<u16, usize> = BTreeMap::new();
    let mut data: BTreeMap<(u16, u16), usize> = BTreeMap::new();
    let (mut free, mut findings) = (0u64, Vec::new());
    for (at, id) in layout.pages(image) {
        match id {
            FREE => free += layout.page as u64,
            DELETED => {}
            _ => {
                let Some((object, span, flags)) = header(image, at) else { continue };
                // Written (bits 0 and 1 cleared) and not removed (bits 6 and 7 set).
                if object != id || flags & 0xc3 != 0xc0 {
                    continue;
                }
                if id & INDEX == 0 {
                    data.insert((id, span), at);
                } else if span == 0 && heads.insert(id & !INDEX, at).is_some() {
                    findings.push(format!("object {} has two heads", id & !INDEX));
                }
            }
        }
    }
    let mut pieces = Pieces::new(image, layout.page);
    let mut entries = Vec::new();
    for (id, head) in heads.into_iter().take(MOST_ENTRIES) {
        entries.extend(entry(image, &layout, &data, &mut pieces, id, head));
    }
    entries.sort_by(|a: &Entry, b| a.path.cmp(&b.path));
    Some(FileSystem {
        kind: Kind::Spiffs,
        form: format!("page {}", layout.page),
        wear_levelled: false,
        block_bytes: layout.block as u32,
        size_bytes: (layout.blocks * layout.block) as u64,
        free_bytes: Some(free),
        label: None,
        entries,
        findings,
    })
}

fn entry(
    image: &[u8],
    layout: &Layout,
    data: &BTreeMap<(u16, u16), usize>,
    pieces: &mut Pieces,
    id: u16,
    head: usize,
) -> Option<Entry> {
    let size = u32_at(image, head + 8)?;
    let path = until_nul(image.get(head + NAME.start..head + NAME.end)?);
    let room = layout.page - PAGE_HEADER;
    // A file that was opened and never written has no size.
    let size = if size == u32::MAX { 0 } else { size as usize };
    let mut found = Vec::new();
    for span in 0..size.div_ceil(room) {
        let Some(at) = u16::try_from(span).ok().and_then(|span| data.get(&(id, span))) else { break };
        let len = room.min(size - span * room);
        if !pieces.add(&mut found, at + PAGE_HEADER..at + PAGE_HEADER + len) {
            break;
        }
    }
    let path = path.trim_start_matches('/').to_owned();
    Some(Entry { path, is_folder: false, size: size as u64, pieces: found })
}

fn header(image: &[u8], at: usize) -> Option<(u16, u16, u8)> {
    Some((u16_at(image, at)?, u16_at(image, at + 2)?, *image.get(at + 4)?))
}

/// The sizes for which every block's magic fits, of the blocks that are there. One damaged block in ten is forgiven.
fn layout(image: &[u8], size: usize) -> Option<Layout> {
    const PAGES: [usize; 4] = [256, 512, 1024, 2048];
    const BLOCKS: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
    for block in BLOCKS {
        for page in PAGES {
            let (blocks, there) = (size / block, image.len().min(size) / block);
            for counted in [true, false] {
                let fits = |index: &usize| magic_fits(image, page, block, *index, blocks, counted);
                let fitting = if fits(&0) || fits(&1) { (0..there).filter(fits).count() } else { 0 };
                if fitting > 0 && fitting * 10 >= there * 9 {
                    return Some(Layout { page, block, blocks });
                }
            }
        }
    }
    None
}

fn magic_fits(image: &[u8], page: usize, block: usize, index: usize, blocks: usize, counted: bool) -> bool {
    let place = index * block + Layout::lookup_pages(page, block) * page - 4;
    let count = if counted { (blocks.saturating_sub(index)) as u32 } else { 0 };
    u16_at(image, place) == Some((MAGIC ^ page as u32 ^ count) as u16)
}
