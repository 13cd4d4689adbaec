//! Pools of identities and their way from FREE to LABELLED or VOID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::db::{Note, Of, Row, Tx, Value};
use crate::ledger::now_ms;
use crate::{Ledger, LedgerError};

/// Where an identity stands. It only moves forward; VOID is the end from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Nobody has it.
    Free,
    /// A unit has it; nothing is written yet.
    Reserved,
    /// It is about to be written: the unit may carry it.
    Writing,
    /// The write was reported as done.
    Written,
    /// It was read back from the unit.
    Verified,
    /// Its label was printed.
    Labelled,
    /// It will never be used again.
    Void,
}

impl State {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Free, "FREE"),
        (Self::Reserved, "RESERVED"),
        (Self::Writing, "WRITING"),
        (Self::Written, "WRITTEN"),
        (Self::Verified, "VERIFIED"),
        (Self::Labelled, "LABELLED"),
        (Self::Void, "VOID"),
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(state, _)| state == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for State {
    type Err = LedgerError;
    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(state, _)| *state);
        found.ok_or_else(|| LedgerError::Unknown(format!("state {text}")))
    }
}

/// One value of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Row in this ledger.
    pub id: i64,
    /// Its pool.
    pub pool: String,
    /// What it is: `serial`, `mac` …; a value is unique within its kind.
    pub kind: String,
    /// The value itself.
    pub value: String,
    /// Place in the pool's order.
    pub position: i64,
    /// Where it stands.
    pub state: State,
    /// Base MAC of the unit that has it.
    pub unit: Option<String>,
    /// Labels printed.
    pub labels: i64,
    /// Why it is VOID.
    pub reason: Option<String>,
}

/// A device as it is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Base MAC address in any usual spelling.
    pub base_mac: String,
    /// Chip id, as in `esp32c6`.
    pub chip: Option<String>,
    /// Unique id of its flash chip, in hex.
    pub flash_uid: Option<String>,
}

impl Unit {
    /// A unit known by its base MAC only.
    pub fn new(base_mac: &str) -> Self {
        Self { base_mac: base_mac.into(), chip: None, flash_uid: None }
    }

    /// Twelve lower-case hex digits.
    pub fn key(&self) -> Result<String, LedgerError> {
        let plain: String = self.base_mac.chars().filter(|c| !matches!(c, ':' | '-' | '.' | ' ')).collect();
        let plain = plain.to_ascii_lowercase();
        let good = plain.len() == 12
            && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
            && plain != "000000000000"
            && plain != "ffffffffffff";
        if good { Ok(plain) } else { Err(LedgerError::BadMac(self.base_mac.clone())) }
    }
}

/// Values for a pool, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// `prefix` and a number of at least `width` digits.
    Serial {
        /// What stands before the number.
        prefix: String,
        /// The first number.
        first: u64,
        /// Digits, filled with zeros.
        width: usize,
        /// How many.
        count: u64,
    },
    /// MAC addresses, each `step` above the one before (ESP chips derive up to four from one base).
    Mac {
        /// The first.
        first: [u8; 6],
        /// Distance.
        step: u64,
        /// How many.
        count: u64,
    },
    /// Any values.
    List(Vec<String>),
}

impl Values {
    fn iter(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self {
            Self::Serial { prefix, first, width, count } => {
                Box::new((0..*count).map(move |i| format!("{prefix}{:0width$}", first + i, width = *width)))
            }
            Self::Mac { first, step, count } => {
                let base = first.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
                Box::new((0..*count).map(move |i| {
                    let bytes = (base + i * step).to_be_bytes();
                    let hex: Vec<String> = bytes.iter().skip(2).map(|byte| format!("{byte:02x}")).collect();
                    hex.join(":")
                }))
            }
            Self::List(values) => Box::new(values.iter().cloned()),
        }
    }
}

pub(crate) const COLUMNS: &str = "id, pool, kind, value, position, state, device, labels, reason";
/// What an event says of an identity that was changed.
const WHICH: Of = Of::Columns(&[("value", 3)]);

pub(crate) fn identity(row: &Row) -> Result<Identity, LedgerError> {
    Ok(Identity {
        id: row.int(0),
        pool: row.text(1),
        kind: row.text(2),
        value: row.text(3),
        position: row.int(4),
        state: row.text(5).parse()?,
        unit: row.maybe_text(6),
        labels: row.int(7),
        reason: row.maybe_text(8),
    })
}

