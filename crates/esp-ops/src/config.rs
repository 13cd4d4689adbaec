//! Configuration: flags before environment before file before default, each value with its origin.

mod keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, ToolError};

pub use keys::{KEYS, Key};

/// Names of the same settings in files shared with other servers.
const OTHER_NAMES: [(&str, &str); 2] =
    [("shared_project_roots", "project_roots"), ("esp_tools_directory", "idf_tools_path")];

/// Settings of other servers that mean nothing here: passed over, so that a shared file can be read.
const OF_OTHERS: [&str; 1] = ["esptool_path"];

/// Settings that are times.
const SECONDS: [&str; 3] = ["device_timeout_s", "session_idle_s", "cli_session_idle_s"];
/// Settings that are whole numbers.
#[rustfmt::skip]
const WHOLE_NUMBERS: [&str; 8] = [
    "baud", "virtual_limit", "simulated_limit", "http_max_body_bytes", "http_client_requests", "http_sessions",
    "http_connections", "page_size",
];
/// Settings that are true or false.
const FLAGS: [&str; 3] = ["read_only", "keep_virtual", "console_daemon"];
const TRUE: [&str; 4] = ["1", "true", "yes", "on"];
const FALSE: [&str; 5] = ["0", "false", "no", "off", ""];
/// Between the items of a list that a file gave one by one: a comma may be part of a path.
const ITEM: char = '\u{1f}';

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File(PathBuf),
    /// An environment variable.
    Env(&'static str),
    /// The command line.
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
            Self::Flag => write!(f, "command line"),
        }
    }
}

/// The settings that hold.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration file that was read.
    file: Option<PathBuf>,
    values: BTreeMap<&'static str, (String, Origin)>,
}

/// What sets values, for tests to replace.
pub struct Sources<'a> {
    /// The configuration file named on the command line.
    pub file: Option<PathBuf>,
    /// `name=value` from the command line.
    pub flags: Vec<(String, String)>,
    /// Reads an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            values: KEYS.iter().map(|key| (key.name, (key.default.to_string(), Origin::Default))).collect(),
        }
    }
}

