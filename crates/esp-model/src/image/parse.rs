//! Reading an image. Nothing is copied: segments are views on the input, whatever lengths it claims. The input need not
//! be held whole ([`super::Outline`]).

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::{
    AppDesc, BootDesc, CHECKSUM_SEED, DIGEST_LEN, Extended, Header, MAGIC, MAGIC_V2, MAX_SEGMENTS, SEGMENT_HEADER_LEN,
    checksum, chip_without_id,
};
use crate::chip::{self, Chip, ImageFormat};

/// Why bytes are not an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// Another first byte.
    #[error("not an image: the first byte is {0:#04x}")]
    Magic(u8),
    /// The bytes end within a header.
    #[error("the image ends within its header")]
    Header,
    /// The last byte of the extended header is neither 0 nor 1.
    #[error("byte 23 of the header (SHA-256 appended) is {0:#04x}, not 0 or 1")]
    AppendDigest(u8),
    /// No chip data for this image.
    #[error("no chip has images of this kind")]
    Chip,
    /// The bytes end within a segment's header.
    #[error("the image ends in the header of segment {0}")]
    SegmentHeader(usize),
    /// A segment is longer than the file.
    #[error("segment {index} at {addr:#010x} claims {len} bytes, the file has {left} left")]
    SegmentData {
        /// Which one, from 0.
        index: usize,
        /// Its load address.
        addr: u32,
        /// What it claims.
        len: u32,
        /// What is there.
        left: usize,
    },
    /// The bytes end before the checksum.
    #[error("the image ends before its checksum")]
    Checksum,
    /// More than 16 segments.
    #[error("{0} segments, 16 are possible")]
    TooManySegments(usize),
}

/// Which headers an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// ESP8266: the plain header.
    V1,
    /// ESP8266: a header with one flash-mapped segment, then the plain header.
    V2,
    /// All others: plain and extended header.
    Extended,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Load address; 0 is padding, and the flash-mapped segment of [`Layout::V2`].
    pub addr: u32,
    /// Its bytes.
    pub data: &'a [u8],
    /// Where its header stands in the file.
    pub offset: usize,
    /// It counts in the checksum.
    pub checksummed: bool,
}

impl Segment<'_> {
    /// The names of the memory regions that hold its first address, in the order of the chip's data.
    pub fn regions<'c>(&self, chip: &'c Chip) -> Vec<&'c str> {
        regions_at(chip, u64::from(self.addr))
    }
}

/// The names of the chip's memory regions that hold an address.
pub(crate) fn regions_at(chip: &Chip, addr: u64) -> Vec<&str> {
    let holds = |region: &&chip::Region| (u64::from(region.start)..u64::from(region.end)).contains(&addr);
    chip.memory.iter().filter(holds).map(|region| region.name.as_str()).collect()
}

/// A SHA-256 that stands in an image beside the one that it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedDigest<'a> {
    /// What stands there; shorter than 32 bytes when the file ends in it.
    pub stored: &'a [u8],
    /// What the bytes give.
    pub computed: [u8; DIGEST_LEN],
}

impl AppendedDigest<'_> {
    /// Both are the same.
    pub fn is_valid(&self) -> bool {
        self.stored == self.computed
    }
}

/// An image that was read.
#[derive(Debug)]
pub struct Image<'a> {
    /// The chip it is for.
    pub chip: &'static Chip,
    /// Which headers it has.
    pub layout: Layout,
    /// The header that counts (the second one of [`Layout::V2`]).
    pub header: Header,
    /// The leading header of [`Layout::V2`].
    pub first_header: Option<Header>,
    /// The extended header.
    pub extended: Option<Extended>,
    /// The segments in file order.
    pub segments: Vec<Segment<'a>>,
    /// The checksum that stands in it.
    pub checksum: u8,
    /// Bytes up to and with the checksum.
    pub data_len: usize,
    /// Bytes of the file.
    file_len: usize,
    /// The same, where they are held.
    bytes: &'a [u8],
    digest: OnceLock<Option<AppendedDigest<'a>>>,
}

/// The bytes of a file, of which not all need be held.
pub(super) trait View {
    /// Bytes of the file.
    fn len(&self) -> usize;

