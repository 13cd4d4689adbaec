//! `esp_recipe`: makes, checks, rehearses and locks recipes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use esp_factory::new_recipe;
use esp_factory::prepared::Prepared;
use esp_factory::recipe::{self, lock};
use esp_factory::rehearsal::{self, NvsOut};
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::guard::confirm::Act;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct RecipeTool;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Show a recipe with every section, explained.
    #[default]
    Example,
    /// Show the JSON Schema of recipes.
    Schema,
    /// Write a recipe to begin with into `file`, from `project` or for `chip`.
    New,
    /// List all mistakes of `file`.
    Check,
    /// Follow `file` on a simulated device, and show the values that a unit would get.
    Rehearse,
    /// Bind `file` to its contents, which real devices need; a person confirms.
    Lock,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// What to do (default example).
    #[serde(default)]
    action: Action,
    /// The recipe file (.toml).
    file: Option<String>,
    /// For new: build folder with the firmware.
    project: Option<String>,
    /// For new without a project: the chip.
    chip: Option<String>,
    /// For rehearse: values by identity name, such as {"serial": "ACME-0001"}.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    values: BTreeMap<String, String>,
    /// For rehearse: show passwords, keys and bytes too.
    #[schemars(extend("x-rare" = true))]
    show_values: Option<bool>,
    /// For lock: the token of a plan that a person has approved.
    confirm_token: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What was done.
    action: Action,
    /// Nothing is wrong.
    passed: bool,
    /// The recipe file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Mistakes and warnings, each with its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
    /// Values that the rehearsed unit got.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<NvsOut>,
    /// What was rehearsed: step, verdict, value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    /// The label of the rehearsed unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// SHA-256 of the recipe; of a lock that waits, as it will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// It is locked: real devices accept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    locked: Option<bool>,
    /// What it does to a unit, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<String>,
    /// Name of the lock that waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// Token for the call after the person's approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirm_token: Option<String>,
    /// A recipe with every section.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<String>,
    /// JSON Schema of recipes (TOML reads as JSON of the same form).
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
}

impl Out {
    fn new(action: Action, passed: bool) -> Self {
        Self {
            action,
            passed,
            file: None,
            findings: Vec::new(),
            values: Vec::new(),
            steps: Vec::new(),
            label: None,
            hash: None,
            locked: None,
            contents: None,
            plan: None,
            confirm_token: None,
            example: None,
            schema: None,
            next_step: None,
        }
    }
}

impl Tool for RecipeTool {
    const NAME: &'static str = "esp_recipe";
    const TITLE: &'static str = "Make and check recipes";
    const ABOUT: &'static str = "Create, check (all errors at once), rehearse or lock a production recipe (TOML) for \
         esp_batch_program and esp_factory_program; show an annotated example or its JSON Schema.";
    const RISK: Risk = Risk::Writes;
    const LEAST_RISK: Risk = Risk::Reads;
    const CONFIRMS: bool = true;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn risk(input: &In) -> Risk {
        if input.action == Action::Lock { Risk::Writes } else { Risk::Reads }
    }

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if input.action == Action::Example {
            let next = "esp_recipe action=new writes one with your firmware; change it, then action=check";
            let example = Some(recipe::ANNOTATED.to_owned());
            return Ok(Out { example, next_step: Some(next.into()), ..Out::new(input.action, true) });
        }
        if input.action == Action::Schema {
            return Ok(Out { schema: Some(recipe::schema()), ..Out::new(input.action, true) });
        }
        let file = input.file.as_deref().ok_or_else(|| {
            ToolError::new(Code::MissingParameter, "file is missing: the recipe (.toml), below a project root")
        })?;
        let out = match input.action {
            Action::New => new(ctx, file, &input)?,
            Action::Check => check(ctx, file)?,
            Action::Rehearse => rehearse(ctx, job, file, &input)?,
            Action::Lock | Action::Example | Action::Schema => lock_file(ctx, file, &input)?,
        };
        Ok(Out { file: Some(file.to_owned()), ..out })
    }

    fn summary(out: &Out) -> String {
        let mut text = match (out.action, out.passed) {
            (Action::Example, _) => "a recipe with every section:".to_owned(),
            (Action::Schema, _) => "the JSON Schema of recipes; action=example shows a whole one, explained".to_owned(),
            (Action::New, _) => format!("wrote {}", out.file.as_deref().unwrap_or("the recipe")),
            (Action::Check, true) => "the recipe has no errors".into(),
            (Action::Check, false) => "the recipe cannot be used".into(),
            (Action::Rehearse, true) => "the rehearsal passed on a simulated device".into(),
            (Action::Rehearse, false) => "the rehearsal failed".into(),
            (Action::Lock, true) => "the recipe is locked".into(),
            (Action::Lock, false) => "not locked yet: a person has to confirm it".into(),
        };
        if let Some(schema) = &out.schema {
            let _ = write!(text, "\n{schema}");
        }
        for finding in out.findings.iter().take(12) {
            let _ = write!(text, "\n{finding}");
        }
        if let Some(next) = &out.next_step {
            let _ = write!(text, "\nnext: {next}");
        }
        text
    }
}

fn new(ctx: &Ctx, file: &str, input: &In) -> Result<Out, ToolError> {
    let text = new_recipe::create(ctx, file, input.chip.as_deref(), input.project.as_deref())?;
    let next = format!(
        "make its pools with esp_ledger action=add_pool, or remove [identity]; then esp_recipe action=check file={file}"
    );
    let findings = text.lines().map(str::to_owned).collect();
    Ok(Out { findings, next_step: Some(next), ..Out::new(Action::New, true) })
}