pub(crate) fn by_id(tx: &mut dyn Tx, id: i64) -> Result<Identity, LedgerError> {
    let rows = tx.rows(&format!("SELECT {COLUMNS} FROM identity WHERE id = $1"), &[id.into()])?;
    rows.first().map_or_else(|| Err(LedgerError::Unknown(format!("identity {id}"))), identity)
}

/// Puts values into a pool, behind those that are there.
pub(crate) fn insert_values(
    tx: &mut dyn Tx,
    pool: &str,
    kind: &str,
    values: &mut dyn Iterator<Item = String>,
) -> Result<u64, LedgerError> {
    let last = tx.rows("SELECT coalesce(max(position), 0) FROM identity WHERE pool = $1", &[pool.into()])?;
    let mut position = last.first().map_or(0, |row| row.int(0));
    let mut added = 0;
    let sql = "INSERT INTO identity (pool, kind, value, position, changed_ms) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (kind, value) DO NOTHING";
    for value in values {
        position += 1;
        let row = [pool.into(), kind.into(), value.as_str().into(), position.into(), now_ms().into()];
        if tx.run(sql, &row)? == 0 {
            return Err(LedgerError::Taken(value));
        }
        added += 1;
    }
    Ok(added)
}

/// Makes the unit known; an address that two boards share is quarantined.
pub(crate) fn register(tx: &mut dyn Tx, unit: &Unit) -> Result<String, LedgerError> {
    let mac = unit.key()?;
    tx.run(
        "INSERT INTO device (base_mac, chip, flash_uid, first_seen_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (base_mac) DO NOTHING",
        &[mac.as_str().into(), unit.chip.as_deref().into(), unit.flash_uid.as_deref().into(), now_ms().into()],
    )?;
    let rows = tx.rows("SELECT flash_uid, quarantined FROM device WHERE base_mac = $1", &[mac.as_str().into()])?;
    let (known, quarantined) = rows.first().map_or((None, None), |row| (row.maybe_text(0), row.maybe_text(1)));
    if let Some(reason) = quarantined {
        return Err(LedgerError::Quarantined { mac, reason });
    }
    match (known, &unit.flash_uid) {
        (None, Some(uid)) => {
            tx.run(
                "UPDATE device SET flash_uid = $1 WHERE base_mac = $2",
                &[uid.as_str().into(), mac.as_str().into()],
            )?;
        }
        (Some(known), Some(uid)) if known != *uid => {
            let reason = format!("seen with flash {known} and with flash {uid}");
            return Err(LedgerError::Quarantined { mac, reason });
        }
        _ => {}
    }
    Ok(mac)
}

impl Ledger {
    /// Makes a pool of values of one kind, or adds to it. A value that is there already is an error; nothing is added then.
    pub fn add_pool(&mut self, pool: &str, kind: &str, values: &Values) -> Result<u64, LedgerError> {
        self.tx(|tx| {
            tx.run(
                "INSERT INTO pool (name, kind, created_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
                &[pool.into(), kind.into(), now_ms().into()],
            )?;
            let rows = tx.rows("SELECT kind FROM pool WHERE name = $1", &[pool.into()])?;
            if rows.first().map(|row| row.text(0)).as_deref() != Some(kind) {
                return Err(LedgerError::Database(format!("pool {pool} holds another kind")));
            }
            insert_values(tx, pool, kind, &mut values.iter())
        })
    }

    /// The unit's identity of a pool: the one it has, or the next free one. Repeating it gives the same.
    pub fn reserve(&mut self, pool: &str, unit: &Unit) -> Result<Identity, LedgerError> {
        let (station, held) = (self.station.clone(), self.may_issue()?);
        let result = self.steps(|tx| {
            let mac = register(tx, unit)?;
            if let Some(own) = live(tx, pool, &mac)? {
                return Ok(own);
            }
            refuse_second(tx, pool, &mac)?;
            let lock = tx.skip_locked();
            let body = json!({"pool": pool, "unit": mac});
            let rows = tx.change(
                &format!(
                    "UPDATE identity SET state = 'RESERVED', device = $1, changed_ms = $2 WHERE id = (\
                     SELECT id FROM identity WHERE pool = $3 AND state = 'FREE' AND (lease IS NULL OR lease IN \
                     (SELECT id FROM lease WHERE state = 'RETURNED')) ORDER BY position LIMIT 1 {lock}) \
                     RETURNING {COLUMNS}"
                ),
                &[mac.as_str().into(), now_ms().into(), pool.into()],
                &Note { station: &station, run: None, kind: "reserved", body },
                WHICH,
            )?;
            let Some(row) = rows.first() else { return Err(exhausted(tx, pool)?) };
            let identity = identity(row)?;
            if let Some(held) = &held {
                held.about_to(pool, identity.position, identity.position)?;
            }
            Ok(identity)
        });
        if let Err(LedgerError::Quarantined { mac, reason }) = &result {
            self.quarantine(mac, reason)?;
        }
        if let Ok(identity) = &result {
            self.issued(held, pool, identity.position)?;
        }
        result
    }

