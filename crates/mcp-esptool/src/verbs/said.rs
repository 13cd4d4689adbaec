//! Next steps as commands of the shell: errors and results name tools with parameters, as an agent calls them; at a
//! terminal the same step is a verb with options, or `mcp-esptool call`.

use std::sync::LazyLock;

use esp_ops::error::ToolError;
use regex::{Captures, Regex};
use serde_json::Value;

use super::table::{Verb, table};
use crate::tools;

/// A value: a list, an object, a quoted text, or what stands before the next blank or closing mark.
const VALUE: &str = r#"\[[^\]]*\]|\{[^}]*\}|"[^"]*"|[^\s;,)`]*[^\s;,.)`:]"#;

static CALL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r"(?P<lead>call )?\b(?P<tool>esp_[a-z0-9_]+)\b(?P<args>(?: [a-z0-9_]+=(?:{VALUE}))*)")).ok()
});
static PARAMETER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"(?P<lead>^|[\s(`])(?P<name>[a-z][a-z0-9_]*)=(?P<value>{VALUE})")).ok());
static ARGUMENT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(&format!(r"(?P<name>[a-z0-9_]+)=(?P<value>{VALUE})")).ok());

/// The error with its next step as a person at a terminal takes it: commands instead of tools, and options of `verb`.
pub fn for_person(mut error: ToolError, verb: Option<&Verb>) -> ToolError {
    let hint = error.hint().filter(|hint| hint.next == error.next_step);
    let step = hint.and_then(|hint| hint.terminal.as_deref()).unwrap_or(&error.next_step);
    error.next_step = as_commands(step, verb);
    error
}

/// The step with tools as commands. Parameters without a tool are the options of `verb`, where it has them.
pub(super) fn as_commands(step: &str, verb: Option<&Verb>) -> String {
    let (Some(call), Some(parameter)) = (&*CALL, &*PARAMETER) else { return step.into() };
    let mut said = String::new();
    let mut done = 0;
    let with_options = |text: &str| match verb {
        Some(verb) => parameter.replace_all(text, |found: &Captures| option_of(verb, found)).into_owned(),
        None => text.into(),
    };
    for found in call.captures_iter(step) {
        let Some(whole) = found.get(0) else { continue };
        said += &with_options(&step[done..whole.start()]);
        said += &match tools::find(&found["tool"]) {
            Some(_) => format!("`{}`", command(&found["tool"], &arguments(&found["args"]))),
            None => whole.as_str().into(),
        };
        done = whole.end();
    }
    said += &with_options(&step[done..]);
    said.replace("``", "`")
}

/// The lines of a result that say what comes next, likewise.
pub fn next_lines(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("next: ") {
        Some(step) => format!("next: {}", as_commands(step, None)),
        None => line.into(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn arguments(text: &str) -> Vec<(String, String)> {
    let Some(argument) = &*ARGUMENT else { return Vec::new() };
    argument.captures_iter(text).map(|found| (found["name"].into(), found["value"].into())).collect()
}

/// `lead name=value` as an option of the verb, if it has one.
fn option_of(verb: &Verb, found: &Captures) -> String {
    match verb.parameters().contains_key(&found["name"]) {
        true => format!("{}{}", &found["lead"], option(&found["name"], &found["value"])),
        false => found[0].into(),
    }
}

fn option(name: &str, value: &str) -> String {
    let switch = format!("--{}", name.replace('_', "-"));
    match (table().short.get(name), value) {
        (_, "true") => switch,
        (Some(letter), _) => format!("-{letter} {}", quoted(value)),
        (None, _) => format!("{switch} {}", quoted(value)),
    }
}

/// The verb that calls the tool so, or `call`.
fn command(tool: &str, given: &[(String, String)]) -> String {
    if let ("esp_docs", [(_, uri)]) = (tool, given) {
        return format!("mcp-esptool resource {uri}");
    }
    let all = table().verb.iter().flat_map(|top| {
        let below = top.verb.iter().map(move |inner| (format!("{} {}", top.name, inner.name), inner));
        below.chain(top.verb.is_empty().then(|| (top.name.clone(), top)))
    });
    let fitting = all.filter(|(_, verb)| verb.names_tool(tool) && says_all(verb, given));
    match fitting.max_by_key(|(_, verb)| verb.fixed.len()) {
        Some((path, verb)) => {
            let free = given.iter().filter(|(name, _)| !verb.fixed.contains_key(name));
            let options = free.map(|(name, value)| format!(" {}", option(name, value))).collect::<String>();
            format!("mcp-esptool {path}{options}")
        }
        None => {
            let pairs = given.iter().map(|(name, value)| format!(" {}", quoted(&format!("{name}={value}"))));
            format!("mcp-esptool call {tool}{}", pairs.collect::<String>())
        }
    }
}

/// The verb sets nothing but what is given, and has options for the rest.
fn says_all(verb: &Verb, given: &[(String, String)]) -> bool {
    let parameters = verb.parameters();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let is_given = |(name, value): (&String, &Value)| given.iter().any(|(n, v)| n == name && *v == text(value));
    verb.fixed.iter().all(is_given)
        && given.iter().all(|(name, _)| verb.fixed.contains_key(name) || parameters.contains_key(name))
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "=_-./:,+@%…".contains(letter);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
