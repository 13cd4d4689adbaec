//! `docs/cli.md`: commands and options, as the command line itself knows them.

use std::fmt::Write;

use clap::{Arg, Command};

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
| Port and rate | `-p`, `-b`, also before the verb; `ESPTOOL_PORT` or `ESPPORT`, `ESPTOOL_BAUD` or `ESPBAUD`, `ESPTOOL_BEFORE`, `ESPTOOL_AFTER`; `custom_reset_sequence` of `esptool.cfg`. Of several boards, a terminal lets you choose one |
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

/// The page.
pub fn page(mut command: Command) -> String {
    command = command.disable_help_subcommand(true);
    command.build();
    let mut text = format!("{}{INTRO}\n## Options of every command\n", super::NOTE);
    options(&mut text, command.get_arguments().filter(|arg| arg.is_global_set()));
    commands(&mut text, &command, "mcp-esptool");
    text
}

fn commands(text: &mut String, command: &Command, path: &str) {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let path = format!("{path} {}", inner.get_name());
        let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
        let usage = inner.clone().render_usage().to_string().replace("Usage: ", "").replace("\n       ", "\n");
        let _ = writeln!(text, "\n## `{path}`\n\n{about}.\n\n```text\n{usage}\n```");
        if let Some(examples) = inner.get_after_help().map(ToString::to_string) {
            let lines = examples.lines().skip(1).map(str::trim).collect::<Vec<_>>().join("\n");
            let _ = writeln!(text, "\n```sh,ignore\n{lines}\n```");
        }
        options(text, inner.get_arguments().filter(|arg| !arg.is_global_set()));
        commands(text, inner, &path);
    }
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