    /// Takes a unit out of production until a person has looked at it: nothing is issued to it any more.
    pub fn quarantine(&mut self, mac: &str, reason: &str) -> Result<(), LedgerError> {
        let station = self.station.clone();
        self.steps(|tx| {
            let body = json!({"unit": mac, "reason": reason});
            tx.change(
                "UPDATE device SET quarantined = $1 WHERE base_mac = $2 AND quarantined IS NULL RETURNING base_mac",
                &[reason.into(), mac.into()],
                &Note { station: &station, run: None, kind: "quarantined", body },
                Of::Columns(&[]),
            )
            .map(|_| ())
        })
    }

    /// Moves an identity of this unit one step on. Being there already is fine, so that a crash can be repeated.
    pub fn advance(&mut self, id: i64, unit: &Unit, to: State) -> Result<Identity, LedgerError> {
        let (station, mac) = (self.station.clone(), unit.key()?);
        self.steps(|tx| step(tx, &station, id, &mac, to))
    }

    /// Brings identities of this unit up to a state, over all steps between. Those that are there or beyond stay as they
    /// are, so that it can be repeated where it was interrupted.
    pub fn advance_all(&mut self, ids: &[i64], unit: &Unit, to: State) -> Result<(), LedgerError> {
        let (station, mac) = (self.station.clone(), unit.key()?);
        self.steps(|tx| ids.iter().try_for_each(|id| climb(tx, &station, *id, &mac, to)))
    }

    /// Counts another print of a label; the payload is the same.
    pub fn reprint(&mut self, id: i64) -> Result<Identity, LedgerError> {
        let station = self.station.clone();
        self.steps(|tx| {
            let sql = format!(
                "UPDATE identity SET labels = labels + 1 WHERE id = $1 AND state = 'LABELLED' RETURNING {COLUMNS}"
            );
            let note = Note { station: &station, run: None, kind: "reprint", body: json!({}) };
            let changed = tx.change(&sql, &[id.into()], &note, Of::Columns(&[("value", 3), ("labels", 7)]))?;
            if let Some(row) = changed.first() {
                return identity(row);
            }
            let present = by_id(tx, id)?;
            let from = present.state.to_string();
            Err(LedgerError::Step { value: present.value, from, to: "printed again".into() })
        })
    }

    /// Takes an identity out of use permanently.
    pub fn void(&mut self, id: i64, reason: &str) -> Result<Identity, LedgerError> {
        let station = self.station.clone();
        self.steps(|tx| {
            tx.change(
                &format!(
                    "UPDATE identity SET state = 'VOID', reason = $1, changed_ms = $2 WHERE id = $3 AND state <> 'VOID' \
                     RETURNING {COLUMNS}"
                ),
                &[reason.into(), now_ms().into(), id.into()],
                &Note { station: &station, run: None, kind: "void", body: json!({ "reason": reason }) },
                WHICH,
            )?;
            by_id(tx, id)
        })
    }

    /// The identity that this value is.
    pub fn find(&mut self, kind: &str, value: &str) -> Result<Option<Identity>, LedgerError> {
        let sql = format!("SELECT {COLUMNS} FROM identity WHERE kind = $1 AND value = $2");
        self.tx(|tx| tx.rows(&sql, &[kind.into(), value.into()])?.first().map(identity).transpose())
    }

    /// All identities of a unit, live and void.
    pub fn of_unit(&mut self, unit: &Unit) -> Result<Vec<Identity>, LedgerError> {
        let (mac, sql) = (unit.key()?, format!("SELECT {COLUMNS} FROM identity WHERE device = $1 ORDER BY pool, id"));
        self.tx(|tx| tx.rows(&sql, &[mac.as_str().into()])?.iter().map(identity).collect())
    }

