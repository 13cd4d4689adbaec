//! What a person sees of a console: cleaned text as it comes, coloured by level, without what the filter leaves out.

use std::fmt::Write as _;
use std::time::Duration;

use esp_model::console::{MAX_LINE, clean};

/// Levels of a log line, from the fewest words to the most.
const LEVELS: [(char, &str); 5] = [('E', "31"), ('W', "33"), ('I', "32"), ('D', ""), ('V', "")];

/// Which lines are shown, as idf_monitor writes it: `wifi:W main *:N`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    tags: Vec<(String, usize)>,
    others: Option<usize>,
}

impl Filter {
    /// Reads `tag:level …`; without a level, all of that tag. Lines of tags that are not named, and lines that are no
    /// log lines, are shown where `*` has a level.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
            let (tag, level) = part.rsplit_once(':').unwrap_or((part, "V"));
            let level = level.to_ascii_uppercase();
            let known = LEVELS.iter().position(|(name, _)| level == name.to_string()).map(|index| index + 1);
            let rank = match level.as_str() {
                "N" => 0,
                "*" | "" => LEVELS.len(),
                _ => known.ok_or_else(|| format!("`{level}` is no level of `{part}` (N, E, W, I, D, V)"))?,
            };
            match tag {
                "*" => filter.others = Some(rank),
                tag => filter.tags.push((tag.into(), rank)),
            }
        }
        Ok(filter)
    }

    fn is_off(&self) -> bool {
        self.tags.is_empty() && self.others.is_none()
    }

    fn shows(&self, log: Option<(usize, &str)>) -> bool {
        let others = self.others.unwrap_or(if self.tags.is_empty() { LEVELS.len() } else { 0 });
        match log {
            None => others > 0,
            Some((level, tag)) => {
                let named = self.tags.iter().find(|(known, _)| known == tag);
                level <= named.map_or(others, |(_, level)| *level)
            }
        }
    }
}

/// Level (1 for errors) and tag of a log line of ESP-IDF: `I (123) wifi: …`, with a time of day too.
fn log_line(text: &str) -> Option<(usize, &str)> {
    let mut letters = text.chars();
    let first = letters.next()?;
    let level = LEVELS.iter().position(|(name, _)| *name == first)? + 1;
    let rest = letters.as_str().strip_prefix(" (")?;
    let (_, rest) = rest.split_once(") ")?;
    let (tag, _) = rest.split_once(':')?;
    Some((level, tag))
}

/// So little is there of the line that it may become a log line.
fn may_become_log(text: &str) -> bool {
    let is_level = |letter: char| LEVELS.iter().any(|(name, _)| *name == letter);
    let mut letters = text.chars();
    letters.next().is_some_and(is_level) && (" (".starts_with(letters.as_str()) || letters.as_str().starts_with(" ("))
}

/// The screen.
pub struct Screen {
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Nothing is shown.
    pub is_paused: bool,
    colours: bool,
    filter: Filter,
    /// The line that has not ended.
    line: Vec<u8>,
    /// Its characters that were shown already.
    shown: usize,
    /// The line has a colour that must end with it.
    coloured: bool,
}

impl Screen {
    pub fn new(timestamps: bool, colours: bool, filter: Filter) -> Self {
        let (line, shown, coloured, is_paused) = (Vec::new(), 0, false, false);
        Self { timestamps, is_paused, colours, filter, line, shown, coloured }
    }

    /// Shows what fits this from now on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// Takes bytes; gives what is to be written.
    pub fn take(&mut self, at: Duration, bytes: &[u8]) -> String {
        let mut text = String::new();
        for byte in bytes {
            let ends = matches!(byte, b'\n' | b'\r');
            if !ends {
                self.line.push(*byte);
            }
            if ends || self.line.len() >= MAX_LINE {
                self.show(at, true, &mut text);
                if self.coloured {
                    text.push_str("\x1b[0m");
                }
                if self.shown > 0 {
                    text.push('\n');
                }
                self.line.clear();
                (self.shown, self.coloured) = (0, false);
            }
        }
        // A character of several bytes is shown when all of it is there.
        let rest = match std::str::from_utf8(&self.line) {
            Err(error) if error.error_len().is_none() => self.line.split_off(error.valid_up_to()),
            _ => Vec::new(),
        };
        self.show(at, false, &mut text);
        self.line.extend(rest);
        text
    }

