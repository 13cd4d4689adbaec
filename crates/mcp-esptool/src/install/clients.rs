//! The known clients (`clients.toml`) and the folders of this system.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, io};

use serde::Deserialize;

/// How a client writes down a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    Plain,
    Typed,
    Zed,
    Opencode,
    Goose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Toml,
    Yaml,
}

/// One entry of `clients.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub flag: String,
    pub name: String,
    user: String,
    project: Option<String>,
    found: String,
    pub key: String,
    pub entry: Entry,
    pub format: Format,
}

#[derive(Deserialize)]
struct Catalogue {
    client: Vec<Client>,
}

/// All clients, in the order in which help lists them.
#[allow(clippy::expect_used)]
pub static CLIENTS: LazyLock<Vec<Client>> = LazyLock::new(|| {
    let read: Catalogue = toml::from_str(include_str!("../../clients.toml")).expect("a test reads it");
    read.client
});

impl Client {
    /// The configuration file; `None` if the client has none for a project.
    pub fn file(&self, folders: &Folders, project: bool) -> Option<PathBuf> {
        let form = if project { self.project.as_ref()? } else { &self.user };
        Some(folders.fill(form))
    }

    /// Whether the client seems to be installed for this user.
    pub fn is_there(&self, folders: &Folders) -> bool {
        folders.fill(&self.found).exists()
    }

    /// Whether it can be configured for one project.
    pub fn per_project(&self) -> bool {
        self.project.is_some()
    }
}

/// The folders that `clients.toml` names.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The user's home folder.
    pub home: PathBuf,
    /// Settings of applications: `~/.config`, `~/Library/Application Support` or `%APPDATA%`.
    pub config: PathBuf,
    /// `~/.config` on every system.
    pub xdg: PathBuf,
    /// The project: the folder that the program was started in.
    pub project: PathBuf,
}

impl Folders {
    /// Those of this user on this system.
    pub fn of_this_user() -> io::Result<Self> {
        let dir = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = dir("HOME").or_else(|| dir("USERPROFILE"));
        let home = home.ok_or_else(|| io::Error::other("there is no home folder (HOME is not set)"))?;
        let xdg = dir("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let config = if cfg!(target_os = "macos") {
            home.join("Library/Application Support")
        } else if cfg!(windows) {
            dir("APPDATA").unwrap_or_else(|| home.join("AppData/Roaming"))
        } else {
            xdg.clone()
        };
        Ok(Self { home, config, xdg, project: env::current_dir()? })
    }

    fn fill(&self, form: &str) -> PathBuf {
        let (head, rest) = form.split_once('/').unwrap_or((form, ""));
        let base = match head {
            "{home}" => self.home.clone(),
            "{config}" => self.config.clone(),
            "{xdg}" => self.xdg.clone(),
            "{vscode}" => self.config.join("Code/User"),
            "{zed}" if cfg!(windows) => self.config.join("Zed"),
            "{zed}" => self.xdg.join("zed"),
            "{goose}" if cfg!(windows) => self.config.join("Block/goose/config"),
            "{goose}" => self.xdg.join("goose"),
            "{project}" => self.project.clone(),
            other => Path::new(other).to_path_buf(),
        };
        esp_ops::paths::native(&base.join(rest))
    }
}
