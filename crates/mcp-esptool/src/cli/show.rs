//! What the tools are, for people: the list, and one tool with its parameters and calls.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Failure, call, print};
use crate::ctx::Ctx;
use crate::docs::{self, Field, examples};
use crate::tool::{Entry, schema};
use crate::{columns, mcp, tools, verbs};

/// Widest column of names.
const NAMES: usize = 26;

/// `mcp-esptool tools`
pub(super) fn tools(ctx: &Ctx, as_json: bool) -> Result<(), Failure> {
    let offered: Vec<&Entry> = tools::offered(ctx).collect();
    if as_json {
        return Ok(print(&format!("{:#}", json!({ "tools": mcp::list_json(ctx) })))?);
    }
    let names = offered.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let lines = offered.iter().map(|entry| columns::entry(entry.name, entry.about, names, columns::width()));
    Ok(print(&lines.collect::<String>())?)
}

/// `mcp-esptool tools NAME` and `mcp-esptool call NAME --help`
pub(super) fn tool(name: &str) -> Result<(), Failure> {
    Ok(print(&page(call::entry(name)?, columns::width()))?)
}

/// Help of `call` itself.
pub(super) fn call_help(mut program: clap::Command) -> std::io::Result<()> {
    program.build();
    match program.find_subcommand_mut("call") {
        Some(call) => print(&call.render_long_help().to_string()),
        None => Ok(()),
    }
}

/// One tool: what it does, its parameters, calls of it.
fn page(entry: &Entry, width: usize) -> String {
    let mut text = format!("{} ({})\n\n", entry.name, entry.title);
    for line in columns::lines(entry.about, width) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "Risk: {}", docs::risk(entry.risk));
    let (own, shared) = parameters(entry);
    section(&mut text, "Parameters", &own, width);
    section(&mut text, "How to connect", &shared, width);
    let calls = examples::of(entry.name);
    if !calls.is_empty() {
        text.push_str("\nExamples:\n");
    }
    for example in calls {
        let _ = writeln!(text, "  {}\n    {}", example.about, line(entry, &example.arguments));
    }
    let verbs = verbs::lines_of(entry.name);
    if !verbs.is_empty() {
        text.push_str("\nAs a verb:\n");
        for line in verbs {
            let _ = writeln!(text, "  mcp-esptool {line}");
        }
    }
    text
}

/// A tool's own parameters, and those that it shares with others.
fn parameters(entry: &Entry) -> (Vec<Field>, Vec<Field>) {
    let mut own = entry.input_schema();
    let mut shared = Map::new();
    if let Some(properties) = own.get_mut("properties").and_then(Value::as_object_mut) {
        shared = properties.clone();
        shared.retain(|_, of| of.get(schema::SHARED).is_some());
        properties.retain(|_, of| of.get(schema::SHARED).is_none());
    }
    (docs::fields_of(own), docs::fields_of(Map::from_iter([("properties".to_string(), shared.into())])))
}

fn section(text: &mut String, title: &str, fields: &[Field], width: usize) {
    if fields.is_empty() {
        return;
    }
    let names = fields.iter().map(|field| field.name.len()).max().unwrap_or(0).min(NAMES);
    let _ = writeln!(text, "\n{title}:");
    for field in fields {
        let need = if field.optional { "" } else { "; required" };
        let about = field.about.trim_end_matches('.');
        let about = format!("{about} ({}{need})", field.kind.replace('`', ""));
        text.push_str(&columns::entry(&field.name, about.trim(), names, width));
    }
}

/// A call as it is typed: pairs where values are plain, else JSON.
fn line(entry: &Entry, arguments: &str) -> String {
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(arguments) else { return arguments.into() };
    let mut words = vec!["mcp-esptool call".to_string(), entry.name.to_string()];
    for (name, value) in &fields {
        let value = value.as_str().map_or_else(|| value.to_string(), String::from);
        words.push(verbs::quoted(&format!("{name}={value}")));
    }
    words.join(" ")
}
