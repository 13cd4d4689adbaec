//! `esp_boot_check`: would it start, and if not, where does it stop?

use std::collections::BTreeMap;

use esp_model::boot::{self, BootReport, Config, Device, Outcome};
use esp_model::chip::{self, Chip};
use esp_model::image;
use esp_model::job::Job;
use esp_model::partition::Subtypes;
use esp_model::secure::flash_encryption::{Direction, FULL_TWEAK, FlashKey};
use esp_ops::args::{Number, PortUrl};
use esp_ops::boot::trial::{self, Copy, Trial};
use esp_ops::boot::{check, next};
use esp_ops::efuse::keys;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::partition::rows::RowOut;
use esp_ops::session::device::Connected;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct BootCheck;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Instead of a device: flash content from address 0 (a dump, a merged image).
    image: Option<String>,
    /// The chip, if the file does not tell it.
    chip_type: Option<String>,
    /// Chip revision, such as 301 for v3.1.
    #[schemars(extend("x-rare" = true))]
    revision: Option<u16>,
    /// Flash address of the partition table that the bootloader was built for (default: found).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
    /// The bootloader was built with app rollback.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    rollback: bool,
    /// The bootloader was built with anti-rollback; give secure_version.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    anti_rollback: bool,
    /// Secure version in the device's eFuses.
    #[schemars(extend("x-rare" = true))]
    secure_version: Option<u32>,
    /// Raw flash encryption key of an encrypted flash or image; it is walked decrypted.
    flash_key_file: Option<String>,
    /// Add `predicted_console` (default).
    #[serde(default = "yes")]
    #[schemars(extend("x-rare" = true))]
    predict_console: bool,
}

fn yes() -> bool {
    true
}

/// A step of the chain.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StepOut {
    /// rom, bootloader_signature, bootloader, partition_table, otadata, anti_rollback, app, app_signature, or trial: a virtual
    /// copy was started by its own ROM and bootloader.
    #[schemars(extend("enum" = ["rom", "bootloader_signature", "bootloader", "partition_table", "otadata", "anti_rollback", "app", "app_signature", "trial"]))]
    stage: String,
    /// pass, warning, fail or unknown.
    #[schemars(extend("enum" = ["pass", "warning", "fail", "unknown"]))]
    verdict: String,
    /// What was found.
    text: String,
    /// Where in flash.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<u32>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The chip.
    chip: String,
    /// starts, stops or unknown.
    #[schemars(extend("enum" = ["starts", "stops", "unknown"]))]
    outcome: String,
    /// Where it stops, or from where on nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    /// The partition whose app is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<String>,
    /// Version that this app names.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_version: Option<String>,
    /// The steps in order.
    steps: Vec<StepOut>,
    /// What to do where it stops, or what would tell more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The partition table.
    partitions: Vec<RowOut>,
    /// otadata: sequence and state of both entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    otadata: Vec<String>,
    /// What the console would show, from the ROM's boot line on. Computed from the flash content, not recorded: times are made
    /// up (esp_run_firmware records the real console).
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted_console: Option<String>,
}

impl Tool for BootCheck {
    const NAME: &'static str = "esp_boot_check";
    const TITLE: &'static str = "Check the boot chain";
    const ABOUT: &'static str = "Predict the boot: walk header, segments, hashes, partition table, otadata, app, \
         signature and anti-rollback as ROM and bootloader do, and say which app starts or where it stops; a \
         virtual copy tries it where its chip runs here.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let config = config(&input)?;
        let Some(path) = input.image.as_deref() else {
            return ctx
                .with_device(input.port.as_ref(), job, |connected| on_device(ctx, connected, job, &input, &config));
        };
        if input.port.is_some() {
            return Err(ToolError::new(Code::BadParameter, "give either port or image"));
        }
        let mut bytes = ctx.files.read_some(path)?;
        if let Some(file) = input.flash_key_file.as_deref() {
            decrypt(ctx, &input, file, &mut bytes)?;
        }
        let chip = chip_of(&input, &bytes)?;
        let device = Device { revision: input.revision, secure_version: input.secure_version, ..Device::default() };
        let report = boot::walk(chip, &bytes, &device, &config);
        let mut out = describe(chip, &report, input.predict_console);
        let size = bytes.len().next_power_of_two().max(LEAST_FLASH) as u32;
        let pages = BTreeMap::from([(0, bytes)]);
        let copy = Copy { size, pages: &pages, efuses: None };
        tried(&mut out, trial::start(chip, input.revision, &copy));
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let app = out.app_version.as_ref().map_or_else(String::new, |version| format!(", version {version}"));
        match out.outcome.as_str() {
            "starts" => format!("{}: {} starts{app}", out.chip, out.partition.as_deref().unwrap_or("the program")),
            _ => {
                let failed = out.steps.iter().find(|step| step.verdict == "fail");
                let failed = failed.or_else(|| out.steps.iter().find(|step| step.verdict == "unknown"));
                let text = failed.map_or("", |step| step.text.as_str());
                let next = out.next.as_ref().map_or_else(String::new, |next| format!("\nnext: {next}"));
                format!("{}: {} at {}: {text}{next}", out.chip, out.outcome, out.stage.as_deref().unwrap_or("?"))
            }
        }
    }
}

