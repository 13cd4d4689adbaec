//! The verbs as commands of the program. Each is filled when it is used: a start of the server reads no schema.

use clap::builder::ValueHint;
use clap::{Arg, ArgAction, Command};

use super::table::{Verb, find, table};
use super::{options, words};
use crate::columns;

/// The positional words.
pub const WORDS: &str = "words";
/// `--json`
pub const JSON: &str = "print-json";
/// `-q`
pub const QUIET: &str = "quiet";
/// `-v`
pub const VERBOSE: &str = "verbose";
/// `--monitor`
pub const MONITOR: &str = "show-monitor";

/// All verbs.
pub fn commands() -> impl Iterator<Item = Command> {
    table().verb.iter().map(|verb| Command::new(verb.name.as_str()).about(verb.about()).defer(filled))
}

fn filled(command: Command) -> Command {
    match find(command.get_name()) {
        Some(verb) => fill(command, verb, &verb.name),
        None => command,
    }
}

fn fill(mut command: Command, verb: &'static Verb, path: &str) -> Command {
    if let Some(own) = verb.own() {
        command = with_arguments(command, own, path);
    }
    for inner in &verb.verb {
        let path = format!("{path} {}", inner.name);
        command = command.subcommand(fill(Command::new(inner.name.as_str()).about(inner.about()), inner, &path));
    }
    if verb.verb.is_empty() {
        return command;
    }
    let needs_one = verb.own().is_none();
    command.disable_help_subcommand(true).args_conflicts_with_subcommands(true).subcommand_required(needs_one)
}

fn with_arguments(command: Command, verb: &'static Verb, path: &str) -> Command {
    let parameters = verb.parameters();
    let words = Arg::new(WORDS).num_args(0..).hide(true).allow_negative_numbers(true).value_hint(ValueHint::AnyPath);
    let flag = |id: &'static str, long: &'static str, help: &'static str| Arg::new(id).long(long).help(help);
    let mut command = command
        .override_usage(usage(verb, path))
        .arg(words)
        .args(options::of(&parameters))
        .arg(flag(JSON, "json", "Print the result, or the error, as JSON").action(ArgAction::SetTrue))
        .arg(
            flag(VERBOSE, "verbose", "Log what happens on stderr; twice: in detail")
                .short('v')
                .action(ArgAction::Count)
                .hide_short_help(true),
        )
        .arg(flag(QUIET, "quiet", "Print errors only").short('q').action(ArgAction::SetTrue).hide_short_help(true));
    if verb.watch.as_ref().is_some_and(|watch| watch.unless.is_empty()) {
        command = command.arg(flag(MONITOR, "monitor", "Show the console afterwards").action(ArgAction::SetTrue));
    }
    if let Some(entry) = verb.entry() {
        command = command.long_about(format!("{}.\n\nCalls {}: {}", verb.about(), entry.name, entry.about));
    }
    match verb.examples.as_slice() {
        [] => command,
        lines => {
            let lines: Vec<String> = lines.iter().map(|line| format!("  mcp-esptool {line}")).collect();
            command.after_help(format!("Examples:\n{}", lines.join("\n")))
        }
    }
}

fn usage(verb: &Verb, path: &str) -> String {
    let forms = words::shown(verb);
    let line = |form: &String| format!("mcp-esptool {path} [OPTIONS] {form}").trim_end().to_string();
    match forms.as_slice() {
        [] => line(&String::new()),
        forms => forms.iter().map(line).collect::<Vec<_>>().join("\n       "),
    }
}

/// The program's help: its commands in groups, verbs first.
pub fn help_template(program: &Command) -> String {
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    let names = table().group.iter().flat_map(|group| &group.commands);
    let width = names.map(String::len).max().unwrap_or(0);
    let help = "Print this message or the help of a command";
    for group in &table().group {
        text.push_str(&format!("\n{}:\n", group.title));
        for name in &group.commands {
            let about = program.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            let about = about.unwrap_or_else(|| if name == "help" { help.into() } else { String::new() });
            text.push_str(&columns::entry(name, &about, width, columns::width()));
        }
    }
    text.push_str("\nOptions:\n{options}\n");
    text
}
