//! All that a chip needs to run a linked program: app image, bootloader, partition table, otadata.

use std::time::Duration;

use esp_model::chip::{Chip, ImageFormat};
use esp_model::image::hex::Part;
use esp_model::image::merge::FlashSettings;
use esp_model::image::{self, Settings, merge};
use esp_model::job::Job;
use esp_model::partition::{self, APP, DATA, Options, Partition, Table};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::Call;
use crate::args::parse_number;
use crate::error::{Code, ToolError};
use crate::firmware::bootloader::{BootConfig, Source, finish, make};
use crate::firmware::common::{Written, app_image, flash_settings, write};
use crate::flash::files::Piece;

/// What goes into a set, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The linked program.
    pub elf_file: String,
    /// The chip: esp32, esp32c6 …
    pub chip_type: String,
    /// Output folder (default: beside the ELF file, ending -flash).
    pub output_dir: Option<String>,
    /// qio, qout, dio (default) or dout.
    #[schemars(extend("x-rare" = true))]
    pub flash_mode: Option<String>,
    /// 80m, 40m … (default: the chip's).
    #[schemars(extend("x-rare" = true))]
    pub flash_freq: Option<String>,
    /// 2MB, 4MB (default) …
    pub flash_size: Option<String>,
    /// Table file or preset (default: one app that fits); CSV or binary, or single_app, two_ota ….
    pub partition_table: Option<String>,
    /// Your own bootloader (default: stock, or built with ESP-IDF if that is installed).
    #[schemars(extend("x-rare" = true))]
    pub bootloader_file: Option<String>,
    /// Where the bootloader comes from if none is given (default auto).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    pub bootloader_source: Source,
    /// Chip revision, major × 100 + minor, for the choice of a stock bootloader (default: the newest).
    #[schemars(extend("x-rare" = true))]
    pub chip_revision: Option<u16>,
    /// Lowest chip revision for the app, major × 100 + minor.
    #[schemars(extend("x-rare" = true))]
    pub min_rev_full: Option<u16>,
    /// Highest chip revision for the app, major × 100 + minor.
    #[schemars(extend("x-rare" = true))]
    pub max_rev_full: Option<u16>,
}

/// The set for a program, as it goes to a chip that is there; no files are written.
pub fn for_flash(
    ctx: &Call,
    job: &Job,
    chip: &'static Chip,
    elf_file: &str,
    flash_size: u32,
    revision: Option<u16>,
) -> Result<Vec<Piece>, ToolError> {
    let size = format!("{}MB", flash_size >> 20);
    let plan = Plan {
        elf_file: elf_file.to_owned(),
        chip_type: chip.id.to_owned(),
        output_dir: None,
        flash_mode: None,
        flash_freq: None,
        flash_size: chip.flash.sizes.contains_key(&size).then_some(size),
        partition_table: None,
        bootloader_file: None,
        bootloader_source: Source::Stock,
        chip_revision: revision,
        min_rev_full: None,
        max_rev_full: None,
    };
    let set = make_set(ctx, job, chip, &plan)?;
    let piece = |item: Item| Piece::new(format!("{elf_file}: {}", item.role), item.part.address, item.part.data);
    Ok(set.items.into_iter().map(piece).collect())
}

/// A set and what is said of it.
pub struct Set {
    /// Flash settings that it is made for.
    pub flash: Flash,
    /// Its files, by address.
    pub items: Vec<Item>,
    /// The partition table.
    pub table: Table,
    /// Where the bootloader comes from.
    pub bootloader_origin: String,
    /// Bytes of the app.
    pub app_bytes: u64,
    /// Bytes left in its partition.
    pub app_free_bytes: u64,
}