/// Walks the flash of a device, reading what the walk asks for.
fn on_device(ctx: &Ctx, connected: &mut Connected, job: &Job, input: &In, config: &Config) -> Result<Out, ToolError> {
    let (mut device, efuses) = check::state_and_efuses(connected, job)?;
    device.secure_version = input.secure_version.or(device.secure_version);
    device.revision = input.revision.or(device.revision);
    let key = match input.flash_key_file.as_deref() {
        Some(_) if device.encrypted == Some(false) => {
            let text = "flash encryption is off on this device: its flash is read as it is, without a key";
            return Err(ToolError::new(Code::EncryptionInactive, text).next("repeat the call without flash_key_file"));
        }
        Some(file) => Some(key_of_flash(ctx, connected, job, file)?),
        None => None,
    };
    device.ciphertext &= key.is_none();
    let (report, trial) =
        check::walk_and_try(connected, job, &device, config, Vec::new(), key.as_ref(), efuses.as_ref())?;
    let mut out = describe(connected.loader.chip(), &report, input.predict_console);
    tried(&mut out, trial);
    if device.ciphertext && out.outcome == "unknown" {
        let next = "repeat the call with flash_key_file (the raw key). A key that the chip made itself cannot be read: \
                    then esp_run_firmware capture_s=5 shows whether it starts";
        out.next = Some(next.into());
    }
    Ok(out)
}

/// What the start of a virtual copy adds: it overrules a walk that found nothing wrong.
fn tried(out: &mut Out, trial: Option<Trial>) {
    let by = "the chip's own ROM and the bootloader in flash, on a virtual copy,";
    let (verdict, text) = match (trial, out.outcome.as_str()) {
        (None, _) => return,
        (Some(Trial::Starts), "stops") => ("warning", format!("{by} start it nevertheless")),
        (Some(Trial::Starts), _) => ("pass", format!("{by} start it")),
        (Some(Trial::Unknown(seen)), _) => ("unknown", format!("{by} tell nothing: {seen}")),
        (Some(Trial::Refused(why)), _) => ("fail", format!("{by} refuse it: {why}")),
    };
    if verdict == "fail" && out.outcome == "starts" {
        (out.outcome, out.partition, out.stage) = ("stops".into(), None, Some("trial".into()));
        out.predicted_console = None;
        out.next = Some(
            "flash bootloader, partition table and app of one build (esp_flash_firmware project=…); esp_run_firmware \
             capture_s=5 records what the device itself says"
                .into(),
        );
    }
    out.steps.push(StepOut { stage: "trial".into(), verdict: verdict.into(), text, address: None });
}

/// The key from the file; refused where it does not decrypt the bootloader that is in flash.
fn key_of_flash(ctx: &Ctx, connected: &mut Connected, job: &Job, file: &str) -> Result<FlashKey, ToolError> {
    let config = connected.efuse_number("FLASH_CRYPT_CONFIG", job)?.map_or(FULL_TWEAK, |config| config as u8);
    let chip = connected.loader.chip();
    let key = keys::flash(ctx, chip, file, config)?;
    connected.loader.attach_flash(job, None)?;
    let address = chip.at(connected.loader.revision().unwrap_or(0)).flash.bootloader_offset;
    let mut head = connected.loader.read_flash_bytes(job, address, HEAD as u32)?;
    let is_plain = image::detect(&head).is_ok() || head.iter().all(|byte| *byte == 0xff);
    if is_plain || fits(&key, address, &mut head) {
        return Ok(key);
    }
    Err(ToolError::new(Code::BadKey, format!("`{file}` does not decrypt the bootloader of this device")))
}

