//! A face: its commands, and how a command line reaches one of them.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use esp_model::chip::{self, Chip};

use crate::fault::Fault;
use crate::grammar::{self, Line};
use crate::host::Host;
use crate::terminal::Terminal;

/// One command of a face.
pub struct Entry {
    /// Its arguments.
    pub spec: fn() -> Command,
    /// What it does.
    pub run: fn(&Call<'_>) -> Result<(), Fault>,
}

/// Carries out several commands of one line together.
pub type Chain = fn(&[Call<'_>]) -> Result<(), Fault>;

/// A command line that another tool understands.
pub struct Face {
    /// The tool's name.
    pub name: &'static str,
    /// What its help says first.
    pub about: &'static str,
    /// Its options before the command.
    pub options: fn() -> Vec<Arg>,
    /// What stands before `A fatal error occurred`.
    pub fatal_prefix: &'static str,
    /// What it says after its first line.
    pub prepare: Option<fn(&Terminal)>,
    /// It ends with code 1 where something failed, as a Python program that raises, and with 2 when it is told to be quiet.
    pub raises: bool,
    /// What the help of a command says of the chip that is named.
    pub of_chip: Option<fn(&str, &Chip) -> Option<String>>,
    /// The arguments in the usage of a command, where they depend on the chip.
    pub usage_of_chip: Option<fn(&str, &Chip) -> Option<&'static str>>,
    /// Several commands may stand in one line; this runs them.
    pub chain: Option<Chain>,
    /// The tool is one command without a name.
    pub single: Option<Entry>,
    /// Its commands.
    pub commands: &'static [Entry],
    /// Older names of options and commands.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Options of several letters after one dash, and their long names.
    pub shorts: &'static [(&'static str, &'static str)],
}

/// One call of a command.
pub struct Call<'a> {
    /// The face.
    pub face: &'a Face,
    /// The command's name.
    pub command: &'a str,
    /// The program around it.
    pub host: &'a dyn Host,
    /// Where texts go.
    pub terminal: &'a Terminal,
    /// Options before the command.
    pub options: &'a ArgMatches,
    /// Arguments of the command.
    pub arguments: &'a ArgMatches,
}

impl<'a> Call<'a> {
    /// The same call, to be changed in a part.
    pub fn copy(&self) -> Call<'a> {
        Call { ..*self }
    }
    /// The value of an argument that the command's specification demands or gives a default.
    pub fn text(&self, name: &str) -> &str {
        self.optional(name).unwrap_or_default()
    }

    /// The value of an argument.
    pub fn optional(&self, name: &str) -> Option<&str> {
        self.arguments.try_get_one::<String>(name).ok().flatten().map(String::as_str)
    }

    /// The value of an option before the command.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.try_get_one::<String>(name).ok().flatten().map(String::as_str)
    }

    /// A flag before the command is given.
    pub fn switch(&self, name: &str) -> bool {
        self.options.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default()
    }

    /// All values of an argument.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let values = self.arguments.try_get_many::<String>(name).ok().flatten();
        values.map(|values| values.map(String::as_str).collect()).unwrap_or_default()
    }

    /// A flag is given.
    pub fn has(&self, name: &str) -> bool {
        self.arguments.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default()
    }
}

/// An option without a value.
pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// An option with a value.
pub fn option(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).allow_hyphen_values(true)
}

/// An argument by its place.
pub fn place(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).help(help).required(true).value_name(name)
}

impl Face {
    /// The whole grammar.
    pub fn grammar(&self) -> Command {
        if let Some(entry) = &self.single {
            return (entry.spec)().about(self.about).disable_version_flag(true).arg_required_else_help(true);
        }
        let root = Command::new(self.name)
            .about(self.about)
            .disable_version_flag(true)
            .disable_help_subcommand(true)
            .args_override_self(true)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .args((self.options)());
        let called = self.called();
        let forms = match self.chain {
            Some(_) => "COMMAND1 [ARGS]... [COMMAND2 [ARGS]...]...",
            None => "COMMAND [ARGS]...",
        };
        let root = root.override_usage(format!("{called} [OPTIONS] {forms}"));
        self.commands.iter().fold(root, |root, entry| {
            let spec = (entry.spec)();
            // clap names the whole path otherwise.
            let shown = format!("{called} {}", spec.get_name());
            root.subcommand(spec.disable_version_flag(true).args_override_self(true).bin_name(shown))
        })
    }

    /// The grammar in which each command of the line shows its usage as it was called, for the chip that is named.
    fn grammar_for(&self, grammar: Command, line: &Line) -> Command {
        let chip = named_chip(line);
        let names = line.tails.iter().filter_map(|tail| tail.first());
        names.fold(grammar, |grammar, name| match grammar.find_subcommand(name) {
            Some(spec) => {
                let of_chip = self.usage_of_chip.zip(chip).and_then(|(usage, chip)| usage(name, chip));
                let own = spec.clone().bin_name(name).render_usage().to_string();
                let own = own.trim_start_matches("Usage: ").trim_start_matches(name.as_str()).trim().to_string();
                let arguments = of_chip.map_or(own, |arguments| format!("[OPTIONS] {arguments}"));
                let usage = format!("{} {name} {arguments}", self.called());
                grammar.mut_subcommand(name, |spec| spec.override_usage(usage))
            }
            None => grammar,
        })
    }

