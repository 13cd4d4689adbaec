//! Changes to a partition in place, as the driver makes them (ESP-IDF, `nvs_storage.cpp`, `nvs_page.cpp`,
//! `nvs_pagemanager.cpp`): a new entry is appended, then the old one is marked as erased. Power may go between any two
//! steps: the driver then finds the old value, the new one, or both and keeps the newer. Entries that are not changed
//! stay where they are.

use super::build::Head;
use super::crypt::{Cipher, entry_address};
use super::page::{Item, Page, PageState, SlotState};
use super::read::{Finding, Severity, read};
use super::{
    CHUNK_ANY, Change, ENTRIES, ENTRY, FIRST_ENTRY, KEY_LENGTH, Keys, NvsError, PAGE, Value, ValueError, Version,
    decrypt, kind,
};
use crate::crc::rom_crc32;

/// Page states, in the order in which a page goes through them.
const ACTIVE: u32 = 0xffff_fffe;
const FULL: u32 = 0xffff_fffc;
const FREEING: u32 = 0xffff_fff8;
/// Where a page's states of its entries stand, and the bits that each state clears.
const PAGE_STATES: usize = 32;
const WRITTEN: u8 = 0b01;
const ERASED: u8 = 0b11;
/// Second half of the chunk numbers: a new version of a blob uses the half that the old one does not.
const OTHER_VERSION: u8 = 0x80;
/// Longest string with its final zero, and longest blob of the first format, in bytes.
const LONGEST_STRING: usize = 4000;
const LONGEST_OLD_BLOB: usize = 1984;
/// Largest index of a namespace that the driver gives.
const LAST_NAMESPACE: u8 = 254;

/// One operation on the flash, in bytes from the start of the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Clears bits: no erase is needed.
    Program {
        /// First byte.
        at: u32,
        /// What is programmed.
        bytes: Vec<u8>,
    },
    /// Erases a sector of 4096 bytes.
    Erase {
        /// Its first byte.
        at: u32,
    },
}

impl Step {
    /// Does to `flash` what the step does.
    pub fn apply(&self, flash: &mut [u8]) {
        match self {
            Self::Program { at, bytes } => {
                let place = flash.get_mut(*at as usize..).unwrap_or_default();
                place.iter_mut().zip(bytes).for_each(|(to, from)| *to &= from);
            }
            Self::Erase { at } => {
                let at = *at as usize;
                flash.get_mut(at..at + PAGE).unwrap_or_default().fill(0xff);
            }
        }
    }
}

/// The steps that make `changes` in the partition whose bytes are `flash`; none when it holds the values already.
///
/// `keys`: those that the partition is encrypted with. Refused when it is damaged, or when the driver has something to
/// finish there first.
pub fn change(flash: &[u8], changes: &[Change], keys: Option<&Keys>) -> Result<Vec<Step>, NvsError> {
    let plain = keys.map_or_else(|| flash.to_vec(), |keys| decrypt(flash, keys));
    let contents = read(&plain);
    let unfinished = |finding: &&Finding| matches!(finding, Finding::Freeing(_) | Finding::TwoActive(..));
    let bad = |finding: &&Finding| finding.severity() == Severity::Error || unfinished(finding);
    if let Some(finding) = contents.findings.iter().find(bad) {
        return Err(NvsError::Damaged(finding.clone()));
    }
    let pages = contents.pages.len();
    let mut store =
        Store { plain, pages, version: contents.version(), cipher: keys.map(Keys::cipher), steps: Vec::new() };
    for change in changes {
        store.make(change)?;
    }
    Ok(store.steps)
}

struct Store {
    /// The partition as it is after the steps, not encrypted.
    plain: Vec<u8>,
    pages: usize,
    version: Version,
    cipher: Option<Cipher>,
    steps: Vec<Step>,
}

/// What is stored under a key, as items have it.
struct Stored<'a> {
    namespace: u8,
    key: &'a str,
}

impl Stored<'_> {
    fn is(&self, item: &Item) -> bool {
        item.crc_ok && item.namespace == self.namespace && item.key_text() == self.key
    }
}

