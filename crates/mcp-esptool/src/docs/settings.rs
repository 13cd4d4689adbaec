//! `docs/configuration.md`: every setting, as the program knows it.

use std::fmt::Write;

use esp_ops::config::KEYS;

const INTRO: &str = "# Configuration

`mcp-esptool doctor` prints every setting with its value and its origin.

**Precedence**: command line, environment, file, default. The file is `~/.config/mcp-esptool/config.toml` (Windows:
`%APPDATA%\\mcp-esptool\\config.toml`), or the one that `--config FILE` or `MCP_ESPTOOL_CONFIG` names. An unknown name or a value of the
wrong kind is an error: the program does not start with settings that it does not understand.

```toml
# ~/.config/mcp-esptool/config.toml
project_roots = [\"~/esp\", \"~/Arduino\"]
baud = 921600
policy_file = \"~/.config/mcp-esptool/policy.toml\"
```

```sh
mcp-esptool doctor --set baud=921600       # one setting for one command
```

In the environment and on the command line a list is separated by commas. [Policy](policy.md) describes the file that says what may be
done to which device.
";

/// The page.
pub fn page() -> String {
    let mut text =
        format!("{}{INTRO}\n| Setting | Environment | Default | Meaning |\n|---|---|---|---|\n", super::NOTE);
    for key in KEYS {
        let env: Vec<String> = key.env.iter().map(|name| format!("`{name}`")).collect();
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let about = key.about.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} | {default} | {about} |", key.name, env.join(", "));
    }
    text
}
