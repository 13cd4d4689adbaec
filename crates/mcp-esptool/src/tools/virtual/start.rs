//! `esp_qemu_start`: a new virtual device, a twin of a real one, or one that was there before.

use esp_model::chip::{self, Chip};
use esp_model::job::Job;
use esp_ops::args::{FileAt, Number, PortUrl};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::r#virtual::content;
use esp_ops::r#virtual::twin::{self, Twin};
use esp_virtual::control::Ask;
use esp_virtual::instance::{Backend, Config, Forward};
use esp_virtual::manager::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{Boot, View};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Start;

/// The chip when none is named: the first one that has an id in its image header.
const DEFAULT: u16 = 0;

/// What does the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// QEMU where it emulates this chip and is installed, else the simulator.
    #[default]
    Auto,
    /// Espressif's QEMU.
    Qemu,
    /// The simulator.
    Builtin,
}

/// What answers in download mode on the built-in device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loader {
    /// Our imitation of the chip's loaders.
    #[default]
    Imitation,
    /// The chip's own mask ROM, and the stub that is uploaded to it.
    Rom,
}

/// What firmware on the built-in device meets that waits for the radio's calibration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Radio {
    /// Nothing: it goes on waiting, and results say so.
    #[default]
    Absent,
    /// The calibration ends; the program goes on without a network.
    Finish,
}

/// A TCP port of this computer that leads to one of the chip.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forwarded {
    /// Port of this computer, on loopback.
    host: u16,
    /// Port of the chip.
    guest: u16,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The chip (default esp32, or that of clone_from).
    chip_type: Option<String>,
    /// Emulator (default auto: QEMU if it is installed).
    #[serde(default)]
    backend: Wanted,
    /// Start in download mode (default) or run the firmware (normal).
    boot_mode: Option<Boot>,
    /// Download mode of the built-in device (default imitation, fast; rom: the chip's own mask ROM).
    #[schemars(extend("x-rare" = true))]
    engine: Option<Loader>,
    /// Firmware that waits for the radio, which no built-in device has (default absent: it goes on waiting; finish: its
    /// calibration ends, and it goes on without a network).
    #[schemars(extend("x-rare" = true))]
    radio: Option<Radio>,
    /// Name (default CHIP-1, CHIP-2 …). An existing name starts that device again on its files.
    id: Option<String>,
    /// Flash content from address 0: a merged image.
    #[schemars(extend("x-rare" = true))]
    flash_image: Option<String>,
    /// Flash size (default 4MB, or that of clone_from); QEMU: 2, 4, 8 or 16 MB.
    #[schemars(extend("x-rare" = true))]
    flash_size: Option<Number>,
    /// Files with their flash addresses; an ELF at 0 goes to 0x10000 as an image.
    #[schemars(extend("x-rare" = true))]
    files: Option<Vec<FileAt>>,
    /// ESP-IDF build folder.
    project: Option<String>,
    /// Take also what does not belong there; an app at the bootloader address, a damaged image.
    #[serde(default)]
    accept_wrong_place: bool,
    /// Copy flash and eFuses of the device on this port; unreadable keys are 0.
    clone_from: Option<PortUrl>,
    /// File with the eFuse blocks, words little endian.
    #[schemars(extend("x-rare" = true))]
    efuse_file: Option<String>,
    /// PSRAM in MB (QEMU).
    #[schemars(extend("x-rare" = true))]
    psram_mb: Option<u32>,
    /// The PSRAM is octal (QEMU).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    octal_psram: bool,
    /// Give the chip an Ethernet controller (OpenCores) with a network (QEMU).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    network: bool,
    /// TCP ports that lead to the chip's (QEMU).
    #[schemars(extend("x-rare" = true))]
    forward: Option<Vec<Forwarded>>,
    /// TCP port for GDB (builtin: any free one without).
    #[schemars(extend("x-rare" = true))]
    gdb_port: Option<u16>,
    /// Wait for GDB before the first instruction.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    wait_for_gdb: bool,
    /// TCP port of the RFC 2217 line (default: any free one).
    #[schemars(extend("x-rare" = true))]
    rfc2217_port: Option<u16>,
    /// TCP port of the plain line (default: any free one).
    #[schemars(extend("x-rare" = true))]
    socket_port: Option<u16>,
    /// Keep running when the server ends.
    #[schemars(extend("x-rare" = true))]
    keep: Option<bool>,
    /// Keep the files when it is stopped.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    persist: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: View,
    /// The device it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_of: Option<PortUrl>,
    /// Bytes of flash that were read for the copy; the rest was blank.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_bytes: Option<u64>,
    /// Why it is not QEMU, where `auto` would have preferred that.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Tool for Start {
    const NAME: &'static str = "esp_qemu_start";
    const TITLE: &'static str = "Start a virtual device";
    const ABOUT: &'static str = "Start a virtual chip: QEMU or the built-in simulator (every chip; runs the \
         firmware of most), or a twin of a real device (clone_from). Any tool takes the resulting port.";
    const RISK: Risk = Risk::Resets;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if let Some(id) = &input.id {
            ctx.ports.check(&PortUrl::Qemu(id.clone()), &ctx.policy)?;
        }
        if let Some(status) = existing(ctx, input.id.as_deref())? {
            return again(ctx, &input, &status);
        }
        let twin = input.clone_from.as_ref().map(|port| twin::copy(ctx, job, port)).transpose()?;
        let chip = chip_of(&input, twin.as_ref())?;
        let (backend, program, note) = backend(ctx, chip, input.backend, input.engine == Some(Loader::Rom))?;
        let config = config(ctx, &input, chip, backend, program, twin.as_ref())?;
        let flash = flash_of(ctx, &input, chip, config.flash_size, twin.as_ref())?;
        let efuse = efuse_of(ctx, &input, chip, backend, twin.as_ref())?;
        let status = ctx.virtuals.manager.start(config, &flash, &efuse)?;
        Ok(Out {
            device: View::of(&status),
            copy_of: input.clone_from,
            copied_bytes: twin.map(|twin| twin.read_bytes),
            note,
        })
    }

    fn summary(out: &Out) -> String {
        let mut text = out.device.to_string();
        if !out.device.runs_code {
            text += "\nit imitates loaders, flash, eFuses and boot messages, but runs no firmware: no mask ROM of this chip is built in";
        } else if out.device.backend == "builtin" {
            let loader = if out.device.download_by == "rom" {
                "the ROM's own loader answers"
            } else {
                "the loaders are imitated (engine=rom takes the ROM's own)"
            };
            text += &format!(
                "\nin normal boot it runs the firmware in flash by the chip's own mask ROM; in download mode {loader}"
            );
        }
        if let Some(note) = &out.note {
            text += &format!(" ({note})");
        }
        text
    }
}

