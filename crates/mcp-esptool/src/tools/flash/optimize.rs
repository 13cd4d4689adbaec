//! `esp_flash_optimize`: the bootloader header's flash mode, frequency and size, judged and improved.

use std::io::Write;

use esp_link::flash::{Part, WriteOptions};
use esp_model::boot::Config;
use esp_model::flash::advice::{self, Advice, Weight};
use esp_model::image::merge::{FlashSettings, Patched, set_flash};
use esp_model::image::{self, FlashMode, Header};
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::boot::check;
use esp_ops::boot::log::{self, BootLog};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::firmware::common;
use esp_ops::flash::{keep, part};
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Optimize;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Patch the header with what is recommended and the settings given here.
    #[serde(default)]
    apply: bool,
    /// With apply: qio, qout, dio or dout.
    #[schemars(extend("x-rare" = true))]
    flash_mode: Option<String>,
    /// With apply: 80m, 40m …
    #[schemars(extend("x-rare" = true))]
    flash_freq: Option<String>,
    /// With apply: 2MB, 4MB …
    flash_size: Option<String>,
}

/// A setting that could be another.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AdviceOut {
    /// flash_mode, flash_freq or flash_size.
    setting: String,
    /// What the header says.
    now: String,
    /// What it should say.
    better: String,
    /// required, recommended, or possible (what decides cannot be seen from here).
    weight: String,
    /// Why.
    reason: String,
}

/// What was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Applied {
    /// The settings that were written.
    settings: Vec<String>,
    /// Copy of the bootloader as it was.
    backup_file: String,
    /// What the boot chain says of the patched flash: starts or unknown.
    walk: String,
    /// The console after the reset; its verdict is the proof.
    console: BootLog,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// JEDEC id: manufacturer, type, capacity.
    jedec_id: String,
    /// Size of the flash by JEDEC id and SFDP, the smaller one; left out when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    flash_size_bytes: Option<u64>,
    /// Four data lines are switched on; left out where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    quad_enable: Option<bool>,
    /// Fast reads by the part's SFDP table.
    reads: Vec<String>,
    /// The header's mode, frequency and size.
    header: String,
    /// The bootloader carries a signature: its header cannot be changed without it.
    signed: bool,
    /// What could be better, the most important first.
    advice: Vec<AdviceOut>,
    /// What was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<Applied>,
}

impl Tool for Optimize {
    const NAME: &'static str = "esp_flash_optimize";
    const TITLE: &'static str = "Optimise flash settings";
    const ABOUT: &'static str = "Recommend flash mode, frequency and size. With apply, patch the bootloader header \
         (unsigned only), keep a copy, and restore it if the device does not boot.";
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let wanted = wanted(&input)?;
        let (mut out, patch) = ctx.with_device(input.port.as_ref(), job, |connected| {
            let (out, bootloader) = judge(connected, job)?;
            let patch = match input.apply {
                true => patch(ctx, job, connected, &out, bootloader, wanted)?,
                false => None,
            };
            Ok((out, patch))
        })?;
        if let Some(patch) = patch {
            out.applied = Some(prove(ctx, job, &input, patch)?);
        }
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let advice: Vec<String> = out
            .advice
            .iter()
            .map(|advice| format!("{} {} -> {} ({})", advice.setting, advice.now, advice.better, advice.weight))
            .collect();
        let advice = if advice.is_empty() { "nothing to improve".into() } else { advice.join("; ") };
        let done = out.applied.as_ref().map_or_else(String::new, |applied| {
            format!("\nset {}; boot: {}", applied.settings.join(", "), applied.console.verdict.name())
        });
        format!("{}\nheader {}: {advice}{done}", out.device, out.header)
    }
}

fn wanted(input: &In) -> Result<FlashSettings, ToolError> {
    let given = [&input.flash_mode, &input.flash_freq, &input.flash_size].into_iter().any(Option::is_some);
    if given && !input.apply {
        return Err(ToolError::new(Code::BadParameter, "settings are taken only together with apply=true"));
    }
    common::flash_settings(input.flash_mode.as_deref(), input.flash_freq.as_deref(), input.flash_size.as_deref())
}

