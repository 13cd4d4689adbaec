//! One suite of tests for two databases, and stations that are killed at any point.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod copies;
mod installed;
mod load;
mod outbox;
mod server;
mod stations;
mod tls;
mod watch;

use std::path::Path;

use esp_ledger::{Ledger, LedgerError, Measurement, Outcome, State, Unit, Values, Verdict};
use serde_json::json;
use server::Server;

/// A test of the ledger at an URL.
type Test = fn(&str);

/// Runs a test on a fresh SQLite file and on a fresh PostgreSQL database.
fn on_both(server: Option<&Server>, name: &str, test: Test) {
    let dir = tempfile::tempdir().unwrap();
    test(&dir.path().join("ledger.db").display().to_string());
    if let Some(server) = server {
        test(&server.database(name));
    }
}

fn open(url: &str, station: &str) -> Ledger {
    Ledger::open(url, station, "this computer").unwrap()
}

fn unit(n: u32) -> Unit {
    Unit::new(&format!("24:0a:c4:00:{:02x}:{:02x}", n >> 8, n & 0xff))
}

fn serials(count: u64) -> Values {
    Values::Serial { prefix: "SN-".into(), first: 1, width: 5, count }
}

#[test]
fn the_suite() {
    let server = Server::start();
    if server.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "no PostgreSQL binaries (install postgresql, or set MCP_ESPTOOL_PG_BIN)"
        );
        eprintln!("skipped: 17 tests on PostgreSQL: no server binaries on this machine");
    }
    let tests: [(&str, Test); 16] = [
        ("way", the_whole_way_of_an_identity),
        ("repeat", the_same_board_again_gets_the_same),
        ("rules", the_database_itself_refuses_what_must_not_be),
        ("pools", pools_and_their_ends),
        ("unused", unused_values_are_removed_and_a_chosen_one_is_claimed),
        ("leases", leases_are_disjoint_and_come_back),
        ("runs", runs_measurements_and_recipes),
        ("chain", a_changed_event_is_found),
        ("texts", the_chain_holds_for_any_text),
        ("clones", clones_are_quarantined),
        ("at_once", many_stations_at_once),
        ("kinds", one_identity_of_a_kind),
        ("finish", a_run_ends_in_one_piece),
        ("outbox", outbox::receivers_have_cursors),
        ("holder", outbox::a_value_leads_to_its_unit),
        ("all_stations", watch::stations_and_their_runs_are_told_apart),
    ];
    for (name, test) in tests {
        on_both(server.as_ref(), name, test);
    }
    if let Some(mut server) = server {
        outbox::the_board_of_grafana_fits_the_schema(&server);
        load::eight_stations(&server);
        watch::a_run_elsewhere_is_heard_of_at_once(&mut server);
        tls::certificates_are_checked_as_asked(&mut server);
        stations::postgres_stations_survive_kills(&mut server);
    }
}

#[test]
fn sqlite_stations_survive_kills() {
    stations::sqlite_stations_survive_kills();
}

/// The long form of the tests was asked for.
fn is_long() -> bool {
    std::env::var("MCP_ESPTOOL_LONG").is_ok_and(|value| value == "1")
}

#[test]
fn a_full_disk_loses_nothing() {
    stations::sqlite_stations_survive_a_full_disk();
    stations::postgres_stations_survive_a_full_disk();
}

/// Not a test of its own: what a station process does.
#[test]
fn station_process() {
    stations::be_a_station();
}

