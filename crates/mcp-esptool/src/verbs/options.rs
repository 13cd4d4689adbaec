//! Options of a command line from the schema of a tool's parameters.

use clap::builder::{PossibleValuesParser, ValueHint};
use clap::{Arg, ArgAction, ArgMatches};
use serde_json::{Map, Value};

use super::table::table;
use crate::tool::schema::{SHARED, listed};

/// What kind of words an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// None: it is a switch.
    Switch,
    /// `--name` or `--name=false`.
    Truth,
    /// One word.
    One,
    /// One word, and it may be given again.
    Many,
}

/// The options for these parameters.
pub fn of(parameters: &Map<String, Value>) -> Vec<Arg> {
    let mut letters = Vec::new();
    let mut options = Vec::new();
    for (name, schema) in parameters {
        let mut option = option(name, schema);
        if let Some(letter) = table().short.get(name).filter(|letter| !letters.contains(*letter)) {
            letters.push(*letter);
            option = option.short(*letter);
        }
        // A tool may have a parameter of that name itself.
        let free = table().also.get(name).into_iter().flatten().filter(|also| !parameters.contains_key(*also));
        options.push(option.visible_aliases(free.map(String::as_str)));
    }
    options
}

fn option(name: &str, schema: &Value) -> Arg {
    let kind = kind(schema);
    let long = name.replace('_', "-");
    let about = schema["description"].as_str().unwrap_or_default().trim_end_matches('.').replace('\n', " ");
    let mut option = Arg::new(kept(name)).long(kept(&long)).help(about);
    if long != name {
        option = option.alias(kept(name));
    }
    if let Some((heading, rare)) = heading(schema) {
        option = option.help_heading(heading).hide_short_help(rare);
    }
    match kind {
        Kind::Switch => option.action(ArgAction::SetTrue),
        Kind::Truth => option
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(["true", "false"])
            .hide_possible_values(true)
            .value_name("false"),
        Kind::One => valued(option, name, schema).action(ArgAction::Set),
        Kind::Many => valued(option, name, schema).action(ArgAction::Append),
    }
}

/// The parser wants names that stay; a line is read once in the program's life.
fn kept(name: &str) -> &'static str {
    name.to_string().leak()
}

fn valued(option: Arg, name: &str, schema: &Value) -> Arg {
    let option = option.value_name(value_name(name, schema)).value_hint(hint(name)).allow_negative_numbers(true);
    match choices(schema) {
        Some(choices) => option.value_parser(PossibleValuesParser::new(choices.iter().map(|choice| kept(choice)))),
        None => option,
    }
}

fn heading(schema: &Value) -> Option<(&'static str, bool)> {
    match (schema.get(SHARED), schema.get(listed::RARE)) {
        // The rate is an everyday option.
        (Some(_), _) => Some(("Connection", schema["type"] != "integer")),
        (None, Some(_)) => Some(("Further options", true)),
        (None, None) => None,
    }
}

fn kind(schema: &Value) -> Kind {
    let has = |name: &str| types(schema).any(|known| known == name);
    match () {
        () if has("array") => Kind::Many,
        () if has("boolean") && !has("string") && schema.get("default") == Some(&Value::Bool(false)) => Kind::Switch,
        () if has("boolean") && !has("string") => Kind::Truth,
        () => Kind::One,
    }
}

/// The names of types in a schema and its alternatives.
fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    std::iter::once(schema).chain(alternatives).flat_map(|schema| match &schema["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    })
}

/// The only values that a parameter may have; none where others are possible.
fn choices(schema: &Value) -> Option<Vec<String>> {
    if let Some(values) = schema["enum"].as_array() {
        let names: Vec<String> = values.iter().filter_map(Value::as_str).map(String::from).collect();
        return (!names.is_empty()).then_some(names);
    }
    let alternatives = ["oneOf", "anyOf"].into_iter().find_map(|key| schema[key].as_array())?;
    let mut found = Vec::new();
    for one in alternatives.iter().filter(|one| one["type"] != "null") {
        match (one["const"].as_str(), choices(one)) {
            (Some(value), _) => found.push(value.to_string()),
            (None, Some(inner)) => found.extend(inner),
            (None, None) => return None,
        }
    }
    (!found.is_empty()).then_some(found)
}

fn value_name(name: &str, schema: &Value) -> &'static str {
    let is = |end: &str| name.ends_with(end);
    match () {
        () if types(schema).chain(types(&schema["items"])).any(|of| of == "object") => "JSON",
        () if is("_file") || is("_files") => "FILE",
        () if is("_dir") || is("_dirs") => "DIR",
        () if hint(name) == ValueHint::AnyPath => "PATH",
        () if is("_s") || name == "duration" => "SECONDS",
        () if name == "port" => "PORT",
        () if name == "baud" => "BAUD",
        () if types(schema).any(|of| of == "integer") && !types(schema).any(|of| of == "string") => "NUMBER",
        () => "VALUE",
    }
}

fn hint(name: &str) -> ValueHint {
    let is = |end: &str| name.ends_with(end);
    match () {
        () if is("_dir") || is("_dirs") => ValueHint::DirPath,
        () if is("_file") || is("_files") => ValueHint::FilePath,
        () if matches!(name, "project" | "image" | "other" | "flash_image" | "clone_from") => ValueHint::AnyPath,
        () => ValueHint::Other,
    }
}

/// The parameters that options of the line have set.
pub fn given(parameters: &Map<String, Value>, matches: &ArgMatches) -> Map<String, Value> {
    let set = parameters.iter().filter(|(name, _)| {
        matches.value_source(name).is_some_and(|source| source == clap::parser::ValueSource::CommandLine)
    });
    set.filter_map(|(name, schema)| Some((name.clone(), value(name, schema, matches)?))).collect()
}

fn value(name: &str, schema: &Value, matches: &ArgMatches) -> Option<Value> {
    match kind(schema) {
        Kind::Switch => Some(matches.get_flag(name).into()),
        Kind::One | Kind::Truth => matches.get_one::<String>(name).map(|text| text.as_str().into()),
        Kind::Many => {
            let words: Vec<&str> = matches.get_many::<String>(name)?.map(String::as_str).collect();
            match words.as_slice() {
                // A whole list as JSON.
                [only] if only.starts_with('[') => Some((*only).into()),
                _ => Some(words.into_iter().map(entry).collect()),
            }
        }
    }
}

/// An entry of a list: JSON of an object, or a text.
fn entry(word: &str) -> Value {
    serde_json::from_str(word).ok().filter(Value::is_object).unwrap_or_else(|| word.into())
}