/// Bytes of the smallest flash that a copy gets.
const LEAST_FLASH: usize = 1 << 20;
/// Bytes of a bootloader that show whether a key fits.
const HEAD: usize = 4096;
/// Flash is encrypted in units of this many bytes.
const UNIT: usize = 32;

fn fits(key: &FlashKey, address: u32, head: &mut [u8]) -> bool {
    key.apply(Direction::Decrypt, address.into(), head).is_ok() && image::detect(head).is_ok()
}

/// Decrypts a whole image of the flash. The cipher depends on the chip, which ciphertext does not tell.
fn decrypt(ctx: &Ctx, input: &In, file: &str, bytes: &mut Vec<u8>) -> Result<(), ToolError> {
    let name = input.chip_type.as_deref().ok_or_else(|| {
        ToolError::new(Code::MissingParameter, "an encrypted image does not tell its chip: give chip_type")
    })?;
    let chip =
        chip::by_name(name).ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`")))?;
    let key = keys::flash(ctx, chip, file, FULL_TWEAK)?;
    let address = chip.flash.bootloader_offset;
    let mut head =
        bytes.get(address as usize..).map_or_else(Vec::new, |rest| rest.iter().take(HEAD).copied().collect());
    if !fits(&key, address, &mut head) {
        return Err(ToolError::new(Code::BadKey, format!("`{file}` does not decrypt the bootloader of this image")));
    }
    bytes.resize(bytes.len().next_multiple_of(UNIT), 0xff);
    key.apply(Direction::Decrypt, 0, bytes).map_err(|error| ToolError::new(Code::BadKey, error.to_string()))
}

fn config(input: &In) -> Result<Config, ToolError> {
    let table_offset = match input.table_offset.map(Number::as_u32) {
        Some(None) => return Err(ToolError::new(Code::BadParameter, "table_offset does not fit 32 bits")),
        other => other.flatten(),
    };
    let (rollback, anti_rollback) = (input.rollback, input.anti_rollback);
    Ok(Config { table_offset, rollback, anti_rollback, ..Config::default() })
}

/// The chip that is named, or the one whose image stands where its ROM looks for the bootloader.
fn chip_of(input: &In, bytes: &[u8]) -> Result<&'static Chip, ToolError> {
    if let Some(name) = &input.chip_type {
        return chip::by_name(name)
            .ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`")));
    }
    let mut fits = chip::all().iter().filter(|chip| {
        let there = bytes.get(chip.flash.bootloader_offset as usize..).unwrap_or_default();
        esp_model::image::detect(there).is_ok_and(|found| found.id == chip.id)
    });
    fits.next().ok_or_else(|| ToolError::new(Code::UnknownChip, "no bootloader tells which chip this flash is of"))
}

fn describe(chip: &Chip, report: &BootReport, predict: bool) -> Out {
    let (outcome, stage, partition) = match &report.outcome {
        Outcome::Starts { partition, .. } => ("starts", None, partition.clone()),
        Outcome::Stops(stage) => ("stops", Some(stage.name().to_owned()), None),
        Outcome::Unknown(stage) => ("unknown", Some(stage.name().to_owned()), None),
    };
    let steps = report.steps.iter().map(|step| StepOut {
        stage: step.stage.name().into(),
        verdict: step.verdict.name().into(),
        text: step.text.clone(),
        address: step.address,
    });
    let app = report.app.as_ref().and_then(|app| app.description.as_ref());
    let otadata = report.otadata.iter().flat_map(|(before, _)| before.entries).map(|entry| match entry.is_blank() {
        true => "blank".to_owned(),
        false => {
            let crc = if entry.crc_ok() { "" } else { ", CRC wrong" };
            format!("sequence {}, {}{crc}", entry.sequence, entry.state.name())
        }
    });
    Out {
        chip: chip.id.into(),
        outcome: outcome.into(),
        stage,
        partition,
        app_version: app.map(|app| app.version.clone()),
        steps: steps.collect(),
        next: next::after_stop(report, chip),
        partitions: report.table.iter().flat_map(|table| RowOut::of(table, &Subtypes::default())).collect(),
        otadata: otadata.collect(),
        predicted_console: predict.then(|| report.log.clone()),
    }
}
