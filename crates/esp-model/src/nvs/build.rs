//! Generates images, byte for byte as `esp-idf-nvs-partition-gen` 0.3.0 does.

use std::collections::HashMap;

use sha1::Sha1;

use super::crypt::{Cipher, entry_address};
use super::encode::{Payload, Raw, encode};
use super::page::entry_crc;
use super::{
    CHUNK_ANY, ENTRIES, ENTRY, FIRST_ENTRY, KEY_LENGTH, Keys, LARGEST, NvsError, PAGE, Row, Value, ValueError, Version,
};
use super::{csv, kind};
use crate::crc::rom_crc32;

/// From this size on the last page stays free for the device's garbage collection; below, an image is read-only.
const WRITABLE: u64 = 0x3000;
/// Page states: active, full.
const ACTIVE: u32 = 0xffff_fffe;
const FULL: u32 = 0xffff_fffc;

/// Reads a file that a row of type `file` names.
pub type Source<'a> = dyn FnMut(&str) -> Result<Vec<u8>, String> + 'a;

/// Generates an image of `size` bytes from the CSV form.
///
/// With fewer than 0x3000 bytes the image is read-only and has no more pages than its data needs.
pub fn generate(
    csv_files: &[&[u8]],
    size: u64,
    version: Version,
    keys: Option<&Keys>,
    files: &mut Source,
) -> Result<Vec<u8>, NvsError> {
    let mut builder = Builder::new(size, version, keys)?;
    for bytes in csv_files {
        let text = std::str::from_utf8(bytes).map_err(|_| NvsError::Encoding)?;
        csv::each_row(text, |row| builder.row(row, files))?;
    }
    Ok(builder.finish())
}

/// An image in the making.
pub struct Builder {
    version: Version,
    cipher: Option<Cipher>,
    size: u64,
    /// Pages that can still be begun.
    left: u64,
    reserved: bool,
    pages: Vec<PageBuffer>,
    namespaces: HashMap<String, u8>,
    namespace_count: u32,
    wifi: Wifi,
}

/// Wi-Fi settings for which derived entries are added.
#[derive(Default)]
struct Wifi {
    station_done: bool,
    ssid: Option<String>,
    password: Option<String>,
    mode: Option<String>,
}

struct PageBuffer {
    bytes: Vec<u8>,
    used: usize,
}

impl PageBuffer {
    fn new(number: u32, version: Version) -> Self {
        let mut bytes = vec![0xff; PAGE];
        bytes[..4].copy_from_slice(&ACTIVE.to_le_bytes());
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8] = version.byte();
        let crc = rom_crc32(&bytes[4..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        Self { bytes, used: 0 }
    }

    fn mark_written(&mut self, count: usize) {
        for slot in self.used..self.used + count {
            // Two bits a slot: empty is 11, written is 10.
            self.bytes[32 + slot / 4] &= !(1 << (slot % 4 * 2));
        }
        self.used += count;
    }
}

/// The page has no room for the item.
struct PageFull;

enum Stop {
    PageFull,
    Value(ValueError),
}

impl From<PageFull> for Stop {
    fn from(_: PageFull) -> Self {
        Self::PageFull
    }
}

impl From<ValueError> for Stop {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl Builder {
    /// Begins an image of `size` bytes.
    pub fn new(size: u64, version: Version, keys: Option<&Keys>) -> Result<Self, NvsError> {
        if size == 0 || !size.is_multiple_of(PAGE as u64) || size > LARGEST {
            return Err(NvsError::Size(size));
        }
        let reserved = size >= WRITABLE;
        let mut builder = Self {
            version,
            cipher: keys.map(Keys::cipher),
            size,
            left: size / PAGE as u64 - u64::from(reserved),
            reserved,
            pages: Vec::new(),
            namespaces: HashMap::new(),
            namespace_count: 0,
            wifi: Wifi::default(),
        };
        builder.new_page().map_err(|_| NvsError::Size(size))?;
        Ok(builder)
    }

