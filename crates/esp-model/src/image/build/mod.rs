//! ELF to image, byte for byte as `esptool elf2image` does it with the same settings; programs that esptool refuses
//! because their sections share MMU pages (esp-hal's do) as `espflash save-image` does it.

mod esp32;
mod esp8266;
mod merge;
mod writer;

use sha2::{Digest as _, Sha256};

use super::elf::{Elf, ElfError, Section};
use super::{AppDesc, FlashMode, MAX_SEGMENTS};
use crate::chip::{Chip, ImageFormat};
use merge::Part;

/// What an image is built with. The defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Format of an ESP8266's image: 1, 2 or 3. Other chips have one.
    pub version: u8,
    /// Flash mode.
    pub flash_mode: FlashMode,
    /// Flash size in the chip's spelling: `4MB`.
    pub flash_size: String,
    /// Flash frequency in the chip's spelling: `80m`. None: the one with code 0.
    pub flash_frequency: Option<String>,
    /// Lowest major revision, for old bootloaders.
    pub min_rev: u8,
    /// Lowest revision, major × 100 + minor.
    pub min_rev_full: u16,
    /// Highest revision, major × 100 + minor.
    pub max_rev_full: u16,
    /// Pads so that the signed image ends at the end of an MMU page.
    pub secure_pad: Option<SecurePad>,
    /// Where to put the ELF's SHA-256, from the image's start. None: into the app's description.
    pub elf_sha256_offset: Option<u32>,
    /// Appends the image's SHA-256.
    pub append_digest: bool,
    /// Takes the ELF's segments and not its sections.
    pub use_segments: bool,
    /// MMU page size in bytes. None: as the app's description says, else the chip's default.
    pub mmu_page_size: Option<u32>,
    /// Pads the file with 0xFF to a multiple of this.
    pub pad_to_size: Option<u32>,
    /// Puts RAM segments first and lets the header count only these.
    pub ram_only_header: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: 1,
            flash_mode: FlashMode::Qio,
            flash_size: String::from("1MB"),
            flash_frequency: None,
            min_rev: 0,
            min_rev_full: 0,
            max_rev_full: u16::MAX,
            secure_pad: None,
            elf_sha256_offset: None,
            append_digest: true,
            use_segments: false,
            mmu_page_size: None,
            pad_to_size: None,
            ram_only_header: false,
        }
    }
}

/// For which secure boot to pad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurePad {
    /// Secure boot v1: the signature ends the page.
    V1,
    /// Secure boot v2: the signature sector begins the next page.
    V2,
}

/// How an image came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notes {
    /// Sections of the program.
    pub sections: usize,
    /// Segments that were made of them.
    pub segments: usize,
    /// Where the MMU page size is from.
    pub page: PageSource,
    /// How far behind the start of mapped flash the first mapped segment begins, in bytes; for chips with one such segment.
    pub mapped_at: Option<u32>,
}

/// Where the MMU page size is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageSource {
    /// Given, told by the app's description, or the only one that the chip has.
    Known,
    /// Concluded from the address of the app's description, in bytes.
    Guessed(u32),
    /// The default: the address of the app's description fits no page size.
    Unaligned,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// One file.
    One(Vec<u8>),
    /// ESP8266 version 1: a file for RAM at offset 0 and the flash-mapped part.
    Split {
        /// For flash offset 0.
        ram: Vec<u8>,
        /// Flash offset and bytes of what is mapped from there.
        mapped: Option<(u32, Vec<u8>)>,
    },
}

