//! What an image holds, and what is wrong with it.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::page::{Item, Page, PageState, SlotState};
use super::{PAGE, Value, Version, kind};

/// A key-value pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of its namespace; `#N` when index N has none.
    pub namespace: Arc<str>,
    /// Key.
    pub key: String,
    /// Value.
    pub value: Value,
    /// Sector of the partition that holds it (of a blob: its index).
    pub page: usize,
    /// Number of its first entry in that sector.
    pub slot: usize,
}

/// Everything in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Pages, in the order of the sectors.
    pub pages: Vec<Page>,
    /// Names of the namespaces by index.
    pub namespaces: BTreeMap<u8, Arc<str>>,
    /// Pairs that a device would find, in the order in which they were written.
    pub entries: Vec<Entry>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Normal on a device in use.
    Note,
    /// A device mends it by itself; something may be lost.
    Warning,
    /// Data is lost or unusable.
    Error,
}

/// Something that is not as it should be. Places are sector and entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Not whole pages.
    #[error("{0} bytes are not whole pages of 4096 bytes")]
    Length(usize),
    /// A page's header is damaged.
    #[error("page {0}: the header's CRC is wrong")]
    HeaderCrc(usize),
    /// A page is marked as damaged or has no valid state.
    #[error("page {0}: its state {1} is not valid")]
    PageState(usize, &'static str),
    /// A page that should be blank is not.
    #[error("page {0}: it is marked as empty, but holds something")]
    NotBlank(usize),
    /// Written by a newer version of NVS.
    #[error("page {0}: version {1:#04x} is newer than known")]
    PageVersion(usize, u8),
    /// Two pages have the same number.
    #[error("pages {0} and {1} have the same sequence number {2}")]
    Sequence(usize, usize, u32),
    /// More than one page takes entries.
    #[error("pages {0} and {1} are both active")]
    TwoActive(usize, usize),
    /// Garbage collection was cut short.
    #[error("page {0}: it was being freed when power went")]
    Freeing(usize),
    /// No page is free for garbage collection.
    #[error("no page is free; the partition is usable read-only")]
    NoFreePage,
    /// A pattern in the state bitmap that never occurs.
    #[error("page {0} entry {1}: its state is not valid")]
    SlotState(usize, usize),
    /// A write was cut short.
    #[error("page {0} entry {1}: it is marked as free, but holds something")]
    Torn(usize, usize),
    /// The first entry of an item is damaged.
    #[error("page {0} entry {1}: the item's CRC is wrong")]
    ItemCrc(usize, usize),
    /// Data of an item is damaged.
    #[error("page {0} entry {1} ({2}): its data is damaged or incomplete")]
    Data(usize, usize, String),
    /// Unknown type.
    #[error("page {0} entry {1} ({2}): type {3:#04x} is not known")]
    Kind(usize, usize, String, u8),
    /// The span does not fit the type.
    #[error("page {0} entry {1} ({2}): its span {3} does not fit its type")]
    Span(usize, usize, String, u8),
    /// A namespace has no name.
    #[error("namespace {0} has entries, but no name")]
    NoNamespace(u8),
    /// Two names for one namespace, or two namespaces of one name.
    #[error("namespace {0:?} (index {1}) is there twice")]
    TwiceNamespace(String, u8),
    /// An older copy of an entry is still there.
    #[error("{0}/{1} is there more than once; the newest counts")]
    Twice(String, String),
    /// Chunks are missing.
    #[error("{0}/{1}: the blob is not complete")]
    Incomplete(String, String),
    /// A chunk without an index.
    #[error("{0}/{1}: chunk {2} belongs to no blob")]
    Orphan(String, String, u8),
    /// The string has no final zero or is not UTF-8.
    #[error("{0}/{1}: the string does not end in a zero or is not UTF-8")]
    Text(String, String),
    /// Every entry is damaged: probably encrypted, or decrypted with the wrong keys.
    #[error("no entry is readable: the image is probably encrypted, or the keys are wrong")]
    Unreadable,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Freeing(_) | Self::Torn(..) | Self::Orphan(..) | Self::Twice(..) | Self::TwoActive(..) => {
                Severity::Warning
            }
            Self::NoFreePage | Self::Text(..) => Severity::Note,
            _ => Severity::Error,
        }
    }
}

