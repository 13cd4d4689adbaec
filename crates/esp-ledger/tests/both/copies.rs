//! Copies of a ledger's file never issue what another one issued.

use std::path::{Path, PathBuf};

use esp_ledger::{Ledger, LedgerError};

use crate::{serials, unit};

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.open("a.db").add_pool("serials", "serial", &serials(20)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, name: &str) -> Ledger {
        let ledger = Ledger::open(&self.path(name).display().to_string(), "line 1", "this computer").unwrap();
        ledger.with_marks(&self.path("marks"))
    }

    /// As a person would: the ledger is closed, so that the file is whole.
    fn copy(&self, from: &str, to: &str) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.path(&format!("{to}{end}")));
            let from: &Path = &self.path(&format!("{from}{end}"));
            if from.exists() {
                std::fs::copy(from, self.path(&format!("{to}{end}"))).unwrap();
            }
        }
    }

    fn issue(&self, name: &str, number: u32) -> Result<String, LedgerError> {
        self.open(name).reserve("serials", &unit(number)).map(|identity| identity.value)
    }
}

fn is_copy(result: Result<String, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::IsCopy(_)))
}

#[test]
fn backups_do_not_issue_until_the_gap_is_void() {
    let bench = Bench::new();
    assert_eq!(bench.issue("a.db", 1).unwrap(), "SN-00001");
    bench.open("a.db").backup(&bench.path("b.db")).unwrap();
    assert!(is_copy(bench.issue("b.db", 2)));
    assert!(matches!(bench.open("b.db").lend("serials", "line 2", 1, 1), Err(LedgerError::IsCopy(_))));
    for number in 2..=4 {
        bench.issue("a.db", number).unwrap();
    }
    // What the other one is known to have issued, and two more.
    assert_eq!(bench.open("b.db").void_gap(2).unwrap(), 5);
    assert_eq!(bench.issue("b.db", 9).unwrap(), "SN-00007");
    assert!(is_copy(bench.issue("a.db", 10)), "the first one ends");
    assert!(bench.open("b.db").verify().unwrap().is_empty());
}

#[test]
fn copied_and_put_back_files_do_not_issue_twice() {
    let bench = Bench::new();
    bench.issue("a.db", 1).unwrap();
    bench.copy("a.db", "c.db");
    assert_eq!(bench.issue("a.db", 2).unwrap(), "SN-00002");
    assert!(is_copy(bench.issue("c.db", 3)), "a copy that fell behind");
    bench.copy("c.db", "a.db");
    assert!(is_copy(bench.issue("a.db", 3)), "an older state that was put back");
    assert_eq!(bench.open("a.db").void_gap(0).unwrap(), 1);
    assert_eq!(bench.issue("a.db", 3).unwrap(), "SN-00003");
    // Whichever of two equal copies goes on, the other one ends.
    bench.copy("a.db", "d.db");
    assert_eq!(bench.issue("d.db", 4).unwrap(), "SN-00004");
    assert!(is_copy(bench.issue("a.db", 5)));
}

#[test]
fn lost_marks_are_noticed_and_crashes_before_a_mark_are_not_a_copy() {
    let bench = Bench::new();
    bench.issue("a.db", 1).unwrap();
    let marks: Vec<PathBuf> =
        std::fs::read_dir(bench.path("marks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mark = marks.iter().find(|path| path.extension().is_none()).unwrap();
    let older = std::fs::read(mark).unwrap();
    bench.issue("a.db", 2).unwrap();
    // A crash after the database kept the issue and before the mark was moved.
    std::fs::write(mark, older).unwrap();
    assert_eq!(bench.issue("a.db", 3).unwrap(), "SN-00003");
    std::fs::remove_dir_all(bench.path("marks")).unwrap();
    assert!(is_copy(bench.issue("a.db", 4)));
    bench.open("a.db").void_gap(0).unwrap();
    assert_eq!(bench.issue("a.db", 4).unwrap(), "SN-00004");
}
