//! What keeps two copies of one ledger file from issuing the same values.
//!
//! A mark outside of the file says which event its newest issue was. Who issues must have that event in its chain: a
//! copy that was put back, or that fell behind while another one went on, does not. A backup says in itself that it is
//! one. Either refuses to issue until a person has put the values out of use that another copy may have issued.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::db::{Note, Tx};
use crate::ledger::now_ms;
use crate::{Ledger, LedgerError};

/// The newest issue of a ledger file, as it is known outside of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    station: String,
    seq: i64,
    hash: String,
    /// Last position that was issued or lent, by pool.
    positions: BTreeMap<String, i64>,
    /// What is about to be issued. It stays when a crash comes before the mark is moved: then nobody can tell whether a
    /// copy of the file holds the issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

/// Positions of a pool, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    pool: String,
    first: i64,
    last: i64,
}

/// Where marks are, and the lock that holds while one is checked and moved.
pub(crate) struct Held {
    path: PathBuf,
    mark: Option<Mark>,
    _lock: File,
}

/// A key of the table `meta`.
fn meta(tx: &mut dyn Tx, key: &str) -> Result<Option<String>, LedgerError> {
    let rows = tx.rows("SELECT value FROM meta WHERE key = $1", &[key.into()])?;
    Ok(rows.first().map(|row| row.text(0)))
}

fn set_meta(tx: &mut dyn Tx, key: &str, value: &str) -> Result<(), LedgerError> {
    tx.run("DELETE FROM meta WHERE key = $1", &[key.into()])?;
    tx.run("INSERT INTO meta (key, value) VALUES ($1, $2)", &[key.into(), value.into()]).map(drop)
}

impl Held {
    fn new(folder: &Path, id: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let lock = File::options().create(true).append(true).open(folder.join(format!("{id}.lock")))?;
        lock.lock()?;
        let path = folder.join(id);
        let mark = match fs::read(&path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(io::Error::other)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, mark, _lock: lock })
    }

    /// On the disk when it returns, whole or not at all.
    fn write(&self, mark: &Mark) -> io::Result<()> {
        let part = self.path.with_extension("part");
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec(mark)?)?;
        file.sync_all()?;
        fs::rename(&part, &self.path)
    }
}

impl Held {
    /// Notes what is about to be issued: on the disk before the issue itself is.
    pub(crate) fn about_to(&self, pool: &str, first: i64, last: i64) -> Result<(), LedgerError> {
        let pending = Some(Pending { pool: pool.to_owned(), first, last });
        self.write(&Mark { pending, ..self.mark.clone().unwrap_or_default() }).map_err(outside)
    }
}

fn outside(error: io::Error) -> LedgerError {
    LedgerError::File(format!("the ledger's mark in the state folder: {error}"))
}

impl Ledger {
    /// Keeps marks in this folder, outside of the ledger's file.
    pub fn with_marks(mut self, folder: &Path) -> Self {
        self.marks = (self.store.kind() == "sqlite").then(|| folder.to_path_buf());
        self
    }

    /// Fails where another copy of this file may have issued what this one would issue.
    pub(crate) fn may_issue(&mut self) -> Result<Option<Held>, LedgerError> {
        if self.store.kind() != "sqlite" {
            return Ok(None);
        }
        let copy = self.tx(|tx| meta(tx, "copy"))?;
        if let Some(of) = copy {
            return Err(LedgerError::IsCopy(format!("it is a {of}")));
        }
        let Some(mut held) = self.held()? else { return Ok(None) };
        let known = self.tx(|tx| match &held.mark {
            None => Ok(meta(tx, "marked")?.is_none()),
            // The first issue of this file was cut off.
            Some(mark) if mark.hash.is_empty() => Ok(meta(tx, "marked")?.is_none()),
            Some(mark) => {
                let sql = "SELECT seq FROM event WHERE station = $1 AND seq = $2 AND hash = $3";
                let key = [mark.station.as_str().into(), mark.seq.into(), mark.hash.as_str().into()];
                Ok(!tx.rows(sql, &key)?.is_empty())
            }
        })?;
        match (known, &held.mark) {
            (true, _) => {
                self.settle_pending(&mut held)?;
                Ok(Some(held))
            }
            (false, Some(mark)) => Err(LedgerError::IsCopy(format!(
                "the newest issue of this ledger (event {} of station {}) is not in it: another copy went on",
                mark.seq, mark.station
            ))),
            (false, None) => Err(LedgerError::IsCopy(
                "the mark of its newest issue is not in this state folder: it was moved, or is a copy".into(),
            )),
        }
    }

