//! Errors of the ledger.

use esp_ledger::LedgerError;

use super::{Code, ToolError};

impl From<LedgerError> for ToolError {
    fn from(error: LedgerError) -> Self {
        let code = match &error {
            LedgerError::Unreachable(_) | LedgerError::Lost(_) | LedgerError::File(_) => Code::LedgerUnreachable,
            LedgerError::Busy(_) => Code::LedgerBusy,
            LedgerError::Database(_) => Code::LedgerFailed,
            LedgerError::BadMac(_) | LedgerError::Quarantined { .. } => Code::UnitQuarantined,
            LedgerError::Exhausted(_) => Code::PoolExhausted,
            LedgerError::Unknown(_) => Code::LedgerUnknown,
            LedgerError::Step { .. } | LedgerError::Taken(_) => Code::LedgerRefused,
            LedgerError::OtherUnit { .. } | LedgerError::OtherPool { .. } => Code::IdentityConflict,
            LedgerError::Copied { .. } => Code::LedgerCopied,
            LedgerError::IsCopy(_) => Code::LedgerIsCopy,
            LedgerError::LeaseOfAnotherStation { .. } => Code::LeaseOfAnotherStation,
            LedgerError::Newer { .. } => Code::LedgerNewer,
        };
        Self::new(code, error.to_string())
    }
}
