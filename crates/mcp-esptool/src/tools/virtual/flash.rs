//! `esp_qemu_flash`: changes a virtual device's flash file directly, and keeps or brings back its states.

use esp_link::port::PortUrl;
use esp_model::chip;
use esp_model::job::Job;
use esp_ops::args::{FileAt, Number};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::files::PieceView;
use esp_ops::guard::Risk;
use esp_ops::r#virtual::content;
use esp_virtual::{VirtualError, files};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::plain;
use super::view::{Boot, View};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Flash;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The device, as esp32-1.
    id: String,
    /// A file for address: image, ELF, Intel HEX or UF2.
    #[schemars(extend("x-rare" = true))]
    image: Option<String>,
    /// Flash address of image (default 0; an ELF goes to 0x10000).
    #[schemars(extend("x-rare" = true))]
    address: Option<Number>,
    /// Files with their addresses.
    files: Option<Vec<FileAt>>,
    /// ESP-IDF build folder.
    project: Option<String>,
    /// Take also what does not belong there; an app at the bootloader address, a damaged image.
    #[serde(default)]
    accept_wrong_place: bool,
    /// Erase the whole flash first.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    erase: bool,
    /// Restore this snapshot first.
    #[schemars(extend("x-rare" = true))]
    restore: Option<String>,
    /// Keep flash and eFuses under this name first.
    #[schemars(extend("x-rare" = true))]
    snapshot: Option<String>,
    /// Start in this mode afterwards (default: as before).
    #[schemars(extend("x-rare" = true))]
    boot_mode: Option<Boot>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: View,
    /// What was written.
    files: Vec<PieceView>,
    /// Bytes that were written.
    written_bytes: u64,
    /// The snapshot's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
}

impl Tool for Flash {
    const NAME: &'static str = "esp_qemu_flash";
    const TITLE: &'static str = "Fill a virtual device's flash";
    const ABOUT: &'static str = "Write files, an ELF or a build straight into a virtual device's flash; erase; \
         snapshots. Restarts a running device.";
    const RISK: Risk = Risk::Writes;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let manager = &ctx.virtuals.manager;
        let id = plain(&input.id);
        ctx.ports.check(&PortUrl::Qemu(id.into()), &ctx.policy)?;
        let status = manager.status(id)?;
        let chip = chip::by_name(&status.config.chip)
            .ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{}`", status.config.chip)))?;
        let mut list = input.files.clone().unwrap_or_default();
        if let Some(path) = &input.image {
            list.push(FileAt { path: path.clone(), address: input.address.unwrap_or(Number(0)) });
        }
        let size = status.config.flash_size;
        let pieces = content::gather(ctx, chip, &list, input.project.as_deref(), size, input.accept_wrong_place)?;
        let changes = input.erase || input.restore.is_some() || input.snapshot.is_some() || input.boot_mode.is_some();
        if pieces.is_empty() && !changes {
            return Err(ToolError::new(Code::NothingToDo, "no files were given, nor anything else to do"));
        }
        let contents: Vec<_> =
            pieces.iter().map(|piece| Ok((piece.address, piece.bytes()?))).collect::<Result<_, ToolError>>()?;
        // A warm connection would believe in a loader that the restart ends.
        ctx.devices.sessions.forget(&format!("qemu://{id}"));
        let snapshot = input.snapshot.as_deref().map(|name| manager.snapshot(id, name)).transpose()?;
        if let Some(name) = &input.restore {
            manager.restore(id, name)?;
        }
        if input.erase || !pieces.is_empty() {
            let write = |dir: &esp_virtual::instance::Directory| -> Result<(), VirtualError> {
                if input.erase {
                    files::make_flash(&dir.flash(), size, &[])?;
                }
                contents.iter().try_for_each(|(address, bytes)| files::patch(&dir.flash(), (*address).into(), bytes))
            };
            manager.with_files(id, write).map_err(|error| ToolError::from(error).touched(FlashState::Unknown))?;
        }
        if let (Some(mode), Some(_)) = (input.boot_mode, &status.record) {
            manager.ask(id, esp_virtual::control::Ask::Boot { mode: mode.into() })?;
        }
        Ok(Out {
            device: View::of(&manager.status(id)?),
            written_bytes: pieces.iter().map(|piece| piece.size()).sum(),
            files: pieces.iter().map(|piece| piece.view()).collect(),
            snapshot: snapshot.map(|dir| dir.display().to_string()),
        })
    }

    fn summary(out: &Out) -> String {
        let mut text = format!("{}\n{} bytes written", out.device, out.written_bytes);
        if let Some(dir) = &out.snapshot {
            text += &format!("; snapshot in {dir}");
        }
        text
    }
}
