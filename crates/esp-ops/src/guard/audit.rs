//! The audit log: an append-only record of what was planned, confirmed and burned.
//!
//! Each line holds the hash of the one before it, so that a line that is changed or taken out is found. Before an event
//! is appended the chain is checked: a broken one is refused, and what a crash left of an unfinished last line becomes
//! an event of its own. A log that was set aside (`audit.jsonl.1`) stays in the memory of the rules that ask which
//! device received a key or a MAC address.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Code, ToolError};
use crate::guard::confirm::{digest, now, private_dir, state_error};

/// Hash before the first line.
const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The log's name in the state folder; logs that were set aside have it as the beginning of theirs.
const NAME: &str = "audit.jsonl";
/// How much of an unfinished line is kept in the event that takes its place, in characters.
const KEPT: usize = 2000;

/// The log of one state folder.
#[derive(Debug, Clone)]
pub struct AuditLog {
    file: PathBuf,
    /// How far this process has checked the chain.
    checked: Arc<Mutex<End>>,
}

/// The end of a part of the log whose chain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    /// Bytes of this part.
    bytes: u64,
    /// Lines of this part.
    lines: usize,
    /// Hash of its last line.
    hash: String,
}

impl Default for End {
    fn default() -> Self {
        Self { bytes: 0, lines: 0, hash: START.into() }
    }
}

/// What a check of the whole log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Lines whose chain holds.
    pub lines: usize,
    /// Number of the first line that does not belong to the chain, counted from 1.
    pub broken: Option<usize>,
    /// The last line is unfinished: a write was cut off. The next event repairs it.
    pub torn: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    time: u64,
    event: Value,
    prev: String,
    hash: String,
}

impl Line {
    fn of(event: Value, prev: String) -> Self {
        let time = now();
        let hash = link(time, &event, &prev);
        Self { time, event, prev, hash }
    }

    fn follows(&self, prev: &str) -> bool {
        self.prev == prev && self.hash == link(self.time, &self.event, prev)
    }

    fn text(&self) -> io::Result<String> {
        serde_json::to_string(self).map(|line| line + "\n").map_err(io::Error::other)
    }
}

/// What a walk along the chain came upon.
struct Walk {
    end: End,
    broken: bool,
    /// What follows the last line end.
    rest: Vec<u8>,
}

impl AuditLog {
    /// The log below this state folder.
    pub fn new(state: &Path) -> Self {
        Self { file: state.join(NAME), checked: Arc::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Appends an event, and is on the disk when it returns. Refuses to go on with a chain that is broken.
    pub fn append(&self, event: Value) -> Result<(), ToolError> {
        let failed = |error: io::Error| state_error(&error);
        if let Some(dir) = self.file.parent() {
            private_dir(dir).map_err(failed)?;
        }
        let mut file = self.open().map_err(failed)?;
        file.lock().map_err(failed)?;
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = walk(&mut file, &checked).map_err(failed)?;
        if found.broken && *checked != End::default() {
            // Perhaps it is another file than the one that was checked.
            found = walk(&mut file, &End::default()).map_err(failed)?;
        }
        if found.broken {
            return Err(self.is_broken(found.end.lines + 1));
        }
        *checked = add(&mut file, found, event).map_err(failed)?;
        Ok(())
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.file)
    }

    fn is_broken(&self, line: usize) -> ToolError {
        let (file, aside) = (self.file.display(), self.aside());
        let text = format!("the audit log {file} was changed: line {line} does not follow from the line before it");
        ToolError::new(Code::AuditBroken, text).next(format!(
            "a person must look at it (mcp-esptool audit verify) and move it to {}; its events stay known there",
            aside.display()
        ))
    }

    /// A name for a log that is set aside: none is there yet.
    fn aside(&self) -> PathBuf {
        let named = |number: u32| self.file.with_file_name(format!("{NAME}.{number}"));
        (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0))
    }

