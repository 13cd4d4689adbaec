//! Pages and items as they lie in flash.

use super::{ENTRIES, ENTRY, FIRST_ENTRY, PAGE, kind};
use crate::crc::rom_crc32;

/// State of a page (the first word of its header; each step clears bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageState {
    /// Never used since it was erased.
    Blank,
    /// Takes new entries.
    Active,
    /// Full.
    Full,
    /// Its entries are being moved to another page.
    Freeing,
    /// Marked as damaged.
    Corrupt,
    /// No known state.
    Unknown(u32),
}

impl From<u32> for PageState {
    fn from(word: u32) -> Self {
        match word {
            0xffff_ffff => Self::Blank,
            0xffff_fffe => Self::Active,
            0xffff_fffc => Self::Full,
            0xffff_fff8 => Self::Freeing,
            0xffff_fff0 => Self::Corrupt,
            other => Self::Unknown(other),
        }
    }
}

impl PageState {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blank => "empty",
            Self::Active => "active",
            Self::Full => "full",
            Self::Freeing => "freeing",
            Self::Corrupt => "corrupt",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// State of an entry: two bits of the page's bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Free.
    Empty,
    /// In use.
    Written,
    /// No longer in use.
    Erased,
    /// A pattern that never occurs.
    Illegal,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Number of the sector in the partition.
    pub number: usize,
    /// State.
    pub state: PageState,
    /// Sequence number: pages are read in this order.
    pub sequence: u32,
    /// Version byte: 0xFF or 0xFE.
    pub version: u8,
    /// The header's CRC fits.
    pub crc_ok: bool,
    /// All bytes are 0xFF.
    pub blank: bool,
    /// States of the entries.
    pub slots: Vec<SlotState>,
    /// Items in use, in order.
    pub items: Vec<Item>,
    /// Entries marked free that hold something (a write that was cut short).
    pub torn: Vec<usize>,
}

/// One item: its first entry and the data behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Number of its first entry in the page.
    pub slot: usize,
    /// Index of its namespace; 0 for the list of namespaces.
    pub namespace: u8,
    /// Type code.
    pub kind: u8,
    /// Entries that it takes.
    pub span: u8,
    /// Chunk index; 0xFF for none.
    pub chunk: u8,
    /// The CRC of the first entry fits.
    pub crc_ok: bool,
    /// Key, filled up with zeros.
    pub key: [u8; 16],
    /// The last eight bytes of the first entry.
    pub word: [u8; 8],
    /// Data behind the first entry, cut to its length.
    pub data: Vec<u8>,
    /// The data is complete: it fits its span, all its entries are in use, and its CRC fits.
    pub data_ok: bool,
}

impl Item {
    /// Type with data behind its first entry.
    pub fn has_data(&self) -> bool {
        matches!(self.kind, kind::STRING | kind::BLOB | kind::BLOB_DATA)
    }

    /// Length of the data in bytes, as stored.
    pub fn data_length(&self) -> usize {
        usize::from(u16::from_le_bytes([self.word[0], self.word[1]]))
    }

    /// Key as text.
    pub fn key_text(&self) -> String {
        let key = self.key.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(key).into_owned()
    }
}

impl Page {
    /// Reads one page; missing bytes count as 0xFF.
    pub fn read(number: usize, bytes: &[u8]) -> Self {
        let mut page = [0xff; PAGE];
        page.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let word = |at: usize| u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]);
        let entries: Vec<&[u8; ENTRY]> = page[FIRST_ENTRY..].as_chunks::<ENTRY>().0.iter().collect();
        let slots: Vec<SlotState> = (0..ENTRIES).map(|slot| slot_state(&page[32..64], slot)).collect();
        let state = PageState::from(word(0));
        let readable = matches!(state, PageState::Active | PageState::Full | PageState::Freeing);
        let (mut items, mut torn) = (Vec::new(), Vec::new());
        let mut slot = 0;
        while readable && slot < ENTRIES {
            match slots[slot] {
                SlotState::Written => {
                    let item = read_item(slot, &entries, &slots);
                    // A damaged first entry says nothing about what follows: go on with the next one.
                    slot += if item.crc_ok { usize::from(item.span).max(1) } else { 1 };
                    items.push(item);
                }
                SlotState::Empty => {
                    if *entries[slot] != [0xff; ENTRY] {
                        torn.push(slot);
                    }
                    slot += 1;
                }
                SlotState::Erased | SlotState::Illegal => slot += 1,
            }
        }
        Self {
            number,
            state,
            sequence: word(4),
            version: page[8],
            crc_ok: word(28) == rom_crc32(&page[4..28]),
            blank: page.iter().all(|byte| *byte == 0xff),
            slots,
            items,
            torn,
        }
    }

    /// How many entries are in this state.
    pub fn count(&self, state: SlotState) -> usize {
        self.slots.iter().filter(|slot| **slot == state).count()
    }

    /// Its items count: it is in use and its header is whole.
    pub fn is_readable(&self) -> bool {
        let in_use = matches!(self.state, PageState::Active | PageState::Full | PageState::Freeing);
        in_use && self.crc_ok && self.version >= 0xfe
    }
}

fn slot_state(bitmap: &[u8], slot: usize) -> SlotState {
    match bitmap[slot / 4] >> (slot % 4 * 2) & 3 {
        3 => SlotState::Empty,
        2 => SlotState::Written,
        0 => SlotState::Erased,
        _ => SlotState::Illegal,
    }
}

/// The CRC of an entry of 32 bytes (or more, which do not count): all but the place where it stands.
pub(super) fn entry_crc(entry: &[u8]) -> u32 {
    let mut covered = [0xff; ENTRY - 4];
    covered[..4].copy_from_slice(&entry[..4]);
    covered[4..].copy_from_slice(&entry[8..ENTRY]);
    rom_crc32(&covered)
}

fn read_item(slot: usize, entries: &[&[u8; ENTRY]], slots: &[SlotState]) -> Item {
    let head = entries[slot];
    let (mut word, mut key) = ([0; 8], [0; 16]);
    word.copy_from_slice(&head[24..]);
    let letters = head[8..24].iter().take_while(|byte| **byte != 0);
    key.iter_mut().zip(letters).for_each(|(to, from)| *to = *from);
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let mut item = Item {
        slot,
        namespace: head[0],
        kind: head[1],
        span: head[2],
        chunk: head[3],
        crc_ok: crc == entry_crc(head),
        key,
        word,
        data: Vec::new(),
        data_ok: true,
    };
    if item.crc_ok && item.has_data() {
        let length = item.data_length();
        let rows = slot + 1..slot + usize::from(item.span).max(1);
        let whole = length.div_ceil(ENTRY) + 1 == usize::from(item.span) && rows.end <= ENTRIES;
        let in_use = slots.get(rows.clone()).is_some_and(|rows| rows.iter().all(|s| *s == SlotState::Written));
        item.data = entries.get(rows).unwrap_or_default().iter().flat_map(|row| **row).take(length).collect();
        let crc = u32::from_le_bytes([word[4], word[5], word[6], word[7]]);
        item.data_ok = whole && in_use && crc == rom_crc32(&item.data);
    }
    item
}