    /// A stretch, whole.
    fn get(&self, at: usize, len: usize) -> Option<&[u8]>;

    /// A stretch of which the first bytes are enough; it lies inside of the file.
    fn begin(&self, at: usize, len: usize) -> Option<&[u8]>;
}

impl View for [u8] {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.get(at..)?.get(..len)
    }

    fn begin(&self, at: usize, len: usize) -> Option<&[u8]> {
        View::get(self, at, len)
    }
}

/// The chip that an image's header names. An image without a valid extended header is an ESP8266's.
pub fn detect(bytes: &[u8]) -> Result<&'static Chip, ParseError> {
    detect_in(bytes)
}

pub(super) fn detect_in<V: View + ?Sized>(view: &V) -> Result<&'static Chip, ParseError> {
    let head = view.get(0, view.len().min(Header::LEN + Extended::LEN)).unwrap_or_default();
    let magic = *head.first().ok_or(ParseError::Empty)?;
    if magic != MAGIC && magic != MAGIC_V2 {
        return Err(ParseError::Magic(magic));
    }
    let extended = head.get(Header::LEN..).unwrap_or_default();
    let last = *extended.last().ok_or(ParseError::Header)?;
    // Only the low byte of the chip id is looked at, like the reference does: no chip has a larger one.
    let id = u16::from(extended.get(4).copied().unwrap_or(0));
    let named = if last <= 1 { chip::by_chip_id(id) } else { None };
    named.or_else(chip_without_id).ok_or(ParseError::Chip)
}

/// Reads an image for the chip that it names.
pub fn parse(bytes: &[u8]) -> Result<Image<'_>, ParseError> {
    parse_for(detect(bytes)?, bytes)
}

/// Reads an image for this chip.
pub fn parse_for<'a>(chip: &'static Chip, bytes: &'a [u8]) -> Result<Image<'a>, ParseError> {
    parse_view(chip, bytes, bytes)
}

/// The same of a view; `bytes` is all of it, or nothing.
pub(super) fn parse_view<'a, V: View + ?Sized>(
    chip: &'static Chip,
    view: &'a V,
    bytes: &'a [u8],
) -> Result<Image<'a>, ParseError> {
    let mut reader = Reader { view, at: 0, segments: Vec::new() };
    let mut header = reader.header()?;
    let layout = match (chip.image.format, header.magic) {
        (ImageFormat::Esp8266, MAGIC) => Layout::V1,
        (ImageFormat::Esp8266, MAGIC_V2) => Layout::V2,
        (ImageFormat::Esp32, MAGIC) => Layout::Extended,
        (_, other) => return Err(ParseError::Magic(other)),
    };
    let (mut first_header, mut extended) = (None, None);
    match layout {
        Layout::V1 => {}
        Layout::V2 => {
            reader.segment()?;
            if let Some(mapped) = reader.segments.last_mut() {
                (mapped.addr, mapped.checksummed) = (0, false);
            }
            first_header = Some(std::mem::replace(&mut header, reader.header()?));
            if header.magic != MAGIC {
                return Err(ParseError::Magic(header.magic));
            }
        }
        Layout::Extended => extended = Some(reader.extended()?),
    }
    for _ in 0..header.segments {
        reader.segment()?;
    }
    let (checksum, data_len) = reader.checksum()?;
    if reader.segments.len() > MAX_SEGMENTS {
        return Err(ParseError::TooManySegments(reader.segments.len()));
    }
    let segments = reader.segments;
    let (file_len, digest) = (view.len(), OnceLock::new());
    Ok(Image { chip, layout, header, first_header, extended, segments, checksum, data_len, file_len, bytes, digest })
}

struct Reader<'a, V: ?Sized> {
    view: &'a V,
    at: usize,
    segments: Vec<Segment<'a>>,
}

impl<'a, V: View + ?Sized> Reader<'a, V> {
    fn header(&mut self) -> Result<Header, ParseError> {
        let header = self.view.get(self.at, Header::LEN).and_then(Header::decode).ok_or(ParseError::Header)?;
        self.at += Header::LEN;
        Ok(header)
    }

