//! `docs/cli.md`: commands and options, as the command line itself knows them.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::verbs;

const INTRO: &str = "# Command line

Verbs are what people type; every tool of the server can also be called by its name. `--json` prints the result, or the error, as JSON.

```sh
mcp-esptool info -p sim://esp32c3
mcp-esptool call esp_detect_chip port=sim://esp32c3
mcp-esptool call esp_detect_chip '{\"port\": \"sim://esp32c3\"}' --json
```

Options of a verb are the parameters of its tool: `mcp-esptool VERB --help` shows all of them, `mcp-esptool tools NAME` those of a tool. Habits from
esptool hold:

| | |
|---|---|
| Port and rate | `-p`, `-b`, also before the verb; `ESPTOOL_PORT` or `ESPPORT`, `ESPTOOL_BAUD` or `ESPBAUD`, `ESPTOOL_BEFORE`, `ESPTOOL_AFTER`; `custom_reset_sequence` and `open_port_attempts` of `esptool.cfg`. A command goes on with the connection that the last one left (docs/console.md). Of several boards, a terminal lets you choose one |
| Chip and flash settings | `ESPTOOL_CHIP`, `ESPTOOL_FM`, `ESPTOOL_FF`, `ESPTOOL_FS` set `--chip`, `--flash-mode`, `--flash-freq`, `--flash-size` where a verb has them and the line does not |
| Files for flash | `ADDRESS FILE` pairs; an address is `0x10000`, `64K`, `1M` or a partition's name; `@FILE` stands for the words in a file (`@flash_args`) |
| Build folders | `flash` and `run` without a file take the build in this folder: ESP-IDF, Zephyr, Arduino, PlatformIO, or the Rust package that was built last |
| Cargo | `runner = \"mcp-esptool run\"` in `.cargo/config.toml`: flashes and shows the console; with `--expect` or `--timeout` it ends with an exit code |
| Permanent changes | `efuse burn` shows the plan; a terminal asks for the end of the MAC address, scripts call again with `--confirm-token` |
| Paths | lead anywhere, unless `--root` or the [policy](policy.md) names folders. `call` stays below the project roots, as MCP clients do |
| Output | `-q` prints errors only, `-v` and `-vv` log what happens, `NO_COLOR` and `COLUMNS` count |

PowerShell keeps quotes inside single quotes only from version 7.3 on; in older ones and in `cmd.exe` write `\\\"` for each inner quote.

| Exit code | Meaning |
|---|---|
| 0 | done |
| 1 | the call failed; standard error has the code, what was seen and the next step |
| 2 | wrong usage: unknown tool, parameter or option |
| 3 | the call did its work, and what it looked at is not right (a unit failed, a file differs) |
| 130 | cancelled |
";

/// The page: verbs first.
pub fn page(mut command: Command) -> String {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut text = format!("{}{INTRO}\n## Options of every command\n", super::NOTE);
    options(&mut text, command.get_arguments().filter(|arg| arg.is_global_set()));
    let is_verb = |inner: &&Command| verbs::find(inner.get_name()).is_some();
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    let (of_people, others): (Vec<&Command>, Vec<&Command>) = shown.partition(is_verb);
    for inner in of_people {
        verb(&mut text, inner, &[inner.get_name()]);
    }
    others.into_iter().for_each(|inner| section(&mut text, inner, "mcp-esptool"));
    text
}

/// A verb: its parameters are described with its tool.
fn verb(text: &mut String, command: &Command, path: &[&str]) {
    head(text, command, &format!("mcp-esptool {}", path.join(" ")));
    if let Some(examples) = command.get_after_help().map(ToString::to_string) {
        let lines = examples.lines().skip(1).map(str::trim).collect::<Vec<_>>().join("\n");
        let _ = writeln!(text, "\n```sh,ignore\n{lines}\n```");
    }
    if let Some(tool) = verbs::tool_of(path) {
        let own =
            command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_help_heading() != Some("Connection"));
        let names: Vec<String> =
            own.filter(|arg| !arg.is_positional() && !arg.is_hide_set()).filter_map(names).collect();
        let _ = writeln!(text, "\nOptions of [`{tool}`](tools.md#{tool}): {}.", names.join(", "));
    }
    for inner in command.get_subcommands() {
        verb(text, inner, &[path, &[inner.get_name()]].concat());
    }
}

/// `-o`/`--output-file`
fn names(arg: &Arg) -> Option<String> {
    let long = arg.get_long().filter(|long| *long != "help")?;
    Some(match arg.get_short() {
        Some(short) => format!("`-{short}`/`--{long}`"),
        None => format!("`--{long}`"),
    })
}

fn head(text: &mut String, command: &Command, path: &str) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string().replace("Usage: ", "").replace("\n       ", "\n");
    let _ = writeln!(text, "\n## `{path}`\n\n{about}.\n\n```text\n{usage}\n```");
}

fn section(text: &mut String, command: &Command, path: &str) {
    let path = format!("{path} {}", command.get_name());
    head(text, command, &path);
    options(text, command.get_arguments().filter(|arg| !arg.is_global_set()));
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).for_each(|inner| section(text, inner, &path));
}

fn options<'a>(text: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let shown = args.filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()));
    let rows: Vec<String> = shown.map(row).collect();
    if !rows.is_empty() {
        let _ = write!(text, "\n| Argument | Meaning |\n|---|---|\n{}", rows.concat());
    }
}

fn row(arg: &Arg) -> String {
    let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let takes_value = arg.get_action().takes_values();
    let values = if values.is_empty() || !takes_value { String::new() } else { format!(" ({})", values.join(", ")) };
    let name = arg.to_string().replace('|', "\\|");
    format!("| `{name}` | {}{values} |\n", about.replace('|', "\\|").replace('<', "&lt;"))
}
