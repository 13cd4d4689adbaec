//! Events as lines of JSON in a file (NDJSON), forced to the disk.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{Message, Sink};

/// Bytes at the end of the file in which its last line must lie.
const TAIL: u64 = 1 << 20;

/// The file, opened for each event: another program may rotate it.
pub struct File {
    path: PathBuf,
    name: String,
}

impl File {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), name: format!("file {}", path.display()) }
    }

    fn append(&self, message: &Message) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let start = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        // A crash left a part of a line behind: that event was not confirmed, and comes again.
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if tail.get(..whole).is_some_and(|lines| has(lines, message)) {
            return Ok(());
        }
        let end = start + whole as u64;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(format!("{}\n", message.body).as_bytes())?;
        file.sync_data()
    }
}

/// The message is among the lines: it was written, and the crash came before the cursor.
fn has(lines: &[u8], message: &Message) -> bool {
    let mut lines = lines.split(|byte| *byte == b'\n').rev();
    lines.any(|line| serde_json::from_slice::<Json>(line).is_ok_and(|event| event["hash"] == message.key.as_str()))
}

impl Sink for File {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&mut self, message: &Message) -> Result<(), String> {
        self.append(message).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_replaced_and_a_repeated_event_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let message = |number: i64| {
            let (key, station) = (format!("hash-{number}"), "line".to_owned());
            Message { body: format!("{{\"hash\":\"{key}\"}}"), key, seq: number, station }
        };
        let mut file = File::new(&path);
        file.deliver(&message(1)).unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"hash\":\"ha").unwrap();
        file.deliver(&message(2)).unwrap();
        file.deliver(&message(2)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"hash\":\"hash-1\"}\n{\"hash\":\"hash-2\"}\n");
    }
}
