//! Blocks of values lent to stations that work offline. No value is in two blocks.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::db::Note;
use crate::identity::{COLUMNS, Identity, State, Unit, identity, register};
use crate::ledger::now_ms;
use crate::{Ledger, LedgerError};

/// A block of values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number at the centre.
    pub id: i64,
    /// The pool it is of.
    pub pool: String,
    /// What the values are.
    pub kind: String,
    /// Who has it.
    pub station: String,
    /// When the centre may take it back, in milliseconds since 1970.
    pub expires_ms: i64,
    /// The values, in order.
    pub values: Vec<String>,
}

impl Ledger {
    /// At the centre: lends the next `count` free values to a station for `hours`.
    pub fn lend(&mut self, pool: &str, station: &str, count: i64, hours: i64) -> Result<Lease, LedgerError> {
        let (own, held) = (self.station.clone(), self.may_issue()?);
        let expires_ms = now_ms().saturating_add(hours.saturating_mul(3_600_000));
        let (lease, last) = self.tx(|tx| {
            let kind = tx.rows("SELECT kind FROM pool WHERE name = $1", &[pool.into()])?;
            let kind =
                kind.first().map(|row| row.text(0)).ok_or_else(|| LedgerError::Unknown(format!("pool {pool}")))?;
            let rows = tx.rows(
                "INSERT INTO lease (pool, station, granted_ms, expires_ms) VALUES ($1, $2, $3, $4) RETURNING id",
                &[pool.into(), station.into(), now_ms().into(), expires_ms.into()],
            )?;
            let id = rows.first().map_or(0, |row| row.int(0));
            let lock = tx.skip_locked();
            let changed = tx.run(
                &format!(
                    "UPDATE identity SET lease = $1 WHERE id IN (SELECT id FROM identity WHERE pool = $2 \
                     AND state = 'FREE' AND lease IS NULL ORDER BY position LIMIT $3 {lock})"
                ),
                &[id.into(), pool.into(), count.into()],
            )?;
            if i64::try_from(changed) != Ok(count) {
                return Err(LedgerError::Exhausted(pool.into()));
            }
            let rows =
                tx.rows("SELECT value, position FROM identity WHERE lease = $1 ORDER BY position", &[id.into()])?;
            let [first, last] = [rows.first(), rows.last()].map(|row| row.map_or(0, |row| row.int(1)));
            if let Some(held) = &held {
                held.about_to(pool, first, last)?;
            }
            let values = rows.iter().map(|row| row.text(0)).collect();
            tx.note(&Note {
                station: &own,
                run: None,
                kind: "lent",
                body: json!({"lease": id, "to": station, "count": count}),
            })?;
            let (pool, station) = (pool.into(), station.into());
            Ok((Lease { id, pool, kind: kind.clone(), station, expires_ms, values }, last))
        })?;
        self.issued(held, pool, last)?;
        Ok(lease)
    }

    /// At the station: takes a block into its own ledger, where it is a pool like any other.
    pub fn borrow(&mut self, lease: &Lease) -> Result<u64, LedgerError> {
        if lease.station != self.station {
            let (lent_to, station) = (lease.station.clone(), self.station.clone());
            return Err(LedgerError::LeaseOfAnotherStation { lease: lease.id, lent_to, station });
        }
        let key = format!("lease {}", lease.id);
        let taken =
            self.tx(|tx| Ok(!tx.rows("SELECT value FROM meta WHERE key = $1", &[key.as_str().into()])?.is_empty()))?;
        if taken {
            return Ok(0);
        }
        let added = self.add_pool(&lease.pool, &lease.kind, &crate::Values::List(lease.values.clone()))?;
        self.tx(|tx| {
            let sql = "INSERT INTO meta (key, value) VALUES ($1, 'borrowed') ON CONFLICT (key) DO NOTHING";
            tx.run(sql, &[key.as_str().into()])
        })?;
        Ok(added)
    }