/// Why no image could be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The ELF file is not readable.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The chip has no such frequency.
    #[error("flash frequency {asked} is not possible on {chip} ({possible})")]
    Frequency {
        /// What was asked for.
        asked: String,
        /// The chip.
        chip: String,
        /// What would be possible.
        possible: String,
    },
    /// The chip has no such size.
    #[error("flash size {asked} is not possible on {chip} ({possible})")]
    Size {
        /// What was asked for.
        asked: String,
        /// The chip.
        chip: String,
        /// What would be possible.
        possible: String,
    },
    /// The chip cannot have such MMU pages.
    #[error("MMU pages of {asked} bytes are not possible ({possible:?})")]
    MmuPage {
        /// What was asked for.
        asked: u64,
        /// What would be possible.
        possible: Vec<u32>,
    },
    /// The app's description is cut off or not text.
    #[error("the app description in .flash.appdesc is not readable")]
    AppDesc,
    /// An alignment of 0.
    #[error("section {0} has an alignment of 0")]
    Alignment(String),
    /// More than 16 segments.
    #[error("{0} segments, 16 are possible")]
    TooManySegments(usize),
    /// Two segments in one MMU page.
    #[error("the segments at {first:#010x} and {second:#010x} share an MMU page of {page} bytes")]
    SharedPage {
        /// Address of one.
        first: u64,
        /// Address of the other.
        second: u64,
        /// Bytes of a page.
        page: u32,
    },
    /// Several segments mapped to flash, ESP8266.
    #[error("{0} segments are mapped to flash, one is possible")]
    SeveralMapped(usize),
    /// A segment's length is no multiple of 4.
    #[error("segment {name} has {len} bytes, no multiple of 4")]
    Unaligned {
        /// Name of the section it stands for.
        name: String,
        /// Its bytes.
        len: usize,
    },
    /// A segment of 16 MB or more.
    #[error("segment {name} has {len} bytes, 16 MB or more")]
    TooLong {
        /// Name of the section it stands for.
        name: String,
        /// Its bytes.
        len: u64,
    },
    /// An address beyond 4 GB.
    #[error("a segment would begin beyond 4 GB, at {0:#x}")]
    Address(u64),
    /// No padding leads to the place where the segment must stand.
    #[error("the segment at {0:#010x} cannot be aligned in the file")]
    CannotAlign(u64),
    /// The SHA-256 would overwrite something or does not fit.
    #[error("the ELF's SHA-256 cannot be put at {0:#x}: {1}")]
    Sha256(u32, &'static str),
    /// Padding for secure boot without an appended SHA-256.
    #[error("padding for secure boot needs an appended SHA-256")]
    SecurePadDigest,
    /// ESP8266 versions 1 and 2 know no app description.
    #[error("ESP8266 images of version 1 and 2 cannot hold an app description (.flash.appdesc)")]
    AppDescVersion,
    /// ESP8266 versions are 1, 2 and 3.
    #[error("image version {0} is not 1, 2 or 3")]
    Version(u8),
    /// More segments than a byte counts.
    #[error("{0} segments with padding, a header can count 255")]
    Count(usize),
}

/// Builds an image of an ELF file for a chip.
pub fn build(chip: &Chip, elf: &[u8], settings: &Settings) -> Result<Built, BuildError> {
    build_hashed(chip, elf, settings, || Sha256::digest(elf).into())
}

/// The same, when the caller wants the ELF's SHA-256 too: `sha256` is asked for it when the image needs it.
pub fn build_hashed(
    chip: &Chip,
    elf: &[u8],
    settings: &Settings,
    sha256: impl FnOnce() -> [u8; 32],
) -> Result<Built, BuildError> {
    build_noted(chip, elf, settings, sha256).map(|(built, _)| built)
}

/// The same, with what is worth saying about it.
pub fn build_noted(
    chip: &Chip,
    elf: &[u8],
    settings: &Settings,
    sha256: impl FnOnce() -> [u8; 32],
) -> Result<(Built, Notes), BuildError> {
    let elf = Elf::parse(elf)?;
    let sections = contents(&elf, settings)?.len();
    let plan = Plan::new(chip, &elf, settings, sha256)?;
    let [from, to] = chip.image.irom.map(u64::from);
    let mapped = plan.parts.iter().map(|part| part.addr).find(|address| (from..to).contains(address));
    let mapped_at = mapped.map(|address| (address - from) as u32);
    let page = page(chip, &elf, settings)?.1;
    let notes = Notes { sections, segments: plan.parts.len(), page, mapped_at };
    Ok((assemble(chip, &elf, settings, plan)?, notes))
}

