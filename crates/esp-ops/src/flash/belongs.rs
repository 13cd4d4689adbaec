//! What is given as firmware belongs where it shall go: one check for every tool that takes firmware, before the first byte.

use esp_model::chip::Chip;
use esp_model::image::content::Content;
use esp_model::image::{self, checks, kind};
use esp_model::partition::{self, DEFAULT_TABLE_OFFSET, Table};

use crate::error::{Code, ToolError};
use crate::flash::files::Piece;
use crate::flash::release;
use crate::session::device::Connected;

/// Where the first app lies in ESP-IDF's usual tables: counts where there is no table to ask.
const USUAL_APP: u32 = 0x1_0000;

/// What is looked for at a flash address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Bootloader,
    Table,
    /// An app partition, by name.
    App(String),
    Data,
}

/// Refuses what does not belong where it shall go. `table`: the table on the device; one among the pieces counts more.
pub fn check(pieces: &[Piece], chip: &Chip, table: Option<&Table>) -> Result<(), ToolError> {
    let own = table_among(pieces);
    let table = own.as_ref().or(table);
    pieces.iter().try_for_each(|piece| check_one(piece, chip, table))
}

/// A linked program where an image is expected: for tools that do not turn one into an image.
pub fn refuse_programs(pieces: &[Piece]) -> Result<(), ToolError> {
    match pieces.iter().find(|piece| matches!(piece.content(), Content::Elf)) {
        Some(piece) => {
            let text = format!("`{}` is a linked program (ELF): a chip does not start one", piece.path);
            Err(ToolError::new(Code::NotFirmware, text)
                .next("make an image of it with esp_elf_to_binary, or a whole set with esp_app_prepare"))
        }
        None => Ok(()),
    }
}

/// What is no firmware at all, whatever its address: where nothing tells the chip, and so not where things belong.
pub fn refuse_foreign(piece: &Piece) -> Result<(), ToolError> {
    match piece.content() {
        Content::Foreign(what) => {
            let error = ToolError::new(Code::NotFirmware, format!("`{}` is {}", piece.path, what.name()));
            Err(match std::str::from_utf8(piece.head()).is_ok_and(release::is_build) {
                true => {
                    error.next(format!("this describes a build: give it as project={} instead of files", piece.path))
                }
                false => error.next(what.remedy()),
            })
        }
        _ => refuse_programs(std::slice::from_ref(piece)),
    }
}

/// A file that should be an app's image and is another thing; an address does not matter.
pub fn refuse_no_app(piece: &Piece) -> Result<(), ToolError> {
    refuse_foreign(piece)?;
    let (what, next) = match piece.content() {
        Content::Cut { why, .. } => {
            let text = format!("`{}` is cut off or damaged: {why}", piece.path);
            return Err(ToolError::new(Code::ImageCut, text));
        }
        Content::Merged { .. } => (
            String::from("a merged image (bootloader, partition table, apps)"),
            format!("take it apart with esp_binary_merge split_file={}, and give the app's file", piece.path),
        ),
        Content::Bootloader(_) => ("a bootloader".into(), "give the app's own file".into()),
        _ => return Ok(()),
    };
    Err(ToolError::new(Code::NotFirmware, format!("`{}` is no app: it is {what}", piece.path)).next(next))
}

/// The table that comes with the pieces, alone or in a merged file.
fn table_among(pieces: &[Piece]) -> Option<Table> {
    let read = |bytes: &[u8]| Table::from_binary(bytes.get(..partition::TABLE_LENGTH).unwrap_or(bytes), true).ok();
    pieces.iter().find_map(|piece| {
        let head = piece.head();
        let from = match Table::is_binary(head) {
            true => Some(0),
            false => kind::flash_layout(head).map(|layout| layout.table),
        };
        read(head.get(from?..)?)
    })
}

fn place(address: u32, chip: &Chip, table: Option<&Table>) -> Place {
    if address == chip.flash.bootloader_offset {
        return Place::Bootloader;
    }
    if address == DEFAULT_TABLE_OFFSET {
        return Place::Table;
    }
    match table {
        Some(table) => {
            let here = |one: &&partition::Partition| one.kind == partition::APP && one.offset == address;
            table.partitions.iter().find(here).map_or(Place::Data, |one| Place::App(one.name.clone()))
        }
        None if address == USUAL_APP => Place::App(String::from("app")),
        None => Place::Data,
    }
}

/// The partition that an app goes to first.
fn first_app(table: Option<&Table>) -> Option<&partition::Partition> {
    let table = table?;
    let factory = table.find_kind(partition::APP, partition::APP_FACTORY);
    factory.or_else(|| table.ota_slots().into_iter().next())
}

