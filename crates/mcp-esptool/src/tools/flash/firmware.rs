//! `esp_flash_firmware`: check, compare, write what differs, verify.

use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::flash::write::{self, Request, Written};
use esp_ops::guard::Risk;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Firmware;

impl Tool for Firmware {
    const NAME: &'static str = "esp_flash_firmware";
    const TITLE: &'static str = "Flash firmware";
    const ABOUT: &'static str = "Flash firmware (files, or an ESP-IDF, Zephyr, Arduino, PlatformIO or Rust build) and verify it. \
         Checks chip, revision, overlap, size and encryption first; writes only changed sectors; resumes after a \
         cut.";
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = Request;
    type Out = Written;

    fn run(ctx: &Ctx, job: &Job, input: Request) -> Result<Written, ToolError> {
        write::run(ctx, job, &input)
    }

    fn summary(out: &Written) -> String {
        let seconds = out.compare_s + out.write_s + out.verify_s;
        let checked = if out.verified { "verified" } else { "not verified: this loader cannot" };
        let notes = if out.notes.is_empty() { String::new() } else { format!("\n{}", out.notes.join("; ")) };
        format!(
            "{}\n{} bytes written, {} already right, in {seconds:.1} s; {checked}{notes}",
            out.device, out.written_bytes, out.skipped_bytes
        )
    }
}
