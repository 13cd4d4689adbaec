//! The little that the ledger needs of a database.
//!
//! Statements are the same for both: parameters are `$1`, `$2` … in the order of their first use, columns are 64-bit
//! integers or text. What differs in dialect is behind [`Tx::skip_locked`].

use serde_json::Value as Json;

use crate::LedgerError;

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A number.
    Int(i64),
    /// Text.
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// A number; 0 for NULL or text.
    pub fn int(&self, column: usize) -> i64 {
        if let Some(Value::Int(value)) = self.0.get(column) { *value } else { 0 }
    }

    /// A number that may be missing.
    pub fn maybe_int(&self, column: usize) -> Option<i64> {
        if let Some(Value::Int(value)) = self.0.get(column) { Some(*value) } else { None }
    }

    /// Text; empty for NULL or a number.
    pub fn text(&self, column: usize) -> String {
        self.maybe_text(column).unwrap_or_default()
    }

    /// Text that may be missing.
    pub fn maybe_text(&self, column: usize) -> Option<String> {
        if let Some(Value::Text(value)) = self.0.get(column) { Some(value.clone()) } else { None }
    }
}

/// An event that is recorded with a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Note<'n> {
    /// Whose chain it goes into.
    pub station: &'n str,
    /// The run it belongs to.
    pub run: Option<i64>,
    /// What sort of event.
    pub kind: &'n str,
    /// Its content, an object.
    pub body: Json,
}

/// What an event takes from the row that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// These columns of the row go into the body: name and place.
    Columns(&'static [(&'static str, usize)]),
    /// The row's `id`, the first column, is the event's run.
    Run,
}

/// Statements at work: a transaction, or single ones.
pub trait Tx {
    /// Runs a statement; rows changed.
    fn run(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, LedgerError>;
    /// Runs a query.
    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, LedgerError>;
    /// Runs several statements without parameters.
    fn script(&mut self, sql: &str) -> Result<(), LedgerError>;
    /// Adds an event to its station's chain. Two processes of one station cannot take the same place: the slower one
    /// is [`LedgerError::Busy`], and begins again.
    fn note(&mut self, note: &Note<'_>) -> Result<(), LedgerError>;
    /// Runs a statement with `RETURNING` and records an event for each row: both are kept, or neither.
    fn change(&mut self, sql: &str, parameters: &[Value], note: &Note<'_>, of: Of) -> Result<Vec<Row>, LedgerError>;
    /// What makes a `SELECT` take rows that no other transaction is about to take.
    fn skip_locked(&self) -> &'static str;
}

/// Work on a database. It may be called again when another writer was faster.
pub type Work<'w> = dyn FnMut(&mut dyn Tx) -> Result<(), LedgerError> + 'w;

/// A database: SQLite or PostgreSQL.
pub trait Store: Send {
    /// Runs `work` in one transaction that is kept whole, durably, or not at all.
    fn transaction(&mut self, work: &mut Work<'_>) -> Result<(), LedgerError>;
    /// Runs `work`, each statement of which is right by itself. PostgreSQL keeps each at once, so that nothing is locked
    /// while a station thinks; a file, which has one writer only, takes them as one transaction.
    fn steps(&mut self, work: &mut Work<'_>) -> Result<(), LedgerError>;
    /// `(version, script)` of each step of the schema, in order.
    fn migrations(&self) -> &'static [(i64, &'static str)];
    /// Copies the whole database to a new file.
    fn backup(&mut self, path: &std::path::Path) -> Result<(), LedgerError>;
    /// `sqlite` or `postgres`.
    fn kind(&self) -> &'static str;
}
