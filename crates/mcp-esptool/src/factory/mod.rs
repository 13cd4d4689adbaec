//! Production: recipes made ready, units produced side by side, every step in the ledger.
//!
//! The way of one unit ([`mod@unit`]): connect, identify, reserve the identities, write down the intent, write what differs,
//! read back, verify, burn, test, record. After a crash anywhere the same call goes on where it was, because the ledger
//! knows what the unit's base MAC was promised and the flash itself says what is there already.

pub mod batch;
mod burn;
pub mod cli;
mod content;
pub mod desk;
mod encryption;
mod flash;
pub mod floor;
pub mod junit;
pub mod ports;
mod promise;
pub mod quality;
pub mod recipe;
mod record;
pub mod rehearsal;
pub mod report;
pub mod station;
pub mod steps;
pub mod unit;

pub use content::Scope;