    /// An event of this kind is in the log, or in one that was set aside. A log that cannot be read is an error: what
    /// it holds may be the event.
    pub fn any(&self, wanted: impl Fn(&Value) -> bool) -> Result<bool, ToolError> {
        for file in self.files().map_err(|error| state_error(&error))? {
            for line in BufReader::new(file).split(b'\n') {
                let line = line.map_err(|error| state_error(&error))?;
                if event_of(&line).is_some_and(|event| wanted(&event)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The log and those set aside.
    fn files(&self) -> io::Result<Vec<File>> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let names = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        let own = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME));
        names.into_iter().filter(own).map(File::open).collect()
    }

    /// Checks the whole chain.
    pub fn verify(&self) -> Result<Checked, ToolError> {
        let failed = |error: io::Error| state_error(&error);
        let mut file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Checked { lines: 0, broken: None, torn: false });
            }
            Err(error) => return Err(failed(error)),
        };
        file.lock_shared().map_err(failed)?;
        let walk = walk(&mut file, &End::default()).map_err(failed)?;
        let lines = walk.end.lines;
        Ok(Checked { lines, broken: walk.broken.then_some(lines + 1), torn: !walk.broken && !walk.rest.is_empty() })
    }
}

/// Follows the chain from where it was checked before to its end.
fn walk(file: &mut File, from: &End) -> io::Result<Walk> {
    // A file that is shorter now is another one, or was cut: all of it is checked.
    let shorter = file.metadata()?.len() < from.bytes;
    let mut end = if shorter { End::default() } else { from.clone() };
    file.seek(SeekFrom::Start(end.bytes))?;
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let count = reader.read_until(b'\n', &mut line)?;
        if line.pop_if(|last| *last == b'\n').is_none() {
            return Ok(Walk { end, broken: false, rest: line });
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(found) if found.follows(&end.hash) => {
                end = End { bytes: end.bytes + count as u64, lines: end.lines + 1, hash: found.hash };
            }
            _ => return Ok(Walk { end, broken: true, rest: Vec::new() }),
        }
    }
}

/// Puts an event behind the chain, in place of what an interrupted write left there. What cannot be written whole is
/// taken back.
fn add(file: &mut File, walk: Walk, event: Value) -> io::Result<End> {
    let mut text = String::new();
    let Walk { end: mut first, rest, .. } = walk;
    let before = first.bytes;
    match serde_json::from_slice::<Line>(&rest) {
        // Only its line end is missing.
        Ok(found) if found.follows(&first.hash) => {
            text = found.text()?;
            first.lines += 1;
            first.hash = found.hash;
        }
        _ if rest.is_empty() => {}
        _ => {
            let kept: String = String::from_utf8_lossy(&rest).chars().take(KEPT).collect();
            let torn = Line::of(json!({ "event": "torn_line", "text": kept }), first.hash);
            text = torn.text()?;
            first.lines += 1;
            first.hash = torn.hash;
        }
    }
    let line = Line::of(event, first.hash);
    text += &line.text()?;
    let written = file.set_len(before).and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The unfinished line goes back too: it may be all that is known of a burn.
        let _ = file.set_len(before).and_then(|()| file.write_all(&rest));
        return Err(error);
    }
    Ok(End { bytes: before + text.len() as u64, lines: first.lines + 1, hash: line.hash })
}

/// The event of a line; of one that was glued to an unfinished one, the event at its end.
fn event_of(line: &[u8]) -> Option<Value> {
    let whole = serde_json::from_slice::<Line>(line);
    let glued = || {
        let text = String::from_utf8_lossy(line);
        let at = text.rfind("{\"time\":")?;
        serde_json::from_str::<Line>(text.get(at..)?).ok()
    };
    whole.ok().or_else(glued).map(|line| line.event)
}