/// Where an item begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    page: usize,
    slot: usize,
    span: usize,
}

impl Store {
    fn make(&mut self, change: &Change) -> Result<(), NvsError> {
        match change {
            Change::Set { namespace, key, value } => self
                .set(namespace, key, value)
                .map_err(|problem| NvsError::Entry { namespace: namespace.clone(), key: key.clone(), problem }),
            Change::Remove { namespace, key } => {
                if let Some(index) = self.index_of(namespace) {
                    let belongs = |_, item: &Item| {
                        item.namespace == index && key.as_ref().is_none_or(|key| item.key_text() == *key)
                    };
                    self.remove(belongs);
                }
                Ok(())
            }
        }
    }

    fn set(&mut self, namespace: &str, key: &str, value: &Value) -> Result<(), ValueError> {
        for name in [namespace, key] {
            if name.is_empty() {
                return Err(ValueError::Missing("key"));
            }
            if name.len() > KEY_LENGTH {
                return Err(ValueError::KeyLength);
            }
        }
        if read(&self.plain).get(namespace, key) == Some(value) {
            return Ok(());
        }
        let index = self.namespace(namespace)?;
        let stored = Stored { namespace: index, key };
        match value {
            Value::Text(text) => self.data(&stored, kind::STRING, &[text.as_bytes(), &[0]].concat(), LONGEST_STRING),
            Value::RawText(_) => Err(ValueError::Text),
            Value::Blob(bytes) if self.version == Version::V1 => {
                self.data(&stored, kind::BLOB, bytes, LONGEST_OLD_BLOB)
            }
            Value::Blob(bytes) => self.blob(&stored, bytes),
            number => {
                let mut head = Head::new(key, index);
                head.number(number);
                let place = self.append(head.sealed(), &[])?;
                self.drop_others(&stored, place);
                Ok(())
            }
        }
    }

    /// The index of a namespace, which is added when it is missing.
    fn namespace(&mut self, name: &str) -> Result<u8, ValueError> {
        if let Some(index) = self.index_of(name) {
            return Ok(index);
        }
        let used: Vec<u8> = read(&self.plain).namespaces.into_keys().collect();
        let index = (1..=LAST_NAMESPACE).find(|index| !used.contains(index)).ok_or(ValueError::Namespaces)?;
        let mut head = Head::new(name, 0);
        head.number(&Value::U8(index));
        self.append(head.sealed(), &[])?;
        Ok(index)
    }

    fn index_of(&self, name: &str) -> Option<u8> {
        let contents = read(&self.plain);
        contents.namespaces.iter().find(|(_, known)| ***known == *name).map(|(index, _)| *index)
    }

    /// A string, or a blob of the first format: one item in one page.
    fn data(&mut self, stored: &Stored, kind: u8, data: &[u8], longest: usize) -> Result<(), ValueError> {
        let longest = longest.min((ENTRIES - 1) * ENTRY);
        if data.len() > longest {
            return Err(ValueError::TooLong { length: data.len(), longest });
        }
        let place = self.append(Self::head(stored, kind, CHUNK_ANY, data).sealed(), data)?;
        self.drop_others(stored, place);
        Ok(())
    }