fn the_whole_way_of_an_identity(url: &str) {
    let mut ledger = open(url, "one");
    assert_eq!(ledger.add_pool("serials", "serial", &serials(3)).unwrap(), 3);
    let got = ledger.reserve("serials", &unit(1)).unwrap();
    assert_eq!((got.value.as_str(), got.state), ("SN-00001", State::Reserved));
    for wrong in [State::Verified, State::Free, State::Labelled, State::Void] {
        assert!(matches!(ledger.advance(got.id, &unit(1), wrong), Err(LedgerError::Step { .. })), "{wrong}");
    }
    assert!(matches!(ledger.advance(got.id, &unit(2), State::Writing), Err(LedgerError::OtherUnit { .. })));
    for state in [State::Writing, State::Written, State::Verified, State::Labelled] {
        assert_eq!(ledger.advance(got.id, &unit(1), state).unwrap().state, state);
        // Being there already is no error: a crash may have come after the commit.
        assert_eq!(ledger.advance(got.id, &unit(1), state).unwrap().state, state);
    }
    assert_eq!(ledger.reprint(got.id).unwrap().labels, 2);
    let void = ledger.void(got.id, "scrapped").unwrap();
    assert_eq!((void.state, void.unit.as_deref()), (State::Void, Some("240ac4000001")));
    // The unit gets a new value, never the old one.
    assert_eq!(ledger.reserve("serials", &unit(1)).unwrap().value, "SN-00002");
    assert_eq!(ledger.of_unit(&unit(1)).unwrap().len(), 2);
    assert_eq!(ledger.verify().unwrap(), []);
}

fn the_same_board_again_gets_the_same(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(5)).unwrap();
    let first = ledger.reserve("serials", &unit(7)).unwrap();
    drop(ledger);
    let mut again = open(url, "two");
    let shouting = Unit::new("24-0A-C4-00-00-07");
    assert_eq!(again.reserve("serials", &shouting).unwrap(), first);
    assert_eq!(again.counts("serials").unwrap(), [(State::Free, 4), (State::Reserved, 1)]);
}

fn the_database_itself_refuses_what_must_not_be(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(3)).unwrap();
    let got = ledger.reserve("serials", &unit(1)).unwrap();
    ledger.advance(got.id, &unit(1), State::Writing).unwrap();
    drop(ledger);
    for sql in [
        "UPDATE identity SET state = 'FREE', device = NULL WHERE id = 1",
        "UPDATE identity SET state = 'RESERVED' WHERE id = 1",
        "UPDATE identity SET state = 'VERIFIED' WHERE id = 1",
        "UPDATE identity SET device = NULL WHERE id = 1",
        "UPDATE identity SET value = 'SN-9' WHERE id = 1",
        "UPDATE identity SET state = 'RESERVED', device = '240ac4000001' WHERE id = 2",
        "UPDATE identity SET state = 'RESERVED' WHERE id = 2",
        "UPDATE identity SET state = 'VOID' WHERE id = 2",
        "UPDATE identity SET state = 'SOLD' WHERE id = 2",
        "INSERT INTO identity (pool, kind, value, position, changed_ms) VALUES ('serials', 'serial', 'SN-00001', 99, 0)",
        "INSERT INTO identity (pool, kind, value, position, state, reason, changed_ms) VALUES ('serials', 'serial', 'x', 98, 'VOID', 'r', 0)",
        "INSERT INTO device (base_mac, first_seen_ms) VALUES ('000000000000', 0)",
        "INSERT INTO device (base_mac, first_seen_ms) VALUES ('24:0A:C4:00:00:01', 0)",
        "DELETE FROM identity WHERE id = 1",
        "DELETE FROM event WHERE seq = 1",
        "UPDATE event SET body = '{}' WHERE seq = 1",
    ] {
        assert!(raw(url, sql).is_err(), "accepted: {sql}");
    }
    assert_eq!(open(url, "one").counts("serials").unwrap(), [(State::Free, 2), (State::Writing, 1)]);
}

/// A statement past the ledger's code.
fn raw(url: &str, sql: &str) -> Result<(), String> {
    if url.contains("dbname=") {
        let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
        return client.batch_execute(sql).map_err(|error| error.to_string());
    }
    let connection = rusqlite::Connection::open(url).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    connection.execute_batch(sql).map_err(|error| error.to_string())
}

