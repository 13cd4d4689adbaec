use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    install: InstallArgs,
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn install(&self, args: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from(["x"].iter().chain(args)).map_err(|error| error.to_string())?;
        run(&line.install, Path::new("/opt/mcp-esptool"), &self.folders(), |_| Ok(()))
    }

    fn folders(&self) -> Folders {
        let home = self.0.path().to_path_buf();
        let config = home.join(".config");
        Folders { project: home.join("project"), xdg: config.clone(), config, home }
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }
}

#[test]
fn other_servers_settings_and_comments_are_preserved() {
    let home = Home::new();
    home.write(".claude.json", r#"{"theme": "dark", "mcpServers": {"other": {"command": "x"}}}"#);
    home.write(".config/zed/settings.json", "// my editor\n{\n  \"theme\": \"One\", // light\n}\n");
    home.install(&["--claude-code", "--zed", "--", "--toolsets", "bench"]).unwrap();
    let claude = home.json(".claude.json");
    assert_eq!((&claude["theme"], &claude["mcpServers"]["other"]["command"]), (&json!("dark"), &json!("x")));
    let ours = json!({"type": "stdio", "command": "/opt/mcp-esptool", "args": ["serve", "--toolsets", "bench"]});
    assert_eq!(claude["mcpServers"]["esptool"], ours);
    let zed = home.read(".config/zed/settings.json");
    assert!(
        zed.contains("// my editor") && zed.contains("// light") && zed.contains("\"source\": \"custom\""),
        "{zed}"
    );
}

#[test]
fn a_second_run_changes_nothing() {
    let flags: Vec<String> = CLIENTS.iter().map(|client| format!("--{}", client.flag)).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let home = Home::new();
    let first = home.install(&flags).unwrap();
    assert_eq!((first.lines().count(), first.matches(" written").count()), (CLIENTS.len(), CLIENTS.len()), "{first}");
    let second = home.install(&flags).unwrap();
    assert_eq!(second.matches("has it already").count(), CLIENTS.len(), "{second}");
}

#[test]
fn each_client_gets_the_entry_that_its_documentation_shows() {
    let home = Home::new();
    home.install(&["--opencode", "--goose", "--codex", "--gemini", "--windsurf", "--cline", "--claude-desktop"])
        .unwrap();
    let opencode = &home.json(".config/opencode/opencode.json")["mcp"]["esptool"];
    assert_eq!(*opencode, json!({"type": "local", "command": ["/opt/mcp-esptool", "serve"], "enabled": true}));
    let goose: Value = serde_yaml_ng::from_str(&home.read(".config/goose/config.yaml")).unwrap();
    assert_eq!(goose["extensions"]["esptool"]["cmd"], "/opt/mcp-esptool");
    let codex: toml::Table = toml::from_str(&home.read(".codex/config.toml")).unwrap();
    assert_eq!(codex["mcp_servers"]["esptool"]["args"].as_array().unwrap().len(), 1);
    let plain = json!({"command": "/opt/mcp-esptool", "args": ["serve"]});
    for file in [
        ".gemini/settings.json",
        ".codeium/windsurf/mcp_config.json",
        ".config/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        ".config/Claude/claude_desktop_config.json",
    ] {
        assert_eq!(home.json(file)["mcpServers"]["esptool"], plain, "{file}");
    }
}

#[test]
fn toml_keeps_its_comments_and_our_table_is_replaced() {
    let home = Home::new();
    let old = "# mine\nmodel = \"m\"\n\n[mcp_servers.esptool]\ncommand = \"old\"\n\n[mcp_servers.esptool.env]\nA = \"1\"\n\n[z]\na = 1\n";
    home.write(".codex/config.toml", old);
    home.install(&["--codex"]).unwrap();
    let text = home.read(".codex/config.toml");
    let read: toml::Table = toml::from_str(&text).unwrap();
    assert!(text.starts_with("# mine\n") && !text.contains("old") && read["z"]["a"].as_integer() == Some(1), "{text}");
    assert_eq!(read["mcp_servers"]["esptool"]["command"].as_str(), Some("/opt/mcp-esptool"));
}

#[test]
fn a_file_that_cannot_be_edited_is_left_alone() {
    let home = Home::new();
    for (flag, file, text) in [
        ("--cursor", ".cursor/mcp.json", "{ broken"),
        ("--cursor", ".cursor/mcp.json", "[1]"),
        ("--cursor", ".cursor/mcp.json", r#"{"mcpServers": 3}"#),
        ("--goose", ".config/goose/config.yaml", "# comment\na: 1\n"),
        ("--codex", ".codex/config.toml", "a = = 1"),
    ] {
        home.write(file, text);
        let error = home.install(&[flag]).unwrap_err();
        assert!(error.contains("yourself"), "{error}");
        assert_eq!(home.read(file), text);
    }
}

#[test]
fn without_a_name_the_clients_that_are_there_are_offered() {
    let home = Home::new();
    assert!(home.install(&[]).unwrap_err().contains("no MCP client was found"));
    home.write(".cursor/x", "");
    home.write(".codex/x", "");
    let error = home.install(&[]).unwrap_err();
    assert!(error.contains("found Cursor, Codex; choose with --cursor --codex or --all"), "{error}");
    assert!(home.install(&["--dry-run"]).unwrap().contains("would be"));
    assert!(home.install(&["--all", "--project"]).unwrap().contains("project/.cursor/mcp.json"));
    assert!(!home.0.path().join(".codex/config.toml").exists());
    assert!(home.install(&["--codex", "--project"]).unwrap_err().contains("leave out --project"));
    assert!(home.install(&["--cursor", "--name", "a b"]).is_err());
}

#[test]
fn arguments_that_serve_would_refuse_are_refused() {
    let home = Home::new();
    let line = Line::try_parse_from(["x", "--cursor", "--", "--nonsense"]).unwrap();
    let refuse = |args: &[String]| Err(format!("unexpected argument {}", args[1]));
    let error = run(&line.install, Path::new("/x"), &home.folders(), refuse).unwrap_err();
    assert!(error.contains("--nonsense") && !home.0.path().join(".cursor").exists(), "{error}");
}

#[test]
fn a_client_may_be_named_with_and_without_dashes() {
    let home = Home::new();
    assert!(home.install(&["cursor", "codex", "--dry-run"]).unwrap().lines().count() >= 2);
    home.install(&["cursor", "--", "--read-only"]).unwrap();
    let plain = home.read(".cursor/mcp.json");
    assert!(plain.contains("--read-only"), "{plain}");
    home.install(&["--cursor", "--", "--read-only"]).unwrap();
    assert_eq!(home.read(".cursor/mcp.json"), plain);
    assert!(home.install(&["notepad"]).unwrap_err().contains("cursor"));
}
