//! Questions to the ledger: pools, units, runs. They change nothing.

use serde::{Deserialize, Serialize};

use crate::db::{Row, Value};
use crate::record::{EVENT_COLUMNS, event};
use crate::{Event, Ledger, LedgerError, Measurement, State, Unit, Verdict};

/// A pool and how many of its values are in each state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: String,
    /// State and number.
    pub counts: Vec<(State, i64)>,
    /// Its first value.
    #[serde(default)]
    pub first: Option<String>,
    /// Its last value.
    #[serde(default)]
    pub last: Option<String>,
    /// The value that is issued next.
    #[serde(default)]
    pub next: Option<String>,
}

/// A unit as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Base MAC, twelve hex digits.
    pub base_mac: String,
    /// Chip id.
    pub chip: Option<String>,
    /// Unique id of its flash chip.
    pub flash_uid: Option<String>,
    /// Why it is quarantined.
    pub quarantined: Option<String>,
    /// Milliseconds since 1970.
    pub first_seen_ms: i64,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// The unit's base MAC.
    pub unit: String,
    /// Where.
    pub station: String,
    /// Hash of the recipe.
    pub recipe: Option<String>,
    /// RUNNING, PASSED, FAILED or ABORTED.
    pub state: String,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Milliseconds since 1970.
    pub ended_ms: Option<i64>,
}

fn run(row: &Row) -> Run {
    Run {
        id: row.int(0),
        unit: row.text(1),
        station: row.text(2),
        recipe: row.maybe_text(3),
        state: row.text(4),
        started_ms: row.int(5),
        ended_ms: row.maybe_int(6),
    }
}

/// What a station did in the last hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StationRuns {
    /// Its name.
    pub station: String,
    /// Runs that passed.
    pub passed: i64,
    /// Runs that did not: failed or aborted.
    pub not_passed: i64,
    /// Runs that go on.
    pub running: Vec<Run>,
    /// The last one that ended.
    pub last: Option<Run>,
}

const RUN_COLUMNS: &str = "id, device, station, recipe, state, started_ms, ended_ms";

impl Ledger {
    /// All pools.
    pub fn pools(&mut self) -> Result<Vec<Pool>, LedgerError> {
        let names = self.tx(|tx| tx.rows("SELECT name, kind FROM pool ORDER BY name", &[]))?;
        let pool = |row: &Row| {
            let name = row.text(0);
            let counts = self.counts(&name)?;
            let one = |ledger: &mut Self, rest: &str| {
                let sql = format!("SELECT value FROM identity WHERE pool = $1 {rest} LIMIT 1");
                let rows = ledger.tx(|tx| tx.rows(&sql, &[name.as_str().into()]))?;
                Ok::<_, LedgerError>(rows.first().map(|row| row.text(0)))
            };
            let (first, last) = (one(self, "ORDER BY position")?, one(self, "ORDER BY position DESC")?);
            let next = one(self, "AND state = 'FREE' AND lease IS NULL ORDER BY position")?;
            Ok(Pool { name: name.clone(), kind: row.text(1), counts, first, last, next })
        };
        names.iter().map(pool).collect()
    }

    /// What is known of a unit.
    pub fn device(&mut self, unit: &Unit) -> Result<Option<Device>, LedgerError> {
        let mac = unit.key()?;
        let sql = "SELECT base_mac, chip, flash_uid, quarantined, first_seen_ms FROM device WHERE base_mac = $1";
        let rows = self.tx(|tx| tx.rows(sql, &[mac.as_str().into()]))?;
        Ok(rows.first().map(|row| Device {
            base_mac: row.text(0),
            chip: row.maybe_text(1),
            flash_uid: row.maybe_text(2),
            quarantined: row.maybe_text(3),
            first_seen_ms: row.int(4),
        }))
    }

    /// The unit that has or had this value, in any letters; the last one of several.
    pub fn holder(&mut self, value: &str) -> Result<Option<Unit>, LedgerError> {
        let sql = "SELECT device FROM identity WHERE lower(value) = lower($1) AND device IS NOT NULL \
                   ORDER BY changed_ms DESC, id DESC LIMIT 1";
        let rows = self.tx(|tx| tx.rows(sql, &[value.trim().into()]))?;
        Ok(rows.first().map(|row| Unit::new(&row.text(0))))
    }

