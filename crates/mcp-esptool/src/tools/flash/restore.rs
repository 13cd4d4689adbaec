//! `esp_flash_restore`: a backup back into the flash it came from.

use esp_link::Mode;
use esp_link::flash::{Part, WriteOptions};
use esp_model::job::Job;
use esp_model::mac::Mac;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::keep::{self, Copy, Found, Region};
use esp_ops::flash::manifest::{Entry, Manifest};
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use md5::Md5;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Restore;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Folder made by esp_flash_backup.
    backup_dir: String,
    /// Only these areas, by their names in the manifest.
    partitions: Option<Vec<String>>,
    /// Allow another device of the same chip.
    #[serde(default)]
    other_device: bool,
    /// Make no copies: what is in flash now may be lost.
    #[serde(default)]
    no_backup: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Areas that were put back.
    restored: Vec<String>,
    /// Areas that were as in the backup already.
    unchanged: Vec<String>,
    /// Bytes of flash that were written or erased, in whole sectors.
    written_bytes: u64,
    /// Bytes of these that were blank in the backup and only erased.
    erased_bytes: u64,
    /// Bytes of data that went over the line.
    sent_bytes: u64,
    /// Everything was compared on the chip afterwards; false where the loader cannot.
    verified: bool,
    /// Copies of data that was there before.
    copies: Vec<Copy>,
}

impl Tool for Restore {
    const NAME: &'static str = "esp_flash_restore";
    const TITLE: &'static str = "Restore flash";
    const ABOUT: &'static str = "Restore a backup: checks chip, MAC and SHA-256, writes what differs, erases what \
         was blank, verifies. Other areas stay.";
    const RISK: Risk = Risk::Destroys;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let manifest = Manifest::load(ctx, &input.backup_dir)?;
        let areas = chosen(&manifest, input.partitions.as_deref())?;
        ctx.with_device(input.port.as_ref(), job, |connected| run(ctx, job, connected, &input, &manifest, &areas))
    }

    fn summary(out: &Out) -> String {
        let checked = if out.verified { "verified" } else { "not verified: this loader cannot" };
        format!(
            "{}\n{} areas restored ({} bytes written, {} of them erased), {} unchanged; {checked}",
            out.device,
            out.restored.len(),
            out.written_bytes,
            out.erased_bytes,
            out.unchanged.len()
        )
    }
}

fn chosen(manifest: &Manifest, names: Option<&[String]>) -> Result<Vec<Entry>, ToolError> {
    if !manifest.complete {
        return Err(ToolError::new(Code::BackupIncomplete, "the backup was cut off before its end"));
    }
    let Some(names) = names else { return Ok(manifest.areas.clone()) };
    let find = |name: &String| {
        manifest.areas.iter().find(|area| area.name == *name).cloned().ok_or_else(|| {
            let known: Vec<&str> = manifest.areas.iter().map(|area| area.name.as_str()).collect();
            ToolError::new(Code::UnknownPartition, format!("the backup has no area `{name}`"))
                .seen("areas", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

fn run(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    input: &In,
    manifest: &Manifest,
    areas: &[Entry],
) -> Result<Out, ToolError> {
    // Read in this session, just before the first write: another device may be on the port by now.
    let device = Device::read(connected, job)?;
    let flash_size = check(connected, job, &device, manifest, input.other_device)?;
    let (mut parts, mut regions, mut restored, mut unchanged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, area) in areas.iter().enumerate() {
        job.progress(index as u64, areas.len() as u64, format!("comparing {}", area.name));
        let mut content = area.open(ctx, &input.backup_dir)?;
        let unreadable = |error: std::io::Error| ToolError::new(Code::FileUnreadable, error.to_string());
        let wanted = content.digest::<Md5>().map_err(unreadable)?;
        let same = connected.loader.can_verify()
            && connected.loader.flash_md5(job, area.address, area.size_bytes)? == wanted.as_slice();
        if same {
            unchanged.push(area.name.clone());
            continue;
        }
        restored.push(area.name.clone());
        regions.push(Region { name: area.name.clone(), address: area.address, size: area.size_bytes });
        parts.push(Part { address: area.address, source: Box::new(content) });
    }
    let copies = match input.no_backup {
        true => Vec::new(),
        false => copies(ctx, job, connected, &device, &regions, flash_size)?,
    };
    let report = connected.loader.write_flash(job, &mut parts, &WriteOptions::default());
    let report = report.map_err(|error| ToolError::from(error).touched(FlashState::Partial))?;
    Ok(Out {
        device,
        restored,
        unchanged,
        written_bytes: report.written_bytes,
        erased_bytes: report.erased_bytes,
        sent_bytes: report.sent_bytes,
        verified: report.verified,
        copies,
    })
}

/// Refuses a device that the backup is not of. Returns the flash's size.
fn check(
    connected: &mut Connected,
    job: &Job,
    device: &Device,
    manifest: &Manifest,
    other_device: bool,
) -> Result<u32, ToolError> {
    if connected.loader.mode() == Mode::SecureDownload {
        return Err(ToolError::new(
            Code::SecureDownload,
            "in secure download mode the device cannot be told from another",
        ));
    }
    let chip = connected.loader.chip();
    if chip.id != manifest.chip {
        let text = format!("the backup is of {}, the chip is {}", manifest.device, chip.name);
        return Err(ToolError::new(Code::ChipMismatch, text));
    }
    let encrypted = connected.is_encrypted(job)?;
    let same = device.mac == manifest.mac;
    if !same && (!other_device || manifest.flash_encryption) {
        let who = |mac: Option<Mac>| mac.map_or_else(|| "unknown".into(), |mac| mac.to_string());
        let text = format!("the backup is of {}, the device is {}", who(manifest.mac), who(device.mac));
        let error = ToolError::new(Code::IdentityMismatch, text);
        return Err(match manifest.flash_encryption {
            true => error.next("the backup is encrypted with the key of its own chip: no other one understands it"),
            false => error.next("other_device=true puts it on another device of the same chip"),
        });
    }
    if encrypted != manifest.flash_encryption {
        let state = if encrypted { "on now and was off" } else { "off now and was on" };
        return Err(ToolError::new(
            Code::EncryptionActive,
            format!("flash encryption is {state} when the backup was made"),
        ));
    }
    let size = connected.loader.attach_flash(job, None)?;
    if size < manifest.flash_size_bytes {
        let text = format!("the backup is of {:#x} bytes of flash, there are {size:#x}", manifest.flash_size_bytes);
        return Err(ToolError::new(Code::FlashTooSmall, text));
    }
    Ok(size)
}

/// Copies of what would be lost and cannot be rebuilt.
fn copies(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    device: &Device,
    regions: &[Region],
    flash_size: u32,
) -> Result<Vec<Copy>, ToolError> {
    if regions.is_empty() {
        return Ok(Vec::new());
    }
    let found = keep::table(connected, job, None)?;
    let areas = Found::areas(found.as_ref(), connected, flash_size);
    let mut unique: Vec<Region> = regions.iter().flat_map(|region| keep::unique(&areas, region)).collect();
    unique.sort_by_key(|region| (region.address, region.size));
    unique.dedup();
    keep::copy(ctx, job, connected, &unique, &format!("{}/before-restore", keep::folder(device, None)))
}
