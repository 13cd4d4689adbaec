//! `mcp-esptool call`: a tool by its name, with `name=value` pairs or JSON.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Mutex;

use esp_model::job::{Job, Progress};
use esp_ops::error::ToolError;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::{Failure, print};
use crate::ctx::Ctx;
use crate::tool::{self, Entry};
use crate::{tools, verbs};

/// The tool of this name.
pub(super) fn entry(name: &str) -> Result<&'static Entry, Failure> {
    tools::find(name).ok_or_else(|| {
        let near = esp_ops::nearest(name, tools::ALL.iter().map(|entry| entry.name));
        Failure::Usage(match near {
            Some(near) => format!("there is no tool `{name}`; did you mean `{near}`?"),
            None => format!("there is no tool `{name}`; `mcp-esptool tools` lists them"),
        })
    })
}

pub(super) fn call(ctx: &Ctx, name: &str, args: &[String], as_json: bool, junit: Option<&Path>) -> Result<(), Failure> {
    let entry = entry(name)?;
    let mut input = tool::aliases::translate(name, arguments(args)?);
    // Asking for the schema of a call without a report would only take time.
    let takes = |name: &str| entry.input_schema().get("properties").is_some_and(|known| known.get(name).is_some());
    if let (Some(_), true, Some(fields)) = (junit, junit.is_some() && takes("details"), input.as_object_mut()) {
        fields.entry("details").or_insert(true.into());
    }
    let (job, bar) = job_with_bar();
    cancel_when_told_to_end(job.clone());
    let result = entry.call(ctx, &job, input);
    bar.finish_and_clear();
    ctx.app.jobs.wait_all();
    if let Some(path) = junit {
        let report = esp_factory::junit::report(name, result.as_ref().map(|reply| &reply.data));
        std::fs::write(path, report).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))?;
    }
    answer(result, as_json, None)
}

/// Prints what came of a call, or of a verb's.
pub(super) fn answer(
    result: Result<crate::tool::Reply, ToolError>,
    as_json: bool,
    verb: Option<&verbs::Verb>,
) -> Result<(), Failure> {
    let reply = result.map_err(|error| match as_json {
        true => Failure::Tool(error, true),
        false => Failure::Tool(verbs::for_person(error, verb), false),
    })?;
    let judged = verdict(&reply.data);
    // A person can scroll: nothing is cut at a terminal.
    let text = reply.whole.unwrap_or(reply.text);
    print(&if as_json { format!("{:#}", Value::Object(reply.data)) } else { verbs::next_lines(&text) })?;
    judged
}

/// A result that says `passed: false` or `matches: false` is an exit code of its own.
pub(super) fn verdict(data: &Map<String, Value>) -> Result<(), Failure> {
    let passed = ["passed", "matches"].iter().all(|name| data.get(*name) != Some(&Value::Bool(false)));
    if passed { Ok(()) } else { Err(Failure::Verdict) }
}

/// `name=value` pairs and JSON objects, later ones first. Values stay text: the schema says what they become.
pub(super) fn arguments(args: &[String]) -> Result<Value, Failure> {
    let mut input = Map::new();
    for arg in args {
        if arg.trim_start().starts_with('{') {
            let object = serde_json::from_str::<Map<String, Value>>(arg);
            input.extend(object.map_err(|error| Failure::Usage(format!("not a JSON object: {error}: {arg}")))?);
            continue;
        }
        let (name, value) = arg.split_once('=').ok_or_else(|| Failure::Usage(format!("not `name=value`: {arg}")))?;
        input.insert(name.into(), value.into());
    }
    Ok(Value::Object(input))
}

/// A job whose progress is drawn on stderr, if that is a terminal.
pub fn job_with_bar() -> (Job, ProgressBar) {
    if !io::stderr().is_terminal() {
        return (Job::new(), ProgressBar::hidden());
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg:56!}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let drawn = Mutex::new(bar.clone());
    let draw = move |progress: Progress| {
        if let Ok(bar) = drawn.lock() {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(progress.message);
        }
    };
    (Job::with_progress(draw), bar)
}

pub(super) fn cancel_when_told_to_end(job: Job) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(crate::signals::told_to_end());
        job.cancel();
    });
}
