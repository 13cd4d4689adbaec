//! `esp_qemu_stop`: ends virtual devices.

use esp_link::port::PortUrl;
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Stop;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The device, as esp32-1.
    id: Option<String>,
    /// Stop all.
    #[serde(default)]
    all: bool,
    /// Remove the files also of a device started with persist.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    remove_files: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The devices that were stopped.
    stopped: Vec<String>,
    /// Folders of devices whose files stay.
    kept_files: Vec<String>,
}

impl Tool for Stop {
    const NAME: &'static str = "esp_qemu_stop";
    const TITLE: &'static str = "Stop virtual devices";
    const ABOUT: &'static str = "Stop one or all virtual devices. Removes flash and eFuses unless started with \
         persist.";
    const RISK: Risk = Risk::Writes;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let manager = &ctx.virtuals.manager;
        let wanted = match (&input.id, input.all) {
            (Some(id), false) => vec![manager.status(super::view::plain(id))?],
            (None, true) => manager.list()?,
            _ => return Err(ToolError::new(Code::MissingParameter, "give either `id` or `all`")),
        };
        // All of them, before the first one is stopped.
        for status in &wanted {
            ctx.ports.check(&PortUrl::Qemu(status.config.id.clone()), &ctx.policy)?;
        }
        let mut out = Out { stopped: Vec::new(), kept_files: Vec::new() };
        for status in wanted {
            job.check()?;
            let id = &status.config.id;
            ctx.devices.sessions.forget(&format!("qemu://{id}"));
            manager.stop(id)?;
            if status.config.persist && input.remove_files {
                manager.remove(id)?;
            } else if status.config.persist {
                out.kept_files.push(status.dir.display().to_string());
            }
            out.stopped.push(id.clone());
        }
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let mut text = match out.stopped.as_slice() {
            [] => "no virtual device was there".to_string(),
            stopped => format!("stopped {}", stopped.join(", ")),
        };
        for dir in &out.kept_files {
            text += &format!("\nits files stay in {dir}");
        }
        text
    }
}