    /// Adds what has become visible of the line.
    fn show(&mut self, at: Duration, is_whole: bool, text: &mut String) {
        let line = clean(&self.line);
        let new = line.chars().count().saturating_sub(self.shown);
        if new == 0 || self.is_paused {
            return;
        }
        let log = log_line(&line);
        if self.shown == 0 {
            let decides = self.colours || !self.filter.is_off();
            // Level and tag are not known yet: what becomes no log line, such as a prompt, waits for nothing.
            if decides && !is_whole && log.is_none() && may_become_log(&line) {
                return;
            }
            if !self.filter.shows(log) {
                return;
            }
            if self.timestamps {
                let _ = write!(text, "[{:>8}] ", at.as_millis());
            }
            let colour = log.and_then(|(level, _)| LEVELS.get(level - 1)).map_or("", |(_, colour)| colour);
            if self.colours && !colour.is_empty() {
                let _ = write!(text, "\x1b[0;{colour}m");
                self.coloured = true;
            }
        }
        text.extend(line.chars().skip(self.shown));
        self.shown += new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(timestamps: bool) -> Screen {
        Screen::new(timestamps, false, Filter::default())
    }

    #[test]
    fn a_prompt_is_shown_before_its_line_ends() {
        let mut screen = plain(true);
        let at = |ms| Duration::from_millis(ms);
        assert_eq!(screen.take(at(5), b"\x1b[32mesp"), "[       5] esp");
        assert_eq!(screen.take(at(6), b"> \x1b[0"), "> ");
        assert_eq!(screen.take(at(7), b"mhelp \xc3"), "help ");
        assert_eq!(screen.take(at(8), b"\xa4\r\n\r\nok\n"), "\u{e4}\n[       8] ok\n");
        let long = screen.take(at(9), &[b'a'; 5000]);
        assert_eq!((long.matches('a').count(), long.lines().count()), (5000, 2));
    }

    #[test]
    fn lines_have_the_colour_of_their_level() {
        let mut screen = Screen::new(false, true, Filter::default());
        let at = Duration::ZERO;
        assert_eq!(screen.take(at, b"E (5) "), "", "the tag decides");
        assert_eq!(screen.take(at, b"wifi: no\r\n"), "\x1b[0;31mE (5) wifi: no\x1b[0m\n");
        assert_eq!(screen.take(at, b"W (5) a: b\nD (5) a: b\n"), "\x1b[0;33mW (5) a: b\x1b[0m\nD (5) a: b\n");
        assert_eq!(screen.take(at, b"E> "), "E> ", "a prompt does not wait");
    }

    #[test]
    fn a_filter_keeps_what_it_names() {
        let all = b"I (1) wifi: up\nW (2) wifi: weak\nE (3) main: bad\nI (4) main: ok\nplain\n";
        let shown = |filter: &str| {
            let mut screen = Screen::new(false, false, Filter::parse(filter).unwrap());
            screen.take(Duration::ZERO, all)
        };
        assert_eq!(shown(""), String::from_utf8_lossy(all));
        assert_eq!(shown("wifi:W"), "W (2) wifi: weak\n");
        assert_eq!(shown("wifi"), "I (1) wifi: up\nW (2) wifi: weak\n");
        assert_eq!(shown("*:E"), "E (3) main: bad\nplain\n");
        assert_eq!(shown("wifi:N *:I"), "E (3) main: bad\nI (4) main: ok\nplain\n");
        assert_eq!(shown("*:N"), "");
        assert!(Filter::parse("wifi:Q").unwrap_err().contains('Q'));
    }

    #[test]
    fn a_paused_screen_shows_nothing() {
        let mut screen = plain(false);
        screen.is_paused = true;
        assert_eq!(screen.take(Duration::ZERO, b"a\nb"), "");
        screen.is_paused = false;
        assert_eq!(screen.take(Duration::ZERO, b"c\n"), "bc\n");
    }
}