/// The set of a program.
pub fn make_set(ctx: &Call, job: &Job, chip: &'static Chip, input: &Plan) -> Result<Set, ToolError> {
    if chip.image.format == ImageFormat::Esp8266 {
        return Err(ToolError::new(
            Code::NotSupportedByChip,
            format!("{} has no stock bootloader and no common layout", chip.name),
        )
        .next("use esp_elf_to_binary with the version that your SDK's bootloader takes"));
    }
    let flash = with_defaults(chip, input)?;
    let app = app(ctx, chip, input, &flash)?;
    let (bootloader, bootloader_origin) = bootloader(ctx, job, chip, input, &flash)?;
    let table = table(ctx, input, &flash, app.len() as u64)?;
    let place = app_partition(&table)?;
    let (app_bytes, room) = (app.len() as u64, u64::from(place.size));
    if app_bytes > room {
        let text = format!("the app has {app_bytes} bytes, the partition `{}` {room}", place.name);
        return Err(ToolError::new(Code::AppTooLarge, text));
    }
    job.check()?;
    let items = parts(chip, &table, place, bootloader, app)?;
    Ok(Set { flash, items, bootloader_origin, app_bytes, app_free_bytes: room - app_bytes, table })
}

/// Flash settings with nothing left open.
pub struct Flash {
    settings: FlashSettings,
    mode: image::FlashMode,
    size: String,
    frequency: String,
}

fn with_defaults(chip: &Chip, input: &Plan) -> Result<Flash, ToolError> {
    let given = flash_settings(input.flash_mode.as_deref(), input.flash_freq.as_deref(), input.flash_size.as_deref())?;
    let mode = given.mode.unwrap_or(image::FlashMode::Dio);
    let size = given.size.unwrap_or_else(|| String::from("4MB"));
    let frequency = given.frequency.unwrap_or_else(|| chip.flash.default_frequency.clone());
    let settings = FlashSettings { mode: Some(mode), size: Some(size.clone()), frequency: Some(frequency.clone()) };
    Ok(Flash { settings, mode, size, frequency })
}

fn app(ctx: &Call, chip: &Chip, input: &Plan, flash: &Flash) -> Result<Vec<u8>, ToolError> {
    let elf = ctx.files.read_some(&input.elf_file)?;
    let default = Settings::default();
    let settings = Settings {
        // The app's header is not what the flash is set up by; a quad mode is written as the bootloader loads it.
        flash_mode: if flash.mode == image::FlashMode::Qio { image::FlashMode::Dio } else { flash.mode },
        flash_size: flash.size.clone(),
        flash_frequency: Some(flash.frequency.clone()),
        min_rev_full: input.min_rev_full.unwrap_or(default.min_rev_full),
        max_rev_full: input.max_rev_full.unwrap_or(default.max_rev_full),
        ..default
    };
    app_image(image::build(chip, &elf, &settings)?)
}

fn bootloader(
    ctx: &Call,
    job: &Job,
    chip: &'static Chip,
    input: &Plan,
    flash: &Flash,
) -> Result<(Vec<u8>, String), ToolError> {
    if let Some(path) = &input.bootloader_file {
        let bytes = ctx.files.read_some(path)?;
        // A signed bootloader stays as it is; its header is then the one that holds.
        let settings =
            if crate::firmware::common::is_signed(&bytes) { FlashSettings::default() } else { flash.settings.clone() };
        return Ok((finish(chip, bytes, &settings)?, format!("`{path}`")));
    }
    let config = BootConfig {
        flash_mode: Some(flash.mode.name().to_owned()),
        flash_freq: Some(flash.frequency.clone()),
        flash_size: Some(flash.size.clone()),
        chip_revision: input.chip_revision,
        ..BootConfig::default()
    };
    let made = make(ctx, job, chip, &config, input.bootloader_source, Duration::from_secs(600))?;
    Ok((finish(chip, made.bytes, &made.settings)?, made.origin))
}

fn table(ctx: &Call, input: &Plan, flash: &Flash, app: u64) -> Result<Table, ToolError> {
    let flash_size = parse_number(&flash.size).unwrap_or(0);
    let options = Options { flash_size, ..Options::default() };
    let read = |bytes: &[u8], name: &str| {
        Table::read(bytes, &options)
            .map_err(|error| ToolError::new(Code::TableInvalid, error.to_string()).seen("table", name))
    };
    match &input.partition_table {
        Some(name) => match partition::preset(name) {
            Some(preset) => read(preset.csv.as_bytes(), name),
            None => read(&ctx.files.read_some(name)?, name),
        },
        None => {
            // Room for the app in whole 64 KiB, at least 1 MB.
            let size = app.next_multiple_of(0x1_0000).max(0x10_0000);
            let csv = format!("nvs,data,nvs,,24K\nphy_init,data,phy,,4K\nfactory,app,factory,,{size:#x}\n");
            read(csv.as_bytes(), "one app")
        }
    }
}

