//! The catalogue of what consoles say and what it means: `console/findings.toml`, and files of the same form that users add.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use regex::{Captures, Regex, RegexSet};
use serde::{Deserialize, Serialize};

/// How sure a finding is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The line has this one meaning.
    Certain,
    /// There are rarer causes.
    Likely,
    /// One cause among several.
    #[default]
    Possible,
}

/// One pattern or several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Patterns {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Patterns {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

/// One entry of the catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name: stable, in small letters.
    pub code: String,
    /// The diagnosis number that documents use, such as `BOOT-01`.
    pub id: Option<String>,
    /// Regular expressions on a console line without prefixes.
    #[serde(default)]
    line: Patterns,
    /// Regular expressions on what the decoder made of several lines: `@boot …`, `@loop …`, `@panic …`.
    #[serde(default)]
    fact: Patterns,
    /// Only on these chips; a log whose chip is not known counts for all.
    #[serde(default)]
    pub chips: Vec<String>,
    /// Not told when one of these is: their cause explains this one.
    #[serde(default)]
    pub unless: Vec<String>,
    /// What happened and why; `{name}` is a named group of the pattern or a fact of the chip.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// How sure: `possible` where it is left out.
    #[serde(default)]
    pub confidence: Confidence,
    /// Where the text and its meaning come from.
    #[serde(default)]
    pub source: String,
    /// A log in which it must be found: the entry's test.
    pub example: String,
}

impl Entry {
    /// The line of the example that a person would search for: the first one that a pattern matches, else the one that
    /// reports the crash or the reset.
    pub fn symptom(&self) -> &str {
        const REPORTS: [&str; 6] = ["panic'ed", "abort()", "Exception", "task_wdt", "rst cause", "rst:"];
        let patterns: Vec<Regex> = self.line.list().iter().filter_map(|text| Regex::new(&ascii(text)).ok()).collect();
        let lines = || self.example.lines().map(str::trim).filter(|line| !line.is_empty());
        let caught = || lines().find(|line| patterns.iter().any(|pattern| pattern.is_match(super::bare(line))));
        let report = || REPORTS.iter().find_map(|word| lines().find(|line| line.contains(word)));
        caught().or_else(report).or_else(|| lines().next()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    finding: Vec<Entry>,
}

/// Why a catalogue cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// The file is no TOML of this form.
    #[error("{0}")]
    Form(String),
    /// A pattern is no regular expression.
    #[error("finding {code}: {error}")]
    Pattern {
        /// The entry.
        code: String,
        /// What is wrong.
        error: String,
    },
    /// An entry has no pattern at all.
    #[error("finding {0}: neither line nor fact is given")]
    NoPattern(String),
    /// The entry's example does not lead to it.
    #[error("finding {0}: its example does not lead to it")]
    Example(String),
}

/// Patterns of one sort, all tried at once.
#[derive(Debug)]
struct Set {
    patterns: Vec<(usize, Regex)>,
    set: RegexSet,
}

/// The pattern with ASCII classes: device text is ASCII, and bytes that are not make Unicode classes slow.
pub(super) fn ascii(pattern: &str) -> String {
    const CLASSES: [(&str, &str); 5] = [
        (r"\b", r"(?-u:\b)"),
        (r"\d", "[0-9]"),
        (r"\w", "[0-9A-Za-z_]"),
        (r"\s", r"[\t\n\r\x20]"),
        (r"\S", r"[^\t\n\r\x20]"),
    ];
    let text = CLASSES.iter().fold(pattern.to_owned(), |text, (class, plain)| text.replace(class, plain));
    // `doesn't` and `panic'ed`, as web pages and programs write them into their logs; a log may begin within the word.
    let text = text.replace("n't", r"n(?:&[#0-9a-zA-Z]{2,6};|\\?['’])t");
    text.replace("panic'ed", r"(?:panic(?:&[#0-9a-zA-Z]{2,6};|\\?['’])ed|^(?:(?:a?n?i?c)?['’]?e)?d)")
}

impl Set {
    fn empty() -> Self {
        Self { patterns: Vec::new(), set: RegexSet::empty() }
    }

    fn new(entries: &[Entry], texts: &[(usize, String)]) -> Result<Self, CatalogueError> {
        let mut patterns = Vec::new();
        for (index, text) in texts {
            let code = entries.get(*index).map(|entry| entry.code.clone()).unwrap_or_default();
            let bad = |error: regex::Error| CatalogueError::Pattern { code, error: error.to_string() };
            patterns.push((*index, Regex::new(text).map_err(bad)?));
        }
        let set = RegexSet::new(texts.iter().map(|(_, text)| text));
        Ok(Self { patterns, set: set.map_err(|error| CatalogueError::Form(error.to_string()))? })
    }
}

/// All entries with their patterns ready.
#[derive(Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    lines: Set,
    facts: Set,
}

/// How facts begin, so that no line is taken for one.
pub(super) const FACT: char = '@';