    /// At the station: what became of the pool's values, to be carried to the centre.
    pub fn report(&mut self, pool: &str) -> Result<Vec<Identity>, LedgerError> {
        let sql = format!("SELECT {COLUMNS} FROM identity WHERE pool = $1 AND state <> 'FREE' ORDER BY position");
        self.tx(|tx| tx.rows(&sql, &[pool.into()])?.iter().map(identity).collect())
    }

    /// At the centre: takes over what a station did with its block. May be repeated.
    pub fn merge(&mut self, lease: i64, report: &[Identity]) -> Result<u64, LedgerError> {
        let own = self.station.clone();
        self.tx(|tx| {
            let mut changed = 0;
            for theirs in report {
                let rows = tx.rows(
                    &format!("SELECT {COLUMNS} FROM identity WHERE kind = $1 AND value = $2 AND lease = $3"),
                    &[theirs.kind.as_str().into(), theirs.value.as_str().into(), lease.into()],
                )?;
                let ours = rows.first().map(identity).transpose()?;
                let ours = ours.ok_or_else(|| LedgerError::Unknown(format!("{} in lease {lease}", theirs.value)))?;
                if let Some(mac) = &theirs.unit {
                    register(tx, &Unit::new(mac))?;
                }
                changed += follow(tx, &ours, theirs)?;
            }
            tx.note(&Note {
                station: &own,
                run: None,
                kind: "merged",
                body: json!({"lease": lease, "steps": changed}),
            })?;
            Ok(changed)
        })
    }

    /// At the centre: ends a block. Given back, its free values may be used by others; lost, they are VOID, because
    /// nobody knows what the station did with them.
    pub fn end_lease(&mut self, lease: i64, lost: bool) -> Result<u64, LedgerError> {
        let own = self.station.clone();
        let state = if lost { "LOST" } else { "RETURNED" };
        self.tx(|tx| {
            let sql = "UPDATE lease SET state = $1 WHERE id = $2 AND state = 'ACTIVE'";
            if tx.run(sql, &[state.into(), lease.into()])? == 0 {
                return Err(LedgerError::Unknown(format!("active lease {lease}")));
            }
            let mut voided = 0;
            if lost {
                voided = tx.run(
                    "UPDATE identity SET state = 'VOID', reason = 'lease lost', changed_ms = $1 \
                     WHERE lease = $2 AND state = 'FREE'",
                    &[now_ms().into(), lease.into()],
                )?;
            }
            tx.note(&Note {
                station: &own,
                run: None,
                kind: "lease_ended",
                body: json!({"lease": lease, "state": state, "void": voided}),
            })?;
            Ok(voided)
        })
    }
}

/// Walks an identity of the centre to the state that the station reported.
fn follow(tx: &mut dyn crate::db::Tx, ours: &Identity, theirs: &Identity) -> Result<u64, LedgerError> {
    if ours.unit.is_some() && ours.unit != theirs.unit {
        return Err(LedgerError::OtherUnit { value: ours.value.clone(), owner: ours.unit.clone().unwrap_or_default() });
    }
    let steps = [State::Reserved, State::Writing, State::Written, State::Verified, State::Labelled];
    let mut changed = 0;
    for step in
        steps.into_iter().filter(|step| *step > ours.state && *step <= theirs.state && theirs.state != State::Void)
    {
        changed += tx.run(
            "UPDATE identity SET state = $1, device = $2, changed_ms = $3 WHERE id = $4",
            &[step.to_string().into(), theirs.unit.as_deref().into(), now_ms().into(), ours.id.into()],
        )?;
    }
    if theirs.state == State::Void && ours.state != State::Void {
        changed += tx.run(
            "UPDATE identity SET state = 'VOID', device = coalesce(device, $1), reason = $2, changed_ms = $3 WHERE id = $4",
            &[
                theirs.unit.as_deref().into(),
                theirs.reason.as_deref().unwrap_or("void at the station").into(),
                now_ms().into(),
                ours.id.into(),
            ],
        )?;
    }
    Ok(changed)
}
