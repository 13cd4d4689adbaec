//! `esp_factory_program`: a recipe on one device.

use std::collections::BTreeMap;

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::ToolError;
use esp_ops::guard::{Production, Risk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::rehearsal::{self, Outcome};
use esp_factory::report::Report;
use esp_factory::{Scope, unit};

/// The tool.
pub struct FactoryProgram;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// The recipe file (esp_recipe makes one).
    config: String,
    /// Only check the recipe and try it on a simulated device.
    #[serde(default)]
    rehearse: bool,
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
    unit: Option<Report>,
    /// What the rehearsal says.
    #[serde(skip_serializing_if = "Option::is_none")]
    rehearsal: Option<Outcome>,
}

impl Tool for FactoryProgram {
    const NAME: &'static str = "esp_factory_program";
    const TITLE: &'static str = "Produce a unit";
    const ABOUT: &'static str = "Produce one unit by a recipe: identity from the ledger, images, factory data, \
         eFuses, tests, record. Repeatable: the same board keeps its identity, only what differs is written.";
    const RISK: Risk = Risk::Destroys;
    const PRODUCTION: Production = Production::FollowsRecipe;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if input.rehearse {
            let outcome = rehearsal::check(&ctx.station(), job, &input.config, &BTreeMap::new())?;
            return Ok(Out { passed: outcome.good, unit: None, rehearsal: Some(outcome) });
        }
        let order = super::order(ctx, &input.config, Scope::Full, input.retries)?;
        let url = ctx.find_port(input.port.as_ref(), job)?;
        finished(unit::produce(&ctx.station(), &ctx.app.desk, job, &url.to_string(), &order))
    }

    fn summary(out: &Out) -> String {
        match (&out.unit, &out.rehearsal) {
            (Some(unit), _) => super::summary(unit),
            (None, Some(rehearsal)) if rehearsal.good => match rehearsal.locked {
                true => "the rehearsal passed".into(),
                false => "the rehearsal passed; not locked: real devices need esp_recipe action=lock".into(),
            },
            (None, Some(rehearsal)) => rehearsal.findings.join("\n"),
            (None, None) => String::new(),
        }
    }
}

/// A unit that broke off is an error of the call; one that failed its tests is a result.
fn finished(report: Report) -> Result<Out, ToolError> {
    if let Some(error) = report.failure.clone() {
        let run = report.run.map_or_else(|| serde_json::Value::Null, serde_json::Value::from);
        return Err(error.seen("run", run));
    }
    Ok(Out { passed: report.passed(), unit: Some(report), rehearsal: None })
}
