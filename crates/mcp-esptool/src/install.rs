//! Puts this server into the configuration of an MCP client, beside what is there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::Args;
use serde_json::{Map, json};

/// What `install` takes.
#[derive(Debug, Args)]
#[group(id = "client", required = true, multiple = true, args = ["claude_code", "cursor", "vscode", "codex"])]
pub struct InstallArgs {
    /// Claude Code (~/.claude.json, or .mcp.json with --project)
    #[arg(long)]
    claude_code: bool,
    /// Cursor (~/.cursor/mcp.json, or .cursor/mcp.json with --project)
    #[arg(long)]
    cursor: bool,
    /// Visual Studio Code (its user folder, or .vscode/mcp.json with --project)
    #[arg(long)]
    vscode: bool,
    /// Codex (~/.codex/config.toml)
    #[arg(long)]
    codex: bool,
    /// For the project in the current folder only
    #[arg(long, conflicts_with = "codex")]
    project: bool,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    /// The server's name in the client
    #[arg(long, default_value = "esptool", value_parser = plain_name)]
    name: String,
    /// Parameters of `serve`, such as --toolsets bench
    #[arg(last = true)]
    serve: Vec<String>,
}

/// A name that needs no quotes in any of the files.
fn plain_name(text: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if !text.is_empty() && text.chars().all(fits) { Ok(text.into()) } else { Err("letters, digits, - and _".into()) }
}

/// Where the clients' files are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The user's home folder.
    pub home: PathBuf,
    /// Where Visual Studio Code keeps the user's files.
    pub vscode: PathBuf,
    /// The project.
    pub project: PathBuf,
}

impl Places {
    /// Those of this user, on this system.
    pub fn usual() -> io::Result<Self> {
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let home = dir("HOME").or_else(|| dir("USERPROFILE"));
        let home = home.ok_or_else(|| io::Error::other("there is no home folder"))?;
        let settings = if cfg!(target_os = "macos") {
            home.join("Library/Application Support")
        } else if cfg!(windows) {
            dir("APPDATA").unwrap_or_else(|| home.join("AppData/Roaming"))
        } else {
            dir("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"))
        };
        Ok(Self { vscode: settings.join("Code/User"), project: std::env::current_dir()?, home })
    }
}

/// Installs for all clients that are named; what was done, line by line.
pub fn run(args: &InstallArgs, program: &Path, places: &Places) -> Result<String, String> {
    let chosen = |wanted: bool, user: PathBuf, project: &str, key: &'static str| {
        let file = if args.project { places.project.join(project) } else { user };
        wanted.then_some((file, key))
    };
    let json_files = [
        chosen(args.claude_code, places.home.join(".claude.json"), ".mcp.json", "mcpServers"),
        chosen(args.cursor, places.home.join(".cursor/mcp.json"), ".cursor/mcp.json", "mcpServers"),
        chosen(args.vscode, places.vscode.join("mcp.json"), ".vscode/mcp.json", "servers"),
    ];
    let mut said = Vec::new();
    for (file, key) in json_files.into_iter().flatten() {
        said.push(put(&file, args.dry_run, |old| in_json(old, key, args, program))?);
    }
    if args.codex {
        said.push(put(&places.home.join(".codex/config.toml"), args.dry_run, |old| in_toml(old, args, program))?);
    }
    Ok(said.join("\n"))
}

fn serve_args(args: &InstallArgs) -> Vec<&str> {
    ["serve"].into_iter().chain(args.serve.iter().map(String::as_str)).collect()
}

/// The file with our server in it; other servers and settings stay.
fn in_json(old: &str, key: &str, args: &InstallArgs, program: &Path) -> Result<String, String> {
    let entry = json!({ "type": "stdio", "command": program, "args": serve_args(args) });
    let mut settings = match old.trim() {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|error| {
            format!("it is not plain JSON ({error}); put this under \"{key}\" yourself: \"{}\": {entry}", args.name)
        })?,
    };
    let servers = settings.entry(key).or_insert_with(|| json!({}));
    let servers = servers.as_object_mut().ok_or_else(|| format!("\"{key}\" is not an object"))?;
    servers.insert(args.name.clone(), entry);
    serde_json::to_string_pretty(&settings).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// The same for TOML: our table is replaced or appended, every other line stays as it is.
