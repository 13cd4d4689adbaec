//! What is checked against the device before the first byte of firmware: table, header, signatures, encryption.

use esp_link::LoaderError;
use esp_model::boot::{Device, Trust};
use esp_model::chip::{Chip, SecureBootScheme};
use esp_model::image::{self, Header};
use esp_model::job::Job;
use esp_model::partition::{self, Table};
use esp_model::secure::{self, boot_v2};

use crate::boot::check;
use crate::error::{Code, ToolError};
use crate::firmware::common::{self, Signature, signature};
use crate::flash::files::Piece;
use crate::flash::{belongs, keep, outlook};
use crate::partition::on_device;
use crate::session::device::Connected;

/// The table that is in force once the pieces are written, and where it stands.
struct Layout {
    table: Table,
    offset: u32,
    /// It comes with the pieces.
    is_new: bool,
}

/// All checks that need the device. Returns what stands out without being wrong.
pub fn device(
    connected: &mut Connected,
    job: &Job,
    pieces: &[Piece],
    flash_size: u32,
    accept_wrong_place: bool,
) -> Result<Vec<String>, ToolError> {
    let state = check::state_of(connected, job)?;
    signatures(connected, job, pieces, &state)?;
    let layout = layout(connected, job, pieces)?;
    let mut notes = outlook::notes(connected, job, pieces, layout.as_ref().map(|layout| &layout.table), &state)?;
    let Some(layout) = layout else { return Ok(notes) };
    if !accept_wrong_place {
        belongs::check(pieces, connected.loader.chip(), Some(&layout.table))?;
    }
    if layout.is_new {
        on_device::check(&layout.table, flash_size, layout.offset)?;
        notes.extend(outlook::table_change(connected, job, &layout.table, layout.offset, &state)?);
    }
    bootloader_room(connected.loader.chip(), pieces, &layout)?;
    notes.extend(header_size(connected, job, pieces, &layout, flash_size)?);
    for piece in pieces {
        notes.extend(fit(piece, &layout)?);
    }
    Ok(notes)
}

fn layout(connected: &mut Connected, job: &Job, pieces: &[Piece]) -> Result<Option<Layout>, ToolError> {
    if let Some(piece) = pieces.iter().find(|piece| Table::is_binary(piece.head())) {
        let head = piece.head().get(..partition::TABLE_LENGTH).unwrap_or(piece.head());
        let table = Table::from_binary(head, true)?;
        return Ok(Some(Layout { table, offset: piece.address, is_new: true }));
    }
    // A merged file brings its table along.
    for piece in pieces {
        let Some(found) = image::kind::flash_layout(piece.head()) else { continue };
        let bytes = piece.head().get(found.table..).unwrap_or_default();
        let table = Table::from_binary(bytes.get(..partition::TABLE_LENGTH).unwrap_or(bytes), true)?;
        return Ok(Some(Layout { table, offset: piece.address + found.table as u32, is_new: true }));
    }
    if !connected.loader.can_read() {
        return Ok(None);
    }
    let found = keep::table(connected, job, None)?;
    Ok(found.map(|found| Layout { table: found.table, offset: found.offset, is_new: false }))
}

/// The bootloader must end before the table, wherever that comes from.
fn bootloader_room(chip: &Chip, pieces: &[Piece], layout: &Layout) -> Result<(), ToolError> {
    let bootloader = pieces.iter().find(|piece| piece.address == chip.flash.bootloader_offset);
    match bootloader {
        Some(piece) if piece.end() > u64::from(layout.offset) && image::kind::flash_layout(piece.head()).is_none() => {
            let (path, end, table) = (&piece.path, piece.end(), layout.offset);
            Err(ToolError::new(
                Code::Overlap,
                format!("`{path}` ends at {end:#x}, the partition table is at {table:#x}"),
            ))
        }
        _ => Ok(()),
    }
}

/// A partition beyond the size that the bootloader's header names is a silent boot loop. What was wrong before and is not
/// touched is only told.
fn header_size(
    connected: &mut Connected,
    job: &Job,
    pieces: &[Piece],
    layout: &Layout,
    flash_size: u32,
) -> Result<Option<String>, ToolError> {
    let chip = connected.loader.chip();
    let offset = chip.flash.bootloader_offset;
    let written = pieces.iter().find(|piece| piece.address <= offset && u64::from(offset) < piece.end());
    let head = match written {
        Some(piece) => piece.at(u64::from(offset - piece.address), Header::LEN)?,
        None if connected.loader.mode() == esp_link::Mode::SecureDownload => return Ok(None),
        None => connected.loader.read_flash_bytes(&job.silent(), offset, Header::LEN as u32)?,
    };
    let header = Header::decode(&head).filter(|header| header.magic == image::MAGIC);
    let named = header.and_then(|header| header.size_name(chip).and_then(crate::args::parse_number));
    match named {
        Some(named) if layout.table.end() > named => {
            let end = layout.table.end();
            let text = format!(
                "the partition table ends at {end:#x}, the bootloader's header names {named:#x} bytes of flash"
            );
            if !layout.is_new && written.is_none() {
                return Ok(Some(format!("{text}: the device cannot start, before and after this write")));
            }
            let size =
                crate::flash::header::name_of(chip, flash_size.into()).unwrap_or_else(|| format!("{flash_size:#x}"));
            let next = match written {
                Some(piece) if piece.address == offset => format!(
                    "repeat the call with flash_size=\"{size}\", which sets it in the header as it is written; or \
                     esp_bootloader_build input_file=\"{}\" config={{\"flash_size\": \"{size}\"}} makes such a file",
                    piece.path
                ),
                Some(_) => format!("merge the file again with esp_binary_merge flash_size=\"{size}\""),
                None => format!(
                    "set the header that is in flash with esp_flash_optimize apply=true, or write the bootloader along with \
                     flash_size=\"{size}\""
                ),
            };
            Err(ToolError::new(Code::HeaderTooSmall, text).next(next))
        }
        _ => Ok(None),
    }
}