impl Catalogue {
    /// The entries that come with the program.
    pub fn builtin() -> &'static Arc<Self> {
        static BUILTIN: OnceLock<Arc<Catalogue>> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let entries = parse(include_str!("../../console/findings.toml")).unwrap_or_default();
            Arc::new(Self::new(entries).unwrap_or_else(|_| Self::empty()))
        })
    }

    /// The built-in entries and those of more files; an entry of the same code replaces the built-in one.
    pub fn with<'t>(files: impl IntoIterator<Item = &'t str>) -> Result<Self, CatalogueError> {
        let mut entries = Self::builtin().entries.clone();
        let mut added = Vec::new();
        for text in files {
            for entry in parse(text)? {
                entries.retain(|known| known.code != entry.code);
                added.push(entry.code.clone());
                entries.push(entry);
            }
        }
        let catalogue = Arc::new(Self::new(entries)?);
        for code in added {
            let entry = catalogue.entries.iter().find(|entry| entry.code == code);
            let found =
                entry.is_some_and(|entry| super::decode(&catalogue, &entry.example).iter().any(|f| f.code == code));
            if !found {
                return Err(CatalogueError::Example(code));
            }
        }
        Arc::try_unwrap(catalogue).map_err(|_| CatalogueError::Form("in use".into()))
    }

    fn empty() -> Self {
        Self { entries: Vec::new(), lines: Set::empty(), facts: Set::empty() }
    }

    fn new(entries: Vec<Entry>) -> Result<Self, CatalogueError> {
        if let Some(entry) = entries.iter().find(|entry| entry.line.list().is_empty() && entry.fact.list().is_empty()) {
            return Err(CatalogueError::NoPattern(entry.code.clone()));
        }
        let all = |of: fn(&Entry) -> &[String]| -> Vec<(usize, String)> {
            let each = entries.iter().enumerate();
            each.flat_map(|(index, entry)| of(entry).iter().map(move |text| (index, ascii(text)))).collect()
        };
        let lines = Set::new(&entries, &all(|entry| entry.line.list()))?;
        let facts = Set::new(&entries, &all(|entry| entry.fact.list()))?;
        Ok(Self { entries, lines, facts })
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries that a line or a fact leads to, with what their groups caught.
    pub(super) fn matches(&self, text: &str) -> Vec<(usize, BTreeMap<String, String>)> {
        let mut found: Vec<(usize, BTreeMap<String, String>)> = Vec::new();
        let set = if text.starts_with(FACT) { &self.facts } else { &self.lines };
        for pattern in &set.set.matches(text) {
            let Some((entry, regex)) = set.patterns.get(pattern) else { continue };
            if found.iter().any(|(known, _)| known == entry) {
                continue;
            }
            let caught = regex.captures(text).map(|captures| groups(regex, &captures)).unwrap_or_default();
            found.push((*entry, caught));
        }
        found
    }
}

fn groups(regex: &Regex, captures: &Captures<'_>) -> BTreeMap<String, String> {
    let named = regex.capture_names().flatten();
    named.filter_map(|name| Some((name.to_owned(), captures.name(name)?.as_str().trim().to_owned()))).collect()
}

fn parse(text: &str) -> Result<Vec<Entry>, CatalogueError> {
    toml::from_str::<File>(text).map(|file| file.finding).map_err(|error| CatalogueError::Form(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "[[finding]]\ncode = \"own_sensor\"\nline = 'sensor (?P<name>\\w+) not found'\ncause = \"no {name}\"\n\
                       remedy = \"plug it in\"\nconfidence = \"certain\"\nsource = \"our board\"\nexample = \"E (1) x: sensor bme not found\"\n";

    #[test]
    fn the_built_in_file_is_readable() {
        let entries = parse(include_str!("../../console/findings.toml")).unwrap();
        let mut codes: Vec<&str> = entries.iter().map(|entry| entry.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), entries.len(), "codes are unique");
        assert!(entries.iter().all(|entry| !entry.source.is_empty()), "each of ours names its source");
        assert!(Catalogue::new(entries).is_ok_and(|catalogue| catalogue.entries.len() > 60));
    }

    #[test]
    fn every_example_leads_to_its_entry() {
        let catalogue = Catalogue::builtin();
        let mut wrong = Vec::new();
        for entry in catalogue.entries() {
            let found: Vec<String> =
                super::super::decode(catalogue, &entry.example).into_iter().map(|found| found.code).collect();
            if !found.contains(&entry.code) {
                wrong.push((entry.code.as_str(), found));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_explains_a_finding_is_in_the_catalogue() {
        let entries = Catalogue::builtin().entries();
        for entry in entries {
            for other in &entry.unless {
                assert!(entries.iter().any(|known| known.code == *other), "{}: {other}", entry.code);
            }
        }
    }

    #[test]
    fn users_add_entries_and_their_examples_are_checked() {
        let catalogue = Arc::new(Catalogue::with([OWN]).unwrap());
        let found = super::super::decode(&catalogue, "I (5) x: sensor bmp280 not found\n");
        assert_eq!((found[0].code.as_str(), found[0].cause.as_str()), ("own_sensor", "no bmp280"));
        let wrong = OWN.replace("sensor bme not found", "nothing");
        assert_eq!(Catalogue::with([wrong.as_str()]).unwrap_err(), CatalogueError::Example("own_sensor".into()));
        assert!(matches!(Catalogue::with(["[[finding]]\ncode = 1"]), Err(CatalogueError::Form(_))));
        let short: Vec<&str> =
            OWN.lines().filter(|line| !line.starts_with("conf") && !line.starts_with("source")).collect();
        let added = Arc::new(Catalogue::with([short.join("\n").as_str()]).unwrap());
        let found = super::super::decode(&added, "I (5) x: sensor bmp280 not found\n");
        assert_eq!(found[0].confidence, Confidence::Possible, "five lines are enough");
        let bad = OWN.replace("'sensor (", "'sensor ((");
        assert!(matches!(Catalogue::with([bad.as_str()]), Err(CatalogueError::Pattern { .. })));
    }
}
