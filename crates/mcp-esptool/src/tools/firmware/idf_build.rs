//! `esp_idf_build`: builds a project with an installed ESP-IDF.

use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::firmware::idf_project::{self, Built, Request};
use esp_ops::guard::Risk;
use esp_ops::words::counted;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct IdfBuild;

impl Tool for IdfBuild {
    const NAME: &'static str = "esp_idf_build";
    const TITLE: &'static str = "Build with ESP-IDF";
    const ABOUT: &'static str = "Build an ESP-IDF project and parse its errors. Never changes the \
         target. Then esp_flash_firmware project=….";
    // A build runs code of the project on this computer.
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = Request;
    type Out = Built;

    fn run(ctx: &Ctx, job: &Job, input: Request) -> Result<Built, ToolError> {
        idf_project::run(ctx, job, &input)
    }

    fn summary(out: &Built) -> String {
        let warnings = match out.warnings.len() {
            0 => "no warnings".to_string(),
            count => counted(count, "warning"),
        };
        format!(
            "{} for {}: {} bytes, {warnings}\nflash it: esp_flash_firmware project={}",
            out.name, out.target, out.app_bytes, out.build_dir
        )
    }
}
