//! The whole flash as files that can be put back, named by their content.

use std::io;

use esp_model::job::Job;
use esp_model::partition::Area;
use md5::Md5;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::Sha256;

use crate::Call;
use crate::error::{Code, ToolError};
use crate::flash::keep::{self, Found};
use crate::flash::manifest;
use crate::flash::manifest::{Entry, Manifest};
use crate::flash::map::kind_of;
use crate::flash::resume;
use crate::session::device::Connected;
use crate::session::identity::Device;

/// What a backup holds, and what it took.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Backup {
    #[serde(flatten)]
    /// The device.
    pub device: Device,
    /// The manifest; esp_flash_restore takes its folder.
    pub manifest: String,
    /// Size of the flash.
    pub flash_size_bytes: u32,
    /// Where the partition table stands, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_offset: Option<u32>,
    /// The areas of flash, by address.
    pub areas: Vec<Entry>,
    /// Bytes that came over the line.
    pub read_bytes: u64,
    /// Bytes known to be blank by their digest: they cost nothing.
    pub blank_bytes: u64,
    /// Bytes that a backup which was cut off had read already.
    pub resumed_bytes: u64,
    /// Bytes unchanged since an older backup in this folder.
    pub unchanged_bytes: u64,
    /// Everything was compared with digests from the chip; false where the loader has none.
    pub checked: bool,
}

/// Everything in flash into a folder. Returns the manifest's path.
pub fn whole(ctx: &Call, job: &Job, connected: &mut Connected, dir: &str) -> Result<String, ToolError> {
    Ok(run(ctx, job, connected, dir, None, None)?.manifest)
}

/// Reads the flash into the folder `dir`; only the areas in `names`, if they are given.
pub fn run(
    ctx: &Call,
    job: &Job,
    connected: &mut Connected,
    dir: &str,
    names: Option<&[String]>,
    table_offset: Option<u32>,
) -> Result<Backup, ToolError> {
    let device = Device::read(connected, job)?;
    connected.must_read_flash()?;
    let flash_size_bytes = connected.loader.attach_flash(job, None)?;
    let found = keep::table(connected, job, table_offset)?;
    let areas = Found::areas(found.as_ref(), connected, flash_size_bytes);
    let areas = chosen(areas, names)?;
    let mut manifest = begin(connected, job, &device, found.as_ref(), flash_size_bytes)?;
    manifest.take_over(Manifest::older(ctx, dir)?)?;
    let mut work = Work { ctx, dir, total: resume::Taken { checked: true, ..Default::default() }, unchanged: 0 };
    for area in &areas {
        job.progress(area.address.into(), flash_size_bytes.into(), format!("backing up {}", area.name));
        let entry = work.area(job, connected, area, &mut manifest)?;
        manifest.add(entry);
        manifest.save(ctx, dir)?;
    }
    if connected.image.is_none() {
        manifest.efuses = Some(work.efuses(job, connected)?);
    }
    manifest.finish();
    let path = manifest.save(ctx, dir)?;
    job.progress(flash_size_bytes.into(), flash_size_bytes.into(), "backed up");
    Ok(Backup {
        device,
        manifest: path.display().to_string(),
        flash_size_bytes,
        table_offset: found.map(|found| found.offset),
        areas: manifest.areas,
        read_bytes: work.total.read,
        blank_bytes: work.total.blank,
        resumed_bytes: work.total.resumed,
        unchanged_bytes: work.unchanged,
        checked: work.total.checked,
    })
}

fn chosen<'a>(areas: Vec<Area<'a>>, names: Option<&[String]>) -> Result<Vec<Area<'a>>, ToolError> {
    let Some(names) = names else { return Ok(areas) };
    if let Some(missing) = names.iter().find(|name| areas.iter().all(|area| area.name != **name)) {
        let known: Vec<&str> = areas.iter().map(|area| area.name.as_str()).collect();
        return Err(ToolError::new(Code::UnknownPartition, format!("there is no partition `{missing}`"))
            .seen("partitions", known.join(", ")));
    }
    Ok(areas.into_iter().filter(|area| names.contains(&area.name)).collect())
}

