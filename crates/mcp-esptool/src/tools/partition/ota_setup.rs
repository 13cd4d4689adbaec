//! `esp_ota_partition_setup`: a two-slot OTA layout for the flash of a device.

use esp_model::boot::Config;
use esp_model::job::Job;
use esp_model::partition::{Options, Subtypes, Table, otadata};
use esp_ops::args::{Number, PortUrl};
use esp_ops::boot::{check, next};
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::keep::Copy;
use esp_ops::guard::Risk;
use esp_ops::partition::on_device;
use esp_ops::partition::rows::RowOut;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct OtaSetup;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Size of one slot (default: as large as fits twice).
    app_size: Option<Number>,
    /// App to write into ota_0.
    app_file: Option<String>,
    /// Use the rest for a file system: spiffs, littlefs or fat (default: none).
    #[schemars(extend("x-rare" = true))]
    storage: Option<String>,
    /// Folder for the copies (default: esp-backup/MAC).
    #[schemars(extend("x-rare" = true))]
    backup_dir: Option<String>,
    /// Make no copies: the data may be lost.
    #[serde(default)]
    no_backup: bool,
    /// Only report the layout.
    #[serde(default)]
    dry_run: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Size of the flash.
    flash_size_bytes: u32,
    /// The layout.
    partitions: Vec<RowOut>,
    /// Room for one app.
    slot_size_bytes: u32,
    /// Size of NVS.
    nvs_size_bytes: u32,
    /// Copies that were made.
    copies: Vec<Copy>,
    /// Something was written (false for dry_run).
    written: bool,
    /// It was compared on the chip afterwards.
    verified: bool,
    /// The partition that the app was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_partition: Option<String>,
    /// What still keeps the device from booting, with the next step; computed from the flash content, not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// First address after table sector, otadata and RF calibration are taken off: where NVS begins.
const NVS: u32 = 0x9000;
/// otadata and RF calibration behind NVS.
const SMALL: u32 = 0x3000;
/// Apps begin at multiples of this.
const BLOCK: u32 = 0x1_0000;
/// NVS grows to this at most: larger ones cost RAM and start-up time and hold nothing more.
const LAST_APP_START: u32 = 0x5_0000;

/// Slot size and first slot's address for this flash; none when two apps of that size do not fit.
fn plan(flash: u32, wanted: Option<u64>) -> Option<(u32, u32)> {
    let slot = match wanted {
        Some(size) => u32::try_from(size.max(1).next_multiple_of(BLOCK.into())).ok()?,
        None => flash.checked_sub(BLOCK)? / 2 / BLOCK * BLOCK,
    };
    let room = flash.checked_sub(slot.checked_mul(2)?)?;
    let start = (room / BLOCK * BLOCK).min(LAST_APP_START);
    (slot > 0 && start >= BLOCK).then_some((slot, start))
}

/// The layout as CSV.
fn layout(flash: u32, slot: u32, start: u32, storage: Option<&str>) -> String {
    let nvs = start - NVS - SMALL;
    let mut csv = format!(
        "nvs,data,nvs,{NVS:#x},{nvs:#x}\notadata,data,ota,,0x2000\nphy_init,data,phy,,0x1000\n\
         ota_0,app,ota_0,{start:#x},{slot:#x}\nota_1,app,ota_1,,{slot:#x}\n"
    );
    let left = flash - start - 2 * slot;
    if let Some(kind) = storage.filter(|_| left > 0) {
        csv += &format!("storage,data,{kind},,{left:#x}\n");
    }
    csv
}