/// Where an app goes, in words.
fn app_place(table: Option<&Table>) -> String {
    match first_app(table) {
        Some(one) => format!("the app partition `{}` at {:#x}", one.name, one.offset),
        None => format!("the app partition, usually at {USUAL_APP:#x}"),
    }
}

fn check_one(piece: &Piece, chip: &Chip, table: Option<&Table>) -> Result<(), ToolError> {
    let (path, address) = (&piece.path, piece.address);
    let place = place(address, chip, table);
    let boots = matches!(place, Place::Bootloader | Place::App(_));
    let wrong = |text: String, next: String| {
        Err(ToolError::new(Code::WrongPlace, text).seen("address", format!("{address:#x}")).next(next))
    };
    match piece.content() {
        Content::Foreign(what) if place != Place::Data || what.is_never_meant() || covers_code(piece, chip, table) => {
            refuse_foreign(piece)
        }
        Content::Merged { base, app, .. } if address != base => {
            let text = format!(
                "`{path}` is a merged image (bootloader, partition table, apps): its place is {base:#x}, not {address:#x}"
            );
            let part = app.map_or_else(String::new, |at| {
                format!(", or take it apart with esp_binary_merge split_file: its app begins at {at:#x} in the file")
            });
            wrong(text, format!("give it with address {base:#x}{part}"))
        }
        Content::App(_) if address <= DEFAULT_TABLE_OFFSET && !matches!(place, Place::App(_)) => {
            let (home, bootloader) = (app_place(table), chip.flash.bootloader_offset);
            let text = format!(
                "`{path}` is an app image, and {address:#x} is not where an app can start: its place is {home}"
            );
            let next = match path.to_ascii_lowercase().ends_with(".uf2") {
                // TinyUF2 counts from the partition it writes to.
                true => format!(
                    "addresses in a UF2 file for a USB bootloader begin at the app partition: give the file with address {:#x}, \
                     which is added to them",
                    first_app(table).map_or(USUAL_APP, |one| one.offset)
                ),
                false => format!(
                    "give the app with its own address, or the merged (factory) file at 0; the bootloader belongs at {bootloader:#x}"
                ),
            };
            wrong(text, next)
        }
        Content::Bootloader(of) if matches!(place, Place::App(_)) => {
            let home = of.flash.bootloader_offset;
            let text =
                format!("`{path}` is a bootloader, and at {address:#x} an app is started: its place is {home:#x}");
            wrong(text, format!("give the bootloader with address {home:#x}, and the app's own file here"))
        }
        Content::Ram(of) if matches!(place, Place::App(_)) => {
            let text = format!(
                "`{path}` is not an app: nothing of it is mapped from flash; it is a bootloader (its place is {:#x}) or a program for RAM",
                of.flash.bootloader_offset
            );
            wrong(text, String::from("give the app's own file here; a program for RAM runs with esp_load_ram"))
        }
        Content::Other if boots => data_of_its_own(piece, table),
        Content::Cut { why, .. } if boots => {
            let text = format!("`{path}` is cut off or damaged: {why}; the file has {} bytes", piece.size());
            Err(ToolError::new(Code::ImageCut, text))
        }
        Content::App(_) | Content::Bootloader(_) if boots => undamaged(piece),
        _ => Ok(()),
    }
}

/// It lies over a place that is read at the start: nothing before the table is free, and apps are where the table says.
fn covers_code(piece: &Piece, chip: &Chip, table: Option<&Table>) -> bool {
    let covers = |address: u32| piece.address <= address && u64::from(address) < piece.end();
    let apps = table.iter().flat_map(|table| &table.partitions).filter(|one| one.kind == partition::APP);
    let app = table.is_none().then_some(USUAL_APP);
    piece.address < DEFAULT_TABLE_OFFSET
        || covers(chip.flash.bootloader_offset)
        || apps.map(|one| one.offset).chain(app).any(covers)
}

/// A table, an NVS partition or a file system where code is started. Bytes without a structure may be ciphertext.
fn data_of_its_own(piece: &Piece, table: Option<&Table>) -> Result<(), ToolError> {
    let head = piece.head();
    let (what, kind) = match kind::recognise(head) {
        kind::Kind::PartitionTable => {
            let text = format!(
                "`{}` is a partition table, and at {:#x} code is started: its place is {DEFAULT_TABLE_OFFSET:#x}",
                piece.path, piece.address
            );
            let next = format!("give the table with address {DEFAULT_TABLE_OFFSET:#x}");
            return Err(ToolError::new(Code::WrongPlace, text).next(next));
        }
        kind::Kind::Nvs => ("an NVS partition", partition::DATA_NVS),
        kind::Kind::Otadata => ("an otadata partition", partition::DATA_OTA),
        kind::Kind::FileSystem => ("a file system", partition::DATA_SPIFFS),
        _ => return Ok(()),
    };
    let text = format!("`{}` is {what}, and at {:#x} code is started", piece.path, piece.address);
    let home = table.and_then(|table| table.find_kind(partition::DATA, kind));
    let next = match home {
        Some(home) => format!("its place is the partition `{}` at {:#x}", home.name, home.offset),
        None => String::from("give it with the address of its partition (esp_partition_read lists them)"),
    };
    Err(ToolError::new(Code::WrongPlace, text).next(next))
}

