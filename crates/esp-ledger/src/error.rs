//! What can go wrong.

/// A ledger operation failed; nothing of it was kept unless the error says so.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database cannot be opened or reached.
    #[error("the ledger's database cannot be reached: {0}")]
    Unreachable(String),
    /// A statement failed.
    #[error("the ledger's database refused: {0}")]
    Database(String),
    /// Another writer was faster; the operation was repeated and did not get through.
    #[error("other writers keep the ledger busy: {0}")]
    Busy(String),
    /// The connection broke; the operation may or may not have been kept. It can be repeated.
    #[error("the connection to the ledger broke: {0}")]
    Lost(String),
    /// A base MAC that cannot be a device's own.
    #[error("{0} cannot be a unit's base MAC address")]
    BadMac(String),
    /// The same base MAC was seen with another flash chip: two boards, or a repaired one.
    #[error("unit {mac} is quarantined: {reason}")]
    Quarantined {
        /// The unit.
        mac: String,
        /// Why.
        reason: String,
    },
    /// All values of the pool are used.
    #[error("pool {0} has no free value")]
    Exhausted(String),
    /// There is no such pool, identity, run or lease.
    #[error("the ledger knows no {0}")]
    Unknown(String),
    /// A step that the states do not allow.
    #[error("identity {value} is {from}: it cannot become {to}")]
    Step {
        /// The identity.
        value: String,
        /// Its state.
        from: String,
        /// The state asked for.
        to: String,
    },
    /// The identity belongs to another unit.
    #[error("identity {value} belongs to unit {owner}")]
    OtherUnit {
        /// The identity.
        value: String,
        /// Whose it is.
        owner: String,
    },
    /// The value is in a pool already: it may have been issued.
    #[error("{0} is in the ledger already")]
    Taken(String),
    /// The unit has a live identity of this kind from another pool.
    #[error("the unit has {value} from pool {pool} already")]
    OtherPool {
        /// What it has.
        value: String,
        /// Where that is from.
        pool: String,
    },
    /// The file was copied from another station: both would issue the same values.
    #[error("this ledger belongs to station {owner} on another computer")]
    Copied {
        /// The station that it belongs to.
        owner: String,
    },
    /// Another copy of the file may have issued the values that this one would issue.
    #[error("this ledger does not issue values: {0}")]
    IsCopy(String),
    /// A block of values that was lent to another station.
    #[error("lease {lease} was lent to station {lent_to}; this station is {station}")]
    LeaseOfAnotherStation {
        /// The lease.
        lease: i64,
        /// Who has it.
        lent_to: String,
        /// Who tried to take it.
        station: String,
    },
    /// The database was written by a newer version.
    #[error("the ledger has schema version {found}, this program knows up to {known}")]
    Newer {
        /// Its version.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// A file cannot be written.
    #[error("{0}")]
    File(String),
}

impl LedgerError {
    /// Repeating the operation is right: all of them are made so that a repetition does nothing twice.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Lost(_))
    }
}