    /// After a crash in the middle of an issue: what is still free of it may have been issued by a copy of this file that
    /// was put aside meanwhile, and is put out of use.
    fn settle_pending(&mut self, held: &mut Held) -> Result<(), LedgerError> {
        let Some(mark) = held.mark.clone() else { return Ok(()) };
        let Some(Pending { pool, first, last }) = mark.pending.clone() else { return Ok(()) };
        let station = self.station.clone();
        self.tx(|tx| {
            let voided = tx.run(
                "UPDATE identity SET state = 'VOID', reason = 'a crash hides whether it was issued', changed_ms = $1 \
                 WHERE pool = $2 AND state = 'FREE' AND position >= $3 AND position <= $4 AND (lease IS NULL OR lease IN \
                 (SELECT id FROM lease WHERE state = 'RETURNED'))",
                &[now_ms().into(), pool.as_str().into(), first.into(), last.into()],
            )?;
            if voided == 0 {
                return Ok(());
            }
            let body = json!({"void": voided, "pool": pool, "first": first, "last": last, "crash": true});
            tx.note(&Note { station: &station, run: None, kind: "gap_voided", body })
        })?;
        let mark = Mark { pending: None, ..mark };
        held.write(&mark).map_err(outside)?;
        held.mark = Some(mark);
        Ok(())
    }