fn assemble<'a>(chip: &Chip, elf: &Elf<'a>, settings: &Settings, plan: Plan<'_, 'a>) -> Result<Built, BuildError> {
    match (chip.image.format, settings.version) {
        (ImageFormat::Esp32, _) => {
            let sha256 = plan.elf_sha256;
            let built = match plan.esp32(settings) {
                // Where esptool gives up, espflash joins what touches.
                Err(refused @ BuildError::SharedPage { .. }) if !settings.ram_only_header => {
                    let joined = Plan::joined(chip, elf, settings, sha256)?.esp32(settings);
                    joined.map_err(|_| refused)
                }
                built => built,
            };
            built.map(Built::One)
        }
        (ImageFormat::Esp8266, 1) => plan.esp8266_v1(),
        (ImageFormat::Esp8266, 2) => plan.esp8266_v2().map(Built::One),
        (ImageFormat::Esp8266, 3) => plan.esp8266_v3().map(Built::One),
        (ImageFormat::Esp8266, other) => Err(BuildError::Version(other)),
    }
}

/// What all formats need.
struct Plan<'c, 'a> {
    chip: &'c Chip,
    entry: u32,
    flash_mode: FlashMode,
    flash_size_freq: u8,
    page: u32,
    /// Segments after merging, in their order.
    parts: Vec<Part<'a>>,
    /// Segments may share an MMU page where they lie in the file as in memory.
    shares_pages: bool,
    /// Where in the image the ELF's SHA-256 goes.
    elf_sha256: Option<(u32, [u8; 32])>,
}

impl<'c, 'a> Plan<'c, 'a> {
    fn new(
        chip: &'c Chip,
        elf: &Elf<'a>,
        settings: &Settings,
        sha256: impl FnOnce() -> [u8; 32],
    ) -> Result<Self, BuildError> {
        let page = page_size(chip, elf, settings)?;
        let sections = contents(elf, settings)?;
        let tables = tables(chip, settings);
        let flash_size_freq = size_freq(tables, &settings.flash_size, settings.flash_frequency.as_deref())?;
        let elf_sha256 = elf_sha256_offset(chip, &sections, settings)?.map(|offset| (offset, sha256()));
        let parts = merge::merge(chip, tables, sections, settings.ram_only_header)?;
        if parts.len() > MAX_SEGMENTS {
            return Err(BuildError::TooManySegments(parts.len()));
        }
        let (entry, flash_mode) = (elf.entry, settings.flash_mode);
        Ok(Self { chip, entry, flash_mode, flash_size_freq, page, parts, shares_pages: false, elf_sha256 })
    }

    /// The same, with everything joined that touches.
    fn joined(
        chip: &'c Chip,
        elf: &Elf<'a>,
        settings: &Settings,
        elf_sha256: Option<(u32, [u8; 32])>,
    ) -> Result<Self, BuildError> {
        let page = page_size(chip, elf, settings)?;
        let flash_size_freq = size_freq(chip, &settings.flash_size, settings.flash_frequency.as_deref())?;
        let parts = merge::neighbours(contents(elf, settings)?)?;
        let (entry, flash_mode) = (elf.entry, settings.flash_mode);
        Ok(Self { chip, entry, flash_mode, flash_size_freq, page, parts, shares_pages: true, elf_sha256 })
    }
}

/// The sections of a program, or its segments when these are asked for.
fn contents<'a>(elf: &Elf<'a>, settings: &Settings) -> Result<Vec<Section<'a>>, BuildError> {
    match settings.use_segments {
        true => Ok(elf.segments.clone().ok_or(ElfError::NoSegments)?),
        false => Ok(elf.sections.clone()),
    }
}

/// The chip whose size and frequency codes and memory regions count. Version 3 of the ESP8266 was taken over from the
/// ESP32 (chip id 0), and the reference takes these with it.
fn tables<'c>(chip: &'c Chip, settings: &Settings) -> &'c Chip {
    let taken = || crate::chip::by_chip_id(0);
    match chip.image.format {
        ImageFormat::Esp8266 if settings.version == 3 => taken().unwrap_or(chip),
        _ => chip,
    }
}

/// The header's byte for flash size and frequency.
pub(crate) fn size_freq(chip: &Chip, size: &str, frequency: Option<&str>) -> Result<u8, BuildError> {
    Ok(size_code(chip, size)? | frequency.map_or(Ok(0), |name| frequency_code(chip, name))?)
}

/// The header's code for a flash size.
pub(crate) fn size_code(chip: &Chip, size: &str) -> Result<u8, BuildError> {
    let sizes = &chip.flash.sizes;
    sizes.get(size).copied().ok_or_else(|| BuildError::Size {
        asked: size.to_owned(),
        chip: chip.name.clone(),
        possible: keys(sizes),
    })
}

