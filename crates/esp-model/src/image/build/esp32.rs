//! Images of every chip but the ESP8266.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::merge::Part;
use super::writer::Writer;
use super::{BuildError, Plan, SecurePad, Settings, is_mapped};
use crate::chip::SecureBootScheme;
use crate::image::{Extended, Header, MAGIC, SEGMENT_HEADER_LEN};

const SEGMENT_HEADER: u64 = SEGMENT_HEADER_LEN as u64;

impl<'a> Plan<'_, 'a> {
    pub(super) fn esp32(mut self, settings: &Settings) -> Result<Vec<u8>, BuildError> {
        let append_digest = settings.append_digest && !settings.ram_only_header;
        let mut parts = std::mem::take(&mut self.parts);
        let bytes: usize = parts.iter().map(|part| part.data.len()).sum();
        let mut writer = Writer::new(bytes + (parts.len() + 1) * self.page as usize, self.elf_sha256);
        writer.out.extend_from_slice(&self.header().encode());
        writer.out.extend_from_slice(&self.extended(settings, append_digest).encode());

        parts.sort_by_key(|part| part.addr);
        let (mut mapped, mut ram): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| is_mapped(self.chip, part.addr));
        to_front(&mut mapped, ".flash.appdesc");
        to_front(&mut ram, ".dram0.bootdesc");
        if !self.shares_pages {
            self.check_pages(&mapped)?;
        }

        let mut count = if settings.ram_only_header {
            let count = ram.len();
            self.ram_first(&mut writer, &ram, mapped)?;
            count
        } else {
            self.mapped_first(&mut writer, ram, mapped)?
        };

        let secure_pad = self.secure_pad_of(settings);
        if let Some(pad) = secure_pad {
            if !append_digest {
                return Err(BuildError::SecurePadDigest);
            }
            self.secure_pad(&mut writer, pad)?;
            count += 1;
        }
        if !settings.ram_only_header {
            writer.finish_checksum();
        }
        writer.set_count(count)?;
        let mut out = writer.out;
        if append_digest {
            let digest = Sha256::digest(&out);
            out.extend_from_slice(&digest);
        }
        if let Some(size) = settings.pad_to_size.filter(|size| *size != 0) {
            out.resize(out.len().next_multiple_of(size as usize), 0xff);
        }
        Ok(out)
    }

    pub(super) fn header(&self) -> Header {
        Header {
            magic: MAGIC,
            segments: 0,
            flash_mode: self.flash_mode as u8,
            flash_size_freq: self.flash_size_freq,
            entry: self.entry,
        }
    }

    fn extended(&self, settings: &Settings, append_digest: bool) -> Extended {
        Extended {
            wp_pin: Extended::WP_PIN_DISABLED,
            drive: [0; 3],
            chip_id: self.chip.chip_id.unwrap_or(0),
            min_rev: settings.min_rev,
            min_rev_full: settings.min_rev_full,
            max_rev_full: settings.max_rev_full,
            reserved: [0; 4],
            append_digest: u8::from(append_digest),
        }
    }

    /// Two segments in one MMU page cannot both be mapped.
    pub(super) fn check_pages(&self, mapped: &[Part<'_>]) -> Result<(), BuildError> {
        let page = u64::from(self.page);
        match mapped.windows(2).find(|pair| matches!(pair, [a, b] if a.addr / page == b.addr / page)) {
            Some([a, b]) => Err(BuildError::SharedPage { first: a.addr, second: b.addr, page: self.page }),
            _ => Ok(()),
        }
    }

    /// The usual order: mapped segments at fitting file offsets, with pieces of the RAM segments as padding.
    fn mapped_first(
        &self,
        writer: &mut Writer,
        ram: Vec<Part<'a>>,
        mapped: Vec<Part<'a>>,
    ) -> Result<usize, BuildError> {
        let mut count = 0;
        let mut ram = Ram::new(&ram);
        let mut before: Option<(u64, usize)> = None;
        for segment in mapped {
            while let Some(needed) = self.padding_before(writer.at(), segment.addr)? {
                match ram.take(needed) {
                    Some((addr, piece)) => writer.segment(segment.name, addr, piece)?,
                    None => writer.segment(segment.name, 0, &vec![0; needed])?,
                }
                count += 1;
            }
            self.check_shared(&mut before, (segment.addr, writer.at() + SEGMENT_HEADER_LEN))?;
            self.mapped_segment(writer, segment, true)?;
            count += 1;
        }
        while let Some((name, addr, data)) = ram.next() {
            writer.segment(name, addr, data)?;
            count += 1;
        }
        Ok(count)
    }

    /// A page of memory shows one page of flash: two segments in it must be as far apart in the file as in memory.
    fn check_shared(&self, before: &mut Option<(u64, usize)>, this: (u64, usize)) -> Result<(), BuildError> {
        let page = u64::from(self.page);
        match before.replace(this) {
            Some((first, at))
                if first / page == this.0 / page && this.0.wrapping_sub(first) != (this.1 - at) as u64 =>
            {
                Err(BuildError::SharedPage { first, second: this.0, page: self.page })
            }
            _ => Ok(()),
        }
    }

    /// Data bytes of the padding segment that must come before a mapped segment; None when it can stand here.
    fn padding_before(&self, at: usize, addr: u64) -> Result<Option<usize>, BuildError> {
        if self.shares_pages {
            return Ok(self.padding_in_page(at, addr));
        }
        let page = u64::from(self.page);
        // Bytes to where the header of the mapped segment must stand. Below 0 or above a page as the reference has it.
        let past = (addr % page) as i64 - SEGMENT_HEADER as i64;
        let page = page as i64;
        let gap = page - (at as i64 % page) + past;
        if gap == 0 || gap == page {
            return Ok(None);
        }
        let data = gap - SEGMENT_HEADER as i64;
        let data = if data < 0 { data + page } else { data };
        // With exactly a header's room there is no padding that fits.
        usize::try_from(data).ok().filter(|data| *data != 0).map(Some).ok_or(BuildError::CannotAlign(addr))
    }

    /// The same, never more than a page: a segment that shares a page with the one before stays in it.
    fn padding_in_page(&self, at: usize, addr: u64) -> Option<usize> {
        let page = u64::from(self.page);
        let gap = (addr.wrapping_sub(SEGMENT_HEADER).wrapping_sub(at as u64)) % page;
        match gap {
            0 => None,
            gap if gap > SEGMENT_HEADER => Some((gap - SEGMENT_HEADER) as usize),
            gap => Some((gap + page - SEGMENT_HEADER) as usize),
        }
    }

    /// RAM segments first; the mapped ones behind the checksum, where the ROM does not look.
    fn ram_first(&self, writer: &mut Writer, ram: &[Part<'a>], mapped: Vec<Part<'a>>) -> Result<(), BuildError> {
        for segment in ram {
            writer.segment(segment.name, segment.addr, &segment.data)?;
        }
        writer.finish_checksum();
        let (page, load) = (i64::from(self.page), i64::from(self.chip.flash.bootloader_offset));
        for segment in mapped.into_iter().rev() {
            let mut gap = (segment.addr as i64 - writer.at() as i64 - 2 * SEGMENT_HEADER as i64).rem_euclid(page);
            // The image will be flashed to where the ROM looks for a bootloader.
            if gap < load {
                gap += page;
            }
            writer.hidden_segment(segment.name, 0, &vec![0; usize::try_from(gap - load).unwrap_or(0)])?;
            self.mapped_segment(writer, segment, false)?;
        }
        Ok(())
    }

    fn mapped_segment(&self, writer: &mut Writer, mut segment: Part<'a>, counted: bool) -> Result<(), BuildError> {
        let least = self.chip.image.min_last_page as usize;
        let over = (writer.at() + SEGMENT_HEADER_LEN + segment.data.len()) % self.page as usize;
        if over < least {
            let mut data = segment.data.into_owned();
            data.resize(data.len() + least - over, 0);
            segment.data = Cow::Owned(data);
        }
        if counted {
            writer.segment(segment.name, segment.addr, &segment.data)
        } else {
            writer.hidden_segment(segment.name, segment.addr, &segment.data).map(|_| ())
        }
    }

    /// The padding asked for, unless it is for a secure boot that the chip does not have.
    fn secure_pad_of(&self, settings: &Settings) -> Option<SecurePad> {
        let has_v1 = || self.chip.security.secure_boot.iter().any(|boot| boot.scheme == SecureBootScheme::V1);
        settings.secure_pad.filter(|pad| *pad != SecurePad::V1 || has_v1())
    }

    /// Zeros so that checksum, SHA-256 and signature end where a page ends.
    fn secure_pad(&self, writer: &mut Writer, pad: SecurePad) -> Result<(), BuildError> {
        let page = i64::from(self.page);
        let past = (writer.at() as i64 + SEGMENT_HEADER as i64) % page;
        // Padding to 16 and the checksum; SHA-256; and for v1 version word, signature, and 12 bytes of filling.
        let behind = 16 + 32 + if pad == SecurePad::V1 { 4 + 64 + 12 } else { 0 };
        let zeros = (page - past - behind).rem_euclid(page);
        writer.segment("padding", 0, &vec![0; usize::try_from(zeros).unwrap_or(0)])
    }
}

fn to_front(parts: &mut [Part<'_>], name: &str) {
    if let Some(at) = parts.iter().position(|part| part.name == name)
        && let Some(head) = parts.get_mut(..=at)
    {
        head.rotate_right(1);
    }
}

/// RAM segments of which pieces are taken off.
struct Ram<'p, 'a> {
    parts: std::slice::Iter<'p, Part<'a>>,
    current: Option<(&'p str, u64, &'p [u8])>,
}

impl<'p, 'a> Ram<'p, 'a> {
    fn new(parts: &'p [Part<'a>]) -> Self {
        let mut parts = parts.iter();
        let current = parts.next().map(whole);
        Self { parts, current }
    }

    /// The whole of what is left of the next segment.
    fn next(&mut self) -> Option<(&'p str, u64, &'p [u8])> {
        std::mem::replace(&mut self.current, self.parts.next().map(whole))
    }

    /// At most `len` bytes from the front. None when nothing is left, or it is not worth a header.
    fn take(&mut self, len: usize) -> Option<(u64, &'p [u8])> {
        if len <= SEGMENT_HEADER_LEN {
            return None;
        }
        let (name, addr, data) = self.current?;
        match data.split_at_checked(len) {
            Some((piece, rest)) if !rest.is_empty() => {
                self.current = Some((name, addr + len as u64, rest));
                Some((addr, piece))
            }
            _ => self.next().map(|(_, addr, data)| (addr, data)),
        }
    }
}

fn whole<'p>(part: &'p Part<'_>) -> (&'p str, u64, &'p [u8]) {
    (part.name, part.addr, &part.data)
}