/// Reads an image that is not encrypted.
pub fn read(image: &[u8]) -> Contents {
    let pages: Vec<Page> = image.chunks(PAGE).enumerate().map(|(number, bytes)| Page::read(number, bytes)).collect();
    let mut findings = Vec::new();
    if image.is_empty() || !image.len().is_multiple_of(PAGE) {
        findings.push(Finding::Length(image.len()));
    }
    check_pages(&pages, &mut findings);
    let mut order: Vec<&Page> = pages.iter().filter(|page| page.is_readable()).collect();
    order.sort_by_key(|page| page.sequence);
    let mut reader = Reader { findings, ..Reader::default() };
    let items = || order.iter().flat_map(|page| page.items.iter().map(|item| (page.number, item)));
    reader.name_namespaces(items());
    items().for_each(|(page, item)| reader.item(page, item));
    reader.blobs();
    let damaged = |finding: &Finding| matches!(finding, Finding::ItemCrc(..));
    if reader.entries.is_empty() && reader.findings.iter().filter(|f| damaged(f)).count() > 2 {
        reader.findings.retain(|finding| !damaged(finding));
        reader.findings.push(Finding::Unreadable);
    }
    let mut entries = reader.entries;
    entries.sort_by_key(|entry| (pages.get(entry.page).map(|page| page.sequence), entry.slot));
    Contents { namespaces: reader.namespaces, entries, findings: reader.findings, pages }
}

fn check_pages(pages: &[Page], findings: &mut Vec<Finding>) {
    let mut sequences: HashMap<u32, usize> = HashMap::new();
    let mut active = None;
    for page in pages {
        let number = page.number;
        match page.state {
            PageState::Blank if page.blank => continue,
            PageState::Blank => findings.push(Finding::NotBlank(number)),
            PageState::Corrupt | PageState::Unknown(_) => findings.push(Finding::PageState(number, page.state.name())),
            _ if !page.crc_ok => findings.push(Finding::HeaderCrc(number)),
            _ if page.version < 0xfe => findings.push(Finding::PageVersion(number, page.version)),
            PageState::Freeing => findings.push(Finding::Freeing(number)),
            PageState::Active => {
                if let Some(other) = active.replace(number) {
                    findings.push(Finding::TwoActive(other, number));
                }
            }
            PageState::Full => {}
        }
        if !page.is_readable() {
            continue;
        }
        if let Some(other) = sequences.insert(page.sequence, number) {
            findings.push(Finding::Sequence(other, number, page.sequence));
        }
        for (slot, state) in page.slots.iter().enumerate() {
            if *state == SlotState::Illegal {
                findings.push(Finding::SlotState(number, slot));
            }
        }
        findings.extend(page.torn.iter().map(|slot| Finding::Torn(number, *slot)));
    }
    // Below three pages an image is for reading only.
    if pages.len() >= 3 && !pages.iter().any(|page| page.state == PageState::Blank) {
        findings.push(Finding::NoFreePage);
    }
}

#[derive(Default)]
struct Reader {
    namespaces: BTreeMap<u8, Arc<str>>,
    /// Namespaces without a name that were met.
    unnamed: HashSet<u8>,
    entries: Vec<Entry>,
    /// Where in `entries` the pair of this namespace and key is.
    places: HashMap<(u8, u128), usize, RandomState>,
    indexes: Vec<(usize, Item)>,
    chunks: BTreeMap<(u8, [u8; 16], u8), Item>,
    findings: Vec<Finding>,
}