fn begin(
    connected: &mut Connected,
    job: &Job,
    device: &Device,
    found: Option<&Found>,
    flash_size_bytes: u32,
) -> Result<Manifest, ToolError> {
    Ok(Manifest {
        format: 1,
        tool: format!("mcp-esptool {}", env!("CARGO_PKG_VERSION")),
        chip: connected.loader.chip().id.into(),
        device: device.chip.clone(),
        mac: device.mac,
        flash_id: connected.loader.flash_id(job)?.to_string(),
        flash_size_bytes,
        table_offset: found.map(|found| found.offset),
        flash_encryption: connected.is_encrypted(job)?,
        complete: false,
        efuses: None,
        areas: Vec::new(),
        earlier: Vec::new(),
    })
}

struct Work<'a> {
    ctx: &'a Call,
    dir: &'a str,
    total: resume::Taken,
    unchanged: u64,
}

impl Work<'_> {
    fn area(
        &mut self,
        job: &Job,
        connected: &mut Connected,
        area: &Area,
        manifest: &mut Manifest,
    ) -> Result<Entry, ToolError> {
        let entry = Entry {
            name: area.name.clone(),
            kind: kind_of(area),
            address: area.address,
            size_bytes: area.size,
            ..Entry::default()
        };
        if let Some(old) = manifest.earlier_like(&entry)
            && self.is_unchanged(job, connected, &old)?
        {
            self.unchanged += u64::from(area.size);
            return Ok(Entry { sha256: old.sha256, stored_bytes: old.stored_bytes, ..entry });
        }
        let failed = |error: io::Error| ToolError::of_io(Code::FileUnwritable, format!("`{}`", self.dir), &error);
        let mut file = self.ctx.files.partial(&format!("{}/objects/{:08x}-{:x}", self.dir, area.address, area.size))?;
        let taken = resume::read(connected, &job.silent(), &mut file, area.address, area.size)?;
        self.total.read += taken.read;
        self.total.blank += taken.blank;
        self.total.resumed += taken.resumed;
        self.total.checked &= taken.checked;
        let stored_bytes = file.file().and_then(manifest::used_length).map_err(failed)?;
        file.keep(stored_bytes).map_err(failed)?;
        if stored_bytes == 0 {
            return Ok(entry);
        }
        let sha256 = file.file().and_then(resume::digest::<Sha256>).map_err(failed)?;
        file.finish_as(&manifest::object_name(&sha256))?;
        Ok(Entry { sha256: Some(sha256), stored_bytes, ..entry })
    }

    /// The flash still holds what an earlier backup has of this area.
    fn is_unchanged(&self, job: &Job, connected: &mut Connected, old: &Entry) -> Result<bool, ToolError> {
        if !connected.loader.can_verify() {
            return Ok(false);
        }
        let Ok(mut content) = old.open(self.ctx, self.dir) else { return Ok(false) };
        let wanted =
            content.digest::<Md5>().map_err(|error| ToolError::new(Code::FileUnreadable, error.to_string()))?;
        Ok(connected.loader.flash_md5(job, old.address, old.size_bytes)? == wanted.as_slice())
    }

    /// The eFuses by name, without keys, as an object of its own.
    fn efuses(&self, job: &Job, connected: &mut Connected) -> Result<String, ToolError> {
        let summary = crate::efuse::read::summary(connected, job)?;
        let text =
            serde_json::to_vec_pretty(&summary).map_err(|error| ToolError::new(Code::Internal, error.to_string()))?;
        let sha256 = crate::firmware::common::sha256(&text);
        let mut file = self.ctx.files.create(&format!("{}/objects/{}", self.dir, manifest::object_name(&sha256)))?;
        io::Write::write_all(&mut file, &text)
            .map_err(|error| ToolError::of_io(Code::FileUnwritable, format!("`{}`", self.dir), &error))?;
        file.finish_secret()?;
        Ok(sha256)
    }
}