/// The partition that the bootloader starts first: factory, else the first OTA slot.
fn app_partition(table: &Table) -> Result<&Partition, ToolError> {
    table
        .find_kind(APP, 0)
        .or_else(|| table.ota_slots().into_iter().next())
        .ok_or_else(|| ToolError::new(Code::TableInvalid, "the partition table has no app partition"))
}

/// A file of the set: its name, its part in `flasher_args.json`, its place and bytes.
pub struct Item {
    name: &'static str,
    role: &'static str,
    part: Part,
}

fn parts(
    chip: &Chip,
    table: &Table,
    place: &Partition,
    bootloader: Vec<u8>,
    app: Vec<u8>,
) -> Result<Vec<Item>, ToolError> {
    let binary = table.to_binary(true).map_err(|error| ToolError::new(Code::TableInvalid, error.to_string()))?;
    let item = |name, role, address, data| Item { name, role, part: Part { address, data } };
    let mut set = vec![
        item("bootloader.bin", "bootloader", chip.flash.bootloader_offset, bootloader),
        item("partition-table.bin", "partition-table", partition::DEFAULT_TABLE_OFFSET, binary),
        item("app.bin", "app", place.offset, app),
    ];
    // Subtype 0 of data is otadata: blank, so that the bootloader takes the first app.
    if let Some(otadata) = table.find_kind(DATA, 0) {
        let blank = partition::otadata::Otadata::BLANK.bytes();
        set.push(item("ota_data_initial.bin", "otadata", otadata.offset, blank));
    }
    Ok(set)
}

/// Where a set was written.
pub struct WrittenSet {
    /// All files, by address, then the merged one and the description.
    pub files: Vec<Written>,
    /// Path of the merged file, for address 0.
    pub merged: String,
    /// Path of `flasher_args.json`.
    pub args: String,
}

/// Writes the set into a folder, with a merged file and `flasher_args.json`.
pub fn write_set(
    ctx: &Call,
    chip: &'static Chip,
    flash: &Flash,
    folder: &str,
    set: Vec<Item>,
) -> Result<WrittenSet, ToolError> {
    let parts = set.iter().map(|item| item.part.clone()).collect();
    let parts = merge::prepare(chip, parts, &FlashSettings::default())?;
    let merged = merge::raw(&parts, 0, None)?.concat();
    let args = flasher_args(chip, flash, &set);

    let path = |name: &str| format!("{folder}/{name}");
    let mut files = Vec::new();
    for item in &set {
        files.push(write(ctx, &path(item.name), &item.part.data, Some(item.part.address))?);
    }
    let merged = write(ctx, &path("merged.bin"), &merged, Some(0))?;
    let text = serde_json::to_vec_pretty(&args)
        .map_err(|error| ToolError::new(Code::Internal, format!("flasher_args.json cannot be written: {error}")))?;
    let args = write(ctx, &path("flasher_args.json"), &text, None)?;
    let (merged_path, args_path) = (merged.path.clone(), args.path.clone());
    files.extend([merged, args]);
    Ok(WrittenSet { files, merged: merged_path, args: args_path })
}

/// In the form that ESP-IDF's build leaves behind.
fn flasher_args(chip: &Chip, flash: &Flash, set: &[Item]) -> serde_json::Value {
    let header_mode = set
        .first()
        .and_then(|item| image::Header::decode(&item.part.data))
        .and_then(|header| header.mode())
        .unwrap_or(flash.mode)
        .name();
    let address = |item: &Item| format!("{:#x}", item.part.address);
    let files: serde_json::Map<_, _> = set.iter().map(|item| (address(item), json!(item.name))).collect();
    let mut args = json!({
        "write_flash_args": ["--flash_mode", header_mode, "--flash_size", flash.size, "--flash_freq", flash.frequency],
        "flash_settings": {"flash_mode": header_mode, "flash_size": flash.size, "flash_freq": flash.frequency},
        "flash_files": files,
        "extra_esptool_args": {"after": "hard_reset", "before": "default_reset", "stub": true, "chip": chip.id},
    });
    for item in set {
        args[item.role] = json!({"offset": address(item), "file": item.name, "encrypted": "false"});
    }
    args
}