    fn extended(&mut self) -> Result<Extended, ParseError> {
        let extended = self.view.get(self.at, Extended::LEN).and_then(Extended::decode).ok_or(ParseError::Header)?;
        if extended.append_digest > 1 {
            return Err(ParseError::AppendDigest(extended.append_digest));
        }
        self.at += Extended::LEN;
        Ok(extended)
    }

    fn segment(&mut self) -> Result<(), ParseError> {
        let (index, offset) = (self.segments.len(), self.at);
        let head = self.view.get(self.at, SEGMENT_HEADER_LEN).and_then(<[u8]>::first_chunk);
        let [a0, a1, a2, a3, l0, l1, l2, l3]: [u8; SEGMENT_HEADER_LEN] =
            *head.ok_or(ParseError::SegmentHeader(index))?;
        let (addr, len) = (u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([l0, l1, l2, l3]));
        self.at += SEGMENT_HEADER_LEN;
        let short = ParseError::SegmentData { index, addr, len, left: self.view.len().saturating_sub(self.at) };
        let data = self.view.begin(self.at, len as usize).ok_or(short)?;
        self.at += len as usize;
        self.segments.push(Segment { addr, data, offset, checksummed: true });
        Ok(())
    }

    /// The checksum is the last byte of a multiple of 16.
    fn checksum(&self) -> Result<(u8, usize), ParseError> {
        let at = self.at | 0xf;
        self.view.get(at, 1).and_then(<[u8]>::first).map(|byte| (*byte, at + 1)).ok_or(ParseError::Checksum)
    }
}

impl<'a> Image<'a> {
    /// The checksum that the segments give.
    pub fn computed_checksum(&self) -> u8 {
        let counted = self.segments.iter().filter(|segment| segment.checksummed);
        counted.fold(CHECKSUM_SEED, |sum, segment| checksum(segment.data, sum))
    }

    /// The SHA-256 behind the checksum; None when the header says that there is none, or the data is not held. Computed once.
    pub fn digest(&self) -> Option<&AppendedDigest<'a>> {
        self.digest.get_or_init(|| self.read_digest()).as_ref()
    }

    fn read_digest(&self) -> Option<AppendedDigest<'a>> {
        self.extended.filter(|extended| extended.append_digest == 1)?;
        let (data, rest) = self.bytes.split_at_checked(self.data_len)?;
        let stored = rest.get(..DIGEST_LEN).unwrap_or(rest);
        Some(AppendedDigest { stored, computed: Sha256::digest(data).into() })
    }

    /// Bytes of the image with its SHA-256, without signatures and padding behind it.
    pub fn len(&self) -> usize {
        let has_digest = self.extended.is_some_and(|extended| extended.append_digest == 1);
        let digest = if has_digest { DIGEST_LEN.min(self.file_len.saturating_sub(self.data_len)) } else { 0 };
        self.data_len + digest
    }

    /// Never: an image has a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What stands behind the image: signatures, padding, or nothing.
    pub fn trailer(&self) -> &'a [u8] {
        self.bytes.get(self.len()..).unwrap_or_default()
    }

    /// The segment that begins with the app's description, where there is one: the first mapped for data.
    pub fn app_desc_segment(&self) -> Option<&Segment<'a>> {
        self.segments.iter().find(|segment| segment.regions(self.chip).contains(&"DROM"))
    }

    /// The app's description.
    pub fn app_desc(&self) -> Option<AppDesc> {
        AppDesc::decode(self.app_desc_segment()?.data)
    }

    /// The bootloader's description: at the start of a RAM segment of an image without mapped data. The reference looks
    /// at the last such segment only; ESP-IDF puts the description at the start of the whole image.
    pub fn boot_desc(&self) -> Option<BootDesc> {
        if self.layout != Layout::Extended || self.app_desc_segment().is_some() {
            return None;
        }
        let in_ram = |segment: &&Segment<'_>| segment.regions(self.chip).contains(&"DRAM");
        let last = self.segments.iter().filter(in_ram).rfind(|segment| segment.data.len() >= BootDesc::LEN);
        let first = || self.segments.first().and_then(|segment| BootDesc::decode(segment.data));
        let meant = || first().filter(|desc| desc.idf_version.starts_with('v'));
        last.and_then(|segment| BootDesc::decode(segment.data)).or_else(meant)
    }
}