fn in_toml(old: &str, args: &InstallArgs, program: &Path) -> Result<String, String> {
    toml::from_str::<toml::Table>(old).map_err(|error| format!("it is not TOML: {}", error.message()))?;
    let head = format!("[mcp_servers.{}]", args.name);
    let (mut kept, mut ours) = (Vec::new(), false);
    for line in old.lines() {
        if line.trim_start().starts_with('[') {
            let inner = head.replace(']', ".");
            ours = line.trim() == head || line.trim().starts_with(&inner);
        }
        if !ours {
            kept.push(line);
        }
    }
    let text = |value: &str| toml::Value::from(value).to_string();
    let list: Vec<String> = serve_args(args).into_iter().map(text).collect();
    let command = text(&program.display().to_string());
    let before = kept.join("\n");
    let gap = if before.trim().is_empty() { "" } else { "\n\n" };
    let new = format!("{}{gap}{head}\ncommand = {command}\nargs = [{}]\n", before.trim_end(), list.join(", "));
    toml::from_str::<toml::Table>(&new).map(|_| new).map_err(|error| error.message().to_string())
}

/// Rewrites a file, whole or not at all.
fn put(file: &Path, dry_run: bool, change: impl FnOnce(&str) -> Result<String, String>) -> Result<String, String> {
    let named = |error: String| format!("{}: {error}", file.display());
    // A link stays a link: what it leads to is rewritten.
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let old = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(named(error.to_string())),
    };
    let new = change(&old).map_err(named)?;
    if dry_run {
        return Ok(format!("{} would be:\n{new}", file.display()));
    }
    if new == old {
        return Ok(format!("{}: nothing to do", file.display()));
    }
    write(file, &new).map_err(|error| named(error.to_string()))?;
    Ok(format!("{}: written; start the client again", file.display()))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut temp = tempfile::NamedTempFile::new_in(dir)?;
    temp.write_all(text.as_bytes())?;
    if let Ok(about) = fs::metadata(file) {
        fs::set_permissions(temp.path(), about.permissions())?;
    }
    temp.persist(file).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use serde_json::Value;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        install: InstallArgs,
    }

    fn install(dir: &Path, args: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from(["x"].iter().chain(args)).map_err(|error| error.to_string())?;
        let places = Places { home: dir.into(), vscode: dir.join("Code/User"), project: dir.join("project") };
        run(&line.install, Path::new("/opt/mcp-esptool"), &places)
    }

    #[test]
    fn other_servers_and_settings_stay() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(".claude.json"), r#"{"theme": "dark", "mcpServers": {"other": {"command": "x"}}}"#)
            .unwrap();
        install(dir.path(), &["--claude-code", "--cursor", "--vscode", "--", "--toolsets", "bench"]).unwrap();
        let claude: Value = serde_json::from_str(&read(".claude.json")).unwrap();
        assert_eq!((&claude["theme"], &claude["mcpServers"]["other"]["command"]), (&json!("dark"), &json!("x")));
        let ours = json!({"type": "stdio", "command": "/opt/mcp-esptool", "args": ["serve", "--toolsets", "bench"]});
        assert_eq!(claude["mcpServers"]["esptool"], ours);
        let code: Value = serde_json::from_str(&read("Code/User/mcp.json")).unwrap();
        assert_eq!(code["servers"]["esptool"], ours);
        let again = install(dir.path(), &["--cursor", "--", "--toolsets", "bench"]).unwrap();
        assert!(again.contains("nothing to do"), "{again}");
        install(dir.path(), &["--cursor", "--project"]).unwrap();
        assert!(read("project/.cursor/mcp.json").contains("\"serve\""));
    }

    #[test]
    fn toml_keeps_its_comments_and_our_table_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".codex/config.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "# mine\nmodel = \"m\"\n\n[mcp_servers.esptool]\ncommand = \"old\"\n\n[mcp_servers.esptool.env]\nA = \"1\"\n\n[z]\na = 1\n").unwrap();
        install(dir.path(), &["--codex"]).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let read: toml::Table = toml::from_str(&text).unwrap();
        assert!(
            text.starts_with("# mine\n") && !text.contains("old") && read["z"]["a"].as_integer() == Some(1),
            "{text}"
        );
        assert_eq!(read["mcp_servers"]["esptool"]["command"].as_str(), Some("/opt/mcp-esptool"));
        assert!(install(dir.path(), &["--codex"]).unwrap().contains("nothing to do"));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".cursor/mcp.json");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "// comment\n{}").unwrap();
        assert!(install(dir.path(), &["--cursor"]).unwrap_err().contains("yourself"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "// comment\n{}");
        assert!(install(dir.path(), &[]).is_err() && install(dir.path(), &["--cursor", "--name", "a b"]).is_err());
        assert!(install(dir.path(), &["--claude-code", "--dry-run"]).unwrap().contains("would be"));
        assert!(!dir.path().join(".claude.json").exists());
    }
}