fn check(ctx: &Ctx, file: &str) -> Result<Out, ToolError> {
    let text = ctx.files.read_text(file)?;
    let problems = recipe::problems(&text);
    if !problems.is_empty() {
        let findings = problems.into_iter().map(|problem| format!("error, {problem}")).collect();
        let next = "esp_recipe action=example shows every section; correct these and check again";
        return Ok(Out { findings, next_step: Some(next.into()), ..Out::new(Action::Check, false) });
    }
    let prepared = Prepared::load(&ctx.station(), file)?;
    let passed = prepared.errors().next().is_none();
    let next = match (passed, prepared.is_locked) {
        (false, _) => "correct the errors and check again".to_owned(),
        (true, false) => format!("esp_recipe action=rehearse file={file}"),
        (true, true) => format!("esp_batch_program firmware={file}"),
    };
    Ok(Out {
        findings: prepared.findings.iter().map(rehearsal::finding).collect(),
        hash: Some(prepared.hash.clone()),
        locked: Some(prepared.is_locked),
        contents: Some(contents(&prepared)),
        next_step: Some(next),
        ..Out::new(Action::Check, passed)
    })
}

fn rehearse(ctx: &Ctx, job: &Job, file: &str, input: &In) -> Result<Out, ToolError> {
    let outcome = rehearsal::check_showing(&ctx.station(), job, file, &input.values, input.show_values)?;
    let mut steps = Vec::new();
    for step in outcome.unit.iter().flat_map(|unit| &unit.steps) {
        let verdict = step.verdict.name();
        let shown = step.value.as_deref().or(step.note.as_deref()).unwrap_or_default();
        steps.push(format!("{verdict} {}: {shown}", step.name));
    }
    let next = match (outcome.good, outcome.locked) {
        (false, _) => "correct what failed, then rehearse again".to_owned(),
        (true, true) => format!("esp_batch_program firmware={file}"),
        (true, false) => format!(
            "real devices need a lock: esp_recipe action=lock file={file}, or the operator runs `mcp-esptool recipe lock {file}`; \
             virtual devices accept it as it is"
        ),
    };
    Ok(Out {
        findings: outcome.findings,
        values: outcome.values,
        steps,
        label: outcome.unit.and_then(|unit| unit.label),
        hash: Some(outcome.hash),
        locked: Some(outcome.locked),
        next_step: Some(next),
        ..Out::new(Action::Rehearse, outcome.good)
    })
}

/// Locks the file when a person has approved it; otherwise asks for that.
fn lock_file(ctx: &Ctx, file: &str, input: &In) -> Result<Out, ToolError> {
    let prepared = unlocked(ctx, file)?.checked()?;
    let locked = prepared.locked_text();
    let hash = lock::sha256(locked.as_bytes());
    let name = prepared.recipe.recipe.name.clone();
    let about = contents(&prepared);
    let out = Out { hash: Some(hash.clone()), contents: Some(about.clone()), ..Out::new(Action::Lock, false) };
    let Some(token) = &input.confirm_token else {
        let token = ctx.confirmations.offer_act(Act::Lock, &name, &hash, &about, false)?;
        let next = format!(
            "ask the operator to run `mcp-esptool recipe lock {file}` in a terminal (or `mcp-esptool approve {}` and call again \
             with confirm_token); then esp_recipe action=check file={file}",
            hash.get(..16).unwrap_or(&hash)
        );
        return Ok(Out {
            locked: Some(false),
            plan: Some(hash),
            confirm_token: Some(token),
            next_step: Some(next),
            ..out
        });
    };
    ctx.confirmations.redeem(token, &name, &hash)?;
    ctx.files.write(file, locked.as_bytes())?;
    ctx.audit.append(json!({"event": "recipe_locked", "recipe": hash, "name": name}))?;
    let next = format!("esp_batch_program firmware={file}");
    Ok(Out { passed: true, locked: Some(true), next_step: Some(next), ..out })
}

/// The recipe without an older lock, which is no hindrance to a new one.
fn unlocked(ctx: &Ctx, file: &str) -> Result<Prepared, ToolError> {
    let text = lock::body(&ctx.files.read_text(file)?).to_owned();
    let folder = file.rfind(['/', '\\']).map_or("", |at| file.get(..=at).unwrap_or_default());
    Prepared::of(&ctx.station(), text, folder.to_owned())
}

/// What a recipe does to a unit: chip, files with their hashes, identities, values, burns.
fn contents(prepared: &Prepared) -> String {
    let recipe = &prepared.recipe;
    let mut parts = vec![format!("{} {} for {}", recipe.recipe.name, recipe.recipe.version, prepared.chip.name)];
    parts.extend(
        prepared.artefacts.iter().map(|(file, (hash, _))| format!("{file} {}", hash.get(..12).unwrap_or(hash))),
    );
    parts.extend(recipe.identity.iter().map(|(name, from)| format!("{name} from pool {}", from.pool)));
    for nvs in &recipe.nvs {
        let keys: usize = nvs.values.values().map(BTreeMap::len).sum();
        parts.push(format!("{} in {}", counted(keys, "value"), nvs.partition));
    }
    let burns = recipe.efuse.as_ref().map_or(0, |plan| plan.burn.len());
    if burns > 0 {
        parts.push(format!("BURNS eFuses ({}, permanent)", counted(burns, "item")));
    }
    parts.join("; ")
}