fn pools_and_their_ends(url: &str) {
    let mut ledger = open(url, "one");
    let macs = Values::Mac { first: [0x24, 0x0a, 0xc4, 0, 0, 0xfe], step: 4, count: 2 };
    ledger.add_pool("macs", "mac", &macs).unwrap();
    assert_eq!(ledger.reserve("macs", &unit(1)).unwrap().value, "24:0a:c4:00:00:fe");
    assert_eq!(ledger.reserve("macs", &unit(2)).unwrap().value, "24:0a:c4:00:01:02");
    assert!(matches!(ledger.reserve("macs", &unit(3)), Err(LedgerError::Exhausted(_))));
    assert!(matches!(ledger.reserve("none", &unit(3)), Err(LedgerError::Unknown(_))));
    // A value that another pool of this kind has: nothing of the new pool is kept, and it is said at once.
    let mixed = Values::List(vec!["fresh".into(), "24:0a:c4:00:00:fe".into()]);
    assert!(
        matches!(ledger.add_pool("more", "mac", &mixed), Err(LedgerError::Taken(value)) if value == "24:0a:c4:00:00:fe")
    );
    assert!(ledger.find("mac", "fresh").unwrap().is_none());
    for bad in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "24:0a:c4", "24:0a:c4:00:00:0g", ""] {
        assert!(matches!(ledger.reserve("macs", &Unit::new(bad)), Err(LedgerError::BadMac(_))), "{bad}");
    }
}

fn unused_values_are_removed_and_a_chosen_one_is_claimed(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(5)).unwrap();
    let pool = &ledger.pools().unwrap()[0];
    assert_eq!((pool.first.as_deref(), pool.last.as_deref()), (Some("SN-00001"), Some("SN-00005")));
    let claimed = ledger.claim("serial", "SN-00003", &unit(1)).unwrap();
    assert_eq!(claimed.state, State::Reserved);
    assert_eq!(ledger.claim("serial", "SN-00003", &unit(1)).unwrap().id, claimed.id, "again the same");
    assert!(matches!(ledger.claim("serial", "SN-00003", &unit(2)), Err(LedgerError::OtherUnit { .. })));
    assert!(matches!(ledger.claim("serial", "SN-00004", &unit(1)), Err(LedgerError::OtherPool { .. })));
    assert!(matches!(ledger.claim("serial", "SN-9", &unit(1)), Err(LedgerError::Unknown(_))));
    assert_eq!(ledger.pools().unwrap()[0].next.as_deref(), Some("SN-00001"));
    assert_eq!(ledger.remove_unused("serials").unwrap(), 4);
    assert_eq!(ledger.counts("serials").unwrap(), [(State::Reserved, 1)], "what was issued stays");
    ledger.add_pool("typo", "serial", &serials(2)).unwrap();
    assert_eq!(ledger.remove_unused("typo").unwrap(), 2);
    assert!(ledger.pools().unwrap().iter().all(|pool| pool.name != "typo"));
    ledger.add_pool("again", "serial", &serials(2)).unwrap();
    assert!(matches!(ledger.remove_unused("nothing"), Err(LedgerError::Unknown(_))));
    assert_eq!(ledger.verify().unwrap(), []);
}

fn leases_are_disjoint_and_come_back(url: &str) {
    let mut centre = open(url, "centre");
    centre.add_pool("serials", "serial", &serials(20)).unwrap();
    let first = centre.lend("serials", "a", 5, 24).unwrap();
    let second = centre.lend("serials", "b", 5, 24).unwrap();
    assert!(first.values.iter().all(|value| !second.values.contains(value)));
    // The centre itself issues none of the lent values.
    assert_eq!(centre.reserve("serials", &unit(100)).unwrap().value, "SN-00011");
    assert!(matches!(centre.lend("serials", "c", 50, 24), Err(LedgerError::Exhausted(_))));

    let dir = tempfile::tempdir().unwrap();
    let mut station = open(&dir.path().join("a.db").display().to_string(), "a");
    assert_eq!(station.borrow(&first).unwrap(), 5);
    assert_eq!(station.borrow(&first).unwrap(), 0);
    assert!(station.borrow(&second).is_err());
    let got = station.reserve("serials", &unit(1)).unwrap();
    for state in [State::Writing, State::Written, State::Verified] {
        station.advance(got.id, &unit(1), state).unwrap();
    }
    let other = station.reserve("serials", &unit(2)).unwrap();
    station.void(other.id, "board broke").unwrap();
    let report = station.report("serials").unwrap();
    assert_eq!(centre.merge(first.id, &report).unwrap(), 5);
    assert_eq!(centre.merge(first.id, &report).unwrap(), 0);
    let merged = centre.find("serial", &got.value).unwrap().unwrap();
    assert_eq!((merged.state, merged.unit), (State::Verified, Some("240ac4000001".into())));

    assert_eq!(centre.end_lease(first.id, false).unwrap(), 0);
    assert_eq!(centre.end_lease(second.id, true).unwrap(), 5);
    assert_eq!(centre.find("serial", &second.values[0]).unwrap().unwrap().state, State::Void);
    // What came back is used again, in the pool's order; what was lost is not.
    assert_eq!(centre.reserve("serials", &unit(101)).unwrap().value, "SN-00003");
    assert_eq!(centre.verify().unwrap(), []);
}

