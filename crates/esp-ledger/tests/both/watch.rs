//! What a page about all stations asks for, and when it hears that something changed.

use std::time::{Duration, Instant};
use std::{fs, thread};

use esp_ledger::{Changes, Outcome};

use crate::server::Server;
use crate::{open, unit};

pub fn stations_and_their_runs_are_told_apart(url: &str) {
    let (mut one, mut two) = (open(url, "one"), open(url, "two"));
    for (number, outcome) in [(1, Outcome::Passed), (2, Outcome::Failed), (3, Outcome::Aborted), (4, Outcome::Passed)] {
        let run = one.begin_run(&unit(number), None).unwrap();
        one.end_run(run, outcome).unwrap();
    }
    two.begin_run(&unit(5), None).unwrap();
    let found = one.stations(0).unwrap();
    let names: Vec<&str> = found.iter().map(|station| station.station.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!((found[0].passed, found[0].not_passed, found[0].running.len()), (2, 2, 0));
    assert_eq!(found[0].last.as_ref().unwrap().unit, unit(4).base_mac.replace(':', ""));
    assert_eq!((found[1].passed, found[1].not_passed, found[1].running.len()), (0, 0, 1));
    assert!(found[1].last.is_none());
    let later = found[1].running[0].started_ms + 1_000_000;
    assert!(one.stations(later).unwrap().is_empty());
}

pub fn a_run_elsewhere_is_heard_of_at_once(server: &mut Server) {
    assert!(Changes::of("ledger.db").is_none());
    let url = server.database("heard");
    let mut ledger = open(&url, "one");
    let changes = Changes::of(&url).unwrap();
    let grows = |from: u64| {
        let begin = Instant::now();
        while changes.count() <= from {
            assert!(begin.elapsed() < Duration::from_secs(40), "nothing was heard after {from}");
            thread::sleep(Duration::from_millis(10));
        }
        begin.elapsed()
    };
    grows(0);
    let before = changes.count();
    let run = ledger.begin_run(&unit(1), None).unwrap();
    assert!(grows(before) < Duration::from_secs(1));
    let before = changes.count();
    ledger.end_run(run, Outcome::Passed).unwrap();
    grows(before);
    // After a crash of the server it listens again, and says that something may have been missed.
    let before = changes.count();
    server.crash_and_restart();
    grows(before);
    let before = changes.count();
    open(&url, "two").begin_run(&unit(2), None).unwrap();
    grows(before);
    drop(changes);
    let begin = Instant::now();
    while threads().iter().any(|name| name.starts_with("ledger listene")) {
        assert!(begin.elapsed() < Duration::from_secs(10), "the listener goes on");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Names of this process's threads, as Linux keeps them; elsewhere none.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect()
}