    /// Adds a row of the CSV form.
    pub fn row(&mut self, row: &Row, files: &mut Source) -> Result<(), NvsError> {
        self.add_row(row, files).map_err(|problem| NvsError::Row {
            line: row.line,
            key: row.key.as_deref().unwrap_or_default().to_owned(),
            problem,
        })
    }

    /// Adds a namespace, or makes sure that it is there. Entries that follow belong to the namespace added last.
    pub fn namespace(&mut self, name: &str) -> Result<u8, ValueError> {
        if let Some(index) = self.namespaces.get(name) {
            return Ok(*index);
        }
        self.namespace_count += 1;
        let index = u8::try_from(self.namespace_count).map_err(|_| ValueError::Namespaces)?;
        self.add(name, 0, &Payload::Number(Value::U8(index)))?;
        self.namespaces.insert(name.to_owned(), index);
        Ok(index)
    }

    /// Adds an entry to the namespace of this index.
    pub fn entry(&mut self, namespace: u8, key: &str, value: &Value) -> Result<(), ValueError> {
        let payload = match value {
            Value::Text(text) => Payload::String(format!("{text}\0")),
            Value::RawText(_) => return Err(ValueError::Text),
            Value::Blob(bytes) => Payload::Bytes(bytes.clone()),
            number => Payload::Number(number.clone()),
        };
        self.add(key, namespace, &payload)
    }

    /// The image.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size.max((self.pages.len() * PAGE) as u64) as usize);
        self.pages.iter().for_each(|page| out.extend_from_slice(&page.bytes));
        if self.reserved {
            out.resize(self.size as usize, 0xff);
        }
        out
    }

    fn add_row(&mut self, row: &Row, files: &mut Source) -> Result<(), ValueError> {
        let key = row.key.as_deref().ok_or(ValueError::Missing("key"))?;
        if key.chars().count() > KEY_LENGTH {
            return Err(ValueError::KeyLength);
        }
        self.access_point(key, row.value.as_deref())?;
        if matches!(key, "sta.ssid" | "sta.pswd") {
            return self.station(key, row);
        }
        match row.kind.as_deref() {
            Some("namespace") => self.namespace(key).map(drop),
            Some("file") => {
                let path = row.value.as_deref().ok_or(ValueError::Missing("value"))?;
                let bytes = files(path).map_err(|reason| ValueError::File { path: path.to_owned(), reason })?;
                self.encoded(key, row.encoding.as_deref(), Raw::File(bytes))
            }
            _ => self.encoded(key, row.encoding.as_deref(), Raw::Text(row.value.as_deref())),
        }
    }

    /// An entry of the namespace that was added last; before the first one its index is 0, which no device reads.
    fn encoded(&mut self, key: &str, encoding: Option<&str>, raw: Raw) -> Result<(), ValueError> {
        let encoding = encoding.ok_or(ValueError::Missing("encoding"))?;
        let payload = encode(encoding, raw, self.size)?;
        self.add(key, self.namespace_count as u8, &payload)
    }

    /// Station settings bring three more entries that the Wi-Fi driver expects, once.
    fn station(&mut self, key: &str, row: &Row) -> Result<(), ValueError> {
        self.encoded(key, row.encoding.as_deref(), Raw::Text(row.value.as_deref()))?;
        if std::mem::replace(&mut self.wifi.station_done, true) {
            return Ok(());
        }
        for (key, bytes) in [("sta.apinfo", vec![0xff; 140]), ("sta.pmk", vec![0; 32]), ("sta.apsw", vec![0; 2])] {
            self.add(key, self.namespace_count as u8, &Payload::Bytes(bytes))?;
        }
        Ok(())
    }

