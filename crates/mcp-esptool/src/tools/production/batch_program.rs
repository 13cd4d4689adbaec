//! `esp_batch_program`: many devices side by side.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp_model::job::Job;
use esp_ops::args::FileAt;
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::files::Piece;
use esp_ops::flash::{belongs, project};
use esp_ops::guard::{Production, Risk};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::batch_values::{self, UnitValue};
use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::batch::{self, Options, Stats};
use esp_factory::prepared::Prepared;
use esp_factory::report::Report;
use esp_factory::unit::Order;
use esp_factory::{Scope, ports};

/// The tool.
pub struct BatchProgram;

/// Seconds for a unit when the call does not say.
const USUAL_S: f64 = 600.0;
/// Units whose steps are in the result without being asked for.
const DETAILED: usize = 10;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Port URLs; NAME[1-10] stands for a range.
    ports: Vec<String>,
    /// Recipe file (.toml), project or build folder.
    firmware: Option<String>,
    /// Instead of firmware: files with their addresses.
    files: Option<Vec<FileAt>>,
    /// NVS values for each unit, from a pool or a list; not with a recipe.
    #[serde(default)]
    values: Vec<UnitValue>,
    /// Longest time for a unit in seconds (default 600).
    #[schemars(extend("x-rare" = true))]
    timeout_s: Option<f64>,
    /// Units at once (default: all).
    #[schemars(extend("x-rare" = true))]
    parallel: Option<u32>,
    /// Times that a lost connection is made again (default 3).
    #[schemars(extend("x-rare" = true))]
    retries: Option<u32>,
    /// Steps and phases of every unit (default: up to 10 units, and those that did not pass).
    #[schemars(extend("x-rare" = true))]
    details: Option<bool>,
    /// File for the whole result as JSON.
    #[schemars(extend("x-rare" = true))]
    report_file: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// Every unit passed.
    passed: bool,
    /// Numbers of the batch.
    stats: Stats,
    /// Hash of the recipe in the ledger.
    recipe: String,
    /// What became of each unit, in the order of the ports.
    units: Vec<Report>,
    /// The file with everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    report_file: Option<String>,
}

impl Tool for BatchProgram {
    const NAME: &'static str = "esp_batch_program";
    const TITLE: &'static str = "Program many devices";
    const ABOUT: &'static str = "Program many devices side by side with a recipe or firmware. Each gets its own \
         verdict; one that hangs or is unplugged does not stop the others. Resumes when repeated.";
    const RISK: Risk = Risk::Destroys;
    const PRODUCTION: Production = Production::FollowsRecipe;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let ports = ports::expand(&input.ports)?;
        ctx.policy.allows_devices(ports.len())?;
        for port in &ports {
            ctx.choose_port(Some(&port.parse()?))?;
        }
        let order = order(ctx, &input)?;
        let timeout = Duration::try_from_secs_f64(input.timeout_s.unwrap_or(USUAL_S));
        let timeout = timeout.map_err(|_| ToolError::new(Code::BadParameter, "timeout_s is not a time"))?;
        let parallel = input.parallel.map_or(ports.len(), |count| count as usize);
        let began = Instant::now();
        let mut units = batch::run(&ctx.station(), &ctx.app.desk, job, &ports, &order, Options { timeout, parallel });
        let stats = batch::stats(&units, began.elapsed());
        let passed = units.iter().all(Report::passed);
        let recipe = order.prepared.hash.clone();
        let report_file = match &input.report_file {
            Some(path) => {
                let whole = json!({"passed": passed, "stats": stats, "recipe": recipe, "units": units});
                Some(ctx.files.write(path, format!("{whole:#}\n").as_bytes())?.display().to_string())
            }
            None => None,
        };
        if !input.details.unwrap_or(units.len() <= DETAILED) {
            for unit in units.iter_mut().filter(|unit| unit.passed()) {
                unit.steps.clear();
                unit.phases_s.clear();
            }
        }
        Ok(Out { passed, stats, recipe, units, report_file })
    }

    fn summary(out: &Out) -> String {
        let stats = &out.stats;
        let mut text = format!(
            "{} of {} units passed in {:.1} s; first-pass yield {:.1} %",
            stats.passed, stats.units, stats.seconds, stats.first_pass_yield_percent
        );
        for unit in out.units.iter().filter(|unit| !unit.passed()).take(5) {
            let _ = write!(text, "\n{}", unit.line());
        }
        let mut told: Vec<&str> = Vec::new();
        for error in out.units.iter().filter_map(|unit| unit.failure.as_ref()) {
            if !told.contains(&error.next_step.as_str()) {
                told.push(&error.next_step);
                let _ = write!(text, "\nnext ({}): {}", error.code, error.next_step);
            }
        }
        text
    }
}

fn order(ctx: &Ctx, input: &In) -> Result<Arc<Order>, ToolError> {
    let (files, chip) = match (&input.firmware, &input.files) {
        (Some(path), None) if path.ends_with(".toml") => {
            if !input.values.is_empty() {
                let text = "values are for a batch without a recipe: this recipe says itself what each unit gets";
                return Err(ToolError::new(Code::BadParameter, text));
            }
            return super::order(ctx, path, Scope::Full, input.retries);
        }
        (Some(path), None) => {
            let project = project::read(ctx, path)?;
            (project.files, project.chip)
        }
        (None, Some(files)) => (files.clone(), None),
        _ => return Err(ToolError::new(Code::MissingParameter, "give either `firmware` or `files`")),
    };
    super::accepted(ctx, plain(ctx, &files, chip, &input.values)?.checked()?, Scope::Full, input.retries)
}

/// A recipe that writes files and values, and nothing else; locked as it is.
fn plain(ctx: &Ctx, files: &[FileAt], chip: Option<String>, values: &[UnitValue]) -> Result<Prepared, ToolError> {
    let mut text = String::new();
    for file in files {
        let path = toml::Value::String(file.path.clone());
        let _ = write!(text, "\n[[image]]\nfile = {path}\naddress = {}\n", file.address.0);
    }
    let chip = chip.map_or_else(|| chip_of(ctx, files), Ok)?;
    let text = format!("[recipe]\nname = \"files\"\n\n[chip]\ntype = \"{chip}\"\n{text}");
    let station = ctx.station();
    let mut prepared = Prepared::of(&station, text, String::new())?;
    if !values.is_empty() {
        let text = format!("{}{}", prepared.text, batch_values::sections(ctx, values, prepared.table.as_ref())?);
        prepared = Prepared::of(&station, text, String::new())?;
    }
    Prepared::of(&station, prepared.locked_text(), String::new())
}

/// The chip that a file names. Where none does, what is no firmware is the better reason.
fn chip_of(ctx: &Ctx, files: &[FileAt]) -> Result<String, ToolError> {
    let piece = |file: &FileAt| {
        let address = file.address.as_u32().unwrap_or_default();
        Ok(Piece::new(&file.path, address, ctx.files.read_some(&file.path)?))
    };
    let pieces: Vec<Piece> = files.iter().map(piece).collect::<Result<_, ToolError>>()?;
    if let Some(chip) = pieces.iter().find_map(|piece| piece.content().chip()) {
        return Ok(chip.id.to_owned());
    }
    pieces.iter().try_for_each(belongs::refuse_foreign)?;
    Err(ToolError::new(Code::ChipUnknown, "the target chip cannot be determined from the files"))
}
