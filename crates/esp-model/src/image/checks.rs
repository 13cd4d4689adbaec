//! What would keep an image from starting.

use super::size::memory_types;
use super::{Image, Layout, MAX_SEGMENTS, SEGMENT_HEADER_LEN};
use crate::chip::Chip;

/// Something about an image that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The checksum does not fit.
    #[error("the checksum is {stored:#04x}, the segments give {computed:#04x}")]
    Checksum {
        /// What stands in the file.
        stored: u8,
        /// What it should be.
        computed: u8,
    },
    /// The SHA-256 does not fit.
    #[error("the SHA-256 at the end does not fit the image")]
    Digest,
    /// The SHA-256 is cut off.
    #[error("the file ends within the SHA-256")]
    DigestCut,
    /// The image is for another chip.
    #[error("the image is for {0}")]
    OtherChip(String),
    /// There is nothing in it.
    #[error("the image has no segments")]
    NoSegments,
    /// More segments than the bootloaders take.
    #[error("{0} segments, 16 are possible")]
    TooManySegments(usize),
    /// The program would start where nothing is loaded.
    #[error("the entry point {0:#010x} is in no segment")]
    Entry(u32),
    /// A segment is for an address where no memory is known (later revisions of a chip may have more).
    #[error("segment {index} is for {addr:#010x}, where no memory of the chip is known")]
    Nowhere {
        /// Which one, from 0.
        index: usize,
        /// Its address.
        addr: u32,
    },
    /// A mapped segment stands where the MMU cannot map it from.
    #[error("segment {index} for {addr:#010x} stands at {offset:#x}: no MMU page size fits both")]
    Misaligned {
        /// Which one, from 0.
        index: usize,
        /// Its address.
        addr: u32,
        /// Where its data stands in the file.
        offset: usize,
    },
    /// Two segments load to the same RAM.
    #[error("segments {0} and {1} overlap in memory")]
    Overlap(usize, usize),
    /// No chip has these revisions.
    #[error("the lowest chip revision {min} is above the highest {max}")]
    Revisions {
        /// Lowest, major × 100 + minor.
        min: u16,
        /// Highest.
        max: u16,
    },
    /// A mode that does not exist.
    #[error("flash mode {0} does not exist")]
    FlashMode(u8),
    /// A size that the chip does not know.
    #[error("flash size code {0:#04x} is unknown to the chip")]
    FlashSize(u8),
    /// A frequency that the chip does not know.
    #[error("flash frequency code {0:#03x} is unknown to the chip")]
    FlashFrequency(u8),
}

impl Finding {
    /// The image does not start with this. Others are repaired or ignored by the bootloaders.
    pub fn prevents_boot(&self) -> bool {
        !matches!(self, Self::Nowhere { .. } | Self::FlashMode(_) | Self::FlashSize(_) | Self::FlashFrequency(_))
    }
}

/// Checks an image as the ROM and the second-stage bootloader do, for the chip it names or the one that is meant.
pub fn check(image: &Image<'_>, meant: Option<&Chip>) -> Vec<Finding> {
    let mut found = Vec::new();
    if meant.is_some_and(|chip| chip.id != image.chip.id) {
        found.push(Finding::OtherChip(image.chip.name.clone()));
    }
    let computed = image.computed_checksum();
    if computed != image.checksum {
        found.push(Finding::Checksum { stored: image.checksum, computed });
    }
    if let Some(digest) = image.digest().filter(|digest| !digest.is_valid()) {
        found.push(if digest.stored.len() < super::DIGEST_LEN { Finding::DigestCut } else { Finding::Digest });
    }
    match image.segments.len() {
        0 => found.push(Finding::NoSegments),
        count if count > MAX_SEGMENTS => found.push(Finding::TooManySegments(count)),
        _ => {}
    }
    if let Some(extended) = image.extended.filter(|extended| extended.min_rev_full > extended.max_rev_full) {
        // 0: written by tools that did not know the field.
        if extended.max_rev_full != 0 {
            found.push(Finding::Revisions { min: extended.min_rev_full, max: extended.max_rev_full });
        }
    }
    segments(image, &mut found);
    flash(image, &mut found);
    found
}

fn segments(image: &Image<'_>, found: &mut Vec<Finding>) {
    let loaded = || image.segments.iter().enumerate().filter(|(_, segment)| segment.addr != 0 && segment.checksummed);
    let entry = image.header.entry;
    let holds =
        |segment: &super::Segment<'_>| segment.addr <= entry && ((entry - segment.addr) as usize) < segment.data.len();
    // The mapped segment of an ESP8266's second version carries no address.
    if image.layout == Layout::Extended && !loaded().any(|(_, segment)| holds(segment)) {
        found.push(Finding::Entry(entry));
    }
    let types = memory_types(image.chip).unwrap_or_default();
    let known = |addr: u32| types.iter().any(|memory| (addr.wrapping_sub(memory.start)) < memory.len);
    for (index, segment) in loaded() {
        let (addr, offset) = (segment.addr, segment.offset + SEGMENT_HEADER_LEN);
        let regions = segment.regions(image.chip);
        if regions.iter().all(|name| *name == "PADDING") && !known(addr) {
            found.push(Finding::Nowhere { index, addr });
        }
        let sizes = &image.chip.image.mmu_page_sizes;
        let fits = |page: &u32| addr % page == offset as u32 % page;
        if image.layout == Layout::Extended && image.chip.image.is_flash(addr) && !sizes.iter().any(fits) {
            found.push(Finding::Misaligned { index, addr, offset });
        }
    }
    let mut ranges: Vec<(u64, u64, usize)> = loaded()
        .filter(|(_, segment)| !segment.data.is_empty())
        .map(|(index, segment)| (u64::from(segment.addr), u64::from(segment.addr) + segment.data.len() as u64, index))
        .collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(_, end, first), (start, _, second)] = pair
            && start < end
        {
            found.push(Finding::Overlap(*first, *second));
        }
    }
}

fn flash(image: &Image<'_>, found: &mut Vec<Finding>) {
    let header = &image.header;
    if header.mode().is_none() {
        found.push(Finding::FlashMode(header.flash_mode));
    }
    if header.size_name(image.chip).is_none() {
        found.push(Finding::FlashSize(header.flash_size_freq & 0xf0));
    }
    if header.frequency_name(image.chip).is_none() {
        found.push(Finding::FlashFrequency(header.flash_size_freq & 0x0f));
    }
}