    /// The last runs, newest first; of one unit, or of all.
    pub fn runs(&mut self, unit: Option<&Unit>, limit: i64) -> Result<Vec<Run>, LedgerError> {
        let rows = match unit {
            Some(unit) => {
                let mac = unit.key()?;
                let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE device = $1 ORDER BY id DESC LIMIT $2");
                self.tx(|tx| tx.rows(&sql, &[mac.as_str().into(), limit.into()]))?
            }
            None => {
                let sql = format!("SELECT {RUN_COLUMNS} FROM run ORDER BY id DESC LIMIT $1");
                self.tx(|tx| tx.rows(&sql, &[limit.into()]))?
            }
        };
        Ok(rows.iter().map(run).collect())
    }

    /// Runs by state.
    pub fn run_counts(&mut self) -> Result<Vec<(String, i64)>, LedgerError> {
        let sql = "SELECT state, count(*) FROM run GROUP BY state ORDER BY state";
        let rows = self.tx(|tx| tx.rows(sql, &[]))?;
        Ok(rows.iter().map(|row| (row.text(0), row.int(1))).collect())
    }

    /// What each station did since a time, in milliseconds since 1970.
    pub fn stations(&mut self, since_ms: i64) -> Result<Vec<StationRuns>, LedgerError> {
        let counts = "SELECT station, sum(CASE state WHEN 'PASSED' THEN 1 ELSE 0 END), \
                      sum(CASE WHEN state IN ('FAILED', 'ABORTED') THEN 1 ELSE 0 END) \
                      FROM run WHERE started_ms >= $1 GROUP BY station ORDER BY station";
        let now = format!(
            "SELECT {RUN_COLUMNS} FROM run WHERE started_ms >= $1 AND (state = 'RUNNING' OR id IN \
             (SELECT max(id) FROM run WHERE started_ms >= $1 AND state <> 'RUNNING' GROUP BY station)) ORDER BY id"
        );
        let (counts, now) =
            self.tx(|tx| Ok((tx.rows(counts, &[since_ms.into()])?, tx.rows(&now, &[since_ms.into()])?)))?;
        let runs: Vec<Run> = now.iter().map(run).collect();
        let of = |row: &Row| {
            let station = row.text(0);
            let (running, ended): (Vec<Run>, Vec<Run>) =
                runs.iter().filter(|run| run.station == station).cloned().partition(|run| run.ended_ms.is_none());
            StationRuns {
                passed: row.int(1),
                not_passed: row.int(2),
                running,
                last: ended.into_iter().next_back(),
                station,
            }
        };
        Ok(counts.iter().map(of).collect())
    }

    /// What a run measured.
    pub fn measurements(&mut self, run: i64) -> Result<Vec<Measurement>, LedgerError> {
        let sql = "SELECT name, value, low, high, verdict FROM measurement WHERE run = $1 ORDER BY at_ms, name";
        let rows = self.tx(|tx| tx.rows(sql, &[run.into()]))?;
        let measured = |row: &Row| Measurement {
            name: row.text(0),
            value: row.maybe_text(1),
            low: row.maybe_text(2),
            high: row.maybe_text(3),
            verdict: match row.text(4).as_str() {
                "pass" => Verdict::Pass,
                "fail" => Verdict::Fail,
                _ => Verdict::Unknown,
            },
        };
        Ok(rows.iter().map(measured).collect())
    }

    /// Measurements that failed most often: name and number, the most frequent first.
    pub fn top_failures(&mut self, limit: i64) -> Result<Vec<(String, i64)>, LedgerError> {
        let sql = "SELECT name, count(*) AS n FROM measurement WHERE verdict = 'fail' \
                   GROUP BY name ORDER BY n DESC, name LIMIT $1";
        let rows = self.tx(|tx| tx.rows(sql, &[limit.into()]))?;
        Ok(rows.iter().map(|row| (row.text(0), row.int(1))).collect())
    }

    /// The newest event of a kind in a unit's runs.
    pub fn last_event(&mut self, unit: &Unit, kind: &str) -> Result<Option<Event>, LedgerError> {
        let mac = unit.key()?;
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM event WHERE kind = $1 AND run IN (SELECT id FROM run WHERE device = $2) \
             ORDER BY at_ms DESC, seq DESC LIMIT 1"
        );
        let parameters: [Value; 2] = [kind.into(), mac.into()];
        Ok(self.tx(|tx| tx.rows(&sql, &parameters))?.first().map(event))
    }
}