fn runs_measurements_and_recipes(url: &str) {
    let mut ledger = open(url, "one");
    let recipe = ledger.add_recipe("blink", "[recipe]\n").unwrap();
    assert_eq!(ledger.add_recipe("blink", "[recipe]\n").unwrap(), recipe);
    ledger.add_artefact("app.bin", &"a".repeat(64), 123).unwrap();
    let run = ledger.begin_run(&unit(1), Some(&recipe)).unwrap();
    let volts = Measurement {
        name: "vdd".into(),
        value: Some("3.31 V".into()),
        low: Some("3.2 V".into()),
        high: None,
        verdict: Verdict::Pass,
    };
    ledger.measure(run, &volts).unwrap();
    assert!(ledger.measure(run, &volts).is_err());
    ledger.record(Some(run), "note", &json!({"text": "=1+1, \"quoted\""})).unwrap();
    ledger.end_run(run, Outcome::Passed).unwrap();
    ledger.end_run(run, Outcome::Passed).unwrap();
    assert!(matches!(ledger.end_run(run, Outcome::Failed), Err(LedgerError::Step { .. })));
    assert!(matches!(ledger.end_run(999, Outcome::Failed), Err(LedgerError::Unknown(_))));
    assert!(ledger.begin_run(&unit(1), Some(&"b".repeat(64))).is_err());

    ledger.add_pool("odd", "odd", &Values::List(vec!["=cmd,\"x\"".into()])).unwrap();
    ledger.reserve("odd", &unit(1)).unwrap();
    let csv = ledger.export_csv().unwrap();
    assert!(csv.contains("240ac4000001,odd,odd,\"'=cmd,\"\"x\"\"\",RESERVED,0,\r\n"), "{csv}");
    let all = ledger.export_json().unwrap();
    assert_eq!(all["tables"]["run"][0]["state"], "PASSED");
    assert_eq!(all["tables"]["measurement"][0]["verdict"], "pass");
    assert_eq!(all["tables"]["event"].as_array().unwrap().len(), 4);
}

/// PostgreSQL computes the chain itself: it must write texts as JSON does here.
fn the_chain_holds_for_any_text(url: &str) {
    let mut ledger = open(url, "Werk \"3\" \\ Süd\t\u{1}\u{7f}\u{2028}😀/");
    let odd = "\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}é\u{2029}😀";
    ledger.record(None, odd, &json!({ odd: odd, "n": [1.5, -0.0, 1e300, null] })).unwrap();
    ledger.add_pool("serials", "serial", &Values::List(vec![odd.into()])).unwrap();
    let got = ledger.reserve("serials", &unit(1)).unwrap();
    assert_eq!(got.value, odd);
    ledger.void(got.id, odd).unwrap();
    assert_eq!(ledger.events(None).unwrap().len(), 3);
    assert_eq!(ledger.verify().unwrap(), []);
}