    /// A blob of the second format: chunks, then their index; then the old ones go.
    fn blob(&mut self, stored: &Stored, bytes: &[u8]) -> Result<(), ValueError> {
        let old_index = |item: &Item| stored.is(item) && item.kind == kind::BLOB_INDEX;
        let old = self.items().into_iter().find(|(_, item)| old_index(item)).map(|(_, item)| item.word[5]);
        let start = if old == Some(0) { OTHER_VERSION } else { 0 };
        let mut rest = bytes;
        let mut count = 0u8;
        loop {
            let mut room = self.room();
            // Too little to begin with: a blob that fits one page is not torn in two for it.
            if room == 0 || (count == 0 && room < rest.len() && room < (ENTRIES - 1) * ENTRY / 10) {
                self.next_page()?;
                room = self.room();
            }
            let (chunk, more) = rest.split_at(room.min(rest.len()));
            self.append(Self::head(stored, kind::BLOB_DATA, start + count, chunk).sealed(), chunk)?;
            count = count.checked_add(1).filter(|count| *count < OTHER_VERSION).ok_or(ValueError::Chunks)?;
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        let mut head = Head::new(stored.key, stored.namespace);
        head.index(bytes.len(), count, start);
        let index = self.append(head.sealed(), &[])?;
        let is_new = |place: Place, item: &Item| {
            place == index || (item.kind == kind::BLOB_DATA && item.chunk.wrapping_sub(start) < count)
        };
        self.remove(|place, item| stored.is(item) && !is_new(place, item));
        Ok(())
    }

    fn head(stored: &Stored, kind: u8, chunk: u8, data: &[u8]) -> Head {
        let mut head = Head::new(stored.key, stored.namespace);
        head.of_kind(kind, (data.len().div_ceil(ENTRY) + 1) as u8, chunk);
        head.data(data.len(), data);
        head
    }

    /// All items of the same key but this one, which is newer.
    fn drop_others(&mut self, stored: &Stored, new: Place) {
        self.remove(|place, item| stored.is(item) && place != new);
    }

    /// Erases items; of a blob the index first, so that no index stands without its chunks.
    fn remove(&mut self, which: impl Fn(Place, &Item) -> bool) {
        let mut found = self.items();
        found.retain(|(place, item)| item.crc_ok && which(*place, item));
        found.sort_by_key(|(_, item)| item.kind == kind::BLOB_DATA);
        for (place, _) in found {
            self.mark(place, ERASED);
        }
    }

    /// All items, in the order of their pages' numbers.
    fn items(&self) -> Vec<(Place, Item)> {
        let mut pages: Vec<Page> = self.read_pages();
        pages.retain(Page::is_readable);
        pages.sort_by_key(|page| page.sequence);
        let of_page = |page: Page| {
            let number = page.number;
            page.items.into_iter().map(move |item| {
                let span = if item.crc_ok { usize::from(item.span).max(1) } else { 1 };
                (Place { page: number, slot: item.slot, span }, item)
            })
        };
        pages.into_iter().flat_map(of_page).collect()
    }

    fn read_pages(&self) -> Vec<Page> {
        (0..self.pages).map(|number| self.page(number)).collect()
    }

    fn page(&self, number: usize) -> Page {
        Page::read(number, self.plain.get(number * PAGE..).unwrap_or_default())
    }

    /// The page that takes entries, and its first free one.
    fn active(&self) -> Option<(usize, usize)> {
        let mut pages = self.read_pages().into_iter();
        let page = pages.find(|page| page.state == PageState::Active && page.is_readable())?;
        let used = page.slots.iter().rposition(|slot| *slot != SlotState::Empty).map_or(0, |slot| slot + 1);
        // What a write that was cut short has left behind cannot be written again.
        let torn = page.torn.iter().max().map_or(0, |slot| slot + 1);
        Some((page.number, used.max(torn)))
    }

    /// Bytes of data that one more item in the active page may have.
    fn room(&self) -> usize {
        self.active().map_or(0, |(_, next)| (ENTRIES - next).saturating_sub(1) * ENTRY)
    }

    /// Appends an item: its first entry and the data behind it, then their states.
    fn append(&mut self, head: &[u8], data: &[u8]) -> Result<Place, ValueError> {
        let span = 1 + data.len().div_ceil(ENTRY);
        let (page, slot) = match self.active() {
            Some(at) if at.1 + span <= ENTRIES => at,
            _ => {
                self.next_page()?;
                self.active().filter(|at| at.1 + span <= ENTRIES).ok_or(ValueError::Full)?
            }
        };
        let torn: Vec<usize> = self.page(page).torn;
        for slot in torn {
            self.mark(Place { page, slot, span: 1 }, ERASED);
        }
        let mut entries = head.get(..ENTRY).unwrap_or(head).to_vec();
        entries.extend_from_slice(data);
        entries.resize(span * ENTRY, 0xff);
        for (index, entry) in entries.as_chunks::<ENTRY>().0.iter().enumerate() {
            self.write_entry(page, slot + index, *entry);
        }
        let place = Place { page, slot, span };
        self.mark(place, WRITTEN);
        Ok(place)
    }

    fn write_entry(&mut self, page: usize, slot: usize, entry: [u8; ENTRY]) {
        let at = entry_address(page, slot);
        let mut stored = entry;
        if let Some(cipher) = &self.cipher {
            cipher.encrypt(&mut stored, at);
        }
        Step::Program { at, bytes: entry.to_vec() }.apply(&mut self.plain);
        self.steps.push(Step::Program { at, bytes: stored.to_vec() });
    }

    /// Clears these bits of the states of entries.
    fn mark(&mut self, place: Place, bits: u8) {
        let slots = place.slot..(place.slot + place.span).min(ENTRIES);
        let (first, last) = (slots.start / 4, slots.end.saturating_sub(1) / 4);
        let mut bytes = vec![0xff; last - first + 1];
        for slot in slots {
            if let Some(byte) = bytes.get_mut(slot / 4 - first) {
                *byte &= !(bits << (slot % 4 * 2));
            }
        }
        self.program((place.page * PAGE + PAGE_STATES + first) as u32, bytes);
    }

    fn set_state(&mut self, page: usize, state: u32) {
        self.program((page * PAGE) as u32, state.to_le_bytes().to_vec());
    }

    fn program(&mut self, at: u32, bytes: Vec<u8>) {
        let step = Step::Program { at, bytes };
        step.apply(&mut self.plain);
        self.steps.push(step);
    }

    /// Closes the active page and begins another one. The last free page is only taken to move entries into it from
    /// the page with the most erased ones, which is then erased.
    fn next_page(&mut self) -> Result<(), ValueError> {
        if let Some((page, _)) = self.active() {
            self.set_state(page, FULL);
        }
        let pages = self.read_pages();
        let free: Vec<usize> = pages.iter().filter(|page| page.blank).map(|page| page.number).collect();
        let first = *free.first().ok_or(ValueError::Full)?;
        let sequence = pages.iter().filter(|page| page.is_readable()).map(|page| page.sequence).max();
        let from = match free.len() {
            // A partition in use keeps one page free.
            1 if sequence.is_some() => {
                let used = pages.iter().filter(|page| page.is_readable());
                let by_waste = used.max_by_key(|page| ENTRIES - page.count(SlotState::Written));
                Some(by_waste.filter(|page| page.count(SlotState::Written) < ENTRIES).ok_or(ValueError::Full)?.clone())
            }
            _ => None,
        };
        self.begin_page(first, sequence.map_or(0, |last| last.wrapping_add(1)));
        match from {
            Some(from) => self.move_items(&from, first),
            None => Ok(()),
        }
    }

    fn begin_page(&mut self, number: usize, sequence: u32) {
        let mut header = vec![0xff; 32];
        header[..4].copy_from_slice(&ACTIVE.to_le_bytes());
        header[4..8].copy_from_slice(&sequence.to_le_bytes());
        header[8] = self.version.byte();
        let crc = rom_crc32(&header[4..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
        self.program((number * PAGE) as u32, header);
    }

    /// Copies the items of a page into a new one and erases it. The driver finishes this after a loss of power.
    fn move_items(&mut self, from: &Page, to: usize) -> Result<(), ValueError> {
        self.set_state(from.number, FREEING);
        for item in from.items.iter().filter(|item| item.crc_ok) {
            let start = from.number * PAGE + FIRST_ENTRY + item.slot * ENTRY;
            let length = usize::from(item.span).max(1) * ENTRY;
            let bytes = self.plain.get(start..start + length).unwrap_or_default().to_vec();
            let (head, data) = bytes.split_at(ENTRY.min(bytes.len()));
            let place = self.append(head, data)?;
            debug_assert_eq!(place.page, to);
        }
        let step = Step::Erase { at: (from.number * PAGE) as u32 };
        step.apply(&mut self.plain);
        self.steps.push(step);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