    /// The lock on this file's mark, where marks are kept.
    fn held(&mut self) -> Result<Option<Held>, LedgerError> {
        let Some(folder) = self.marks.clone() else { return Ok(None) };
        let id = self.tx(|tx| match meta(tx, "file_id")? {
            Some(id) => Ok(id),
            None => {
                let rows = tx.rows("SELECT lower(hex(randomblob(16)))", &[])?;
                let id = rows.first().map(|row| row.text(0)).unwrap_or_default();
                set_meta(tx, "file_id", &id).map(|()| id)
            }
        })?;
        // It becomes a file's name.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(LedgerError::Database("the ledger's file id is not hexadecimal".into()));
        }
        Held::new(&folder, &id).map(Some).map_err(outside)
    }

    /// Moves the mark to the newest event, after values up to `position` of the pool were issued or lent.
    pub(crate) fn issued(&mut self, held: Option<Held>, pool: &str, position: i64) -> Result<(), LedgerError> {
        let Some(held) = held else { return Ok(()) };
        let mut mark = held.mark.clone().unwrap_or_default();
        let last = mark.positions.entry(pool.to_owned()).or_default();
        *last = (*last).max(position);
        self.mark(&held, mark)
    }

    fn mark(&mut self, held: &Held, mut mark: Mark) -> Result<(), LedgerError> {
        let station = self.station.clone();
        let head = self.tx(|tx| {
            if meta(tx, "marked")?.is_none() {
                set_meta(tx, "marked", "yes")?;
            }
            let sql = "SELECT seq, hash FROM event WHERE station = $1 ORDER BY seq DESC LIMIT 1";
            let rows = tx.rows(sql, &[station.as_str().into()])?;
            Ok(rows.first().map(|row| (row.int(0), row.text(1))))
        })?;
        let Some((seq, hash)) = head else { return Ok(()) };
        (mark.station, mark.seq, mark.hash, mark.pending) = (station, seq, hash, None);
        held.write(&mark).map_err(outside)
    }

    /// A person has decided that this copy goes on: in each pool, what is free up to the last position that another copy
    /// is known to have issued, and the next `more` values behind it, is put out of use. Other copies on this computer
    /// refuse to issue from then on. Returns how many values that are.
    pub fn void_gap(&mut self, more: i64) -> Result<u64, LedgerError> {
        let held = self.held()?;
        let known = held.as_ref().and_then(|held| held.mark.clone()).unwrap_or_default();
        let mut positions = known.positions;
        if let Some(Pending { pool, last, .. }) = known.pending {
            let known = positions.entry(pool).or_default();
            *known = (*known).max(last);
        }
        let station = self.station.clone();
        let voided = self.tx(|tx| {
            let pools = tx.rows("SELECT name FROM pool ORDER BY name", &[])?;
            let mut voided = 0;
            for pool in pools.iter().map(|row| row.text(0)) {
                let last = positions.get(&pool).copied().unwrap_or(0);
                voided += tx.run(
                    "UPDATE identity SET state = 'VOID', reason = 'another copy of the ledger may have issued it', \
                     changed_ms = $1 WHERE pool = $2 AND state = 'FREE' AND (lease IS NULL OR lease IN (SELECT id FROM \
                     lease WHERE state = 'RETURNED')) AND (position <= $3 OR id IN (SELECT id FROM identity WHERE \
                     pool = $2 AND state = 'FREE' AND position > $3 ORDER BY position LIMIT $4))",
                    &[now_ms().into(), pool.as_str().into(), last.into(), more.into()],
                )?;
            }
            tx.run("DELETE FROM meta WHERE key = 'copy'", &[])?;
            let body = json!({"void": voided, "beyond_known": more});
            tx.note(&Note { station: &station, run: None, kind: "gap_voided", body })?;
            Ok(voided)
        })?;
        if let Some(held) = &held {
            let mark = held.mark.clone().unwrap_or_default();
            self.mark(held, mark)?;
        }
        Ok(voided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{State, Unit, Values};

    fn open(dir: &Path) -> Ledger {
        let ledger = Ledger::open(&dir.join("a.db").display().to_string(), "line 1", "this computer").unwrap();
        ledger.with_marks(&dir.join("marks"))
    }

    fn serials() -> Values {
        Values::Serial { prefix: "SN-".into(), first: 1, width: 3, count: 20 }
    }

    fn issue(dir: &Path, unit: u8) -> String {
        let unit = Unit::new(&format!("02:00:00:00:00:{unit:02x}"));
        open(dir).reserve("serials", &unit).unwrap().value
    }

    #[test]
    fn values_whose_issue_a_crash_cut_off_are_never_issued() {
        for issued_before in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path();
            open(dir).add_pool("serials", "serial", &serials()).unwrap();
            let next = if issued_before { issue(dir, 1) } else { String::new() };
            assert_eq!(next, if issued_before { "SN-001" } else { "" });
            // The crash comes after the mark was written and before the issue was kept; or the file was put back.
            let first = if issued_before { 2 } else { 1 };
            open(dir).may_issue().unwrap().unwrap().about_to("serials", first, first).unwrap();
            let skipped = format!("SN-{first:03}");
            assert_eq!(issue(dir, 9), format!("SN-{:03}", first + 1), "issued before: {issued_before}");
            let found = open(dir).find("serial", &skipped).unwrap().unwrap();
            assert_eq!((found.state, found.unit), (State::Void, None));
            assert_eq!(issue(dir, 10), format!("SN-{:03}", first + 2), "only once");
        }
    }

    #[test]
    fn values_whose_mark_a_crash_cut_off_stay_with_their_unit() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        open(dir).add_pool("serials", "serial", &serials()).unwrap();
        issue(dir, 1);
        let held = open(dir).may_issue().unwrap().unwrap();
        // The issue is kept, and the mark is not moved.
        let mut unmarked = open(dir);
        unmarked.marks = None;
        let unit = Unit::new("02:00:00:00:00:02");
        let kept = unmarked.reserve("serials", &unit).unwrap();
        held.about_to("serials", kept.position, kept.position).unwrap();
        drop(held);
        assert_eq!(open(dir).reserve("serials", &unit).unwrap().value, kept.value);
        assert_eq!(issue(dir, 3), "SN-003");
    }
}
