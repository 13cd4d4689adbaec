//! The CSV form of NVS data, as Python's `csv.DictReader` reads it for the reference generator.

use std::borrow::Cow;

/// Longest field in characters (Python's default limit).
const FIELD_LIMIT: usize = 131_072;

/// A row. A field is `None` when the row is too short to have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row<'a> {
    /// Line on which the row begins, counted from 1.
    pub line: usize,
    /// Column `key`.
    pub key: Option<Cow<'a, str>>,
    /// Column `type`: `namespace`, `file`; anything else counts as `data`.
    pub kind: Option<Cow<'a, str>>,
    /// Column `encoding`.
    pub encoding: Option<Cow<'a, str>>,
    /// Column `value`.
    pub value: Option<Cow<'a, str>>,
}

/// What the first row has instead of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Near {
    /// Nothing like it.
    Nothing,
    /// The name with spaces or other signs around it.
    Spaced(String),
    /// All names in one column: another sign parts them.
    Separator(char),
}

impl std::fmt::Display for Near {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Spaced(name) => write!(f, ": it has {name:?}"),
            Self::Separator(sign) => write!(f, ": its columns are parted by {sign:?}"),
        }
    }
}

/// A row with more columns than the first one has: what stands behind a comma is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongRow {
    /// Line on which the row begins, counted from 1.
    pub line: usize,
    /// Its key.
    pub key: String,
    /// Its columns.
    pub columns: usize,
    /// Columns of the first row.
    pub header: usize,
}

/// Rows whose value is cut by a comma, as the reference generator silently cuts it.
pub fn long_rows(text: &str) -> Vec<LongRow> {
    let text = plain_ends(text);
    let mut records = Records::new(&text).filter_map(Result::ok);
    let Some((_, first)) = records.next() else { return Vec::new() };
    let Ok([key, ..]) = columns(&first) else { return Vec::new() };
    let header = first.len();
    // A comma at a row's end parts nothing from nothing.
    let used =
        |record: &[Cow<str>]| record.iter().rposition(|field| !field.trim().is_empty()).map_or(0, |last| last + 1);
    let long = |(line, record): (usize, Vec<Cow<str>>)| {
        let columns = used(&record);
        let key = record.get(key).map(|key| key.clone().into_owned()).unwrap_or_default();
        (columns > header).then_some(LongRow { line, key, columns, header })
    };
    records.filter_map(long).collect()
}

/// Line on which a quoted value begins that the text does not end.
pub fn open_quote(text: &str) -> Option<usize> {
    let text = plain_ends(text);
    let mut records = Records::new(&text);
    while records.next().is_some() {}
    records.open
}

/// Lines and keys of the entries before the first namespace, which nothing can read.
pub fn rows_before_a_namespace(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut named) = (Vec::new(), false);
    // What cannot be read is reported by who reads it.
    let _ = each_row(text, |row| {
        named |= row.kind.as_deref() == Some("namespace");
        if !named {
            found.push((row.line, row.key.as_deref().unwrap_or_default().to_owned()));
        }
        Ok::<(), CsvError>(())
    });
    found
}

/// The text without the mark that spreadsheets put before it, and with line feeds alone.
fn plain_ends(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
}

/// The text is not a table of rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// The first row does not name this column.
    #[error("the first row has no column {0:?}{1}")]
    Column(&'static str, Near),
    /// A field is too long.
    #[error("line {0}: a field is longer than 131072 characters")]
    FieldLimit(usize),
}

/// Reads the rows, one after the other. Lines that begin with `#` are left out, also within quotes.
pub fn each_row<E: From<CsvError>>(text: &str, mut take: impl FnMut(&Row) -> Result<(), E>) -> Result<(), E> {
    let text = plain_ends(text);
    let mut records = Records::new(&text);
    let Some(header) = records.next() else { return Ok(()) };
    // A file without rows may lack columns.
    let columns = columns(&header?.1);
    for record in records {
        let (line, mut record) = record?;
        if record.is_empty() {
            continue;
        }
        let [key, kind, encoding, value] = columns.clone()?.map(|at| record.get_mut(at).map(std::mem::take));
        take(&Row { line, key, kind, encoding, value })?;
    }
    Ok(())
}

/// Where the header has the columns key, type, encoding and value. Of several columns of one name the last one counts,
/// even when a row does not reach it.
fn columns(header: &[Cow<str>]) -> Result<[usize; 4], CsvError> {
    let column = |name: &'static str| {
        let found = header.iter().rposition(|known| *known == name);
        found.ok_or_else(|| CsvError::Column(name, near(header, name)))
    };
    Ok([column("key")?, column("type")?, column("encoding")?, column("value")?])
}

fn near(header: &[Cow<str>], name: &str) -> Near {
    let same = |known: &&Cow<str>| known.trim_matches(|c: char| !c.is_ascii_alphanumeric()).eq_ignore_ascii_case(name);
    if let Some(spaced) = header.iter().find(same) {
        return Near::Spaced(spaced.clone().into_owned());
    }
    let [only] = header else { return Near::Nothing };
    [';', '\t', '|'].into_iter().find(|sign| only.contains(*sign)).map_or(Near::Nothing, Near::Separator)
}

/// Where the reader is within a record.
enum State {
    StartRecord,
    StartField,
    InField,
    InQuotes,
    QuoteInQuotes,
}

struct Reader {
    state: State,
    field: String,
    length: usize,
    record: Vec<Cow<'static, str>>,
}

impl Reader {
    fn add(&mut self, c: char, line: usize) -> Result<(), CsvError> {
        if self.length >= FIELD_LIMIT {
            return Err(CsvError::FieldLimit(line));
        }
        self.field.push(c);
        self.length += 1;
        Ok(())
    }