fn link(time: u64, event: &Value, prev: &str) -> String {
    digest(&format!("{prev}\n{time}\n{event}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(steps: u32) -> (tempfile::TempDir, AuditLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        (0..steps).for_each(|number| log.append(json!({ "step": number })).unwrap());
        (dir, log)
    }

    fn knows(log: &AuditLog, step: u32) -> bool {
        log.any(|event| event["step"] == json!(step)).unwrap()
    }

    fn sound(lines: usize) -> Checked {
        Checked { lines, broken: None, torn: false }
    }

    #[test]
    fn changed_or_removed_lines_are_found_and_nothing_is_appended() {
        let (_dir, log) = log_of(3);
        assert_eq!(log.verify().unwrap(), sound(3));
        let text = fs::read_to_string(&log.file).unwrap();
        let without_first: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
        for (changed, at) in [(text.replace("\"step\":1", "\"step\":7"), 2), (without_first, 1)] {
            fs::write(&log.file, &changed).unwrap();
            assert_eq!(log.verify().unwrap().broken, Some(at));
            // Another process: this one has checked these bytes before.
            let error = AuditLog::new(log.file.parent().unwrap()).append(json!({})).unwrap_err();
            assert_eq!(error.code, Code::AuditBroken);
            assert_eq!(fs::read_to_string(&log.file).unwrap(), changed);
        }
    }

    #[test]
    fn logs_set_aside_stay_in_memory() {
        let (dir, log) = log_of(2);
        fs::rename(&log.file, log.aside()).unwrap();
        log.append(json!({ "step": 9 })).unwrap();
        assert_eq!(log.verify().unwrap(), sound(1));
        assert!(knows(&log, 1) && knows(&log, 9) && !knows(&log, 5));
        assert_eq!(log.aside(), dir.path().join("audit.jsonl.2"));
    }

    #[test]
    fn torn_last_line_is_repaired_and_the_next_event_is_remembered() {
        for cut in [1, 2, 20, 100] {
            let (dir, log) = log_of(3);
            let text = fs::read_to_string(&log.file).unwrap();
            fs::write(&log.file, &text[..text.len() - cut]).unwrap();
            assert!(log.verify().unwrap().torn);
            AuditLog::new(dir.path()).append(json!({ "step": 3 })).unwrap();
            assert_eq!(log.verify().unwrap(), sound(4), "cut by {cut}");
            // The event whose line end alone was missing is still there.
            assert_eq!(knows(&log, 2), cut == 1);
            assert!(knows(&log, 3) && knows(&log, 1));
        }
    }

    #[test]
    fn glued_lines_of_older_versions_are_remembered_but_not_continued() {
        let (dir, log) = log_of(2);
        let text = fs::read_to_string(&log.file).unwrap();
        let next = Line::of(json!({ "step": 5 }), START.into()).text().unwrap();
        fs::write(&log.file, format!("{}{next}", &text[..text.len() - 30])).unwrap();
        let log = AuditLog::new(dir.path());
        assert_eq!(log.verify().unwrap().broken, Some(2));
        assert!(knows(&log, 5));
        assert_eq!(log.append(json!({})).unwrap_err().code, Code::AuditBroken);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn events_that_cannot_be_written_leave_the_log_as_it_was() {
        let (dir, log) = log_of(1);
        let before = fs::read(&log.file).unwrap();
        // Appending needs the right to write; reading does not.
        let mut file = File::open(&log.file).unwrap();
        let walk = walk(&mut file, &End::default()).unwrap();
        assert!(add(&mut file, walk, json!({ "step": 1 })).is_err());
        assert_eq!(fs::read(&log.file).unwrap(), before);
        assert!(AuditLog::new(&dir.path().join("audit.jsonl")).append(json!({})).is_err());
    }

    #[test]
    fn appending_reads_only_what_is_new() {
        let (_dir, log) = log_of(2);
        let mut file = log.open().unwrap();
        let from = log.checked.lock().unwrap().clone();
        assert_eq!(from.bytes, file.metadata().unwrap().len());
        let walk = walk(&mut file, &from).unwrap();
        assert_eq!((walk.end, walk.rest.len()), (from, 0));
    }

    #[cfg(unix)]
    #[test]
    fn unreadable_logs_are_errors_not_silence() {
        let (dir, log) = log_of(1);
        fs::create_dir(dir.path().join("audit.jsonl.1")).unwrap();
        assert_eq!(log.any(|_| false).unwrap_err().code, Code::FileUnwritable);
    }
}