impl Reader {
    fn name_namespaces<'a>(&mut self, items: impl Iterator<Item = (usize, &'a Item)>) {
        for (_, item) in items.filter(|(_, item)| item.crc_ok && item.namespace == 0 && item.kind == 0x01) {
            let (index, name) = (item.word[0], item.key_text());
            if self.namespaces.get(&index).is_some_and(|known| **known != *name)
                || self.namespaces.iter().any(|(other, known)| *other != index && **known == *name)
            {
                self.findings.push(Finding::TwiceNamespace(name.clone(), index));
            }
            self.namespaces.insert(index, name.into());
        }
    }

    fn namespace(&mut self, index: u8) -> Arc<str> {
        if let Some(name) = self.namespaces.get(&index) {
            return name.clone();
        }
        if self.unnamed.insert(index) {
            self.findings.push(Finding::NoNamespace(index));
        }
        format!("#{index}").into()
    }

    fn item(&mut self, page: usize, item: &Item) {
        if !item.crc_ok {
            return self.findings.push(Finding::ItemCrc(page, item.slot));
        }
        let single = !item.has_data();
        if item.span == 0 || (single && item.span != 1) || item.slot + usize::from(item.span) > super::ENTRIES {
            return self.findings.push(Finding::Span(page, item.slot, item.key_text(), item.span));
        }
        if !item.data_ok {
            return self.findings.push(Finding::Data(page, item.slot, item.key_text()));
        }
        if item.namespace == 0 && item.kind == 0x01 {
            return;
        }
        let value = match item.kind {
            kind::BLOB_INDEX => return self.indexes.push((page, item.clone())),
            kind::BLOB_DATA => {
                self.chunks.insert((item.namespace, item.key, item.chunk), item.clone());
                return;
            }
            kind::STRING => text(&item.data),
            kind::BLOB => Value::Blob(item.data.clone()),
            code => match number(code, item.word) {
                Some(value) => value,
                None => return self.findings.push(Finding::Kind(page, item.slot, item.key_text(), code)),
            },
        };
        self.add(page, item, value);
    }

    fn add(&mut self, page: usize, item: &Item, value: Value) {
        let (namespace, key) = (self.namespace(item.namespace), item.key_text());
        if matches!(value, Value::RawText(_)) {
            self.findings.push(Finding::Text(namespace.to_string(), key.clone()));
        }
        let entry = Entry { namespace, key, value, page, slot: item.slot };
        match self.places.entry((item.namespace, u128::from_ne_bytes(item.key))) {
            // Pages come in the order in which they were written: the later one counts.
            hash_map::Entry::Occupied(place) => {
                self.findings.push(Finding::Twice(entry.namespace.to_string(), entry.key.clone()));
                self.entries[*place.get()] = entry;
            }
            hash_map::Entry::Vacant(place) => {
                place.insert(self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Puts blobs together from their chunks.
    fn blobs(&mut self) {
        for (page, index) in std::mem::take(&mut self.indexes) {
            let size = u32::from_le_bytes([index.word[0], index.word[1], index.word[2], index.word[3]]) as usize;
            let (count, start) = (index.word[4], index.word[5]);
            let mut data = Vec::new();
            let mut whole = true;
            for chunk in (0..count).map(|chunk| start.wrapping_add(chunk)) {
                match self.chunks.remove(&(index.namespace, index.key, chunk)) {
                    Some(item) => data.extend_from_slice(&item.data),
                    None => whole = false,
                }
            }
            if whole && data.len() == size {
                self.add(page, &index, Value::Blob(data));
            } else {
                let namespace = self.namespace(index.namespace).to_string();
                self.findings.push(Finding::Incomplete(namespace, index.key_text()));
            }
        }
        for item in std::mem::take(&mut self.chunks).into_values() {
            let namespace = self.namespace(item.namespace).to_string();
            self.findings.push(Finding::Orphan(namespace, item.key_text(), item.chunk));
        }
    }
}

fn text(data: &[u8]) -> Value {
    let text = data.strip_suffix(&[0]).and_then(|text| std::str::from_utf8(text).ok());
    text.map_or_else(|| Value::RawText(data.to_vec()), |text| Value::Text(text.to_owned()))
}

fn number(code: u8, word: [u8; 8]) -> Option<Value> {
    let bits = u64::from_le_bytes(word);
    Some(match code {
        0x01 => Value::U8(bits as u8),
        0x11 => Value::I8(bits as i8),
        0x02 => Value::U16(bits as u16),
        0x12 => Value::I16(bits as i16),
        0x04 => Value::U32(bits as u32),
        0x14 => Value::I32(bits as i32),
        0x08 => Value::U64(bits),
        0x18 => Value::I64(bits as i64),
        _ => return None,
    })
}

impl Contents {
    /// The value of a key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| *entry.namespace == *namespace && entry.key == key).map(|entry| &entry.value)
    }

    /// Format of the image: version 1 only when every page says so.
    pub fn version(&self) -> Version {
        let mut used = self.pages.iter().filter(|page| page.is_readable()).peekable();
        if used.peek().is_some() && used.all(|page| page.version == 0xff) { Version::V1 } else { Version::V2 }
    }

    /// The worst finding.
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.iter().max_by_key(|finding| finding.severity())
    }

    /// Entries in this state over all pages in use.
    pub fn count(&self, state: SlotState) -> usize {
        self.pages.iter().filter(|page| page.is_readable()).map(|page| page.count(state)).sum()
    }

    /// The CSV form, and the names of those entries that it cannot express.
    pub fn to_csv(&self) -> (String, Vec<String>) {
        let mut out = String::from("key,type,encoding,value\n");
        let mut left_out = Vec::new();
        let mut names: Vec<&str> = self.namespaces.values().map(|name| &**name).collect();
        names.extend(self.entries.iter().map(|entry| &*entry.namespace));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        for name in names {
            out += &format!("{},namespace,,\n", quoted(name));
            for entry in self.entries.iter().filter(|entry| *entry.namespace == *name) {
                match field(&entry.value).filter(|(_, text)| !text.contains("\n#") && !text.contains('\r')) {
                    Some((encoding, text)) => {
                        out += &format!("{},data,{encoding},{}\n", quoted(&entry.key), quoted(&text));
                    }
                    None => left_out.push(format!("{name}/{}", entry.key)),
                }
            }
        }
        (out, left_out)
    }
}

fn field(value: &Value) -> Option<(&'static str, String)> {
    match value {
        Value::Text(text) => Some(("string", text.clone())),
        Value::RawText(_) => None,
        Value::Blob(bytes) => Some(("hex2bin", crate::hex::encode(bytes))),
        number => Some((number.type_name(), number.number()?.to_string())),
    }
}

fn quoted(text: &str) -> String {
    let plain = !text.contains([',', '"', '\n']) && !text.starts_with('#');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}
