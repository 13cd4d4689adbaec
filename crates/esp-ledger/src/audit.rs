//! Checks of the whole ledger, and its export.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::identity::{COLUMNS, identity};
use crate::record::to_json;
use crate::{Identity, Ledger, LedgerError};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it concerns.
    pub what: String,
    /// What is wrong.
    pub problem: String,
}

/// Tables of the export with their columns.
const TABLES: &[(&str, &str)] = &[
    ("pool", "name, kind, created_ms"),
    ("device", "base_mac, chip, flash_uid, quarantined, first_seen_ms"),
    ("lease", "id, pool, station, state, granted_ms, expires_ms"),
    ("identity", "id, pool, kind, value, position, state, device, lease, reason, labels, changed_ms"),
    ("recipe", "hash, name, body, added_ms"),
    ("artefact", "sha256, name, size, added_ms"),
    ("run", "id, device, station, recipe, state, started_ms, ended_ms"),
    ("measurement", "run, name, value, low, high, verdict, at_ms"),
    ("event", "station, seq, at_ms, run, kind, body, prev_hash, hash"),
];

impl Ledger {
    /// Checks every chain of events, and that no value and no unit is used twice. Empty when all is well.
    pub fn verify(&mut self) -> Result<Vec<Problem>, LedgerError> {
        let mut problems = Vec::new();
        let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for event in self.events(None)? {
            let what = format!("event {} {}", event.station, event.seq);
            let (seq, hash) = last.get(&event.station).cloned().unwrap_or((0, "0".repeat(64)));
            let wrong = if event.seq != seq + 1 {
                Some("the chain has a gap before it")
            } else if event.prev_hash != hash {
                Some("it does not follow the event before it")
            } else if event.hash != event.computed_hash() {
                Some("it was changed after it was recorded")
            } else {
                None
            };
            problems.extend(wrong.map(|problem| Problem { what, problem: problem.into() }));
            last.insert(event.station.clone(), (event.seq, event.hash));
        }
        let double = [
            ("value", "SELECT kind || ' ' || value FROM identity GROUP BY kind, value HAVING count(*) > 1"),
            (
                "unit",
                "SELECT device || ' with two of ' || kind FROM identity WHERE state NOT IN ('FREE', 'VOID') \
                 GROUP BY device, kind HAVING count(*) > 1",
            ),
        ];
        for (what, sql) in double {
            let rows = self.tx(|tx| tx.rows(sql, &[]))?;
            problems.extend(
                rows.iter()
                    .map(|row| Problem { what: format!("{what} {}", row.text(0)), problem: "is used twice".into() }),
            );
        }
        Ok(problems)
    }

    /// Everything, as one JSON object with a list for each table.
    pub fn export_json(&mut self) -> Result<Json, LedgerError> {
        let tables = self.tx(|tx| {
            let mut tables = Map::new();
            for (table, columns) in TABLES {
                let names: Vec<&str> = columns.split(", ").collect();
                let rows = tx.rows(&format!("SELECT {columns} FROM {table} ORDER BY 1, 2"), &[])?;
                let object = |row: &crate::db::Row| {
                    let fields = names.iter().zip(&row.0).map(|(name, value)| ((*name).to_owned(), to_json(value)));
                    Json::Object(fields.collect())
                };
                tables.insert((*table).into(), rows.iter().map(object).collect());
            }
            Ok(tables)
        })?;
        Ok(json!({ "format": "mcp-esptool-ledger", "schema": 2, "tables": tables }))
    }

    /// One line a produced identity: unit, pool, value, state, labels. RFC 4180.
    pub fn export_csv(&mut self) -> Result<String, LedgerError> {
        let sql = format!("SELECT {COLUMNS} FROM identity WHERE state <> 'FREE' ORDER BY pool, position");
        let rows: Vec<Identity> = self.tx(|tx| tx.rows(&sql, &[])?.iter().map(identity).collect())?;
        let mut text = String::from("unit,pool,kind,value,state,labels,reason\r\n");
        for row in rows {
            let (unit, reason) = (row.unit.unwrap_or_default(), row.reason.unwrap_or_default());
            let (state, labels) = (row.state.to_string(), row.labels.to_string());
            let fields = [unit, row.pool, row.kind, row.value, state, labels, reason].map(|field| quoted(&field));
            text.push_str(&fields.join(","));
            text.push_str("\r\n");
        }
        Ok(text)
    }
}

/// A field for a spreadsheet: quoted where needed, and never a formula.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@']);
    let text = if formula { format!("'{field}") } else { field.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