impl Config {
    /// Reads file, environment and flags. Unknown names are errors.
    pub fn load(sources: &Sources) -> Result<Self, ToolError> {
        let mut config = Self::default();
        let named = sources.file.clone().or_else(|| (sources.env)("MCP_ESPTOOL_CONFIG").map(PathBuf::from));
        // A file that is hidden could name the policy: only one that is surely not there is left out.
        let usual = match default_file(sources.env) {
            Some(path) if named.is_none() => {
                let bad = |error| ToolError::new(Code::BadConfiguration, format!("{}: {error}", path.display()));
                crate::own_file::is_there(&path).map_err(bad)?.then_some(path)
            }
            _ => None,
        };
        if let Some(path) = named.or(usual) {
            config.read_file(&path)?;
            config.file = Some(path);
        }
        for key in KEYS {
            let set =
                key.env.iter().find_map(|name| Some((*name, (sources.env)(name).filter(|value| !value.is_empty())?)));
            if let Some((name, value)) = set {
                config.set(key.name, value, Origin::Env(name))?;
            }
        }
        for (name, value) in &sources.flags {
            config.set(name, value.clone(), Origin::Flag)?;
        }
        config.validate()?;
        Ok(config)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ToolError> {
        let bad = |error: String| ToolError::new(Code::BadConfiguration, format!("{}: {error}", path.display()));
        let text = crate::own_file::read_text(path).map_err(|error| bad(error.to_string()))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        for (name, value) in table {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Array(items) => {
                    let texts = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_string));
                    let texts: Vec<String> = texts.collect();
                    // One item stays one, whatever it holds.
                    texts.join(&ITEM.to_string()) + &ITEM.to_string()
                }
                other => other.to_string(),
            };
            self.set(&name, value, Origin::File(path.to_path_buf()))?;
        }
        Ok(())
    }

    /// Sets one value.
    pub fn set(&mut self, name: &str, value: String, origin: Origin) -> Result<(), ToolError> {
        if OF_OTHERS.contains(&name) && matches!(origin, Origin::File(_)) {
            return Ok(());
        }
        let name = OTHER_NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, name)| name);
        match self.values.get_mut(name) {
            Some(slot) => *slot = (value, origin),
            None => {
                let error = ToolError::new(Code::BadConfiguration, format!("there is no setting `{name}` ({origin})"));
                let near = crate::nearest(name, KEYS.iter().map(|key| key.name));
                return Err(match near {
                    Some(near) => error.next(format!("use `{near}`")),
                    None => error,
                });
            }
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), ToolError> {
        let bad = |name: &str, wanted: &str| {
            let origin = self.origin(name).map_or_else(String::new, |origin| format!(" ({origin})"));
            let text = format!("`{name}` is `{}`{origin}, not {wanted}", self.text(name));
            Err(ToolError::new(Code::BadConfiguration, text))
        };
        for name in SECONDS {
            let seconds = self.text(name).parse::<f64>().ok().filter(|number| *number >= 0.0);
            if seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).is_none() {
                return bad(name, "a number of seconds from 0 on");
            }
        }
        for name in WHOLE_NUMBERS {
            // The smallest type that one of them is read as.
            if self.text(name).parse::<u32>().is_err() {
                return bad(name, "a whole number from 0 to 4294967295");
            }
        }
        if self.text("baud") == "0" {
            return bad("baud", "a rate above 0");
        }
        for name in FLAGS {
            if !TRUE.contains(&self.text(name)) && !FALSE.contains(&self.text(name)) {
                return bad(name, "true or false");
            }
        }
        Ok(())
    }

    /// A value as people read it, without passwords.
    pub fn shown(&self, name: &str) -> String {
        if name == "ledger" {
            return esp_ledger::without_password(self.text(name));
        }
        self.text(name).trim_end_matches(ITEM).replace(ITEM, ", ")
    }

    /// A value as text; empty for none.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(value, _)| value)
    }

    /// A value's origin.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.values.get(name).map(|(_, origin)| origin)
    }

    /// A truth value.
    pub fn flag(&self, name: &str) -> bool {
        TRUE.contains(&self.text(name))
    }

    /// The configuration file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// A path, with `~` for the home folder.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(expand)
    }

    /// A list: the items of a file's list, or else the parts between commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        let between = if text.contains(ITEM) { ITEM } else { ',' };
        text.split(between).map(str::trim).filter(|part| !part.is_empty()).map(str::to_string).collect()
    }

    /// The project roots: those set, or the current folder.
    pub fn project_roots(&self) -> Vec<PathBuf> {
        let text = self.text("project_roots");
        let set: Vec<PathBuf> = if text.contains(ITEM) {
            self.list("project_roots").iter().map(|part| expand(part)).collect()
        } else {
            std::env::split_paths(text)
                .flat_map(|part| part.to_string_lossy().split(',').map(str::to_string).collect::<Vec<_>>())
                .filter(|part| !part.trim().is_empty())
                .map(|part| expand(part.trim()))
                .collect()
        };
        if set.is_empty() { std::env::current_dir().into_iter().collect() } else { set }
    }

    /// The folders with the ELF files of released apps.
    pub fn elf_directories(&self) -> Vec<PathBuf> {
        self.list("elf_dirs").iter().map(|dir| expand(dir)).collect()
    }

    /// The ledger's file, where it is one and no server.
    pub fn ledger_file(&self) -> Option<PathBuf> {
        let url = match self.text("ledger") {
            "" => return Some(self.state_dir().join("ledger.db")),
            url => url,
        };
        let is_file = !esp_ledger::is_server(url) && !url.contains("://") && !url.contains(":memory:");
        is_file.then(|| PathBuf::from(url.strip_prefix("sqlite:").unwrap_or(url)))
    }

    /// The folders with Arduino sketches: tools find and put files there too.
    pub fn sketch_directories(&self) -> Vec<PathBuf> {
        self.list("sketch_directories").iter().map(|dir| expand(dir)).collect()
    }

    /// Where this program keeps what outlives it: virtual devices, plans, the audit log. Outside of the projects.
    pub fn state_dir(&self) -> PathBuf {
        if let Some(dir) = self.path("state_dir") {
            return dir;
        }
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let usual = dir("XDG_STATE_HOME").or_else(|| dir("LOCALAPPDATA"));
        let home = || dir("HOME").map(|home| home.join(".local/state"));
        usual.or_else(home).unwrap_or_else(std::env::temp_dir).join("mcp-esptool")
    }

    /// A whole number; 0 when it is none, which [`Config::load`] refuses.
    pub fn number(&self, name: &str) -> usize {
        self.text(name).parse().unwrap_or(0)
    }

    /// Baud rate for transfers.
    pub fn baud(&self) -> u32 {
        self.text("baud").parse().unwrap_or(460_800)
    }

    /// Longest wait for a device.
    pub fn device_timeout(&self) -> Duration {
        self.seconds("device_timeout_s")
    }

    /// How long a connection stays warm.
    pub fn session_idle(&self) -> Duration {
        self.seconds("session_idle_s")
    }

    /// How long what a command leaves connected waits for the next one.
    pub fn cli_session_idle(&self) -> Duration {
        self.seconds("cli_session_idle_s")
    }

    fn seconds(&self, name: &str) -> Duration {
        self.text(name).parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
    }
}