    /// With name, password and mode of an access point known, its key is derived and stored in front of each such row.
    fn access_point(&mut self, key: &str, value: Option<&str>) -> Result<(), ValueError> {
        let value = value.map(str::to_owned);
        match key {
            "ap.ssid" => self.wifi.ssid = value,
            "ap.passwd" => self.wifi.password = value,
            "ap.authmode" if value.as_deref() != Some("0") => self.wifi.mode = value,
            "ap.authmode" => {}
            _ => return Ok(()),
        }
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (Some(ssid), Some(password), Some(_)) =
            (given(&self.wifi.ssid), given(&self.wifi.password), given(&self.wifi.mode))
        else {
            return Ok(());
        };
        let mut info = vec![0; 132];
        pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), ssid.as_bytes(), 4096, &mut info[100..]);
        self.add("ap.pmk_info", self.namespace_count as u8, &Payload::Bytes(info))
    }

    fn add(&mut self, key: &str, namespace: u8, payload: &Payload) -> Result<(), ValueError> {
        if key.chars().count() > KEY_LENGTH {
            return Err(ValueError::KeyLength);
        }
        match self.try_add(key, namespace, payload) {
            Err(Stop::PageFull) => {
                self.new_page()?;
                self.try_add(key, namespace, payload)
            }
            other => other,
        }
        .map_err(|stop| match stop {
            // A string of nearly a whole page: it does not even fit into an empty one.
            Stop::PageFull => ValueError::TooLong { length: payload.length(), longest: (ENTRIES - 2) * ENTRY },
            Stop::Value(error) => error,
        })
    }

    fn try_add(&mut self, key: &str, namespace: u8, payload: &Payload) -> Result<(), Stop> {
        let mut head = Head::new(key, namespace);
        if let Payload::Number(value) = payload {
            if self.free() == 0 {
                return Err(Stop::PageFull);
            }
            head.number(value);
            return Ok(self.write(head.sealed(), 1)?);
        }
        let length = payload.length();
        let is_string = matches!(payload, Payload::String(_));
        let multipage = self.version == Version::V2 && !is_string;
        if !multipage && length > self.version.longest() {
            return Err(ValueError::TooLong { length, longest: self.version.longest() }.into());
        }
        let entries = length.div_ceil(ENTRY);
        if self.free() == 0 || (!multipage && entries + 1 >= self.free()) {
            return Err(Stop::PageFull);
        }
        if multipage {
            return Ok(self.chunks(head, payload)?);
        }
        head.bytes[1] = if is_string { kind::STRING } else { kind::BLOB };
        head.bytes[2] = (entries + 1) as u8;
        let data = payload.part(0, length);
        head.data(length, &data);
        self.write(head.sealed(), 1)?;
        Ok(self.write(&data, entries)?)
    }

    /// A blob of version 2: chunks that fill pages, then an index.
    fn chunks(&mut self, mut head: Head, payload: &Payload) -> Result<(), ValueError> {
        let length = payload.length();
        let mut offset = 0;
        let mut count = 0u8;
        loop {
            let room = (self.free() - 1) * ENTRY;
            let size = room.min(length - offset);
            let entries = size.div_ceil(ENTRY);
            let data = payload.part(offset, size);
            head.bytes[1] = kind::BLOB_DATA;
            head.bytes[2] = (entries + 1) as u8;
            head.bytes[3] = count;
            head.data(size, &data);
            self.write(head.sealed(), 1)?;
            self.write(&data, entries)?;
            count = count.checked_add(1).ok_or(ValueError::Chunks)?;
            offset += size;
            if offset < length || room - size < ENTRY {
                self.new_page()?;
            }
            if offset == length {
                break;
            }
        }
        head.index(length, count, 0);
        self.write(head.sealed(), 1)
    }

    fn new_page(&mut self) -> Result<(), ValueError> {
        self.left = self.left.checked_sub(1).ok_or(ValueError::Full)?;
        if let Some(page) = self.pages.last_mut() {
            page.bytes[..4].copy_from_slice(&FULL.to_le_bytes());
        }
        self.pages.push(PageBuffer::new(self.pages.len() as u32, self.version));
        Ok(())
    }

    /// Free entries of the page in use.
    fn free(&self) -> usize {
        self.pages.last().map_or(0, |page| ENTRIES - page.used)
    }

    /// Writes `data` at the next free entry and takes `count` entries for it.
    fn write(&mut self, data: &[u8], count: usize) -> Result<(), ValueError> {
        let number = self.pages.len() - 1;
        let Some(page) = self.pages.last_mut() else { return Err(ValueError::Full) };
        let start = FIRST_ENTRY + page.used * ENTRY;
        let encrypted = self.cipher.as_ref().map(|cipher| encrypted(cipher, data, count, number, page.used));
        let data = encrypted.as_deref().unwrap_or(data);
        // Text that takes more bytes than characters runs into the entries behind, where later ones overwrite it.
        page.bytes.get_mut(start..start + data.len()).ok_or(ValueError::Spill)?.copy_from_slice(data);
        page.mark_written(count);
        Ok(())
    }
}

