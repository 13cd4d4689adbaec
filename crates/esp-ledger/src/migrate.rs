//! The schema and its versions.

use crate::LedgerError;
use crate::db::{Store, Value};

/// Brings the database to the newest schema. Several stations may do so at once.
pub fn migrate(store: &mut dyn Store) -> Result<i64, LedgerError> {
    let known = store.migrations();
    let newest = known.last().map_or(0, |(version, _)| *version);
    if is_newest(store, newest) {
        return Ok(newest);
    }
    let postgres = store.kind() == "postgres";
    store.transaction(&mut |tx| {
        if postgres {
            // One migrating station at a time; the lock goes with the transaction.
            tx.script("SELECT pg_advisory_xact_lock(727467)")?;
        }
        tx.script("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")?;
        let rows = tx.rows("SELECT value FROM meta WHERE key = 'schema_version'", &[])?;
        let found: i64 = rows.first().and_then(|row| row.text(0).parse().ok()).unwrap_or(0);
        if found > newest {
            return Err(LedgerError::Newer { found, known: newest });
        }
        for (version, script) in known.iter().filter(|(version, _)| *version > found) {
            tx.script(script)?;
            tx.run("DELETE FROM meta WHERE key = 'schema_version'", &[])?;
            let version: Value = version.to_string().into();
            tx.run("INSERT INTO meta (key, value) VALUES ('schema_version', $1)", &[version])?;
        }
        Ok(())
    })?;
    Ok(newest)
}

/// The usual case, without a lock that other stations would wait for. A database without the table is not up to date.
fn is_newest(store: &mut dyn Store, newest: i64) -> bool {
    let mut found = None;
    let looked = store.steps(&mut |tx| {
        let rows = tx.rows("SELECT value FROM meta WHERE key = 'schema_version'", &[])?;
        found = rows.first().and_then(|row| row.text(0).parse::<i64>().ok());
        Ok(())
    });
    looked.is_ok() && found == Some(newest)
}
