//! Runs, measurements, recipes, artefacts, and the chain of events.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::db::{Note, Of, Row, Tx, Value};
use crate::identity::{climb, register};
use crate::ledger::now_ms;
use crate::{Ledger, LedgerError, State, Unit};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// All that was required was done and measured.
    Passed,
    /// Something failed.
    Failed,
    /// It was stopped; it can be repeated.
    Aborted,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
            Self::Aborted => "ABORTED",
        }
    }
}

/// What a measurement says. Not measured is `Unknown`, never a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within its limits.
    Pass,
    /// Outside.
    Fail,
    /// Not measured.
    Unknown,
}

/// A measured value with its limits, all as text with their unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured.
    pub name: String,
    /// The value, where there is one.
    pub value: Option<String>,
    /// Lower limit.
    pub low: Option<String>,
    /// Upper limit.
    pub high: Option<String>,
    /// What follows.
    pub verdict: Verdict,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Whose chain it is in.
    pub station: String,
    /// Place in the chain, from 1.
    pub seq: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The run it belongs to.
    pub run: Option<i64>,
    /// What sort of event.
    pub kind: String,
    /// Its content, JSON.
    pub body: String,
    /// Hash of the event before it; 64 zeros for the first.
    pub prev_hash: String,
    /// SHA-256 over all of the above.
    pub hash: String,
}

pub(crate) const EVENT_COLUMNS: &str = "station, seq, at_ms, run, kind, body, prev_hash, hash";

pub(crate) fn event(row: &Row) -> Event {
    Event {
        station: row.text(0),
        seq: row.int(1),
        at_ms: row.int(2),
        run: row.maybe_int(3),
        kind: row.text(4),
        body: row.text(5),
        prev_hash: row.text(6),
        hash: row.text(7),
    }
}

impl Event {
    /// The hash that this event must have.
    pub fn computed_hash(&self) -> String {
        // A list in JSON: no two different events give the same text.
        let text = json!([self.prev_hash, self.station, self.seq, self.at_ms, self.run, self.kind, self.body]);
        hex(&Sha256::digest(text.to_string().as_bytes()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The next event of a station's chain, for a database that cannot compute the hash itself.
pub(crate) fn chain(tx: &mut dyn Tx, note: &Note<'_>) -> Result<(), LedgerError> {
    let sql = "SELECT seq, hash FROM event WHERE station = $1 ORDER BY seq DESC LIMIT 1";
    let last = tx.rows(sql, &[note.station.into()])?;
    let (seq, prev_hash) = last.first().map_or((0, "0".repeat(64)), |row| (row.int(0), row.text(1)));
    let mut event = Event {
        station: note.station.into(),
        seq: seq + 1,
        at_ms: now_ms(),
        run: note.run,
        kind: note.kind.into(),
        body: note.body.to_string(),
        prev_hash,
        hash: String::new(),
    };
    event.hash = event.computed_hash();
    tx.run(
        &format!("INSERT INTO event ({EVENT_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"),
        &[
            event.station.into(),
            event.seq.into(),
            event.at_ms.into(),
            event.run.into(),
            event.kind.into(),
            event.body.into(),
            event.prev_hash.into(),
            event.hash.into(),
        ],
    )?;
    Ok(())
}

/// The note of one changed row.
pub(crate) fn note_of<'n>(note: &Note<'n>, of: Of, row: &Row) -> Note<'n> {
    let mut own = note.clone();
    match of {
        Of::Run => own.run = row.maybe_int(0),
        Of::Columns(columns) => {
            for (name, at) in columns {
                let value = row.0.get(*at).map_or(Json::Null, to_json);
                own.body.as_object_mut().map(|body| body.insert((*name).into(), value));
            }
        }
    }
    own
}

pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Int(value) => json!(value),
        Value::Text(text) => json!(text),
    }
}

impl Ledger {
    /// Records an event, of a run or of none. Secrets do not belong here.
    pub fn record(&mut self, run: Option<i64>, kind: &str, body: &Json) -> Result<(), LedgerError> {
        let station = self.station.clone();
        self.steps(|tx| tx.note(&Note { station: &station, run, kind, body: body.clone() }))
    }

    /// Keeps a recipe; its hash names it.
    pub fn add_recipe(&mut self, name: &str, body: &str) -> Result<String, LedgerError> {
        let hash = hex(&Sha256::digest(body.as_bytes()));
        self.tx(|tx| {
            tx.run(
                "INSERT INTO recipe (hash, name, body, added_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) DO NOTHING",
                &[hash.as_str().into(), name.into(), body.into(), now_ms().into()],
            )
        })?;
        Ok(hash)
    }

