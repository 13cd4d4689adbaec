//! The CSV form of NVS data, as Python's `csv.DictReader` reads it for the reference generator.

use std::borrow::Cow;

/// Longest field in characters (Python's default limit).
const FIELD_LIMIT: usize = 131_072;

/// A row. A field is `None` when the row is too short to have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// Line on which the row begins, counted from 1.
    pub line: usize,
    /// Column `key`.
    pub key: Option<String>,
    /// Column `type`: `namespace`, `file`; anything else counts as `data`.
    pub kind: Option<String>,
    /// Column `encoding`.
    pub encoding: Option<String>,
    /// Column `value`.
    pub value: Option<String>,
}

impl Row {
    /// A row made in memory.
    pub fn new(key: &str, kind: &str, encoding: &str, value: &str) -> Self {
        let field = |text: &str| Some(text.to_owned());
        Self { line: 0, key: field(key), kind: field(kind), encoding: field(encoding), value: field(value) }
    }
}

/// The text is not a table of rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// The first row does not name this column.
    #[error("the first row has no column {0:?}")]
    Column(&'static str),
    /// A field is too long.
    #[error("line {0}: a field is longer than 131072 characters")]
    FieldLimit(usize),
}

/// Reads the rows. Lines that begin with `#` are left out, also within quotes.
pub fn rows(text: &str) -> Result<Vec<Row>, CsvError> {
    let mut records = records(text)?.into_iter();
    let Some((_, header)) = records.next() else { return Ok(Vec::new()) };
    // A file without rows may lack columns.
    let columns = columns(&header);
    let mut out = Vec::new();
    for (line, mut record) in records.filter(|(_, record)| !record.is_empty()) {
        let [key, kind, encoding, value] = columns.clone()?.map(|at| record.get_mut(at).map(std::mem::take));
        out.push(Row { line, key, kind, encoding, value });
    }
    Ok(out)
}

/// Where the header has the columns key, type, encoding and value. Of several columns of one name the last one counts,
/// even when a row does not reach it.
fn columns(header: &[String]) -> Result<[usize; 4], CsvError> {
    let column = |name: &'static str| header.iter().rposition(|known| known == name).ok_or(CsvError::Column(name));
    Ok([column("key")?, column("type")?, column("encoding")?, column("value")?])
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
    record: Vec<String>,
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
        self.record.push(std::mem::take(&mut self.field));
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
fn plain(line: &str) -> Option<Vec<String>> {
    let text = line.strip_suffix('\n').unwrap_or(line);
    let fields = || text.split(',').map(str::to_owned).collect();
    (!line.contains('"') && line.len() <= FIELD_LIMIT).then(|| if text.is_empty() { Vec::new() } else { fields() })
}

/// Records with the line on which each begins; empty lines are empty records.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, CsvError> {
    let text: Cow<str> =
        if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() };
    let mut out = Vec::new();
    let mut reader = Reader { state: State::StartRecord, field: String::new(), length: 0, record: Vec::new() };
    let mut begin = 1;
    for (index, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.starts_with('#')) {
        if matches!(reader.state, State::StartRecord) {
            begin = index + 1;
            if let Some(record) = plain(line) {
                out.push((begin, record));
                continue;
            }
        }
        for c in line.chars() {
            reader.take(Some(c), index + 1)?;
        }
        // The line's own end closed the record already, except within quotes and on a last line without one.
        reader.take(None, index + 1)?;
        if matches!(reader.state, State::StartRecord) {
            out.push((begin, std::mem::take(&mut reader.record)));
        }
    }
    if matches!(reader.state, State::InQuotes) {
        reader.save(State::StartRecord);
        out.push((begin, reader.record));
    }
    Ok(out)
}
