//! What is to be in flash: small files in memory, large ones read from the disk a block at a time.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use esp_link::flash::{BLOCK, Part, Shared, Source};
use esp_model::image::{self, Image, Outline, hex};
use md5::{Digest, Md5};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Call;
use crate::error::{Code, ToolError};

/// Bytes at the start of a file that are held, and the size up to which a file is held whole: bootloader, partition table
/// and what lies between are told by these.
const HEAD: usize = 0x5_0000;

/// Bytes with their flash address, and the file they come from.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The file, as the caller named it.
    pub path: String,
    /// Flash address.
    pub address: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Held(Arc<Vec<u8>>),
    OnDisk(Arc<OnDisk>),
}

/// A file as it was when it was looked at. What is read from it later is compared with that.
#[derive(Debug)]
struct OnDisk {
    file: File,
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
    head: Vec<u8>,
    outline: Outline,
    md5: [u8; 16],
    /// CRC-32 of each [`BLOCK`].
    blocks: Vec<u32>,
}

/// A piece in a result.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PieceView {
    /// The file.
    pub path: String,
    /// Flash address.
    pub address: u32,
    /// Its size.
    pub size_bytes: u64,
    /// MD5 of the bytes.
    pub md5: String,
}

impl Piece {
    /// Bytes in memory.
    pub fn new(path: impl Into<String>, address: u32, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), address, content: Content::Held(Arc::new(bytes)) }
    }

    /// A file; it is read once here, and held only when it is small.
    pub fn open(call: &Call, path: &str, address: u32) -> Result<Self, ToolError> {
        let (file, real, len) = call.files.open_some(path)?;
        let content = match len <= HEAD as u64 {
            true => hold(file, len).map(Content::Held),
            false => OnDisk::look(file, real, len).map(|disk| Content::OnDisk(Arc::new(disk))),
        };
        let unreadable = |error: io::Error| ToolError::new(Code::FileUnreadable, format!("`{path}`: {error}"));
        Ok(Self { path: path.to_owned(), address, content: content.map_err(unreadable)? })
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Held(bytes) => bytes.len() as u64,
            Content::OnDisk(disk) => disk.len,
        }
    }

    /// First address behind it.
    pub fn end(&self) -> u64 {
        u64::from(self.address) + self.size()
    }

    /// The first bytes: all, or enough to find a bootloader and a partition table.
    pub fn head(&self) -> &[u8] {
        match &self.content {
            Content::Held(bytes) => bytes,
            Content::OnDisk(disk) => &disk.head,
        }
    }

    /// At most `len` bytes from `offset` on; fewer where the piece ends.
    pub fn at(&self, offset: u64, len: usize) -> Result<Vec<u8>, ToolError> {
        let len = self.size().saturating_sub(offset).min(len as u64) as usize;
        let mut bytes = vec![0; len];
        self.source().read_at(offset, &mut bytes).map_err(|error| self.unreadable(&error))?;
        Ok(bytes)
    }

    /// All bytes, in memory: for what has to look at them whole.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, ToolError> {
        match &self.content {
            Content::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Content::OnDisk(disk) => Ok(Cow::Owned(self.at(0, disk.len as usize)?)),
        }
    }

    /// The image, if it reads as one. Of a large file its segments' data are their first bytes, and it has neither digest
    /// nor trailer.
    pub fn image(&self) -> Option<Image<'_>> {
        self.parsed().ok()
    }

    fn parsed(&self) -> Result<Image<'_>, image::ParseError> {
        match &self.content {
            Content::Held(bytes) => image::parse(bytes),
            Content::OnDisk(disk) => disk.outline.image(),
        }
    }

    /// What it is, as far as that decides where it may go.
    pub fn content(&self) -> image::content::Content {
        image::content::of(self.head(), self.parsed().as_ref())
    }

    /// A linked program becomes an image by `make`.
    pub fn convert(&mut self, make: impl FnOnce(&[u8]) -> Result<Vec<u8>, ToolError>) -> Result<(), ToolError> {
        let made = make(&self.bytes()?)?;
        self.content = Content::Held(Arc::new(made));
        Ok(())
    }

    /// For the loader.
    pub fn part(&self) -> Part {
        Part { address: self.address, source: self.source() }
    }

    /// For a result.
    pub fn view(&self) -> PieceView {
        let md5 = match &self.content {
            Content::Held(bytes) => Md5::digest(bytes.as_slice()).into(),
            Content::OnDisk(disk) => disk.md5,
        };
        let (path, address) = (self.path.clone(), self.address);
        PieceView { path, address, size_bytes: self.size(), md5: hex::hex(&md5) }
    }

    /// There is another file under the name now than the one that was looked at.
    pub fn is_outdated(&self) -> bool {
        let Content::OnDisk(disk) = &self.content else { return false };
        let now = std::fs::metadata(&disk.path).ok();
        now.is_none_or(|now| now.len() != disk.len || now.modified().ok() != disk.modified)
    }

    fn source(&self) -> Box<dyn Source> {
        match &self.content {
            Content::Held(bytes) => Box::new(Shared(bytes.clone())),
            Content::OnDisk(disk) => {
                Box::new(Blocks { disk: disk.clone(), path: self.path.clone(), block: Vec::new(), index: None })
            }
        }
    }

    fn unreadable(&self, error: &io::Error) -> ToolError {
        let code = if error.kind() == io::ErrorKind::InvalidData { Code::FileChanged } else { Code::FileUnreadable };
        ToolError::new(code, format!("`{}`: {error}", self.path))
    }
}

