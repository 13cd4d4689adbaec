//! `esp_detect_chip`: which chip is there, and what belongs to it.

use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::chip::{Detected, detect};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Detect;

impl Tool for Detect {
    const NAME: &'static str = "esp_detect_chip";
    const TITLE: &'static str = "Detect chip";
    const ABOUT: &'static str = "Identify the chip on a port: package, revision, features, crystal, MACs, flash, \
         security state. Resets the device into its bootloader.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Detected;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Detected, ToolError> {
        ctx.with_device(input.port(), job, |connected| detect(connected, job))
    }

    fn summary(out: &Detected) -> String {
        out.to_string()
    }
}