fn existing(ctx: &Ctx, id: Option<&str>) -> Result<Option<Status>, ToolError> {
    let Some(id) = id else { return Ok(None) };
    match ctx.virtuals.manager.status(id) {
        Ok(status) => Ok(Some(status)),
        Err(esp_virtual::VirtualError::Unknown(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Starts a device that is there on its files, in this boot mode.
fn again(ctx: &Ctx, input: &In, status: &Status) -> Result<Out, ToolError> {
    let id = &status.config.id;
    let content =
        [input.flash_image.is_some(), input.files.is_some(), input.project.is_some(), input.clone_from.is_some()];
    if content.contains(&true) {
        let text = format!("there is already a virtual device `{id}`");
        return Err(ToolError::new(Code::VirtualExists, text));
    }
    let mode = input.boot_mode.unwrap_or_default().into();
    let manager = &ctx.virtuals.manager;
    let status = if status.record.is_some() {
        manager.ask(id, Ask::Boot { mode })?;
        manager.status(id)?
    } else {
        manager.resume(id, mode)?
    };
    Ok(Out { device: View::of(&status), copy_of: None, copied_bytes: None, note: None })
}

fn chip_of(input: &In, twin: Option<&Twin>) -> Result<&'static Chip, ToolError> {
    let named = match (&input.chip_type, twin) {
        (Some(name), _) => chip::by_name(name).ok_or_else(|| {
            let known = chip::all().iter().map(|chip| chip.id).collect::<Vec<_>>().join(", ");
            ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`")).seen("known", known)
        })?,
        (None, Some(twin)) => twin.chip,
        (None, None) => {
            chip::by_chip_id(DEFAULT).ok_or_else(|| ToolError::new(Code::MissingParameter, "give `chip_type`"))?
        }
    };
    match twin {
        Some(twin) if twin.chip.id != named.id => {
            let text = format!("the device that is copied is an {}, not an {}", twin.chip.name, named.name);
            Err(ToolError::new(Code::ChipMismatch, text))
        }
        _ => Ok(named),
    }
}

type Chosen = (Backend, Option<std::path::PathBuf>, Option<String>);

fn backend(ctx: &Ctx, chip: &Chip, wanted: Wanted, rom: bool) -> Result<Chosen, ToolError> {
    if wanted == Wanted::Builtin || (wanted == Wanted::Auto && rom) {
        return Ok((Backend::Builtin, None, None));
    }
    match ctx.virtuals.emulator(chip) {
        Ok(found) => Ok((Backend::Qemu, Some(found.path), None)),
        Err(error) if wanted == Wanted::Qemu => Err(error.into()),
        Err(error) => Ok((Backend::Builtin, None, Some(error.to_string()))),
    }
}

fn config(
    ctx: &Ctx,
    input: &In,
    chip: &Chip,
    backend: Backend,
    program: Option<std::path::PathBuf>,
    twin: Option<&Twin>,
) -> Result<Config, ToolError> {
    let forwards: Vec<Forward> =
        input.forward.iter().flatten().map(|ports| Forward { host: ports.host, guest: ports.guest }).collect();
    let emulator_only = input.psram_mb.is_some() || input.octal_psram || input.network || !forwards.is_empty();
    if backend == Backend::Builtin && emulator_only {
        let text = "PSRAM, network and forwarded ports need QEMU; the built-in simulator has none of them";
        return Err(ToolError::new(Code::BadParameter, text));
    }
    let debugged = input.gdb_port.is_some() || input.wait_for_gdb;
    if backend == Backend::Builtin && debugged && !esp_machine::firmware::runs(chip) {
        let text = format!("GDB needs code that runs, and no mask ROM of the {} is built into this program", chip.name);
        return Err(ToolError::new(Code::BadParameter, text));
    }
    let loader_by_rom = input.engine == Some(Loader::Rom);
    if loader_by_rom && !(backend == Backend::Builtin && esp_machine::firmware::runs(chip)) {
        let text = match backend {
            Backend::Qemu => "engine=rom is for the built-in device; QEMU always runs the ROM".into(),
            Backend::Builtin => {
                format!("engine=rom needs the mask ROM of the {}, and none is built into this program", chip.name)
            }
        };
        return Err(ToolError::new(Code::BadParameter, text));
    }
    let radio_finishes = input.radio == Some(Radio::Finish);
    if radio_finishes && !(backend == Backend::Builtin && esp_machine::firmware::runs(chip)) {
        let text = format!(
            "radio=finish is for the built-in device of a chip whose mask ROM is built in, not for this {}",
            chip.name
        );
        return Err(ToolError::new(Code::BadParameter, text));
    }
    let size = input.flash_size.map(|size| size.0).or(twin.map(|twin| twin.flash_size));
    Ok(Config {
        boot_mode: input.boot_mode.unwrap_or_default().into(),
        loader_by_rom,
        radio_finishes,
        flash_size: size.unwrap_or(4 << 20),
        program,
        psram_mb: input.psram_mb,
        octal_psram: input.octal_psram,
        network: input.network,
        forwards,
        gdb_port: input.gdb_port,
        wait_for_gdb: input.wait_for_gdb,
        rfc2217_port: input.rfc2217_port,
        socket_port: input.socket_port,
        keep: input.keep.unwrap_or(ctx.virtuals.keep),
        persist: input.persist,
        ..Config::new(input.id.as_deref().unwrap_or_default(), chip.id, backend)
    })
}

fn flash_of(ctx: &Ctx, input: &In, chip: &Chip, size: u64, twin: Option<&Twin>) -> Result<Vec<u8>, ToolError> {
    let mut files = input.files.clone().unwrap_or_default();
    if let Some(path) = &input.flash_image {
        files.push(FileAt { path: path.clone(), address: Number(0) });
    }
    let pieces = content::gather(ctx, chip, &files, input.project.as_deref(), size, input.accept_wrong_place)?;
    let Some(twin) = twin else { return content::joined(&pieces) };
    let mut flash = twin.flash.clone();
    for piece in &pieces {
        flash.resize(flash.len().max(piece.end() as usize), 0xff);
        content::put(&mut flash, piece)?;
    }
    Ok(flash)
}

fn efuse_of(
    ctx: &Ctx,
    input: &In,
    chip: &'static Chip,
    backend: Backend,
    twin: Option<&Twin>,
) -> Result<Vec<u8>, ToolError> {
    let given = match (&input.efuse_file, twin) {
        (Some(path), _) => Some(ctx.files.read_some(path)?),
        (None, Some(twin)) => twin.efuse.clone(),
        (None, None) => None,
    };
    let Some(emulation) = chip.emulation().filter(|_| backend == Backend::Qemu) else {
        return Ok(given.unwrap_or_default());
    };
    let mut bytes = given.unwrap_or_else(|| emulation.blank_efuses());
    bytes.resize(emulation.efuse_len, 0);
    Ok(bytes)
}