/// Bytes that are read of the bootloader at once.
const STEP: u32 = 0x4000;
/// Longest bootloader that is read.
const LONGEST: u32 = 0x2_0000;

/// The bootloader on the chip: whole image and what stands behind it up to the next sector and a signature.
fn bootloader(connected: &mut Connected, job: &Job) -> Result<Vec<u8>, ToolError> {
    let chip = connected.loader.chip();
    let flash_size = connected.loader.attach_flash(job, None)?;
    let offset = chip.flash.bootloader_offset;
    let mut bytes = Vec::new();
    while (bytes.len() as u32) < LONGEST.min(flash_size - offset) {
        bytes.extend(connected.loader.read_flash_bytes(&job.silent(), offset + bytes.len() as u32, STEP)?);
        let Ok(image) = image::parse::parse_for(chip, &bytes) else { continue };
        let end = image.len().next_multiple_of(esp_model::secure::SECTOR) + esp_model::secure::SECTOR;
        if bytes.len() >= end {
            bytes.truncate(end);
            return Ok(bytes);
        }
    }
    let encrypted = connected.is_encrypted(job)?;
    let what = if encrypted { "the flash is encrypted" } else { "there is no whole image" };
    let code = if encrypted { Code::EncryptionActive } else { Code::ImageInvalid };
    Err(ToolError::new(code, format!("the bootloader at {offset:#x} cannot be judged: {what}")))
}

fn judge(connected: &mut Connected, job: &Job) -> Result<(Out, Vec<u8>), ToolError> {
    let device = Device::read(connected, job)?;
    let id = connected.loader.flash_id(job)?;
    let registers = part::registers(connected, job, id)?;
    let description = part::sfdp(connected, job)?.ok();
    let known = part::known(id, &registers, description.as_ref());
    let bootloader = bootloader(connected, job)?;
    let chip = connected.loader.chip();
    let header =
        Header::decode(&bootloader).ok_or_else(|| ToolError::new(Code::ImageInvalid, "the header is cut off"))?;
    let out = Out {
        device,
        jedec_id: id.to_string(),
        flash_size_bytes: known.size(),
        quad_enable: known.quad_enable,
        reads: known.reads.iter().flatten().map(|lines| (*lines).to_owned()).collect(),
        header: header_text(&header, chip),
        signed: common::is_signed(&bootloader),
        advice: advice::advise(chip, &header, &known).into_iter().map(AdviceOut::of).collect(),
        applied: None,
    };
    Ok((out, bootloader))
}

fn header_text(header: &Header, chip: &esp_model::chip::Chip) -> String {
    let mode = header.mode().map_or("?", FlashMode::name);
    let (frequency, size) = (header.frequency_name(chip).unwrap_or("?"), header.size_name(chip).unwrap_or("?"));
    format!("{mode}, {frequency}, {size}")
}

impl AdviceOut {
    fn of(advice: Advice) -> Self {
        let weight = match advice.weight {
            Weight::Required => "required",
            Weight::Recommended => "recommended",
            Weight::Possible => "possible",
        };
        let Advice { setting, now, better, reason, .. } = advice;
        Self { setting: setting.into(), now, better, weight: weight.into(), reason }
    }
}

/// A header that was written and waits for its proof.
struct Patch {
    offset: u32,
    before: Vec<u8>,
    settings: Vec<String>,
    backup_file: String,
    walk: String,
}

