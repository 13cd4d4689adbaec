//! `esp_qemu_status`: one virtual device, and what its console has said.

use esp_link::port::PortUrl;
use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_virtual::control::Ask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{View, plain};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Status;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The device, as esp32-1.
    id: String,
    /// Console from this offset (default: its end; 0: from the start).
    console_from: Option<u64>,
    /// Most bytes of console (default 2000).
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
    /// What the console said there, without the frames of the serial loader.
    console: String,
}

/// The text among the frames of the loader: these begin and end with 0xC0 (SLIP), which no text has.
fn text(console: &[u8]) -> String {
    let is_text = |part: &&[u8]| {
        let control = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n\x1b".contains(byte);
        !part.is_empty() && !part.iter().any(control)
    };
    console.split(|byte| *byte == 0xc0).filter(is_text).map(String::from_utf8_lossy).collect()
}

impl Tool for Status {
    const NAME: &'static str = "esp_qemu_status";
    const TITLE: &'static str = "Status of a virtual device";
    const ABOUT: &'static str = "Show a virtual device's state and what its console said since the start.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let manager = &ctx.virtuals.manager;
        ctx.ports.check(&PortUrl::Qemu(plain(&input.id).into()), &ctx.policy)?;
        let status = manager.status(plain(&input.id))?;
        let mut out = Out { device: View::of(&status), console_from: 0, console: String::new() };
        if status.record.is_some() {
            let limit = input.console_limit.unwrap_or(2000);
            let from = input.console_from.unwrap_or(status.console_bytes.saturating_sub(limit));
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let answer = manager.ask(&status.config.id, Ask::Console { from, limit })?;
            out.console_from = answer.console_from;
            out.console = text(&answer.console);
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

#[cfg(test)]
mod tests {
    #[test]
    fn frames_of_the_loader_are_no_console_text() {
        let console = b"boot:0x2\r\nwaiting\r\n\xc0\x01\x08\x04\x00abcd\xc0\xc0\x01\x02\xc0rst:0x1\r\n";
        assert_eq!(super::text(console), "boot:0x2\r\nwaiting\r\nrst:0x1\r\n");
        assert_eq!(super::text(b"cut\x00frame\xc0h\xc3\xa9"), "h\u{e9}");
    }
}
