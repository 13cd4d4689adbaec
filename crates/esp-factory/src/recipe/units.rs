//! The CSV file with a row for each unit.

use std::collections::BTreeMap;

/// Rows by column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The header.
    pub columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Text that is no CSV with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitsError {
    /// There is no header.
    #[error("the file has no header line")]
    Empty,
    /// A column stands twice in the header, or has no name.
    #[error("column {0:?} is empty or stands twice")]
    Column(String),
    /// A row is longer or shorter than the header.
    #[error("line {line} has {found} fields, the header {wanted}")]
    Width {
        /// Row, counted from 1 with the header.
        line: usize,
        /// Its fields.
        found: usize,
        /// Those of the header.
        wanted: usize,
    },
    /// A quote that does not end.
    #[error("a quote does not end")]
    Quote,
}

impl Rows {
    /// Reads RFC 4180 text.
    pub fn parse(text: &str) -> Result<Self, UnitsError> {
        let mut records = records(text.trim_start_matches('\u{feff}'))?.into_iter();
        let columns: Vec<String> = records.next().ok_or(UnitsError::Empty)?;
        let columns: Vec<String> = columns.into_iter().map(|column| column.trim().to_owned()).collect();
        for (at, column) in columns.iter().enumerate() {
            if column.is_empty() || columns.iter().take(at).any(|other| other == column) {
                return Err(UnitsError::Column(column.clone()));
            }
        }
        let rows: Vec<Vec<String>> = records.filter(|row| row.iter().any(|field| !field.trim().is_empty())).collect();
        for (at, row) in rows.iter().enumerate() {
            if row.len() != columns.len() {
                return Err(UnitsError::Width { line: at + 2, found: row.len(), wanted: columns.len() });
            }
        }
        Ok(Self { columns, rows })
    }

    /// The number of units.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, each by column.
    pub fn all(&self) -> impl Iterator<Item = BTreeMap<String, String>> {
        self.rows.iter().map(|row| self.columns.iter().cloned().zip(row.iter().cloned()).collect())
    }

    /// The first row's field in a column.
    pub fn first(&self, column: &str) -> Option<String> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.rows.first()?.get(at).cloned()
    }

    /// The row in which `column` says `value`; separators and case do not count in addresses. `None`: none or two.
    pub fn find(&self, column: &str, value: &str) -> Option<BTreeMap<String, String>> {
        let at = self.columns.iter().position(|name| name == column)?;
        let wanted = plain(value);
        let mut found = self.rows.iter().filter(|row| row.get(at).is_some_and(|field| plain(field) == wanted));
        let row = found.next()?;
        if found.next().is_some() {
            return None;
        }
        Some(self.columns.iter().cloned().zip(row.iter().cloned()).collect())
    }
}

fn plain(text: &str) -> String {
    let text = text.trim();
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect::<String>().to_ascii_lowercase();
    let is_address = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_address { digits } else { text.to_owned() }
}

fn records(text: &str) -> Result<Vec<Vec<String>>, UnitsError> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted && letters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            letter => field.push(letter),
        }
    }
    if quoted {
        return Err(UnitsError::Quote);
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        records.push(record);
    }
    Ok(records)
}
