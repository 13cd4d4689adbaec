//! SQLite: one file, one station.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, ToSql, TransactionBehavior};

use crate::LedgerError;
use crate::db::{Note, Of, Row, Store, Tx, Value, Work};
use crate::record::{chain, note_of};

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("schema/sqlite_1.sql")),
    (2, include_str!("schema/both_2.sql")),
    // The third step is PostgreSQL's own.
    (4, include_str!("schema/sqlite_4.sql")),
    (5, include_str!("schema/both_5.sql")),
];

/// An open database file.
pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let unreachable = |error: rusqlite::Error| LedgerError::Unreachable(format!("{}: {error}", path.display()));
        let connection = Connection::open(path).map_err(unreachable)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(unreachable)?;
        // FULL: a commit survives power loss. NORMAL could lose the last ones.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA recursive_triggers = ON;",
            )
            .map_err(unreachable)?;
        Ok(Self { connection })
    }
}

impl Store for Sqlite {
    fn transaction(&mut self, work: &mut Work<'_>) -> Result<(), LedgerError> {
        // IMMEDIATE: a reader that becomes a writer would fail in mid-way.
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        work(&mut SqliteTx(&tx))?;
        tx.commit().map_err(failed)
    }

    fn steps(&mut self, work: &mut Work<'_>) -> Result<(), LedgerError> {
        self.transaction(work)
    }

    fn migrations(&self) -> &'static [(i64, &'static str)] {
        MIGRATIONS
    }

    fn backup(&mut self, path: &Path) -> Result<(), LedgerError> {
        if path.exists() {
            return Err(LedgerError::File(format!("{} is there already", path.display())));
        }
        self.connection.backup("main", path, None::<fn(rusqlite::backup::Progress)>).map_err(failed)?;
        // It says of itself what it is: both would issue the same values.
        let copy = Connection::open(path).map_err(failed)?;
        let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES ('copy', 'backup')";
        copy.execute(sql, []).map_err(failed).map(drop)
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }
}

struct SqliteTx<'t>(&'t Connection);

impl Tx for SqliteTx<'_> {
    fn run(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, LedgerError> {
        let mut statement = self.0.prepare_cached(sql).map_err(failed)?;
        let changed = statement.execute(rusqlite::params_from_iter(parameters)).map_err(failed)?;
        Ok(changed as u64)
    }

    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, LedgerError> {
        let mut statement = self.0.prepare_cached(sql).map_err(failed)?;
        let columns = statement.column_count();
        let read = |row: &rusqlite::Row<'_>| {
            let value = |i: usize| {
                Ok(match row.get_ref(i)? {
                    ValueRef::Integer(value) => Value::Int(value),
                    ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                    _ => Value::Null,
                })
            };
            (0..columns).map(value).collect::<Result<Vec<_>, _>>().map(Row)
        };
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), read).map_err(failed)?;
        rows.collect::<Result<Vec<_>, _>>().map_err(failed)
    }

    fn script(&mut self, sql: &str) -> Result<(), LedgerError> {
        self.0.execute_batch(sql).map_err(failed)
    }

    fn note(&mut self, note: &Note<'_>) -> Result<(), LedgerError> {
        chain(self, note)
    }

    fn change(&mut self, sql: &str, parameters: &[Value], note: &Note<'_>, of: Of) -> Result<Vec<Row>, LedgerError> {
        let rows = self.rows(sql, parameters)?;
        for row in &rows {
            self.note(&note_of(note, of, row))?;
        }
        Ok(rows)
    }

    fn skip_locked(&self) -> &'static str {
        // The whole file is locked already.
        ""
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => rusqlite::types::Null.into(),
            Self::Int(value) => (*value).into(),
            Self::Text(text) => text.as_str().into(),
        })
    }
}

fn failed(error: rusqlite::Error) -> LedgerError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy(text),
        Some(ErrorCode::ConstraintViolation) if text.contains("UNIQUE") => LedgerError::Busy(text),
        _ => LedgerError::Database(text),
    }
}
