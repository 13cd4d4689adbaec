//! A flash image as a device: a simulated chip whose flash is the file (`image:PATH`). What a call changes is written when
//! all of it went well, into a copy beside the file, or into the file itself (`?write=1`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esp_link::port::url::ImageFile;
use esp_model::chip::{self, Chip};
use esp_model::image::{self, kind};
use esp_model::partition::{APP, DEFAULT_TABLE_OFFSET, TABLE_LENGTH, Table};
use esp_sim::{Config, SimDevice};

use crate::args::parse_number;
use crate::error::{Code, ToolError};
use crate::files::Files;

/// Smallest size of a flash that a file may be all of, in bytes.
const SMALLEST_FLASH: u64 = 1 << 20;
/// Largest flash that a chip can have, in bytes.
const LARGEST_FLASH: u64 = 128 << 20;
/// Copies of one image that are told apart by a number.
const MOST_COPIES: u32 = 1000;

/// The images that a call has changed: path of each, and the file that has the changes.
#[derive(Debug, Clone, Default)]
pub struct Changed(Arc<Mutex<BTreeMap<String, String>>>);

impl Changed {
    /// What there is to say of them, a line each.
    pub fn notes(&self) -> Vec<String> {
        let note = |(path, file): (&String, &String)| match path == file {
            true => format!("`{file}` was changed in place"),
            false => {
                format!("`{path}` is unchanged; the changed copy is `{file}` (go on with port=image:{file}?write=1)")
            }
        };
        self.files().iter().map(note).collect()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image that is in use.
pub struct OpenImage {
    image: ImageFile,
    device: SimDevice,
    /// Flash address of the file's first byte.
    base: u32,
    /// Length of the file.
    length: usize,
}

impl OpenImage {
    /// Reads the file into the flash of a simulated chip.
    pub fn open(files: &Files, image: &ImageFile, changed: &Changed) -> Result<Self, ToolError> {
        let current = changed.files().get(&image.path).cloned();
        let bytes = files.read_some(current.as_deref().unwrap_or(&image.path))?;
        let layout = kind::flash_layout(&bytes);
        let chip = chip_of(image, &bytes, layout.as_ref().map(|layout| layout.chip))?;
        let base = layout.map_or(0, |layout| layout.base());
        let mut config = Config::new(chip, "image").unpaced();
        config.flash_size = flash_size(chip, &bytes, base)?;
        let device = SimDevice::new(&config, format!("image:{image}"));
        device.with(|chip, _| {
            chip.flash().load(base, &bytes);
            chip.flash().watch();
        });
        Ok(Self { image: image.clone(), device, base, length: bytes.len() })
    }

    /// The line to the chip.
    pub fn port(&self) -> esp_sim::SimPort {
        self.device.open()
    }

    /// Writes the flash into a file when it was changed.
    pub fn save(&self, files: &Files, changed: &Changed) -> Result<(), ToolError> {
        let flash = self.device.with(|chip, _| {
            let flash = chip.flash();
            let last = flash.take_changed().into_iter().max()?;
            // The file grows when something was written behind its end; it never shrinks.
            let behind = (u64::from(last) + 1) * esp_sim::nor::SECTOR as u64;
            let end = behind.max(u64::from(self.base) + self.length as u64).min(flash.size().into());
            flash.read(self.base, (end as usize).saturating_sub(self.base as usize)).ok()
        });
        let Some(flash) = flash else { return Ok(()) };
        let known = changed.files().get(&self.image.path).cloned();
        let target = match known {
            Some(file) => file,
            None if self.image.write => self.image.path.clone(),
            None => copy_name(files, &self.image.path)?,
        };
        files.keep(&target, &flash)?;
        changed.files().insert(self.image.path.clone(), target);
        Ok(())
    }
}

/// The chip that is named, or that the image is for.
fn chip_of(image: &ImageFile, bytes: &[u8], layout: Option<&'static Chip>) -> Result<&'static Chip, ToolError> {
    if let Some(name) = &image.chip {
        let unknown = || ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`"));
        return chip::by_name(name).ok_or_else(unknown);
    }
    let at = |address: u32| Some(image::parse::parse(bytes.get(address as usize..)?).ok()?.chip);
    let home = |chip: &&'static Chip| chip.flash.bootloader_offset;
    let bootloader = || {
        chip::all()
            .iter()
            .find_map(|one| at(one.bootloader_offset).filter(|found| home(found) == one.bootloader_offset))
    };
    let table = || {
        let start = DEFAULT_TABLE_OFFSET as usize;
        let table = Table::from_binary(bytes.get(start..start + TABLE_LENGTH)?, true).ok()?;
        table.partitions.iter().filter(|one| one.kind == APP).find_map(|app| at(app.offset))
    };
    layout.or_else(bootloader).or_else(table).ok_or_else(|| {
        let text =
            format!("the target chip cannot be determined from `{}`: no bootloader or app in it names one", image.path);
        let known = chip::all().iter().map(|chip| chip.id).collect::<Vec<_>>().join(", ");
        ToolError::new(Code::ChipUnknown, text)
            .seen("chips", known)
            .next(format!("name the chip: port=image:{}?chip=CHIP", image.path))
    })
}

/// A file of a flash's size is all of it; of a shorter one the bootloader's header tells the size.
fn flash_size(chip: &Chip, bytes: &[u8], base: u32) -> Result<u32, ToolError> {
    let length = bytes.len() as u64;
    let end = (u64::from(base) + length).next_power_of_two().max(SMALLEST_FLASH);
    let is_whole = base == 0 && length.is_power_of_two() && length >= SMALLEST_FLASH;
    let named = || {
        let at = chip.flash.bootloader_offset.checked_sub(base)? as usize;
        let header = image::parse::parse(bytes.get(at..)?).ok()?;
        header.header.size_name(chip).and_then(parse_number)
    };
    let size = if is_whole { length } else { end.max(named().unwrap_or(0)) };
    u32::try_from(size).ok().filter(|size| u64::from(*size) <= LARGEST_FLASH).ok_or_else(|| {
        ToolError::new(
            Code::FileTooLarge,
            format!("an image of {length:#x} bytes exceeds the largest flash ({LARGEST_FLASH:#x})"),
        )
    })
}

/// `dump.bin` → `dump.changed.bin`, or with a number where that is there already.
fn copy_name(files: &Files, path: &str) -> Result<String, ToolError> {
    let folder = path.rfind(['/', '\\']).map_or(0, |at| at + 1);
    let dot = path.rfind('.').filter(|at| *at > folder).unwrap_or(path.len());
    let (stem, ending) = path.split_at(dot);
    let name = |number: u32| match number {
        1 => format!("{stem}.changed{ending}"),
        number => format!("{stem}.changed-{number}{ending}"),
    };
    let is_free = |name: &String| matches!(files.input(name), Err(error) if error.code == Code::FileNotFound);
    (1..=MOST_COPIES)
        .map(name)
        .find(is_free)
        .ok_or_else(|| ToolError::new(Code::FileUnwritable, format!("no name for a copy of `{path}` is free")))
}
