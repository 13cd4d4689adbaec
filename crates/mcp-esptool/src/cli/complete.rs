//! Completion scripts: commands, options and their values; ports and partitions are asked for when the key is pressed.

use clap::Command;
use clap::builder::PossibleValuesParser;
use clap_complete::Shell;
use esp_model::chip;

use super::command;
use crate::{tools, verbs};

/// What the scripts run to learn which ports there are.
const ASK: &str = "mcp-esptool complete port";
/// The same for partitions.
const ASK_PARTITION: &str = "mcp-esptool complete partition";
/// Options with such a value.
const ASKED: [(&str, &str); 4] =
    [("--port", ASK), ("-p", ASK), ("--partition", ASK_PARTITION), ("--region", ASK_PARTITION)];

/// The script for a shell.
pub(super) fn script(shell: Shell) -> String {
    let names = || tools::ALL.iter().map(|entry| entry.name);
    let mut program = command();
    program.build();
    let mut program = with_values(program).mut_subcommand("call", |call| {
        call.mut_arg("tool", |tool| tool.value_parser(PossibleValuesParser::new(names())))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "mcp-esptool", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // The generator names the branches of a program with a dash otherwise than it asks for them.
        Shell::Bash => asked_in_bash(&script.replace("mcp__subcmd__esptool", "mcp__esptool")),
        Shell::Zsh => {
            let ports = format!(":PORT:{{compadd - $({ASK} 2>/dev/null)}}'");
            script.replace(":PORT:( )'", &ports).replace(":PORT:_default'", &ports)
        }
        // It leaves out what a parameter may be.
        Shell::Fish => {
            let names = names().collect::<Vec<_>>().join(" ");
            let when = "__fish_mcp_esptool_using_subcommand call";
            let verbs = of_partitions().map(|verb| format!("__fish_mcp_esptool_using_subcommand {verb}"));
            let verbs = verbs.collect::<Vec<_>>().join("; or ");
            format!(
                "{script}complete -c mcp-esptool -n \"{when}\" -f -a \"{names}\"\n\
                 complete -c mcp-esptool -s p -l port -x -a \"({ASK} 2>/dev/null)\"\n\
                 complete -c mcp-esptool -n \"{verbs}\" -a \"({ASK_PARTITION} 2>/dev/null)\"\n"
            )
        }
        _ => script,
    }
}

/// The same commands, whose chips are a list of values.
fn with_values(command: Command) -> Command {
    let chips = || PossibleValuesParser::new(chip::all().iter().map(|chip| chip.id));
    let is_chip = |name: &str| matches!(name, "chip" | "chip_type");
    let inner: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_string()).collect();
    let command =
        command.mut_args(|arg| match is_chip(arg.get_id().as_str()) && arg.get_possible_values().is_empty() {
            true => arg.value_parser(chips()),
            false => arg,
        });
    inner.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_values))
}

/// Verbs whose words may be names of partitions.
fn of_partitions() -> impl Iterator<Item = &'static str> {
    let places = |form: &String| form.split_whitespace().any(|word| word == "region" || word == "files...");
    verbs::table().verb.iter().filter(move |verb| verb.forms.iter().any(places)).map(|verb| verb.name.as_str())
}

/// The branches of options offer what there is, and those of some verbs also partitions.
fn asked_in_bash(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    let (mut asked, mut of_verb) = (None, false);
    for line in script.lines() {
        let word = line.trim();
        if let Some(option) = word.strip_suffix(')').filter(|option| option.starts_with('-')) {
            asked = ASKED.iter().find(|(name, _)| *name == option).map(|(_, ask)| *ask);
        }
        if let Some(branch) = word.strip_suffix(')').and_then(|branch| branch.strip_prefix("mcp__esptool__subcmd__")) {
            of_verb = of_partitions().any(|verb| verb == branch);
        }
        match (asked, word.strip_prefix("opts=\"").filter(|_| of_verb)) {
            (_, Some(rest)) => {
                out.push_str(&format!("            opts=\"$({ASK_PARTITION} 2>/dev/null | tr '\\n' ' ') {rest}"));
            }
            (Some(ask), None) if word.starts_with("COMPREPLY=(\"") => out.push_str(
                &line.replace("\"${cur}\"", &format!("$(compgen -W \"$({ask} 2>/dev/null)\" -- \"${{cur}}\")")),
            ),
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}
