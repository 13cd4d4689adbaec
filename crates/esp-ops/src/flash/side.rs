//! One side of a comparison: a device, a flash image or a backup, read piece by piece.

use esp_link::flash::Source;
use esp_link::port::PortUrl;
use esp_model::image::kind;
use esp_model::job::Job;
use esp_model::partition::{DEFAULT_TABLE_OFFSET, TABLE_LENGTH, Table};
use md5::{Digest, Md5};

use crate::Call;

use crate::error::{Code, ToolError};
use crate::flash::keep;
use crate::flash::manifest::{Entry, MANIFEST, Manifest};
use crate::session::identity::Device;

/// One side.
pub struct Side {
    /// What it is called in the result.
    pub name: String,
    /// Its partition table and where that stands.
    pub table: Option<(Table, u32)>,
    /// Size of the flash.
    pub size: u32,
    /// Where its chip looks for the bootloader, where the chip is known.
    pub bootloader: Option<u32>,
    source: Holder,
}

enum Holder {
    Device(Option<PortUrl>),
    /// Bytes from this flash address on.
    File(Vec<u8>, u32),
    Backup(String, Box<Manifest>),
}

impl Side {
    /// A backup folder, a file, or a port; none: the only device.
    pub fn open(ctx: &Call, job: &Job, text: Option<&str>) -> Result<Self, ToolError> {
        if let Some(dir) = text.filter(|dir| ctx.files.input(&format!("{dir}/{MANIFEST}")).is_ok()) {
            return Self::backup(ctx, dir);
        }
        let path = text
            .map(|text| text.strip_prefix("image:").unwrap_or(text))
            .map(|path| path.split('?').next().unwrap_or(path));
        if let Some(path) = path.filter(|path| ctx.files.input(path).is_ok_and(|path| path.is_file())) {
            return Self::file(path, ctx.files.read_some(path)?);
        }
        let port = text.map(str::parse).transpose()?;
        Self::device(ctx, job, port)
    }

    fn device(ctx: &Call, job: &Job, port: Option<PortUrl>) -> Result<Self, ToolError> {
        ctx.with_device(port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            connected.must_read_flash()?;
            let size = connected.loader.attach_flash(job, None)?;
            let table = keep::table(connected, job, None)?.map(|found| (found.table, found.offset));
            let bootloader = Some(connected.loader.chip().flash.bootloader_offset);
            Ok(Self { name: device.to_string(), table, size, bootloader, source: Holder::Device(port.clone()) })
        })
    }

    fn file(path: &str, bytes: Vec<u8>) -> Result<Self, ToolError> {
        let layout = kind::flash_layout(&bytes);
        let base = layout.as_ref().map_or(0, kind::FlashLayout::base);
        let at = layout.as_ref().map_or(DEFAULT_TABLE_OFFSET as usize, |layout| layout.table);
        let table = bytes.get(at..(at + TABLE_LENGTH).min(bytes.len())).and_then(table_in);
        let size = u32::try_from(u64::from(base) + bytes.len() as u64);
        let size =
            size.map_err(|_| ToolError::new(Code::FileTooLarge, format!("`{path}` is larger than any flash")))?;
        Ok(Self {
            name: path.to_owned(),
            table: table.map(|table| (table, base + at as u32)),
            size,
            bootloader: layout.map(|layout| layout.chip.flash.bootloader_offset),
            source: Holder::File(bytes, base),
        })
    }

    fn backup(ctx: &Call, dir: &str) -> Result<Self, ToolError> {
        let manifest = Manifest::load(ctx, dir)?;
        let mut side = Self {
            name: format!("backup {dir} of {}", manifest.device),
            table: None,
            size: manifest.flash_size_bytes,
            bootloader: esp_model::chip::by_name(&manifest.chip).map(|chip| chip.flash.bootloader_offset),
            source: Holder::Backup(dir.to_owned(), Box::new(manifest)),
        };
        let offset = match &side.source {
            Holder::Backup(_, manifest) => manifest.table_offset,
            _ => None,
        };
        if let Some(offset) = offset {
            let bytes = side.read(ctx, &Job::new(), offset, TABLE_LENGTH as u32)?;
            side.table = table_in(&bytes).map(|table| (table, offset));
        }
        Ok(side)
    }

    /// Digest of a region; none where this side does not hold it.
    pub fn md5(&mut self, ctx: &Call, job: &Job, address: u32, length: u32) -> Result<Option<Vec<u8>>, ToolError> {
        if let Holder::Device(port) = &self.source {
            return ctx.with_device(port.as_ref(), job, |connected| {
                let quiet = job.silent();
                if connected.loader.can_verify() {
                    return Ok(Some(connected.loader.flash_md5(&quiet, address, length)?.to_vec()));
                }
                Ok(Some(md5_of(&connected.loader.read_flash_bytes(&quiet, address, length)?)))
            });
        }
        let bytes = self.read(ctx, job, address, length)?;
        Ok((bytes.len() == length as usize).then(|| md5_of(&bytes)))
    }

    /// Bytes of a region; fewer where this side does not hold all of it.
    pub fn read(&mut self, ctx: &Call, job: &Job, address: u32, length: u32) -> Result<Vec<u8>, ToolError> {
        match &self.source {
            Holder::Device(port) => ctx.with_device(port.as_ref(), job, |connected| {
                Ok(connected.loader.read_flash_bytes(&job.silent(), address, length)?)
            }),
            Holder::File(bytes, base) => {
                let Some(start) = address.checked_sub(*base).map(|start| start as usize) else { return Ok(Vec::new()) };
                Ok(bytes.get(start..(start + length as usize).min(bytes.len())).unwrap_or_default().to_vec())
            }
            Holder::Backup(dir, manifest) => from_backup(ctx, dir, manifest, address, length),
        }
    }
}

/// Bytes of the areas that hold this region, up to the first that the backup lacks.
fn from_backup(ctx: &Call, dir: &str, manifest: &Manifest, address: u32, length: u32) -> Result<Vec<u8>, ToolError> {
    let unreadable = |error: std::io::Error| ToolError::new(Code::FileUnreadable, error.to_string());
    let mut bytes = Vec::new();
    while bytes.len() < length as usize {
        let at = address + bytes.len() as u32;
        let holds = |area: &&Entry| {
            (u64::from(area.address)..u64::from(area.address) + u64::from(area.size_bytes)).contains(&u64::from(at))
        };
        let Some(area) = manifest.areas.iter().find(holds) else { break };
        let offset = at - area.address;
        let count = (area.size_bytes - offset).min(length - bytes.len() as u32);
        let mut piece = vec![0; count as usize];
        area.open(ctx, dir)?.read_at(offset.into(), &mut piece).map_err(unreadable)?;
        bytes.extend(piece);
    }
    Ok(bytes)
}

/// MD5 of bytes.
pub fn md5_of(bytes: &[u8]) -> Vec<u8> {
    Md5::digest(bytes).to_vec()
}

/// The table in these bytes of its sector.
pub fn table_in(bytes: &[u8]) -> Option<Table> {
    Table::from_binary(bytes, true).ok().filter(|table| !table.partitions.is_empty())
}
