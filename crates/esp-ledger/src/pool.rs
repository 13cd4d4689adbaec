//! Pools in the hands of people: taking unused values out again, and giving a unit a value of their choice.

use serde_json::json;

use crate::db::{Note, Of};
use crate::identity::{COLUMNS, Identity, Unit, identity, live, refuse_second, register};
use crate::{Ledger, LedgerError};

impl Ledger {
    /// Removes the values of a pool that were never issued nor lent, and the pool when nothing is left of it. Returns how
    /// many values that were.
    pub fn remove_unused(&mut self, pool: &str) -> Result<u64, LedgerError> {
        let station = self.station.clone();
        self.tx(|tx| {
            if tx.rows("SELECT name FROM pool WHERE name = $1", &[pool.into()])?.is_empty() {
                return Err(LedgerError::Unknown(format!("pool {pool}")));
            }
            let sql = "DELETE FROM identity WHERE pool = $1 AND state = 'FREE' AND lease IS NULL";
            let removed = tx.run(sql, &[pool.into()])?;
            tx.run(
                "DELETE FROM pool WHERE name = $1 AND NOT EXISTS (SELECT 1 FROM identity WHERE pool = $1) \
                 AND NOT EXISTS (SELECT 1 FROM lease WHERE pool = $1)",
                &[pool.into()],
            )?;
            let body = json!({"pool": pool, "values": removed});
            tx.note(&Note { station: &station, run: None, kind: "unused_removed", body })?;
            Ok(removed)
        })
    }

    /// Gives a unit this very value: one that is free, or the unit's own already.
    pub fn claim(&mut self, kind: &str, value: &str, unit: &Unit) -> Result<Identity, LedgerError> {
        let (station, held) = (self.station.clone(), self.may_issue()?);
        let claimed = self.steps(|tx| {
            let sql = format!("SELECT {COLUMNS} FROM identity WHERE kind = $1 AND value = $2");
            let rows = tx.rows(&sql, &[kind.into(), value.into()])?;
            let found = rows.first().map(identity).transpose()?;
            let found = found.ok_or_else(|| LedgerError::Unknown(format!("{kind} {value}")))?;
            let mac = register(tx, unit)?;
            if found.unit.as_deref() == Some(mac.as_str()) {
                return Ok(found);
            }
            if let Some(owner) = found.unit {
                return Err(LedgerError::OtherUnit { value: found.value, owner });
            }
            if let Some(own) = live(tx, &found.pool, &mac)? {
                return Err(LedgerError::OtherPool { value: own.value, pool: own.pool });
            }
            refuse_second(tx, &found.pool, &mac)?;
            let body = json!({"pool": found.pool, "unit": mac});
            let rows = tx.change(
                &format!(
                    "UPDATE identity SET state = 'RESERVED', device = $1, changed_ms = $2 WHERE id = $3 AND state = 'FREE' \
                     AND (lease IS NULL OR lease IN (SELECT id FROM lease WHERE state = 'RETURNED')) RETURNING {COLUMNS}"
                ),
                &[mac.as_str().into(), crate::ledger::now_ms().into(), found.id.into()],
                &Note { station: &station, run: None, kind: "reserved", body },
                Of::Columns(&[("value", 3)]),
            )?;
            match rows.first() {
                Some(row) => identity(row),
                None => {
                    let from = found.state.to_string();
                    Err(LedgerError::Step { value: found.value, from, to: "RESERVED".into() })
                }
            }
        });
        if let Ok(identity) = &claimed {
            self.issued(held, &identity.pool, identity.position)?;
        }
        claimed
    }
}
