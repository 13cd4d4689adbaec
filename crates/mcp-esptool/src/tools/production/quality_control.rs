//! `esp_quality_control`: acceptance of a finished unit.

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::prepared::Prepared;
use esp_factory::quality;
use esp_factory::report::Report;

/// The tool.
pub struct QualityControl;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// The recipe that the unit was made by.
    config: String,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// Everything was measured and right.
    passed: bool,
    /// What was looked at.
    #[serde(flatten)]
    unit: Report,
}

impl Tool for QualityControl {
    const NAME: &'static str = "esp_quality_control";
    const TITLE: &'static str = "Accept a unit";
    const ABOUT: &'static str = "Check a finished unit against its recipe and the ledger by reading everything \
         back. What cannot be measured is unknown, not pass.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let prepared = Prepared::load(&ctx.station(), &input.config)?.checked()?;
        let unit = quality::inspect(&ctx.station(), &ctx.app.desk, job, input.port.as_ref(), &prepared)?;
        Ok(Out { passed: unit.passed(), unit })
    }

    fn summary(out: &Out) -> String {
        format!("{}; {}", out.unit.line(), counted(out.unit.steps.len(), "check"))
    }
}