    /// How it was called, where a script in between says so: `python -m esptool`, `esptool.py`.
    fn called(&self) -> String {
        std::env::var("MCP_ESPTOOL_CALLED_AS").unwrap_or_else(|_| self.name.to_string())
    }

    /// The tool says its name and version first.
    fn has_banner(&self) -> bool {
        self.name.starts_with("esp")
    }

    /// The first line of the output.
    pub fn banner(&self) -> String {
        format!("{} v{}", self.name, crate::ESPTOOL_VERSION)
    }
}

/// Runs a face.
pub fn run(face: &Face, arguments: Vec<String>, host: &dyn Host) -> ExitCode {
    let terminal = Terminal::default();
    let quiet = arguments.iter().any(|word| word == "-q" || word == "--quiet");
    match attempt(face, &terminal, arguments, host) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Exit(code)) => ExitCode::from(code),
        Err(Fault::Usage(text)) => {
            terminal.error(format_args!("\nUsage: {} [OPTIONS] COMMAND [ARGS]...\n\nError: {text}", face.name));
            ExitCode::from(2)
        }
        Err(Fault::Fatal(text)) => {
            terminal.error(format_args!("{}A fatal error occurred: {text}", face.fatal_prefix));
            ExitCode::from(if face.raises && !quiet { 1 } else { 2 })
        }
    }
}

fn attempt(face: &Face, terminal: &Terminal, arguments: Vec<String>, host: &dyn Host) -> Result<(), Fault> {
    let grammar = face.grammar();
    let called = face.called();
    if called.ends_with(".py") && face.has_banner() {
        terminal.warn(format_args!("DEPRECATED: '{called}' is deprecated. Please use '{}' instead.", face.name));
    }
    let line = grammar::prepare(&grammar, face, arguments)?;
    if let Some(echo) = &line.echo {
        terminal.say(echo);
    }
    line.warnings.iter().for_each(|warning| terminal.warn(warning));
    let reached = line.command.is_some();
    let grammar = face.grammar_for(grammar, &line);
    let mut calls = Vec::new();
    for group in line.groups() {
        match grammar.clone().try_get_matches_from(&group) {
            Ok(matches) => calls.push(matches),
            Err(error) => {
                let refused = refuse(face, terminal, reached, &error);
                if refused.is_ok() {
                    say_of_chip(face, terminal, &line);
                }
                return refused;
            }
        }
    }
    if calls.iter().any(|matches| matches.try_get_one::<bool>("silent").is_ok_and(|silent| silent == Some(&true))) {
        terminal.silence();
    }
    if let Some(entry) = &face.single {
        let whole = calls.first().ok_or(Fault::Exit(2))?;
        return (entry.run)(&Call { face, command: face.name, host, terminal, options: whole, arguments: whole });
    }
    if face.has_banner() {
        terminal.say(face.banner());
    }
    if let Some(prepare) = face.prepare {
        prepare(terminal);
    }
    let call = |matches| call_of(face, terminal, host, matches);
    let calls = calls.iter().map(call).collect::<Option<Vec<_>>>().ok_or(Fault::Exit(2))?;
    match (face.chain, calls.as_slice()) {
        (Some(run), calls) => run(calls),
        (None, [call]) => {
            let entry = face.commands.iter().find(|entry| (entry.spec)().get_name() == call.command);
            entry.map_or(Err(Fault::Exit(2)), |entry| (entry.run)(call))
        }
        (None, _) => Err(Fault::Exit(2)),
    }
}

fn call_of<'a>(
    face: &'a Face,
    terminal: &'a Terminal,
    host: &'a dyn Host,
    matches: &'a ArgMatches,
) -> Option<Call<'a>> {
    let (command, arguments) = matches.subcommand()?;
    Some(Call { face, command, host, terminal, options: matches, arguments })
}

/// Behind the help of a command: what the chip has that the line names.
fn say_of_chip(face: &Face, terminal: &Terminal, line: &Line) {
    let (Some(of_chip), Some(command)) = (face.of_chip, &line.command) else { return };
    if let Some(text) = named_chip(line).and_then(|chip| of_chip(command, chip)) {
        terminal.say(text);
    }
}

/// The chip that the options before the command name.
fn named_chip(line: &Line) -> Option<&'static Chip> {
    let values = line.head.windows(2).filter_map(|words| match words {
        [name, value] if name == "--chip" || name == "-c" => Some(value.as_str()),
        [word, _] => word.strip_prefix("--chip="),
        _ => None,
    });
    let last = line.head.last().and_then(|word| word.strip_prefix("--chip="));
    values.chain(last).last().and_then(chip::by_name)
}

/// Prints help, or what is wrong with the command line.
fn refuse(face: &Face, terminal: &Terminal, reached: bool, error: &clap::Error) -> Result<(), Fault> {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if reached && !help && face.has_banner() {
        terminal.say(face.banner());
    }
    let _ = error.print();
    if help { Ok(()) } else { Err(Fault::Exit(2)) }
}