fn a_changed_event_is_found(url: &str) {
    let mut ledger = open(url, "one");
    for n in 0..5 {
        ledger.record(None, "note", &json!({ "n": n })).unwrap();
    }
    assert_eq!(ledger.verify().unwrap(), []);
    drop(ledger);
    if url.contains("dbname=") {
        raw(url, "ALTER TABLE event DISABLE TRIGGER USER; UPDATE event SET body = '{\"n\":9}' WHERE seq = 3").unwrap();
    } else {
        raw(url, "DROP TRIGGER event_is_fixed; UPDATE event SET body = '{\"n\":9}' WHERE seq = 3").unwrap();
    }
    let problems = open(url, "one").verify().unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].what, "event one 3");
}

fn clones_are_quarantined(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(5)).unwrap();
    let with = |uid: &str| Unit { flash_uid: Some(uid.into()), ..unit(1) };
    ledger.reserve("serials", &with("aa")).unwrap();
    ledger.reserve("serials", &with("aa")).unwrap();
    assert!(matches!(ledger.reserve("serials", &with("bb")), Err(LedgerError::Quarantined { .. })));
    // From now on neither board goes on by itself.
    assert!(matches!(ledger.reserve("serials", &with("aa")), Err(LedgerError::Quarantined { .. })));
    let kinds: Vec<String> = ledger.events(None).unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["reserved", "quarantined"]);
}

fn one_identity_of_a_kind(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(3)).unwrap();
    ledger.add_pool("other", "serial", &Values::List(vec!["X-1".into()])).unwrap();
    let got = ledger.reserve("serials", &unit(1)).unwrap();
    assert!(
        matches!(ledger.reserve("other", &unit(1)), Err(LedgerError::OtherPool { value, .. }) if value == "SN-00001")
    );
    let sql = "UPDATE identity SET state = 'RESERVED', device = '240ac4000001' WHERE value = 'X-1'";
    assert!(raw(url, sql).is_err(), "two serials on one unit");
    ledger.void(got.id, "scrapped").unwrap();
    assert_eq!(ledger.reserve("other", &unit(1)).unwrap().value, "X-1");
    let pools = ledger.pools().unwrap();
    assert_eq!(pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["other", "serials"]);
    assert_eq!(pools[1].counts, [(State::Free, 2), (State::Void, 1)]);
}

fn a_run_ends_in_one_piece(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(3)).unwrap();
    let run = ledger.begin_run(&unit(1), None).unwrap();
    let got = ledger.reserve("serials", &unit(1)).unwrap();
    ledger.advance_all(&[got.id], &unit(1), State::Writing).unwrap();
    ledger.advance_all(&[got.id], &unit(1), State::Writing).unwrap();
    let measured = |verdict| Measurement { name: "vdd".into(), value: None, low: None, high: None, verdict };
    let record = json!({"tool": "test"});
    // The second measurement of a name is refused: nothing of the end is kept.
    let twice = [measured(Verdict::Fail), measured(Verdict::Pass)];
    assert!(ledger.finish_run(run, &unit(1), Outcome::Passed, &[got.id], &twice, &record).is_err());
    assert_eq!(ledger.runs(None, 5).unwrap()[0].state, "RUNNING");
    assert_eq!(ledger.of_unit(&unit(1)).unwrap()[0].state, State::Writing);
    for _ in 0..2 {
        let one = [measured(Verdict::Fail)];
        ledger.finish_run(run, &unit(1), Outcome::Passed, &[got.id], &one, &record).unwrap();
    }
    assert_eq!(ledger.of_unit(&unit(1)).unwrap()[0].state, State::Verified);
    assert_eq!(ledger.measurements(run).unwrap(), [measured(Verdict::Fail)]);
    assert_eq!(ledger.top_failures(3).unwrap(), [("vdd".to_owned(), 1)]);
    assert_eq!(ledger.run_counts().unwrap(), [("PASSED".to_owned(), 1)]);
    assert_eq!(ledger.last_event(&unit(1), "record").unwrap().unwrap().body, record.to_string());
    assert_eq!(ledger.device(&unit(1)).unwrap().unwrap().base_mac, "240ac4000001");
    assert_eq!(ledger.runs(Some(&unit(2)), 5).unwrap(), []);
    assert_eq!(ledger.verify().unwrap(), []);
}

