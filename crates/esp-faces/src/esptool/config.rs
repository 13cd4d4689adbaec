//! `esptool.cfg`: the few settings that have no option.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::terminal::Terminal;

/// Keys that esptool knows. Those about time-outs have no effect: ours follow from the amount of data.
const KNOWN: [&str; 15] = [
    "timeout",
    "chip_erase_timeout",
    "max_timeout",
    "sync_timeout",
    "md5_timeout_per_mb",
    "erase_region_timeout_per_mb",
    "erase_write_timeout_per_mb",
    "mem_end_rom_timeout",
    "serial_write_timeout",
    "connect_attempts",
    "write_block_attempts",
    "reset_delay",
    "open_port_attempts",
    "custom_reset_sequence",
    "custom_hard_reset_sequence",
];
const NAMES: [&str; 3] = ["esptool.cfg", "setup.cfg", "tox.ini"];

/// The settings of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Config {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl Config {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

/// The first file with a section `[esptool]`: the one that the environment names, then the folder, then the user's own.
pub fn load() -> Option<Config> {
    find(&mut |_| ())
}

/// The same; `ignored` is told why a file does not count.
fn find(ignored: &mut dyn FnMut(String)) -> Option<Config> {
    let named = std::env::var_os("ESPTOOL_CFGFILE").map(PathBuf::from);
    if let Some(found) = named.as_deref().and_then(|path| read(path, ignored)) {
        return Some(found);
    }
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let folders = std::env::current_dir().ok().into_iter();
    let folders = folders.chain(home.iter().map(|home| home.join(".config/esptool"))).chain(home.clone());
    let mut files = folders.flat_map(|folder| NAMES.map(|name| folder.join(name)));
    files.find_map(|file| read(&file, ignored))
}

/// The value of a key of `esptool.cfg`, where there is such a file.
pub fn value(key: &str) -> Option<String> {
    load()?.get(key).map(String::from)
}

fn read(path: &Path, ignored: &mut dyn FnMut(String)) -> Option<Config> {
    let text = fs::read_to_string(path).ok()?;
    match section(&text)? {
        Ok(values) => Some(Config { path: path.to_path_buf(), values }),
        Err(why) => {
            let path = path.display();
            ignored(format!("Ignoring invalid config file {path}: While reading from '{path}' : {why}"));
            None
        }
    }
}

/// The values of the section `[esptool]`; an error where they are not clear.
fn section(text: &str) -> Option<Result<BTreeMap<String, String>, String>> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[esptool]");
    lines.next()?;
    let own = lines.take_while(|line| !line.starts_with('['));
    let mut values = BTreeMap::new();
    for line in own.filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        let Some((key, value)) = line.split_once(['=', ':']) else {
            return Some(Err(format!("'{line}' is no option with a value")));
        };
        let key = key.trim().to_lowercase();
        if values.insert(key.clone(), value.trim().to_string()).is_some() {
            return Some(Err(format!("option '{key}' in section 'esptool' already exists")));
        }
    }
    Some(Ok(values))
}

/// Says which file counts, and which of its keys are not known.
pub fn announce(terminal: &Terminal) {
    let Some(config) = find(&mut |text| terminal.warn(text)) else { return };
    let named = std::env::var_os("ESPTOOL_CFGFILE").is_some_and(|named| config.path == Path::new(&named));
    let by = if named { " (set with ESPTOOL_CFGFILE)" } else { "" };
    terminal.say(format_args!("Loaded custom configuration from {}{by}", config.path.display()));
    let unknown: Vec<_> = config.values.keys().map(String::as_str).filter(|key| !KNOWN.contains(key)).collect();
    match unknown.as_slice() {
        [] => {}
        [only] => terminal.warn(format_args!("Ignoring unknown config option: {only}")),
        many => terminal.warn(format_args!("Ignoring unknown config options: {}", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn only_the_own_section_counts() {
        let text =
            "[other]\nconnect_attempts = 1\n[esptool]\n# note\nconnect_attempts = 3\nReset_Delay: 2\n[next]\nx = 1\n";
        let found = section(text).and_then(Result::ok).unwrap_or_default();
        assert_eq!(found.get("connect_attempts").map(String::as_str), Some("3"));
        assert_eq!(found.get("reset_delay").map(String::as_str), Some("2"));
        assert_eq!(found.len(), 2);
        assert!(section("[other]\nx = 1\n").is_none());
    }

    #[test]
    fn option_that_comes_twice_spoils_the_file() {
        let twice = section("[esptool]\nconnect_attempts = 5\nconnect_attempts = 9\n");
        let why = "option 'connect_attempts' in section 'esptool' already exists";
        assert_eq!(twice, Some(Err(why.to_string())));
        assert!(section("[esptool]\nnonsense\n").is_some_and(|found| found.is_err()));
    }
}
