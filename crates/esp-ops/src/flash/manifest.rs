//! The manifest of a backup: what lay where, and which file holds it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use esp_link::flash::{Fill, Source};
use esp_model::mac::Mac;
use md5::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::Call;
use crate::error::{Code, ToolError};
use crate::flash::resume;

/// Name of the manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// The form that this program writes and reads.
const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Form of the manifest.
    pub format: u32,
    /// The program that wrote it.
    pub tool: String,
    /// The chip's id.
    pub chip: String,
    /// The chip in full.
    pub device: String,
    /// Base MAC address.
    pub mac: Option<Mac>,
    /// JEDEC id of the flash.
    pub flash_id: String,
    /// Its size.
    pub flash_size_bytes: u32,
    /// Where the partition table stands.
    pub table_offset: Option<u32>,
    /// The chip encrypts its flash: the areas hold ciphertext, which only this chip understands.
    pub flash_encryption: bool,
    /// All areas are there. False: the backup was cut off.
    pub complete: bool,
    /// SHA-256 of the eFuse summary's object.
    pub efuses: Option<String>,
    /// The areas, by address.
    pub areas: Vec<Entry>,
    /// Areas of an older backup that were not looked at yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Entry>,
}

/// An area of flash and the object that holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// The partition's name, `bootloader`, `partition-table` or `gap-ADDRESS`.
    pub name: String,
    /// What it is: bootloader, partition_table, gap, or type/subtype.
    pub kind: String,
    /// First address.
    pub address: u32,
    /// Its length.
    pub size_bytes: u32,
    /// SHA-256 of the object `objects/SHA256.bin`, which is the area without its blank end; left out: all blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Bytes of the object; what follows in the area is 0xff.
    pub stored_bytes: u64,
}

impl Manifest {
    /// The manifest in this folder.
    pub fn load(call: &Call, dir: &str) -> Result<Self, ToolError> {
        let path = format!("{dir}/{MANIFEST}");
        let damaged = |what: String| ToolError::new(Code::BackupDamaged, format!("`{path}`: {what}"));
        let manifest: Self =
            serde_json::from_str(&call.files.read_text(&path)?).map_err(|error| damaged(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("format {} is not known", manifest.format)));
        }
        let ends = manifest.areas.iter().map(|area| u64::from(area.address) + u64::from(area.size_bytes));
        if ends.max().is_some_and(|end| end > manifest.flash_size_bytes.into()) {
            return Err(damaged("an area reaches beyond the end of the flash".into()));
        }
        Ok(manifest)
    }

    /// The manifest of an older backup, if there is one.
    pub fn older(call: &Call, dir: &str) -> Result<Option<Self>, ToolError> {
        match Self::load(call, dir) {
            Err(error) if error.code == Code::FileNotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Takes over what an older backup of the same device holds.
    pub fn take_over(&mut self, older: Option<Self>) -> Result<(), ToolError> {
        let Some(older) = older else { return Ok(()) };
        if (&older.chip, &older.mac) != (&self.chip, &self.mac) {
            let mac = |mac: Option<Mac>| mac.map_or_else(|| "unknown".into(), |mac| mac.to_string());
            let who = |manifest: &Self| format!("{} {}", manifest.chip, mac(manifest.mac));
            let text = format!("the folder holds a backup of {}, the device is {}", who(&older), who(self));
            return Err(ToolError::new(Code::IdentityMismatch, text).next("give another folder"));
        }
        self.earlier = older.areas.into_iter().chain(older.earlier).collect();
        Ok(())
    }

    /// An earlier copy of the same area, if it holds anything.
    pub fn earlier_like(&self, entry: &Entry) -> Option<Entry> {
        let same = |old: &&Entry| (old.address, old.size_bytes) == (entry.address, entry.size_bytes);
        self.earlier.iter().find(same).filter(|old| old.sha256.is_some()).cloned()
    }

    /// Adds an area; what an older backup had of it is forgotten.
    pub fn add(&mut self, entry: Entry) {
        self.earlier.retain(|old| (old.address, old.size_bytes) != (entry.address, entry.size_bytes));
        self.areas.push(entry);
    }

    /// All areas are there.
    pub fn finish(&mut self) {
        self.earlier.clear();
        self.complete = true;
    }

    /// Writes the manifest; only its owner may read it.
    pub fn save(&self, call: &Call, dir: &str) -> Result<PathBuf, ToolError> {
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| ToolError::new(Code::Internal, error.to_string()))?;
        let mut file = call.files.create(&format!("{dir}/{MANIFEST}"))?;
        file.write_all(&text)
            .map_err(|error| ToolError::of_io(Code::FileUnwritable, "the manifest cannot be written", &error))?;
        file.finish_secret()
    }
}

impl Entry {
    /// Opens the area's content and checks the object against its SHA-256.
    pub fn open(&self, call: &Call, dir: &str) -> Result<Padded, ToolError> {
        let damaged = |what: &str| {
            ToolError::new(Code::BackupDamaged, format!("the copy of `{}` ({:#x}): {what}", self.name, self.address))
        };
        let size = u64::from(self.size_bytes);
        let Some(sha256) = &self.sha256 else { return Ok(Padded { file: None, stored: 0, size }) };
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(damaged("the manifest names no SHA-256"));
        }
        let found = call.files.open(&format!("{dir}/objects/{}", object_name(sha256)));
        let (mut file, ..) = found.map_err(|_| damaged("its file is missing"))?;
        let stored = Source::len(&file);
        if stored > size || resume::digest::<Sha256>(&mut file).ok().as_ref() != Some(sha256) {
            return Err(damaged("its file does not match its SHA-256"));
        }
        Ok(Padded { file: Some(file), stored, size })
    }
}

/// The object's file name.
pub fn object_name(sha256: &str) -> String {
    format!("{sha256}.bin")
}

/// An area's content: an object, and 0xff up to the area's end.
pub struct Padded {
    file: Option<File>,
    stored: u64,
    size: u64,
}

impl Padded {
    /// Digest of the whole area.
    pub fn digest<D: Digest>(&mut self) -> io::Result<Vec<u8>> {
        let (mut hash, mut buffer) = (D::new(), vec![0; 1 << 16]);
        let mut at = 0;
        while at < self.size {
            let count = (self.size - at).min(buffer.len() as u64);
            let piece = &mut buffer[..count as usize];
            self.read_at(at, piece)?;
            hash.update(&*piece);
            at += count;
        }
        Ok(hash.finalize().to_vec())
    }
}

impl Source for Padded {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let there = self.stored.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (content, blank) = buf.split_at_mut(there);
        if let Some(file) = &mut self.file {
            file.read_at(offset, content)?;
        }
        Fill(blank.len() as u64).read_at(0, blank)
    }
}

/// Length of a file without the bytes 0xff at its end.
pub fn used_length(file: &mut File) -> io::Result<u64> {
    let mut end = Source::len(&*file);
    let mut buffer = vec![0; 4096];
    while end > 0 {
        let start = (end - 1) / buffer.len() as u64 * buffer.len() as u64;
        let piece = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0xff) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
