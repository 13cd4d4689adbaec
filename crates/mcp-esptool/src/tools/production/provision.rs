//! `esp_provision_device`: identity and credentials for a device whose firmware stays.

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::ToolError;
use esp_ops::guard::{Production, Risk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::report::Report;
use esp_factory::{Scope, unit};

/// The tool.
pub struct Provision;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// The recipe file; its images and data partitions are left out.
    config: String,
    /// Times that a lost connection is made again (default 3).
    #[schemars(extend("x-rare" = true))]
    retries: Option<u32>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// All that was needed was measured and right.
    passed: bool,
    /// What became of the unit.
    #[serde(flatten)]
    unit: Report,
}

impl Tool for Provision {
    const NAME: &'static str = "esp_provision_device";
    const TITLE: &'static str = "Provision a device";
    const ABOUT: &'static str = "Provision identity and certificates in one transaction: reserve, build the \
         partitions, write, read back. Firmware stays.";
    const RISK: Risk = Risk::Destroys;
    const PRODUCTION: Production = Production::FollowsRecipe;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let order = super::order(ctx, &input.config, Scope::Provision, input.retries)?;
        let url = ctx.find_port(input.port.as_ref(), job)?;
        let unit = unit::produce(&ctx.station(), &ctx.app.desk, job, &url.to_string(), &order);
        match unit.failure.clone() {
            Some(error) => Err(error),
            None => Ok(Out { passed: unit.passed(), unit }),
        }
    }

    fn summary(out: &Out) -> String {
        super::summary(&out.unit)
    }
}
