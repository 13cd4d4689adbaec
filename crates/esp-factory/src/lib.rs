//! Production: recipes made ready, units produced side by side, every step in the ledger.
//!
//! The way of one unit ([`mod@unit`]): connect, identify, reserve the identities, write down the intent, write what differs,
//! read back, verify, burn, test, record. After a crash anywhere the same call goes on where it was, because the ledger
//! knows what the unit's base MAC was promised and the flash itself says what is there already.

pub mod batch;
mod burn;
mod content;
pub mod desk;
mod encryption;
mod flash;
pub mod floor;
pub mod junit;
mod mes;
pub mod new_recipe;
pub mod openhtf;
pub mod outbox;
pub mod ports;
pub mod prepared;
mod promise;
pub mod quality;
pub mod recipe;
mod record;
pub mod rehearsal;
pub mod report;
pub mod steps;
#[cfg(test)]
#[path = "../../esp-model/src/testing.rs"]
mod testing;
pub mod unit;

use std::sync::Arc;

use esp_ops::Call;
use esp_ops::files::pinned::Pins;

pub use content::Scope;
pub use desk::Desk;
pub use floor::Floor;

/// What a station works with; cheap to clone.
#[derive(Clone)]
pub struct Station {
    /// Devices, files, and what may be done.
    pub call: Call,
    /// The station's ledger.
    pub desk: Arc<Desk>,
    /// What goes on just now.
    pub floor: Arc<Floor>,
}

impl Station {
    /// The same, with files whose bytes are settled already.
    fn with_pins(&self, pins: Arc<Pins>) -> Self {
        Self { call: self.call.with_pins(pins), ..self.clone() }
    }
}
