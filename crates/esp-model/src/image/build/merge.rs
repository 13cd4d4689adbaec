//! Sections to segments: neighbours in the same memory become one.

use std::borrow::Cow;

use super::BuildError;
use crate::chip::{Chip, ImageFormat};
use crate::image::elf::Section;
use crate::image::parse::regions_at;

/// A part of the future image.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub name: &'a str,
    pub addr: u64,
    pub data: Cow<'a, [u8]>,
}

/// No segment of this size gets into an image: 16 MB is the limit, and what padding may take off before is less.
const HOPELESS: u64 = 0x200_0000;

/// A section with the zeros that follow it.
struct Piece<'a> {
    section: Section<'a>,
    zeros: u64,
}

impl<'a> Piece<'a> {
    /// All lengths are multiples of 4.
    fn new(section: Section<'a>) -> Self {
        let len = section.data.len() as u64;
        Self { section, zeros: len.next_multiple_of(4) - len }
    }

    fn len(&self) -> u64 {
        self.section.data.len() as u64 + self.zeros
    }

    fn end(&self) -> u64 {
        u64::from(self.section.addr) + self.len()
    }

    /// Fills the gap to the next section when that one's alignment made it.
    fn pad_to(&mut self, next: &Self) -> Result<(), BuildError> {
        let align = u64::from(next.section.align);
        let aligned = self
            .end()
            .checked_next_multiple_of(align)
            .ok_or_else(|| BuildError::Alignment(next.section.name.to_owned()))?;
        if aligned == u64::from(next.section.addr) {
            self.zeros += aligned - self.end();
        }
        Ok(())
    }
}

pub(super) fn merge<'a>(
    chip: &Chip,
    tables: &Chip,
    mut sections: Vec<Section<'a>>,
    ram_only_header: bool,
) -> Result<Vec<Part<'a>>, BuildError> {
    if ram_only_header {
        sections.sort_by_key(|section| section.addr);
    }
    let pad = ram_only_header && chip.image.format != ImageFormat::Esp8266;

    let mut groups: Vec<Vec<Piece<'a>>> = Vec::new();
    for section in sections {
        let next = Piece::new(section);
        if let Some(group) = groups.last_mut()
            && let Some(last) = group.last_mut()
        {
            if pad {
                last.pad_to(&next)?;
            }
            let addr = u64::from(next.section.addr);
            if last.end() == addr && regions_at(tables, u64::from(last.section.addr)) == regions_at(tables, addr) {
                group.push(next);
                continue;
            }
        }
        groups.push(vec![next]);
    }
    groups.iter().map(|group| join(group)).collect()
}

/// The other way, for programs whose sections share MMU pages: all sections by their address, and those that touch become
/// one, whatever memory they are for; so do those between which there is only what aligns the next one to 4 bytes.
pub(super) fn neighbours<'a>(mut sections: Vec<Section<'a>>) -> Result<Vec<Part<'a>>, BuildError> {
    sections.retain(|section| !section.data.is_empty());
    sections.sort_by_key(|section| section.addr);
    let mut parts: Vec<Part<'a>> = Vec::new();
    for section in sections {
        let addr = u64::from(section.addr);
        if let Some(last) = parts.last_mut() {
            let end = last.addr + last.data.len() as u64;
            if end <= addr && addr <= end.next_multiple_of(4) {
                let joined = last.data.to_mut();
                joined.resize((addr - last.addr) as usize, 0);
                joined.extend_from_slice(section.data);
                continue;
            }
        }
        parts.push(Part { name: section.name, addr, data: Cow::Borrowed(section.data) });
    }
    for part in &mut parts {
        let len = part.data.len() as u64;
        if len >= HOPELESS {
            return Err(BuildError::TooLong { name: part.name.to_owned(), len });
        }
        if !len.is_multiple_of(4) {
            part.data.to_mut().resize(len.next_multiple_of(4) as usize, 0);
        }
    }
    Ok(parts)
}

fn join<'a>(group: &[Piece<'a>]) -> Result<Part<'a>, BuildError> {
    let (name, addr) = group.first().map_or(("", 0), |piece| (piece.section.name, piece.section.addr));
    let len: u64 = group.iter().map(Piece::len).sum();
    if len >= HOPELESS {
        return Err(BuildError::TooLong { name: name.to_owned(), len });
    }
    let data = match group {
        [one] if one.zeros == 0 => Cow::Borrowed(one.section.data),
        pieces => {
            let mut data = Vec::with_capacity(len as usize);
            for piece in pieces {
                data.extend_from_slice(piece.section.data);
                data.resize(data.len() + piece.zeros as usize, 0);
            }
            Cow::Owned(data)
        }
    };
    Ok(Part { name, addr: u64::from(addr), data })
}