    fn save(&mut self, next: State) {
        self.record.push(std::mem::take(&mut self.field).into());
        self.length = 0;
        self.state = next;
    }

    /// Takes one character; `None` is the end of a line's text.
    fn take(&mut self, c: Option<char>, line: usize) -> Result<(), CsvError> {
        match (&self.state, c) {
            (State::StartRecord, None | Some('\n')) => {}
            (State::StartRecord | State::StartField, Some('"')) => self.state = State::InQuotes,
            (State::StartRecord | State::StartField | State::InField | State::QuoteInQuotes, Some(',')) => {
                self.save(State::StartField);
            }
            (State::StartField | State::InField | State::QuoteInQuotes, None | Some('\n')) => {
                self.save(State::StartRecord);
            }
            (State::InQuotes, None) => {}
            (State::InQuotes, Some('"')) => self.state = State::QuoteInQuotes,
            (State::QuoteInQuotes, Some('"')) => {
                self.add('"', line)?;
                self.state = State::InQuotes;
            }
            (State::InQuotes, Some(c)) => self.add(c, line)?,
            (_, Some(c)) => {
                self.add(c, line)?;
                self.state = State::InField;
            }
        }
        Ok(())
    }
}

/// The record of a whole line without quotes, which needs no state.
fn plain(line: &str) -> Option<Vec<Cow<'_, str>>> {
    let text = line.strip_suffix('\n').unwrap_or(line);
    // Fields are short: a look at each character takes less time than a search for one.
    let fields = || text.split([',']).map(Cow::from).collect();
    (!line.contains('"') && line.len() <= FIELD_LIMIT).then(|| if text.is_empty() { Vec::new() } else { fields() })
}

/// Records with the line on which each begins; empty lines are empty records.
struct Records<'a> {
    lines: std::iter::Enumerate<std::str::SplitInclusive<'a, char>>,
    reader: Reader,
    begin: usize,
    /// Where a quote began that was not closed.
    open: Option<usize>,
}

impl<'a> Records<'a> {
    /// Lines of `text` end in a line feed.
    fn new(text: &'a str) -> Self {
        let reader = Reader { state: State::StartRecord, field: String::new(), length: 0, record: Vec::new() };
        Self { lines: text.split_inclusive('\n').enumerate(), reader, begin: 1, open: None }
    }

    fn line(&mut self, line: &str, number: usize) -> Result<(), CsvError> {
        for c in line.chars() {
            self.reader.take(Some(c), number)?;
        }
        // The line's own end closed the record already, except within quotes and on a last line without one.
        self.reader.take(None, number)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(usize, Vec<Cow<'a, str>>), CsvError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((index, line)) = self.lines.next() {
            if line.starts_with('#') {
                continue;
            }
            if matches!(self.reader.state, State::StartRecord) {
                self.begin = index + 1;
                if let Some(record) = plain(line) {
                    return Some(Ok((self.begin, record)));
                }
            }
            if let Err(error) = self.line(line, index + 1) {
                return Some(Err(error));
            }
            if matches!(self.reader.state, State::StartRecord) {
                return Some(Ok((self.begin, std::mem::take(&mut self.reader.record))));
            }
        }
        matches!(self.reader.state, State::InQuotes).then(|| {
            self.reader.save(State::StartRecord);
            self.open = Some(self.begin);
            Ok((self.begin, std::mem::take(&mut self.reader.record)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<String>, CsvError> {
        let mut keys = Vec::new();
        each_row(text, |row| {
            keys.push(row.key.as_deref().unwrap_or_default().to_owned());
            Ok::<(), CsvError>(())
        })?;
        Ok(keys)
    }

    #[test]
    fn the_mark_of_spreadsheets_is_passed_over() {
        assert_eq!(keys("\u{feff}key,type,encoding,value\r\nwifi,namespace,,\r\n").unwrap(), ["wifi"]);
    }

    #[test]
    fn a_header_that_is_nearly_right_is_named() {
        let near = |text: &str| keys(&format!("{text}\na,data,u8,1\n")).unwrap_err();
        assert_eq!(near("key, type, encoding, value"), CsvError::Column("type", Near::Spaced(" type".into())));
        assert_eq!(near("Key,type,encoding,value"), CsvError::Column("key", Near::Spaced("Key".into())));
        assert_eq!(near("key;type;encoding;value"), CsvError::Column("key", Near::Separator(';')));
        assert_eq!(near("a,b,c,d"), CsvError::Column("key", Near::Nothing));
    }

    #[test]
    fn quotes_that_stay_open_and_rows_without_a_namespace_are_found() {
        let head = "key,type,encoding,value\n";
        assert_eq!(open_quote(&format!("{head}w,namespace,,\nk,data,string,\"open\nx,data,u8,1\n")), Some(3));
        assert_eq!(open_quote(&format!("{head}w,namespace,,\nk,data,string,\"two\nlines\"\n")), None);
        let early = rows_before_a_namespace(&format!("{head}# note\nssid,data,string,x\nw,namespace,,\nk,data,u8,1\n"));
        assert_eq!(early, [(3, "ssid".to_owned())]);
        assert!(rows_before_a_namespace("nonsense").is_empty());
    }

    #[test]
    fn a_value_that_a_comma_cuts_is_found_and_a_quoted_one_is_not() {
        let text = "key,type,encoding,value\nwifi,namespace,,\nssid,data,string,Home, sweet home\n\
                    name,data,string,\"a, b\"\nlast,data,u8,1,,\n";
        let found = long_rows(text);
        assert_eq!(found, [LongRow { line: 3, key: "ssid".into(), columns: 5, header: 4 }]);
    }
}