    /// How many values of a pool are in each state.
    pub fn counts(&mut self, pool: &str) -> Result<Vec<(State, i64)>, LedgerError> {
        let sql = "SELECT state, count(*) FROM identity WHERE pool = $1 GROUP BY state ORDER BY state";
        let parameters: [Value; 1] = [pool.into()];
        self.tx(|tx| tx.rows(sql, &parameters)?.iter().map(|row| Ok((row.text(0).parse()?, row.int(1)))).collect())
    }
}

/// One step on. Being there already is fine.
fn step(tx: &mut dyn Tx, station: &str, id: i64, mac: &str, to: State) -> Result<Identity, LedgerError> {
    let before = by_id(tx, id)?;
    if before.unit.as_deref() != Some(mac) {
        let owner = before.unit.unwrap_or_else(|| "nobody".into());
        return Err(LedgerError::OtherUnit { value: before.value, owner });
    }
    let step = (before.state, to);
    let next = [State::Reserved, State::Writing, State::Written, State::Verified];
    if step.0 == step.1 && to != State::Free {
        return Ok(before);
    }
    let follows =
        State::ALL.windows(2).any(|pair| pair.first().zip(pair.get(1)).is_some_and(|(a, b)| (a.0, b.0) == step));
    if !next.contains(&step.0) || !follows {
        return Err(LedgerError::Step { value: before.value, from: step.0.to_string(), to: to.to_string() });
    }
    let labels = i64::from(to == State::Labelled);
    let rows = tx.change(
        &format!(
            "UPDATE identity SET state = $1, labels = labels + $2, changed_ms = $3 \
             WHERE id = $4 AND state = $5 RETURNING {COLUMNS}"
        ),
        &[to.to_string().into(), labels.into(), now_ms().into(), id.into(), step.0.to_string().into()],
        &Note { station, run: None, kind: "state", body: json!({"unit": mac, "to": to}) },
        WHICH,
    )?;
    // Nothing changed: another process of this unit was faster.
    rows.first().map(identity).ok_or_else(|| LedgerError::Busy("state changed".into()))?
}

/// All steps up to a state.
pub(crate) fn climb(tx: &mut dyn Tx, station: &str, id: i64, mac: &str, to: State) -> Result<(), LedgerError> {
    let present = by_id(tx, id)?.state;
    let steps = State::ALL.iter().map(|(state, _)| *state).filter(|state| *state > present && *state <= to);
    for state in steps {
        step(tx, station, id, mac, state)?;
    }
    Ok(())
}

pub(crate) fn live(tx: &mut dyn Tx, pool: &str, mac: &str) -> Result<Option<Identity>, LedgerError> {
    let sql =
        format!("SELECT {COLUMNS} FROM identity WHERE device = $1 AND pool = $2 AND state NOT IN ('FREE', 'VOID')");
    tx.rows(&sql, &[mac.into(), pool.into()])?.first().map(identity).transpose()
}

/// A unit has one live identity of a kind, whatever pool it came from.
pub(crate) fn refuse_second(tx: &mut dyn Tx, pool: &str, mac: &str) -> Result<(), LedgerError> {
    let sql = "SELECT value, pool FROM identity WHERE device = $1 AND state NOT IN ('FREE', 'VOID') \
               AND pool <> $2 AND kind = (SELECT kind FROM pool WHERE name = $2)";
    match tx.rows(sql, &[mac.into(), pool.into()])?.first() {
        Some(row) => Err(LedgerError::OtherPool { value: row.text(0), pool: row.text(1) }),
        None => Ok(()),
    }
}

/// Why no value could be had: no such pool, none free, or all free ones are being taken right now.
fn exhausted(tx: &mut dyn Tx, pool: &str) -> Result<LedgerError, LedgerError> {
    if tx.rows("SELECT name FROM pool WHERE name = $1", &[pool.into()])?.is_empty() {
        return Ok(LedgerError::Unknown(format!("pool {pool}")));
    }
    let sql = "SELECT count(*) FROM identity WHERE pool = $1 AND state = 'FREE' AND lease IS NULL";
    let free = tx.rows(sql, &[pool.into()])?.first().map_or(0, |row| row.int(0));
    Ok(if free > 0 { LedgerError::Busy(format!("pool {pool}")) } else { LedgerError::Exhausted(pool.into()) })
}