impl Tool for OtaSetup {
    const NAME: &'static str = "esp_ota_partition_setup";
    const TITLE: &'static str = "Set up OTA partitions";
    const ABOUT: &'static str = "Write a partition table with two OTA slots, the largest useful NVS and blank \
         otadata; optionally an app into ota_0. First copies data that would be lost. Writes no bootloader.";
    const RISK: Risk = Risk::Destroys;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if let Some(kind) = input.storage.as_deref().filter(|kind| !matches!(*kind, "spiffs" | "littlefs" | "fat")) {
            return Err(ToolError::new(Code::BadParameter, format!("storage {kind:?} is not spiffs, littlefs or fat")));
        }
        let app = input.app_file.as_ref().map(|path| ctx.files.read_some(path)).transpose()?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            on_device::refuse_encrypted(connected, job)?;
            let flash = connected.loader.attach_flash(job, None)?;
            let (slot, start) = plan(flash, input.app_size.map(|size| size.0)).ok_or_else(|| {
                ToolError::new(
                    Code::FlashTooSmall,
                    format!("two apps of that size do not fit {flash:#x} bytes of flash"),
                )
            })?;
            let options = Options { flash_size: u64::from(flash), ..Options::default() };
            let table = Table::read(layout(flash, slot, start, input.storage.as_deref()).as_bytes(), &options)?;
            let at = |name: &str| table.find(name).map_or(0, |partition| partition.offset);
            if let Some(app) = &app {
                let name = input.app_file.as_deref().unwrap_or_default();
                esp_ops::flash::belongs::check_update(name, app, connected, slot)?;
            }
            let old = on_device::read(connected, job, options.table_offset)?.table.unwrap_or_default();
            let (mut copies, mut verified, mut notes) = (Vec::new(), false, Vec::new());
            let app_partition = app.as_ref().filter(|_| !input.dry_run).map(|_| "ota_0".to_owned());
            if !input.dry_run {
                if !input.no_backup {
                    let dir = input.backup_dir.as_deref();
                    copies = on_device::keep_data(ctx, job, connected, &device, &old, &table, dir)?;
                }
                let mut parts =
                    vec![(options.table_offset, table.to_binary(true)?), (at("otadata"), vec![0xff; otadata::LENGTH])];
                parts.extend(app.map(|app| (at("ota_0"), app)));
                verified = on_device::write(connected, job, parts)?;
                let state = check::state_of(connected, job)?;
                let report = check::walk(connected, job, &state, &Config::default(), Vec::new())?;
                notes.extend(next::not_yet(&report, connected.loader.chip()));
            }
            Ok(Out {
                device,
                flash_size_bytes: flash,
                partitions: RowOut::of(&table, &Subtypes::default()),
                slot_size_bytes: slot,
                nvs_size_bytes: table.find("nvs").map_or(0, |nvs| nvs.size),
                copies,
                written: !input.dry_run,
                verified,
                app_partition,
                notes,
            })
        })
    }

    fn summary(out: &Out) -> String {
        let done = if out.written { "written" } else { "planned" };
        let (slot, nvs) = (out.slot_size_bytes / 1024, out.nvs_size_bytes / 1024);
        let app = out.app_partition.as_ref().map_or_else(String::new, |name| format!(", app in {name}"));
        let copies = match out.copies.len() {
            0 => String::new(),
            many => format!("; {} of old data", counted(many, "copy")),
        };
        let notes: String = out.notes.iter().map(|note| format!("\n{note}")).collect();
        format!("{}\n{done}: two slots of {slot} KB, NVS of {nvs} KB{app}{copies}{notes}", out.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_pass_their_own_checks() {
        for flash in [1u32 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20] {
            for wanted in [None, Some(100_000), Some(0x7_0000), Some(2 << 20)] {
                let Some((slot, start)) = plan(flash, wanted) else {
                    assert!(wanted.is_some_and(|size| 2 * size + 0x1_0000 > u64::from(flash)));
                    continue;
                };
                for storage in [None, Some("littlefs")] {
                    let csv = layout(flash, slot, start, storage);
                    let options = Options { flash_size: flash.into(), ..Options::default() };
                    let table = Table::read(csv.as_bytes(), &options).unwrap();
                    assert!(table.find("nvs").unwrap().size >= 0x4000, "{csv}");
                    assert!(wanted.is_none_or(|size| u64::from(slot) >= size));
                }
            }
        }
        assert_eq!(plan(4 << 20, Some(2 << 20)), None);
        assert_eq!(plan(0x8000, None), None);
    }
}
