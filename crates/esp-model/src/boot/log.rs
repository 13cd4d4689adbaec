//! The console's text.

use std::fmt::Write;

/// Bytes a second at the console's usual 115200 baud.
const BYTES_PER_SECOND: u64 = 11_520;
/// Time of the bootloader's first line in ms.
const START: u64 = 24;

/// Lines with made-up times: as long as the console needs to send them.
#[derive(Default)]
pub(super) struct Log {
    text: String,
    second_stage: Option<usize>,
}

impl Log {
    /// A line of the ROM.
    pub fn rom(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push_str("\r\n");
    }

    /// Information from the second stage.
    pub fn info(&mut self, tag: &str, line: impl AsRef<str>) {
        self.line('I', tag, line.as_ref());
    }

    /// A warning from the second stage.
    pub fn warning(&mut self, tag: &str, line: impl AsRef<str>) {
        self.line('W', tag, line.as_ref());
    }

    /// An error from the second stage.
    pub fn error(&mut self, tag: &str, line: impl AsRef<str>) {
        self.line('E', tag, line.as_ref());
    }

    fn line(&mut self, level: char, tag: &str, line: &str) {
        let start = *self.second_stage.get_or_insert(self.text.len());
        let time = START + (self.text.len() - start) as u64 * 1000 / BYTES_PER_SECOND;
        let _ = write!(self.text, "{level} ({time}) {tag}: {line}\r\n");
    }

    pub fn into_text(self) -> String {
        self.text
    }
}