/// What is given to be run from RAM: an image or a linked program, whole. Whether its parts lie in RAM is for the caller.
pub fn check_ram(name: &str, bytes: &[u8]) -> Result<(), ToolError> {
    let piece = Piece::new(name, 0, bytes.to_vec());
    match piece.content() {
        Content::Foreign(_) => refuse_foreign(&piece),
        Content::Merged { base, .. } => {
            let text = format!(
                "`{name}` is a merged image (bootloader, partition table, apps): its place is {base:#x} in flash, not RAM"
            );
            Err(ToolError::new(Code::WrongPlace, text)
                .next(format!("write it with esp_flash_firmware, given with address {base:#x}")))
        }
        Content::Cut { why, .. } => {
            let text = format!("`{name}` is cut off: {why}; the file has {} bytes", piece.size());
            Err(ToolError::new(Code::ImageCut, text))
        }
        Content::App(_) | Content::Bootloader(_) | Content::Ram(_) => undamaged(&piece),
        Content::Elf | Content::Other => Ok(()),
    }
}

/// Checksum and SHA-256 of an image that is to be started.
fn undamaged(piece: &Piece) -> Result<(), ToolError> {
    let Some(len) = piece.image().map(|image| image.data_len + image::DIGEST_LEN) else { return Ok(()) };
    let bytes = piece.at(0, len)?;
    let Ok(image) = image::parse(&bytes) else { return Ok(()) };
    let damage = |finding: &checks::Finding| {
        matches!(finding, checks::Finding::Checksum { .. } | checks::Finding::Digest | checks::Finding::DigestCut)
    };
    match checks::check(&image, None).into_iter().find(damage) {
        Some(finding) => {
            let cut = if matches!(finding, checks::Finding::DigestCut) { Code::ImageCut } else { Code::ImageInvalid };
            Err(ToolError::new(cut, format!("`{}` is damaged: {finding}", piece.path))
                .next("get the file again; esp_firmware_analyze shows what it holds"))
        }
        None => Ok(()),
    }
}

/// What is given as an app for an OTA slot: an image with an app in it, whole.
pub fn check_app(name: &str, bytes: &[u8], chip: &Chip) -> Result<(), ToolError> {
    // Where the slot lies does not matter to the check: the usual place stands for it.
    let piece = Piece::new(name, USUAL_APP, bytes.to_vec());
    refuse_programs(std::slice::from_ref(&piece))?;
    check_one(&piece, chip, None)
}

/// Refuses an image that this chip would not start from a partition of `room` bytes.
pub fn check_update(name: &str, app: &[u8], connected: &mut Connected, room: u32) -> Result<(), ToolError> {
    check_app(name, app, connected.loader.chip())?;
    let invalid = |text: String| ToolError::new(Code::ImageInvalid, text);
    let parsed = image::parse(app).map_err(|error| invalid(error.to_string()))?;
    let chip = connected.loader.chip();
    if parsed.chip.id != chip.id {
        let text = format!("the image is for {}, the chip is {}", parsed.chip.name, chip.name);
        return Err(ToolError::new(Code::ChipMismatch, text));
    }
    if parsed.checksum != parsed.computed_checksum() || parsed.digest().is_some_and(|digest| !digest.is_valid()) {
        return Err(invalid("the image's checksum or SHA-256 does not fit its bytes".into()));
    }
    if let (Some(extended), Some(revision)) = (parsed.extended, connected.loader.revision()) {
        let most = extended.max_rev_full;
        if revision < extended.min_rev_full || (!matches!(most, 0 | u16::MAX) && revision > most) {
            let text =
                format!("the image is for revisions {} to {most}, the chip has {revision}", extended.min_rev_full);
            return Err(ToolError::new(Code::RevisionMismatch, text));
        }
    }
    if app.len() > room as usize {
        let text = format!("the image has {} bytes, the partition {room}", app.len());
        return Err(ToolError::new(Code::ImageRefused, text));
    }
    Ok(())
}