/// The header's code for a flash frequency.
pub(crate) fn frequency_code(chip: &Chip, frequency: &str) -> Result<u8, BuildError> {
    let frequencies = &chip.flash.frequencies;
    frequencies.get(frequency).copied().ok_or_else(|| BuildError::Frequency {
        asked: frequency.to_owned(),
        chip: chip.name.clone(),
        possible: keys(frequencies),
    })
}

fn keys(map: &std::collections::BTreeMap<String, u8>) -> String {
    map.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// An address that the image maps to flash, for chips and formats that map both code and data.
fn is_mapped(chip: &Chip, addr: u64) -> bool {
    match chip.image.format {
        ImageFormat::Esp8266 => addr > u64::from(chip.image.irom[0]),
        ImageFormat::Esp32 => [chip.image.irom, chip.image.drom]
            .iter()
            .any(|[from, to]| (u64::from(*from)..u64::from(*to)).contains(&addr)),
    }
}

const APP_DESC: &str = ".flash.appdesc";

/// The section with the app's description, when it is one that is mapped to flash.
fn mapped_app_desc<'s, 'a>(
    chip: &Chip,
    sections: &'s [Section<'a>],
    settings: &Settings,
) -> Result<Option<&'s Section<'a>>, BuildError> {
    let Some(section) = sections.iter().find(|section| section.name.contains(APP_DESC)) else { return Ok(None) };
    if chip.image.format == ImageFormat::Esp8266 && settings.version < 3 {
        return Err(BuildError::AppDescVersion);
    }
    Ok(is_mapped(chip, u64::from(section.addr)).then_some(section))
}

fn page_size(chip: &Chip, elf: &Elf<'_>, settings: &Settings) -> Result<u32, BuildError> {
    page(chip, elf, settings).map(|(size, _)| size)
}

/// The MMU page size in bytes, and where it is from.
fn page(chip: &Chip, elf: &Elf<'_>, settings: &Settings) -> Result<(u32, PageSource), BuildError> {
    let sizes = &chip.image.mmu_page_sizes;
    let default = sizes.first().copied().unwrap_or(0x1_0000);
    let known = |size| (size, PageSource::Known);
    let choose = |asked: u64| {
        let found = sizes.iter().copied().find(|size| u64::from(*size) == asked);
        match found {
            Some(size) => Ok(size),
            // A chip with one size keeps it, whatever is asked for.
            None if sizes.len() <= 1 => Ok(default),
            None => Err(BuildError::MmuPage { asked, possible: sizes.clone() }),
        }
    };
    if let Some(asked) = settings.mmu_page_size {
        return choose(u64::from(asked)).map(known);
    }
    let Some(section) = mapped_app_desc(chip, &elf.sections, settings)? else { return Ok(known(default)) };
    if sizes.len() <= 1 {
        return Ok(known(default));
    }
    if section.data.len().next_multiple_of(4) < AppDesc::LEN {
        return Err(BuildError::AppDesc);
    }
    let Some(desc) = AppDesc::decode(section.data) else { return Ok(known(default)) };
    if desc.mmu_page_log2 != 0 {
        return choose(desc.mmu_page_size().map_or(0, u64::from)).map(known);
    }
    // Before ESP-IDF 5.4 the description does not tell; but it follows the headers at the start of a page.
    let start = i64::from(section.addr) - 32;
    let mut fitting: Vec<u32> = sizes.iter().copied().filter(|size| start % i64::from(*size) == 0).collect();
    fitting.sort_unstable();
    Ok(fitting.last().map_or((default, PageSource::Unaligned), |size| (*size, PageSource::Guessed(*size))))
}

fn elf_sha256_offset(chip: &Chip, sections: &[Section<'_>], settings: &Settings) -> Result<Option<u32>, BuildError> {
    if let Some(offset) = settings.elf_sha256_offset.filter(|offset| *offset != 0) {
        return Ok(Some(offset));
    }
    // Image header, extended header, segment header, then the description.
    const IN_APP_DESC: u32 = 8 + 16 + 8 + AppDesc::ELF_SHA256_OFFSET as u32;
    Ok(mapped_app_desc(chip, sections, settings)?.map(|_| IN_APP_DESC))
}
