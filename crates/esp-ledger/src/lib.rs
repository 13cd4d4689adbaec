//! Remembers what happened to each produced unit: identities, runs, events, artefacts.
//!
//! The promises are kept by the database itself (`schema/*.sql`), not by this code: a value belongs to one unit for
//! ever, a unit has one live identity of a pool, states only go forward, events form a hash chain and never change.
//! The same statements run on SQLite (one station, one file) and PostgreSQL (many stations): see [`db::Store`].

mod audit;
pub mod db;
mod error;
mod identity;
mod lease;
mod ledger;
mod mark;
mod migrate;
mod outbox;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod record;
mod sqlite;
#[cfg(feature = "postgres")]
mod tls;
#[cfg_attr(not(feature = "postgres"), allow(dead_code))]
mod url;
mod watch;

pub use audit::Problem;
pub use error::LedgerError;
pub use identity::{Identity, State, Unit, Values};
pub use lease::Lease;
pub use ledger::Ledger;
pub use query::{Device, Pool, Run, StationRuns};
pub use record::{Event, Measurement, Outcome, Verdict};
pub use url::{is_server, without_password};
pub use watch::Changes;