    /// Notes a file that is written to units, by the hex of its SHA-256.
    pub fn add_artefact(&mut self, name: &str, sha256: &str, size: u64) -> Result<(), LedgerError> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.tx(|tx| {
            tx.run(
                "INSERT INTO artefact (sha256, name, size, added_ms) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (sha256) DO NOTHING",
                &[sha256.into(), name.into(), size.into(), now_ms().into()],
            )
            .map(|_| ())
        })
    }

    /// Begins a run on a unit. A base MAC that two boards share is quarantined here at the latest.
    pub fn begin_run(&mut self, unit: &Unit, recipe: Option<&str>) -> Result<i64, LedgerError> {
        let station = self.station.clone();
        let begun = self.steps(|tx| {
            let mac = register(tx, unit)?;
            let body = json!({"unit": mac, "recipe": recipe});
            let rows = tx.change(
                "INSERT INTO run (device, station, recipe, started_ms) VALUES ($1, $2, $3, $4) RETURNING id",
                &[mac.as_str().into(), station.as_str().into(), recipe.into(), now_ms().into()],
                &Note { station: &station, run: None, kind: "run_begins", body },
                Of::Run,
            )?;
            Ok(rows.first().map_or(0, |row| row.int(0)))
        });
        if let Err(LedgerError::Quarantined { mac, reason }) = &begun {
            self.quarantine(mac, reason)?;
        }
        begun
    }

    /// Ends a run in one transaction: keeps what was measured and a record of everything, brings the identities to
    /// VERIFIED when it passed (`verified`), and sets the outcome. Nothing happens when the run has this outcome already.
    pub fn finish_run(
        &mut self,
        run: i64,
        unit: &Unit,
        outcome: Outcome,
        verified: &[i64],
        measured: &[Measurement],
        record: &Json,
    ) -> Result<(), LedgerError> {
        let (station, mac) = (self.station.clone(), unit.key()?);
        self.tx(|tx| {
            if !end(tx, &station, run, outcome)? {
                return Ok(());
            }
            for one in measured {
                measure(tx, run, one)?;
            }
            tx.note(&Note { station: &station, run: Some(run), kind: "record", body: record.clone() })?;
            verified.iter().try_for_each(|id| climb(tx, &station, *id, &mac, State::Verified))
        })
    }

    /// Ends a run. The first outcome counts; ending it again with the same one is fine.
    pub fn end_run(&mut self, run: i64, outcome: Outcome) -> Result<(), LedgerError> {
        let station = self.station.clone();
        self.steps(|tx| end(tx, &station, run, outcome).map(|_| ()))
    }

    /// Keeps what a run measured. A second measurement of the same name is an error: runs are not rewritten.
    pub fn measure(&mut self, run: i64, measured: &Measurement) -> Result<(), LedgerError> {
        self.tx(|tx| measure(tx, run, measured))
    }

    /// All events of a station, or of all, in order.
    pub fn events(&mut self, station: Option<&str>) -> Result<Vec<Event>, LedgerError> {
        let all = format!("SELECT {EVENT_COLUMNS} FROM event ORDER BY station, seq");
        let one = format!("SELECT {EVENT_COLUMNS} FROM event WHERE station = $1 ORDER BY seq");
        self.tx(|tx| {
            let rows = match station {
                Some(station) => tx.rows(&one, &[station.into()])?,
                None => tx.rows(&all, &[])?,
            };
            Ok(rows.iter().map(event).collect())
        })
    }
}

/// Ends a run; `false`: it had ended so already.
fn end(tx: &mut dyn Tx, station: &str, run: i64, outcome: Outcome) -> Result<bool, LedgerError> {
    let changed = tx.change(
        "UPDATE run SET state = $1, ended_ms = $2 WHERE id = $3 AND state = 'RUNNING' RETURNING id",
        &[outcome.name().into(), now_ms().into(), run.into()],
        &Note { station, run: Some(run), kind: "run_ends", body: json!({ "outcome": outcome }) },
        Of::Run,
    )?;
    if !changed.is_empty() {
        return Ok(true);
    }
    let rows = tx.rows("SELECT state FROM run WHERE id = $1", &[run.into()])?;
    match rows.first().map(|row| row.text(0)) {
        Some(state) if state == outcome.name() => Ok(false),
        Some(from) => Err(LedgerError::Step { value: format!("run {run}"), from, to: outcome.name().into() }),
        None => Err(LedgerError::Unknown(format!("run {run}"))),
    }
}

fn measure(tx: &mut dyn Tx, run: i64, measured: &Measurement) -> Result<(), LedgerError> {
    let verdict = match measured.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Unknown => "unknown",
    };
    let there = "SELECT name FROM measurement WHERE run = $1 AND name = $2";
    if !tx.rows(there, &[run.into(), measured.name.as_str().into()])?.is_empty() {
        return Err(LedgerError::Database(format!("run {run} has measured {} already", measured.name)));
    }
    tx.run(
        "INSERT INTO measurement (run, name, value, low, high, verdict, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            run.into(),
            measured.name.as_str().into(),
            measured.value.as_deref().into(),
            measured.low.as_deref().into(),
            measured.high.as_deref().into(),
            verdict.into(),
            now_ms().into(),
        ],
    )
    .map(|_| ())
}