fn patch(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    out: &Out,
    before: Vec<u8>,
    given: FlashSettings,
) -> Result<Option<Patch>, ToolError> {
    let chip = connected.loader.chip();
    let settings = with_advice(given, &out.advice);
    if settings.is_keep() {
        return Ok(None);
    }
    let mut state = check::state_of(connected, job)?;
    if out.signed || state.secure_boot.as_ref().is_some_and(|boot| boot.enabled.is_some()) {
        return Err(ToolError::new(
            Code::ImageSigned,
            "the bootloader is signed: with another header it does not start",
        ));
    }
    if state.encrypted == Some(true) {
        return Err(ToolError::new(
            Code::EncryptionActive,
            "flash encryption is on: the header cannot be patched in place",
        ));
    }
    state.secure_boot = None;
    let offset = chip.flash.bootloader_offset;
    let mut after = before.clone();
    if set_flash(chip, offset, &mut after, &settings)? != Patched::Done || after == before {
        return Ok(None);
    }
    let report = check::walk(connected, job, &state, &Config::default(), vec![(offset, after.clone())])?;
    if let Some(step) = report.failure() {
        let text = format!("with the new header the start would stop: {}", step.text);
        return Err(ToolError::new(Code::BootProofFailed, text).seen("stage", step.stage.name()));
    }
    let walk = if report.starts() { "starts" } else { "unknown" };
    let path = format!("{}/bootloader-{offset:x}.bin", keep::folder(&out.device, None));
    let mut file = ctx.files.create(&path)?;
    file.write_all(&before)
        .map_err(|error| ToolError::of_io(Code::FileUnwritable, "the backup cannot be written", &error))?;
    let backup_file = file.finish_secret()?.display().to_string();
    write(connected, job, offset, after)?;
    let named = [
        settings.mode.map(|mode| format!("mode {}", mode.name())),
        settings.frequency.map(|frequency| format!("frequency {frequency}")),
        settings.size.map(|size| format!("size {size}")),
    ];
    let settings = named.into_iter().flatten().collect();
    Ok(Some(Patch { offset, before, settings, backup_file, walk: walk.into() }))
}

/// What is given, and what the advice requires or recommends beside it.
fn with_advice(mut settings: FlashSettings, advice: &[AdviceOut]) -> FlashSettings {
    for advice in advice.iter().filter(|advice| advice.weight != "possible") {
        let better = || Some(advice.better.clone());
        match advice.setting.as_str() {
            "flash_mode" => settings.mode = settings.mode.or(FlashMode::from_name(&advice.better)),
            "flash_freq" => settings.frequency = settings.frequency.take().or_else(better),
            _ => settings.size = settings.size.take().or_else(better),
        }
    }
    settings
}

fn write(connected: &mut Connected, job: &Job, offset: u32, bytes: Vec<u8>) -> Result<(), ToolError> {
    // Half a bootloader starts nothing: this is not cut off.
    let written =
        connected.loader.write_flash(&job.shielded(), &mut [Part::bytes(offset, bytes)], &WriteOptions::default());
    written.map(drop).map_err(|error| ToolError::from(error).touched(FlashState::Partial))
}

/// Seconds that the console is listened to.
const LISTEN_S: f64 = 6.0;

/// Starts the device; when it does not say that it booted, the old bootloader goes back.
fn prove(ctx: &Ctx, job: &Job, input: &In, patch: Patch) -> Result<Applied, ToolError> {
    let console = start(ctx, job, input);
    let good = |log: &BootLog| log.verdict.is_good();
    match console {
        Ok(console) if good(&console) => {
            let Patch { settings, backup_file, walk, .. } = patch;
            Ok(Applied { settings, backup_file, walk, console })
        }
        other => {
            let shielded = job.shielded();
            ctx.with_device(input.port.as_ref(), &shielded, |connected| {
                write(connected, &shielded, patch.offset, patch.before.clone())
            })?;
            let seen = match &other {
                Ok(console) => console.verdict.name().to_owned(),
                Err(error) => error.message.clone(),
            };
            let text = "the device did not show that it boots with the new header: the old one was put back";
            Err(ToolError::new(Code::BootProofFailed, text)
                .seen("console", seen)
                .seen("settings", patch.settings.join(", "))
                .touched(FlashState::Unchanged))
        }
    }
}

fn start(ctx: &Ctx, job: &Job, input: &In) -> Result<BootLog, ToolError> {
    let (_lease, connected) = ctx.take_device(input.port.as_ref(), job)?;
    log::restart(connected, job, LISTEN_S)
}
