//! The file that a console is written to, whoever reads it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::own_file;

/// Largest file; then a new one begins, and one old one stays beside it.
const LARGEST: u64 = 16 << 20;
/// Files that are kept of all consoles.
const KEPT: usize = 40;

/// Where the log of this port's console goes, below the folder for this program's state.
pub fn place(state: &Path, port: &str) -> PathBuf {
    let name: String = port.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-').chars().take(60).collect::<String>();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    state.join("consoles").join(format!("{name}-{now}.log"))
}

/// A log that is written; without a file where none can be made: a full disk must not end a console.
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Log {
    /// Begins it, readable by this user alone: consoles show secrets.
    pub fn begin(path: &Path) -> Self {
        forget_old(path);
        let mut log = Self { path: path.to_path_buf(), file: None, size: 0 };
        log.open();
        log
    }

    fn open(&mut self) {
        let opened = own_file::private(&self.path).and_then(|()| OpenOptions::new().append(true).open(&self.path));
        self.size = opened.as_ref().ok().and_then(|file| file.metadata().ok()).map_or(0, |about| about.len());
        self.file = opened.map_err(|error| tracing::warn!("{}: {error}", self.path.display())).ok();
    }

    /// The file, while it can be written.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| self.path.as_path())
    }

    /// Adds what came.
    pub fn add(&mut self, bytes: &[u8]) {
        if self.size > LARGEST {
            self.file = None;
            let _ = fs::rename(&self.path, self.path.with_extension("log.1"));
            self.open();
        }
        if let Some(file) = &mut self.file {
            self.size += bytes.len() as u64;
            if let Err(error) = file.write_all(bytes) {
                tracing::warn!("{}: {error}; the console is no longer logged", self.path.display());
                self.file = None;
            }
        }
    }
}

/// Removes the oldest logs beside this one.
fn forget_old(path: &Path) {
    let Some(dir) = path.parent() else { return };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_log = |path: &PathBuf| path.to_string_lossy().contains(".log");
    let mut old: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| is_log(path))
        .collect();
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(KEPT);
    for (_, path) in old.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}
