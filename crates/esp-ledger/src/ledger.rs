//! An open ledger.

use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::LedgerError;
use crate::db::{Store, Tx, Work};
use crate::migrate::migrate;
use crate::sqlite::Sqlite;

/// How often an operation is repeated when others were faster or the connection broke.
const ATTEMPTS: u32 = 40;

/// A ledger, as one station sees it.
pub struct Ledger {
    pub(crate) store: Box<dyn Store>,
    pub(crate) station: String,
    /// Where the marks of issued values are, outside of the file.
    pub(crate) marks: Option<std::path::PathBuf>,
}

impl Ledger {
    /// Opens `postgres://…`, `sqlite:PATH` or a path for the named station, and brings the schema up to date.
    ///
    /// `computer` is something that a copy of the file to another computer would not have (a machine id). A SQLite
    /// ledger is bound to the first one that opens it; PostgreSQL ignores it.
    pub fn open(url: &str, station: &str, computer: &str) -> Result<Self, LedgerError> {
        let central = crate::url::is_server(url);
        let store: Box<dyn Store> = if central {
            open_central(url)?
        } else {
            Box::new(Sqlite::open(Path::new(url.strip_prefix("sqlite:").unwrap_or(url)))?)
        };
        let mut ledger = Self { store, station: station.into(), marks: None };
        migrate(ledger.store.as_mut())?;
        if !central {
            ledger.bind(computer)?;
        }
        Ok(ledger)
    }

    /// The station's name.
    pub fn station(&self) -> &str {
        &self.station
    }

    /// Refuses a file that another computer uses: both would issue the same values.
    fn bind(&mut self, computer: &str) -> Result<(), LedgerError> {
        let (station, computer) = (self.station.clone(), computer.to_owned());
        self.tx(|tx| {
            let owner = tx.rows("SELECT value FROM meta WHERE key = 'computer'", &[])?;
            match owner.first().map(|row| row.text(0)) {
                Some(owner) if owner == computer => Ok(()),
                Some(_) => {
                    let owner = tx.rows("SELECT value FROM meta WHERE key = 'station'", &[])?;
                    Err(LedgerError::Copied { owner: owner.first().map(|row| row.text(0)).unwrap_or_default() })
                }
                None => {
                    let sql = "INSERT INTO meta (key, value) VALUES ($1, $2)";
                    tx.run(sql, &["computer".into(), computer.as_str().into()])?;
                    tx.run(sql, &["station".into(), station.as_str().into()]).map(|_| ())
                }
            }
        })
    }

    /// Copies a SQLite ledger to a new file while it is in use. The copy does not issue values: see
    /// [`Ledger::void_gap`].
    pub fn backup(&mut self, path: &Path) -> Result<(), LedgerError> {
        self.store.backup(path)
    }

    /// Runs `work` in a transaction, again if another writer was faster.
    pub(crate) fn tx<R>(&mut self, work: impl FnMut(&mut dyn Tx) -> Result<R, LedgerError>) -> Result<R, LedgerError> {
        self.repeat(|store, work| store.transaction(work), work)
    }

    /// Runs `work`, each statement of which is right by itself, again if another writer was faster.
    pub(crate) fn steps<R>(
        &mut self,
        work: impl FnMut(&mut dyn Tx) -> Result<R, LedgerError>,
    ) -> Result<R, LedgerError> {
        self.repeat(|store, work| store.steps(work), work)
    }

    fn repeat<R>(
        &mut self,
        way: fn(&mut dyn Store, &mut Work<'_>) -> Result<(), LedgerError>,
        mut work: impl FnMut(&mut dyn Tx) -> Result<R, LedgerError>,
    ) -> Result<R, LedgerError> {
        let mut attempt = 0;
        loop {
            let mut result = None;
            let outcome = way(self.store.as_mut(), &mut |tx| {
                result = Some(work(tx)?);
                Ok(())
            });
            attempt += 1;
            match (outcome, result) {
                (Ok(()), Some(result)) => return Ok(result),
                (Err(error), _) if error.is_transient() && attempt < ATTEMPTS => {
                    thread::sleep(Duration::from_millis(u64::from(attempt * attempt).min(250)));
                }
                (Err(error), _) => return Err(error),
                (Ok(()), None) => return Err(LedgerError::Database("the transaction gave no result".into())),
            }
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(feature = "postgres")]
fn open_central(url: &str) -> Result<Box<dyn Store>, LedgerError> {
    Ok(Box::new(crate::postgres::Postgres::open(url)?))
}

#[cfg(not(feature = "postgres"))]
fn open_central(_: &str) -> Result<Box<dyn Store>, LedgerError> {
    Err(LedgerError::Unreachable("this program was built without PostgreSQL (feature `postgres`)".into()))
}