/// A path, with `~` for the home folder.
pub fn expand(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}

/// The usual place of the configuration file on this system.
pub fn default_file(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = env("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env("APPDATA").map(PathBuf::from))
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(folder.join("mcp-esptool").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_environment_over_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        let text = "baud = 1\nlog = \"info\"\nremote_ports = [\"sim://a\", \"sim://b\"]\nesptool_path = \"x\"\n\
             shared_project_roots = [\"/p\", \"/q\"]\nsketch_directories = [\"/s\"]\n";
        std::fs::write(&file, text).unwrap();
        let env = |name: &str| match name {
            "ESP_DEFAULT_BAUD_RATE" => Some("2".to_string()),
            "ESP_DEVICE_TIMEOUT" => Some("7".to_string()),
            _ => None,
        };
        let flags = vec![("baud".to_string(), "3".to_string())];
        let config = Config::load(&Sources { file: Some(file.clone()), flags, env: &env }).unwrap();
        assert_eq!((config.baud(), config.origin("baud")), (3, Some(&Origin::Flag)));
        assert_eq!(config.device_timeout(), Duration::from_secs(7));
        assert_eq!(config.origin("device_timeout_s"), Some(&Origin::Env("ESP_DEVICE_TIMEOUT")));
        assert_eq!((config.text("log"), config.origin("log")), ("info", Some(&Origin::File(file))));
        assert_eq!(config.list("remote_ports"), ["sim://a", "sim://b"]);
        assert_eq!(config.origin("esptool_path"), None, "what other servers use is not a setting of this one");
        assert_eq!(config.project_roots(), [PathBuf::from("/p"), PathBuf::from("/q")]);
        assert_eq!(config.sketch_directories(), [PathBuf::from("/s")]);
        assert_eq!(config.session_idle(), Duration::from_secs(20));
    }

    #[test]
    fn unknown_and_bad_settings_are_errors() {
        let load = |name: &str, value: &str| {
            let flags = vec![(name.to_string(), value.to_string())];
            Config::load(&Sources { file: None, flags, env: &|_| None })
        };
        assert!(load("bauds", "1").unwrap_err().next_step.contains("`baud`"));
        assert_eq!(load("baud", "fast").unwrap_err().code, Code::BadConfiguration);
        assert!(load("baud", "115200").is_ok());
        let wrong = [
            ("baud", "115200.5"),
            ("baud", "0"),
            ("baud", "99999999999"),
            ("virtual_limit", "many"),
            ("page_size", "1e3"),
        ];
        for (name, value) in
            wrong.into_iter().chain([("keep_virtual", "ja"), ("read_only", "2"), ("session_idle_s", "-1")])
        {
            let error = load(name, value).unwrap_err();
            assert!(error.code == Code::BadConfiguration && error.message.contains(name), "{error}");
        }
        assert!(load("keep_virtual", "yes").unwrap().flag("keep_virtual"));
    }

    #[test]
    fn items_of_a_list_in_a_file_may_hold_commas() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "project_roots = [\"/a,b\"]\nelf_dirs = [\"/c,d\", \"/e\"]\n").unwrap();
        let config = Config::load(&Sources { file: Some(file), flags: Vec::new(), env: &|_| None }).unwrap();
        assert_eq!(config.project_roots(), [PathBuf::from("/a,b")]);
        assert_eq!(config.elf_directories(), [PathBuf::from("/c,d"), PathBuf::from("/e")]);
        assert_eq!(config.shown("elf_dirs"), "/c,d, /e");
    }
}
