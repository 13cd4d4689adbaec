//! The three formats of the ESP8266.

use sha2::{Digest as _, Sha256};

use super::merge::Part;
use super::writer::Writer;
use super::{BuildError, Built, Plan, is_mapped};
use crate::image::{Header, MAGIC_V2};

/// The second byte of the leading header of version 2.
const V2_SEGMENTS: u8 = 4;

impl<'a> Plan<'_, 'a> {
    /// A file that the ROM loads to RAM, and the mapped segment as it is.
    pub(super) fn esp8266_v1(mut self) -> Result<Built, BuildError> {
        let (mapped, ram) = self.split_mapped()?;
        let mut writer = Writer::new(0, self.elf_sha256);
        self.ram_part(&mut writer, &ram)?;
        let start = u64::from(self.chip.image.irom[0]);
        let mapped = mapped.map(|part| ((part.addr - start) as u32, part.data.into_owned()));
        Ok(Built::Split { ram: writer.out, mapped })
    }

    /// The mapped segment with a header of its own, then version 1, then a CRC-32.
    pub(super) fn esp8266_v2(mut self) -> Result<Vec<u8>, BuildError> {
        let (mapped, ram) = self.split_mapped()?;
        let mut writer = Writer::new(0, self.elf_sha256);
        let lead = Header { magic: MAGIC_V2, segments: V2_SEGMENTS, ..self.header() };
        writer.out.extend_from_slice(&lead.encode());
        if let Some(part) = mapped {
            let mut data = part.data.into_owned();
            data.resize(data.len().next_multiple_of(16), 0);
            writer.hidden_segment(part.name, 0, &data)?;
        }
        self.ram_part(&mut writer, &ram)?;
        let crc = sdk_crc32(&writer.out);
        writer.out.extend_from_slice(&crc.to_le_bytes());
        Ok(writer.out)
    }

    /// Like the later chips', with a plain header and without padding.
    pub(super) fn esp8266_v3(mut self) -> Result<Vec<u8>, BuildError> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain(|part| !part.data.is_empty());
        parts.sort_by_key(|part| part.addr);
        let (mapped, ram): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| is_mapped(self.chip, part.addr));
        self.check_pages(&mapped)?;

        let mut writer = Writer::new(0, self.elf_sha256);
        writer.out.extend_from_slice(&self.header().encode());
        for part in &mapped {
            // The linker script leaves room for a segment's header at its start.
            let skip = if part.name == ".flash.rodata" { part.data.len().min(8) } else { 0 };
            writer.segment(part.name, part.addr, part.data.get(skip..).unwrap_or_default())?;
        }
        for part in &ram {
            writer.segment(part.name, part.addr, &part.data)?;
        }
        writer.finish_checksum();
        writer.set_count(mapped.len() + ram.len())?;
        let digest = Sha256::digest(&writer.out);
        writer.out.extend_from_slice(&digest);
        Ok(writer.out)
    }

    fn ram_part(&self, writer: &mut Writer, ram: &[Part<'_>]) -> Result<(), BuildError> {
        let header = Header { segments: u8::try_from(ram.len()).unwrap_or(u8::MAX), ..self.header() };
        writer.out.extend_from_slice(&header.encode());
        for part in ram {
            writer.segment(part.name, part.addr, &part.data)?;
        }
        writer.finish_checksum();
        Ok(())
    }

    /// The one mapped segment, and the others in the ELF's order.
    fn split_mapped(&mut self) -> Result<(Option<Part<'a>>, Vec<Part<'a>>), BuildError> {
        let [from, to] = self.chip.image.irom;
        let range = u64::from(from)..u64::from(to);
        let (mut mapped, ram): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parts).into_iter().partition(|part| range.contains(&part.addr));
        if mapped.len() > 1 {
            return Err(BuildError::SeveralMapped(mapped.len()));
        }
        Ok((mapped.pop(), ram))
    }
}

/// The CRC-32 of the SDK's bootloader: the usual one, folded to 31 bits.
fn sdk_crc32(data: &[u8]) -> u32 {
    let crc = crc32fast::hash(data);
    if crc & 0x8000_0000 != 0 { !crc } else { crc + 1 }
}