fn hold(file: File, len: u64) -> io::Result<Arc<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(Arc::new(bytes))
}

impl OnDisk {
    fn look(mut file: File, path: PathBuf, len: u64) -> io::Result<Self> {
        let modified = file.metadata().and_then(|about| about.modified()).ok();
        let (mut hash, mut blocks, mut head) = (Md5::new(), Vec::new(), Vec::with_capacity(HEAD));
        let mut buffer = vec![0; BLOCK as usize];
        let mut at = 0;
        while at < len {
            let count = (len - at).min(BLOCK.into()) as usize;
            let block = &mut buffer[..count];
            file.read_exact(block)?;
            hash.update(&*block);
            blocks.push(crc32fast::hash(block));
            head.extend_from_slice(&block[..count.min(HEAD - head.len())]);
            at += count as u64;
        }
        let outline = Outline::read(len as usize, |at, buf| {
            file.seek(SeekFrom::Start(at as u64))?;
            file.read_exact(buf)
        })?;
        Ok(Self { file, path, len, modified, head, outline, md5: hash.finalize().into(), blocks })
    }

    /// A block, if it is still what it was.
    fn block(&self, index: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let start = index * u64::from(BLOCK);
        buffer.resize((self.len.saturating_sub(start)).min(BLOCK.into()) as usize, 0);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(start))?;
        let read = file.read_exact(buffer);
        let cut = read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        if !cut {
            read?;
        }
        if cut || self.blocks.get(index as usize) != Some(&crc32fast::hash(buffer)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it changed after it was checked"));
        }
        Ok(())
    }
}

/// A file on the disk, by blocks that are compared with what they were when the file was looked at.
struct Blocks {
    disk: Arc<OnDisk>,
    path: String,
    block: Vec<u8>,
    index: Option<u64>,
}

impl Source for Blocks {
    fn len(&self) -> u64 {
        self.disk.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let index = at / u64::from(BLOCK);
            if self.index != Some(index) {
                self.index = None;
                let named = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", self.path));
                self.disk.block(index, &mut self.block).map_err(named)?;
                self.index = Some(index);
            }
            let from = self.block.get((at % u64::from(BLOCK)) as usize..).unwrap_or_default();
            let count = from.len().min(buf.len() - done);
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf[done..done + count].copy_from_slice(&from[..count]);
            done += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn content(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn on_disk(bytes: &[u8]) -> (tempfile::NamedTempFile, Piece) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let disk = OnDisk::look(file.reopen().unwrap(), file.path().to_path_buf(), bytes.len() as u64).unwrap();
        let piece = Piece { path: "x".into(), address: 0x1000, content: Content::OnDisk(Arc::new(disk)) };
        (file, piece)
    }

    #[test]
    fn a_file_on_disk_reads_as_one_in_memory() {
        let bytes = content(HEAD + 0x1_2345);
        let (_file, piece) = on_disk(&bytes);
        let held = Piece::new("x", 0x1000, bytes.clone());
        assert_eq!((piece.size(), piece.end()), (held.size(), held.end()));
        assert_eq!(piece.head(), &bytes[..HEAD]);
        assert_eq!(piece.view().md5, held.view().md5);
        assert_eq!(piece.bytes().unwrap(), held.bytes().unwrap());
        assert_eq!(piece.at(0xfff0, 0x2_0000).unwrap(), &bytes[0xfff0..0x2_fff0]);
        assert_eq!(piece.at(bytes.len() as u64 - 5, 100).unwrap().len(), 5);
        assert!(piece.at(1 << 40, 8).unwrap().is_empty());
        assert!(!piece.is_outdated());
    }

    #[test]
    fn a_change_is_noticed_where_it_is_read() {
        let bytes = content(HEAD + 0x2_0000);
        let (file, piece) = on_disk(&bytes);
        let mut source = piece.source();
        let mut buffer = [0; 16];
        let mut writer = file.reopen().unwrap();
        writer.seek(SeekFrom::Start(0x3_0000)).unwrap();
        writer.write_all(&[!bytes[0x3_0000]]).unwrap();
        source.read_at(0x2_0000, &mut buffer).unwrap();
        let error = source.read_at(0x3_8000, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(piece.at(0x3_0000, 4).unwrap_err().code, Code::FileChanged);
        writer.set_len(0x4_0000).unwrap();
        assert_eq!(piece.at(0x4_0000, 4).unwrap_err().code, Code::FileChanged, "cut off");
        assert!(piece.is_outdated());
    }
}