fn encrypted(cipher: &Cipher, data: &[u8], count: usize, page: usize, slot: usize) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(count * ENTRY, 0xff);
    for (index, entry) in out.as_chunks_mut::<ENTRY>().0.iter_mut().enumerate() {
        cipher.encrypt(entry, entry_address(page, slot + index));
    }
    out
}

/// The first entry of an item. One with a key outside ASCII is longer than it should be: the key's field is filled up by
/// characters, not bytes.
pub(super) struct Head {
    bytes: [u8; HEAD],
    length: usize,
}

/// Most bytes of a first entry: 15 characters of four bytes each.
const HEAD: usize = ENTRY + 3 * KEY_LENGTH;

impl Head {
    pub(super) fn new(key: &str, namespace: u8) -> Self {
        let mut bytes = [0xff; HEAD];
        bytes[0] = namespace;
        let end = 8 + key.len() + 16 - key.chars().count();
        bytes[8..end].fill(0);
        bytes[8..8 + key.len()].copy_from_slice(key.as_bytes());
        Self { bytes, length: end + 8 }
    }

    pub(super) fn number(&mut self, value: &Value) {
        let (code, data): (u8, &[u8]) = match value {
            Value::U8(v) => (0x01, &v.to_le_bytes()),
            Value::I8(v) => (0x11, &v.to_le_bytes()),
            Value::U16(v) => (0x02, &v.to_le_bytes()),
            Value::I16(v) => (0x12, &v.to_le_bytes()),
            Value::U32(v) => (0x04, &v.to_le_bytes()),
            Value::I32(v) => (0x14, &v.to_le_bytes()),
            Value::U64(v) => (0x08, &v.to_le_bytes()),
            Value::I64(v) => (0x18, &v.to_le_bytes()),
            Value::Text(_) | Value::RawText(_) | Value::Blob(_) => (0xff, &[]),
        };
        self.bytes[1] = code;
        self.bytes[2] = 1;
        self.bytes[24..24 + data.len()].copy_from_slice(data);
    }

    pub(super) fn data(&mut self, length: usize, data: &[u8]) {
        self.bytes[24..26].copy_from_slice(&(length as u16).to_le_bytes());
        self.bytes[28..32].copy_from_slice(&rom_crc32(data).to_le_bytes());
    }

    /// Kind of item, the entries that it takes, and its chunk's number.
    pub(super) fn of_kind(&mut self, kind: u8, span: u8, chunk: u8) {
        self.bytes[1..4].copy_from_slice(&[kind, span, chunk]);
    }

    /// The index of a blob: its length, and the number and first of its chunks.
    pub(super) fn index(&mut self, length: usize, count: u8, start: u8) {
        self.of_kind(kind::BLOB_INDEX, 1, CHUNK_ANY);
        self.bytes[24..32].fill(0xff);
        self.bytes[24..28].copy_from_slice(&(length as u32).to_le_bytes());
        self.bytes[28..30].copy_from_slice(&[count, start]);
    }

    /// The entry with its CRC.
    pub(super) fn sealed(&mut self) -> &[u8] {
        let crc = entry_crc(&self.bytes);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        &self.bytes[..self.length]
    }
}

impl Payload {
    /// Length as the format counts it.
    fn length(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Characters(text) => text.chars().count(),
        }
    }

    fn part(&self, offset: usize, size: usize) -> Vec<u8> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::String(text) => text.as_bytes().iter().skip(offset).take(size).copied().collect(),
            Self::Bytes(bytes) => bytes.iter().skip(offset).take(size).copied().collect(),
            Self::Characters(text) => text.chars().skip(offset).take(size).collect::<String>().into_bytes(),
        }
    }
}