fn many_stations_at_once(url: &str) {
    open(url, "0").add_pool("serials", "serial", &serials(160)).unwrap();
    let begin = std::time::Instant::now();
    let stations: Vec<_> = (0..8u32)
        .map(|station| {
            let url = url.to_owned();
            std::thread::spawn(move || {
                let mut ledger = open(&url, &station.to_string());
                // Each unit is tried by two stations.
                let units = (0..20).map(|n| unit((station / 2) * 20 + n));
                units
                    .map(|unit| (unit.base_mac.clone(), ledger.reserve("serials", &unit).unwrap().value))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut values = std::collections::BTreeMap::new();
    for station in stations {
        for (mac, value) in station.join().unwrap() {
            let first = values.entry(mac).or_insert_with(|| value.clone());
            assert_eq!(*first, value);
        }
    }
    let distinct: std::collections::BTreeSet<_> = values.values().collect();
    assert_eq!((values.len(), distinct.len()), (80, 80));
    let kind = if url.contains("dbname=") { "PostgreSQL" } else { "SQLite" };
    eprintln!("{kind}: 160 reservations by 8 stations in {:?}", begin.elapsed());
    assert_eq!(open(url, "0").verify().unwrap(), []);
}

#[test]
fn a_lease_of_another_station_is_refused_as_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut centre = open(&dir.path().join("centre.db").display().to_string(), "centre");
    centre.add_pool("serials", "serial", &serials(10)).unwrap();
    let lease = centre.lend("serials", "line-2", 5, 1).unwrap();
    let mut other = open(&dir.path().join("other.db").display().to_string(), "line-3");
    let error = other.borrow(&lease).unwrap_err();
    assert!(matches!(&error, LedgerError::LeaseOfAnotherStation { lent_to, .. } if lent_to == "line-2"), "{error}");
    assert!(error.to_string().contains("this station is line-3"));
}

#[test]
fn a_copied_file_is_refused_and_a_backup_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db").display().to_string();
    let mut ledger = Ledger::open(&path, "line 1", "computer A").unwrap();
    ledger.add_pool("serials", "serial", &serials(2)).unwrap();
    let copy = dir.path().join("copy.db");
    ledger.backup(&copy).unwrap();
    assert!(ledger.backup(&copy).is_err());
    let copy = copy.display().to_string();
    assert!(
        matches!(Ledger::open(&copy, "line 2", "computer B"), Err(LedgerError::Copied { owner }) if owner == "line 1")
    );
    assert_eq!(Ledger::open(&copy, "line 1", "computer A").unwrap().counts("serials").unwrap(), [(State::Free, 2)]);
    assert!(Path::new(&path).is_file());
}

#[test]
fn an_older_schema_is_brought_up_to_date_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db").display().to_string();
    raw(&path, include_str!("../../src/schema/sqlite_1.sql")).unwrap();
    raw(
        &path,
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL); \
         INSERT INTO meta VALUES ('schema_version', '1'); INSERT INTO pool VALUES ('serials', 'serial', 0); \
         INSERT INTO identity (pool, kind, value, position, changed_ms) VALUES ('serials', 'serial', 'SN-1', 1, 0)",
    )
    .unwrap();
    let mut ledger = open(&path, "one");
    assert_eq!(ledger.reserve("serials", &unit(1)).unwrap().value, "SN-1");
    drop(ledger);
    assert!(raw(&path, "INSERT INTO meta VALUES ('schema_version', '1')").is_err());
}

#[test]
fn a_newer_schema_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db").display().to_string();
    drop(open(&path, "one"));
    raw(&path, "UPDATE meta SET value = '99' WHERE key = 'schema_version'").unwrap();
    let error = Ledger::open(&path, "one", "this computer").err().unwrap();
    assert!(matches!(error, LedgerError::Newer { found: 99, .. }), "{error}");
}
