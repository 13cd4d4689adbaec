//! Text that cannot be read: another line rate, or another crystal than the program was built for.

use super::finding::Collector;

/// A line this long can be judged, in characters.
const JUDGED: usize = 16;
/// This many lines that cannot be read in a row are no boot message at another rate, which is short.
const LINES: usize = 2;

/// Counts lines that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Garbled {
    lines: usize,
}

impl Garbled {
    /// Looks at a line; true: it cannot be read, and there is no more to it.
    pub(super) fn take(&mut self, text: &str, findings: &mut Collector, at_ms: u64) -> bool {
        let all = text.chars().count();
        let bad = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
        if all < JUDGED && self.lines == 0 {
            return false;
        }
        if bad * 4 < all {
            self.lines = 0;
            return false;
        }
        // One long line says as much as several short ones.
        self.lines += 1 + all / (4 * JUDGED);
        if self.lines >= LINES {
            findings.fact("@garbled", text, at_ms);
        }
        all >= JUDGED
    }
}
