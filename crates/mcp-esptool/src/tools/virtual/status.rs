//! `esp_qemu_status`: one virtual device, and what its console has said.

use esp_link::qemu::control::Ask;
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::View;
use crate::ctx::Ctx;
use crate::tool::{Risk, Tool};
use crate::tools::error::ToolError;

/// The tool.
pub struct Status;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The device, as `esp32-1` or `qemu://esp32-1`.
    id: String,
    /// Console from this offset of all it has said (default: its end). 0 is the first byte after the start.
    console_from: Option<u64>,
    /// At most this many bytes of console (default 2000).
    #[schemars(extend("x-rare" = true))]
    console_limit: Option<u64>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: View,
    /// Offset of the first byte of `console`.
    console_from: u64,
    /// What the console said there; bytes that are no text are replaced.
    console: String,
}

/// The id without its scheme.
pub fn plain(id: &str) -> &str {
    id.strip_prefix("qemu://").unwrap_or(id)
}

impl Tool for Status {
    const NAME: &'static str = "esp_qemu_status";
    const TITLE: &'static str = "Status of a virtual device";
    const ABOUT: &'static str = "Say how a virtual device is and what its console has said since its start.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let manager = &ctx.virtuals.manager;
        let status = manager.status(plain(&input.id))?;
        let mut out = Out { device: View::of(&status), console_from: 0, console: String::new() };
        if status.record.is_some() {
            let limit = input.console_limit.unwrap_or(2000);
            let from = input.console_from.unwrap_or(status.console_bytes.saturating_sub(limit));
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let answer = manager.ask(&status.config.id, Ask::Console { from, limit })?;
            out.console_from = answer.console_from;
            out.console = String::from_utf8_lossy(&answer.console).into_owned();
        }
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let last = out.console.lines().rev().find(|line| !line.trim().is_empty());
        match last {
            Some(line) => {
                format!("{}\n{} bytes of console, the last line: {line}", out.device, out.device.console_bytes)
            }
            None => out.device.to_string(),
        }
    }
}
