//! `recipe` and `ledger` on the command line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use clap::Subcommand;
use esp_factory::outbox;
use esp_factory::recipe;
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use serde_json::{Map, Value};

use crate::ctx::Ctx;
use crate::tool::Reply;
use crate::tools;
use esp_factory::new_recipe;
use esp_factory::prepared::Prepared;
use esp_factory::rehearsal;

/// What can be done with a recipe.
#[derive(Subcommand)]
pub enum RecipeCommand {
    /// Write a recipe to begin with, and what it needs beside it; without a project, images that only look like firmware
    New {
        /// The recipe file, below a project root
        file: String,
        /// The chip; not needed with a project that names it
        #[arg(long)]
        chip: Option<String>,
        /// An ESP-IDF project or build folder with the firmware
        #[arg(long)]
        project: Option<String>,
    },
    /// Look for mistakes, and follow the recipe on a simulated device
    Check {
        /// The recipe file
        file: String,
        /// Identities for the rehearsal, as NAME=VALUE
        values: Vec<String>,
    },
    /// Bind the recipe to its files by their hashes
    Lock {
        /// The recipe file
        file: String,
    },
}

/// Runs a `recipe` command; what it has to say, and whether all is well.
pub fn recipe(ctx: &Ctx, job: &Job, command: &RecipeCommand) -> Result<(String, bool), ToolError> {
    if !matches!(command, RecipeCommand::Check { .. }) {
        ctx.policy.allows_command("writing a recipe", Risk::Reads, true)?;
    }
    match command {
        RecipeCommand::New { file, chip, project } => {
            Ok((new_recipe::create(ctx, file, chip.as_deref(), project.as_deref())?, true))
        }
        RecipeCommand::Check { file, values } => check(ctx, job, file, values),
        RecipeCommand::Lock { file } => {
            // A lock that does not hold any more is no hindrance to a new one.
            let text = recipe::lock::body(&ctx.files.read_text(file)?).to_owned();
            let folder = file.rfind(['/', '\\']).map_or("", |at| file.get(..=at).unwrap_or_default());
            let prepared = Prepared::of(&ctx.station(), text, folder.to_owned())?.checked()?;
            let locked = prepared.locked_text();
            ctx.files.write(file, locked.as_bytes())?;
            let hash = recipe::lock::sha256(locked.as_bytes());
            let files = prepared.artefacts.len() + prepared.unit_files.len();
            let open = prepared.uncovered().into_iter().map(|name| format!("\nnot covered by the lock: {name}"));
            Ok((format!("{file} is locked to {files} files{}\nrecipe {hash}", open.collect::<String>()), true))
        }
    }
}

fn check(ctx: &Ctx, job: &Job, file: &str, values: &[String]) -> Result<(String, bool), ToolError> {
    let mut named = BTreeMap::new();
    for text in values {
        let bad = || ToolError::new(Code::BadParameter, format!("not NAME=VALUE: {text}"));
        let (name, value) = text.split_once('=').ok_or_else(bad)?;
        named.insert(name.to_owned(), value.to_owned());
    }
    let outcome = rehearsal::check(&ctx.station(), job, file, &named)?;
    let mut text = outcome.findings.join("\n");
    if let Some(unit) = &outcome.unit {
        let _ = write!(text, "\nrehearsal on {}", unit.line());
        for step in &unit.steps {
            let verdict = step.verdict.name();
            let shown = step.value.as_deref().or(step.note.as_deref()).unwrap_or_default();
            let _ = write!(text, "\n  {verdict:8}{}: {shown}", step.name);
        }
        if let Some(label) = &unit.label {
            let _ = write!(text, "\nlabel: {label}");
        }
        let _ = write!(text, "\na second run writes {} bytes", outcome.second_run_bytes.unwrap_or(0));
    }
    let verdict = if outcome.good { "the recipe is good" } else { "the recipe cannot be used" };
    let lock = if outcome.locked { "locked" } else { "not locked: virtual devices only" };
    Ok((format!("{}\n{verdict} ({lock})", text.trim_start()), outcome.good))
}

/// Asks the person at the terminal whether this copy of the ledger goes on, and puts out of use what another copy may
/// have issued: `count` values of each pool beyond those that are known of. A pipe is no person.
fn void_gap(ctx: &Ctx, input: &Map<String, Value>) -> Result<Reply, ToolError> {
    let bad = |text: &str| ToolError::new(Code::BadParameter, text);
    let count = match input.get("count").map(|count| count.as_str().map(str::parse::<u32>)) {
        None => 0,
        Some(Some(Ok(count))) => count,
        Some(_) => return Err(bad("count is the number of values of each pool that another copy may have issued")),
    };
    if !io::stdin().is_terminal() {
        return Err(ToolError::new(Code::NotConfirmed, "void-gap asks a person: run it in a terminal"));
    }
    let station = &ctx.app.desk.station;
    eprintln!("ledger {} of station {station}", ctx.app.desk.place());
    eprintln!(
        "This copy goes on, all other copies end. Free values that another copy is known to have issued, and the next"
    );
    eprintln!("{count} of each pool, go out of use for good. Type the station's name to agree:");
    let mut typed = String::new();
    io::stdin().read_line(&mut typed).map_err(|error| ToolError::new(Code::Internal, error.to_string()))?;
    if typed.trim() != station {
        return Err(ToolError::new(Code::NotConfirmed, "this is not the station's name"));
    }
    let voided = ctx.app.desk.with(|ledger| ledger.void_gap(count.into()))?;
    let is = if voided == 1 { "is" } else { "are" };
    let text = format!("{} {is} out of use; this ledger issues again", counted(voided, "value"));
    Ok(Reply::new(text, Map::from_iter([("voided".to_owned(), voided.into())])))
}

/// Sends what is pending to every configured receiver; each is tried, whatever becomes of the others.
fn send(ctx: &Ctx) -> Result<Reply, ToolError> {
    let sinks = outbox::sinks(&ctx.config)?;
    if sinks.is_empty() {
        let text = "no receiver is configured";
        let next = "set events_file, events_webhook or events_mqtt in the configuration";
        return Err(ToolError::new(Code::MissingParameter, text).next(next));
    }
    let (mut lines, mut sent, mut failed) = (Vec::new(), Map::new(), None);
    for mut sink in sinks {
        match outbox::send_pending(&ctx.app.desk, sink.as_mut()) {
            Ok(count) => {
                lines.push(format!("{}: {} sent", sink.name(), counted(count, "event")));
                sent.insert(sink.name().to_owned(), count.into());
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(error.seen("sent", lines.join("; "))),
        None => Ok(Reply::new(lines.join("\n"), sent)),
    }
}

/// Runs a `ledger` command: the tool's action and its parameters.
pub fn ledger(ctx: &Ctx, job: &Job, action: &str, mut input: Map<String, Value>) -> Result<Reply, ToolError> {
    if action.replace('_', "-") == "void-gap" {
        return void_gap(ctx, &input);
    }
    if action == "send" {
        return send(ctx);
    }
    input.insert("action".into(), action.replace('-', "_").into());
    let entry =
        tools::find("esp_ledger").ok_or_else(|| ToolError::new(Code::Internal, "the ledger tool is missing"))?;
    entry.call(ctx, job, Value::Object(input))
}
