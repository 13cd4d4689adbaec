//! PostgreSQL: many stations, one ledger.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, GenericClient, Statement};

use crate::LedgerError;
use crate::db::{Note, Of, Row, Store, Tx, Value, Work};
use crate::ledger::now_ms;

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("schema/postgres_1.sql")),
    (2, include_str!("schema/both_2.sql")),
    (3, include_str!("schema/postgres_3.sql")),
    (4, include_str!("schema/postgres_4.sql")),
    (5, include_str!("schema/both_5.sql")),
    (6, include_str!("schema/postgres_6.sql")),
];

/// A connection that is made anew when it broke.
pub struct Postgres {
    url: String,
    client: Option<Client>,
    /// Statements that this connection has prepared: one round trip less each time, and so shorter locks.
    statements: HashMap<String, Statement>,
}

impl Postgres {
    /// Connects to `postgres://user@host/database` (or `host=… user=… dbname=…`).
    pub fn open(url: &str) -> Result<Self, LedgerError> {
        let mut opened = Self { url: url.into(), client: None, statements: HashMap::new() };
        opened.client().map_err(|error| match error {
            LedgerError::Lost(text) => LedgerError::Unreachable(text),
            other => other,
        })?;
        Ok(opened)
    }

    fn client(&mut self) -> Result<&mut Client, LedgerError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let lost = |error: postgres::Error| LedgerError::Lost(describe(&error));
            let mut client = crate::tls::connect(&self.url)?;
            client.batch_execute("SET synchronous_commit = on; SET lock_timeout = '10s'").map_err(lost)?;
            self.statements.clear();
            self.client = Some(client);
        }
        self.client.as_mut().ok_or_else(|| LedgerError::Lost("no connection".into()))
    }
}

impl Store for Postgres {
    fn transaction(&mut self, work: &mut Work<'_>) -> Result<(), LedgerError> {
        self.client()?;
        let Some(client) = &mut self.client else { return Err(LedgerError::Lost("no connection".into())) };
        let mut own = client.transaction().map_err(failed)?;
        work(&mut PostgresTx { own: &mut own, statements: &mut self.statements })?;
        own.commit().map_err(failed)
    }

    fn steps(&mut self, work: &mut Work<'_>) -> Result<(), LedgerError> {
        self.client()?;
        let Some(client) = &mut self.client else { return Err(LedgerError::Lost("no connection".into())) };
        work(&mut PostgresTx { own: client, statements: &mut self.statements })
    }

    fn migrations(&self) -> &'static [(i64, &'static str)] {
        MIGRATIONS
    }

    fn backup(&mut self, _: &Path) -> Result<(), LedgerError> {
        Err(LedgerError::File("a PostgreSQL ledger is backed up with pg_dump, or exported as JSON".into()))
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }
}

/// A connection, each statement for itself, or a transaction on it.
struct PostgresTx<'t, C> {
    own: &'t mut C,
    statements: &'t mut HashMap<String, Statement>,
}

impl<C: GenericClient> PostgresTx<'_, C> {
    fn prepared(&mut self, sql: &str) -> Result<Statement, LedgerError> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let made = self.own.prepare(sql).map_err(failed)?;
        self.statements.insert(sql.to_owned(), made.clone());
        Ok(made)
    }
}

fn borrowed(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl<C: GenericClient> Tx for PostgresTx<'_, C> {
    fn run(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, LedgerError> {
        let statement = self.prepared(sql)?;
        self.own.execute(&statement, &borrowed(parameters)).map_err(failed)
    }

    fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, LedgerError> {
        let statement = self.prepared(sql)?;
        let rows = self.own.query(&statement, &borrowed(parameters)).map_err(failed)?;
        rows.iter().map(|row| (0..row.len()).map(|i| column(row, i)).collect::<Result<Vec<_>, _>>().map(Row)).collect()
    }

    fn script(&mut self, sql: &str) -> Result<(), LedgerError> {
        self.own.batch_execute(sql).map_err(failed)
    }

    fn note(&mut self, note: &Note<'_>) -> Result<(), LedgerError> {
        let parameters =
            [note.station.into(), note.run.into(), note.kind.into(), note.body.to_string().into(), now_ms().into()];
        self.rows("SELECT note($1, $2, $3, $4, $5)", &parameters).map(|_| ())
    }

    fn change(&mut self, sql: &str, parameters: &[Value], note: &Note<'_>, of: Of) -> Result<Vec<Row>, LedgerError> {
        let [station, kind, body, at, run] = [1, 2, 3, 4, 5].map(|n| format!("${}", parameters.len() + n));
        let (run, body) = match of {
            Of::Run => (format!("coalesce(changed.id, {run})"), body),
            Of::Columns(columns) => {
                let more: Vec<String> = columns.iter().map(|(name, _)| format!("'{name}', changed.{name}")).collect();
                (run, format!("({body}::text::jsonb || jsonb_build_object({}))::text", more.join(", ")))
            }
        };
        let sql = format!(
            "WITH changed AS ({sql}) SELECT changed.*, note({station}, {run}, {kind}, {body}, {at}) FROM changed"
        );
        let mut all = parameters.to_vec();
        all.extend([
            note.station.into(),
            note.kind.into(),
            note.body.to_string().into(),
            now_ms().into(),
            note.run.into(),
        ]);
        self.rows(&sql, &all)
    }

    fn skip_locked(&self) -> &'static str {
        "FOR UPDATE SKIP LOCKED"
    }
}

fn column(row: &postgres::Row, i: usize) -> Result<Value, LedgerError> {
    let number = row.columns().get(i).is_some_and(|column| *column.type_() == Type::INT8);
    if number {
        return Ok(row.try_get::<_, Option<i64>>(i).map_err(failed)?.into());
    }
    Ok(row.try_get::<_, Option<String>>(i).map_err(failed)?.into())
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// What the server said, or what went wrong on the way to it, with its cause.
pub fn describe(error: &postgres::Error) -> String {
    let causes = || match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    error.as_db_error().map_or_else(causes, |db| db.message().to_owned())
}

fn failed(error: postgres::Error) -> LedgerError {
    let text = describe(&error);
    let Some(code) = error.code() else { return LedgerError::Lost(text) };
    let busy = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    let lost = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];
    if busy.contains(code) {
        LedgerError::Busy(text)
    } else if lost.contains(code) {
        LedgerError::Lost(text)
    } else {
        LedgerError::Database(text)
    }
}