/// A file that begins where a partition begins must end in it.
fn fit(piece: &Piece, layout: &Layout) -> Result<Option<String>, ToolError> {
    let is_app = piece.image().is_some_and(|image| image.app_desc().is_some());
    let partitions = &layout.table.partitions;
    match partitions.iter().find(|partition| partition.offset == piece.address && !partition.is_primary()) {
        Some(partition) if piece.end() > partition.end() => {
            let (path, size, name, room) = (&piece.path, piece.size(), &partition.name, partition.size);
            let text = format!("`{path}` has {size} bytes, the partition `{name}` {room}");
            Err(ToolError::new(if is_app { Code::AppTooLarge } else { Code::PartitionOverflow }, text))
        }
        Some(partition) if is_app && partition.kind != partition::APP => {
            Ok(Some(format!("`{}` is an app, but `{}` is not an app partition", piece.path, partition.name)))
        }
        None if is_app => {
            Ok(Some(format!("`{}` is an app, but no partition begins at {:#x}", piece.path, piece.address)))
        }
        _ => Ok(None),
    }
}

/// A chip with secure boot starts nothing that is not signed for it: refuse it before it is written.
fn signatures(connected: &mut Connected, job: &Job, pieces: &[Piece], state: &Device) -> Result<(), ToolError> {
    let Some(trust) = secure_boot(connected, job, state)? else { return Ok(()) };
    for piece in pieces {
        // What does not read as an image is data, or encrypted: nothing can be said of it.
        let Some(found) = piece.image() else { continue };
        // The image and its signatures, whatever else is behind them in the file.
        let end = found.len().next_multiple_of(secure::SECTOR) + secure::SECTOR;
        let signed = piece.at(0, end)?;
        let Ok(found) = image::parse(&signed) else { continue };
        let refused = |code, why: &str| ToolError::new(code, format!("secure boot is on and `{}` {why}", piece.path));
        match (trust.as_ref().map(|trust| trust.scheme), signature(&found, &signed)) {
            (None | Some(SecureBootScheme::V1), Some(Signature::V1)) => {}
            // The bootloader of scheme V1 is trusted by a digest in flash, which only its own chip can make.
            (Some(SecureBootScheme::V1), None) if found.app_desc().is_none() => {}
            (None | Some(SecureBootScheme::V2Rsa | SecureBootScheme::V2Ecdsa), Some(Signature::V2(blocks))) => {
                if !blocks.iter().any(boot_v2::Checked::is_valid) {
                    return Err(refused(Code::SignatureInvalid, "carries a signature that does not fit it"));
                }
                if !blocks.iter().any(|block| trust.as_ref().is_none_or(|trust| trusts(trust, block))) {
                    return Err(refused(
                        Code::SignatureUntrusted,
                        "is signed with a key that this chip does not trust",
                    ));
                }
            }
            _ => return Err(refused(Code::SignatureMissing, "carries no signature for it")),
        }
    }
    Ok(())
}

/// A key digest in the eFuses that is not revoked fits the block; where none can be seen, it is taken to.
fn trusts(trust: &Trust, block: &boot_v2::Checked) -> bool {
    trust.digests.is_empty() || trust.has(&block.block.key_digest())
}

/// Secure boot is on; inside, whose signatures count, where that can be read.
fn secure_boot(connected: &mut Connected, job: &Job, state: &Device) -> Result<Option<Option<Trust>>, ToolError> {
    if let Some(state) = &state.secure_boot {
        return Ok(state.enabled.clone().map(Some));
    }
    match connected.loader.security_info(job) {
        Ok(info) => Ok((info.flags & 1 != 0).then_some(None)),
        Err(LoaderError::Unsupported { .. }) => Ok(None),
        Err(error) if error.is_refusal() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Linked programs among the pieces become images for this chip.
pub fn convert(chip: &'static Chip, flash_size: u32, pieces: &mut [Piece]) -> Result<(), ToolError> {
    for piece in pieces.iter_mut().filter(|piece| crate::flash::project::is_elf(piece.head())) {
        let size = format!("{}MB", flash_size >> 20);
        let flash_size =
            if chip.flash.sizes.contains_key(&size) { size } else { image::Settings::default().flash_size };
        let settings = image::Settings { flash_size, ..image::Settings::default() };
        piece.convert(|elf| common::app_image(image::build(chip, elf, &settings)?))?;
    }
    Ok(())
}
