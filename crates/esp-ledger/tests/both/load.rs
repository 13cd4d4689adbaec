//! How fast identities are issued by eight stations on one PostgreSQL, and how long anything is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use esp_ledger::{Ledger, State, Unit};

use crate::server::Server;
use crate::{open, serials};

const STATIONS: u32 = 8;

/// The whole way of an identity, from FREE to VERIFIED, by stations with a connection each.
pub fn eight_stations(server: &Server) {
    let units: u32 = if crate::is_long() { 250 } else { 25 };
    let url = server.database("load");
    open(&url, "centre").add_pool("serials", "serial", &serials(u64::from(STATIONS * units))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = thread::spawn({
        let (url, stop) = (url.clone(), stop.clone());
        move || locks(&url, &stop)
    });
    let mut reserved = Vec::new();
    let begin = Instant::now();
    let stations: Vec<_> = (0..STATIONS)
        .map(|station| {
            let url = url.clone();
            thread::spawn(move || {
                let mut ledger = open(&url, &format!("load {station}"));
                let begin = Instant::now();
                let ids: Vec<(Unit, i64)> = (0..units)
                    .map(|n| {
                        let unit = Unit::new(&format!("240ac5{station:02x}{n:04x}"));
                        let id = ledger.reserve("serials", &unit).unwrap().id;
                        (unit, id)
                    })
                    .collect();
                let took = begin.elapsed();
                for (unit, id) in ids {
                    through(&mut ledger, &unit, id);
                }
                took
            })
        })
        .collect();
    for station in stations {
        reserved.push(station.join().unwrap());
    }
    let (all, slowest) = (begin.elapsed(), reserved.into_iter().max().unwrap());
    stop.store(true, Ordering::Relaxed);
    let seen = watcher.join().unwrap();
    let count = f64::from(STATIONS * units);
    let (issued, whole) = (count / slowest.as_secs_f64(), count / all.as_secs_f64());
    eprintln!(
        "PostgreSQL, 8 stations: {issued:.0} identities/s reserved, {whole:.0}/s from FREE to VERIFIED; in {} looks: {} locks \
         while a station thinks, {} waits for a lock, longest statement with its commit {:?}",
        seen.looks, seen.idle, seen.waits, seen.longest
    );
    assert!(seen.looks > 10);
    assert_eq!(seen.idle, 0, "something is locked for longer than a statement");
    // A look may meet one that waits for a row for a moment; stations in a queue would be seen at nearly every look.
    assert!(
        seen.waits * 4 <= i64::from(seen.looks),
        "stations wait for each other: {} of {} looks",
        seen.waits,
        seen.looks
    );
    assert_eq!(open(&url, "centre").verify().unwrap(), []);
    if crate::is_long() {
        assert!(issued >= 200.0, "{issued:.0} identities/s");
    }
}

fn through(ledger: &mut Ledger, unit: &Unit, id: i64) {
    ledger.advance_all(&[id], unit, State::Writing).unwrap();
    ledger.advance_all(&[id], unit, State::Written).unwrap();
    ledger.advance_all(&[id], unit, State::Verified).unwrap();
}

/// What another connection saw of the stations.
#[derive(Default)]
struct Seen {
    looks: u32,
    /// Transactions that were open between two statements, so that their locks outlived a statement.
    idle: i64,
    /// Stations that waited for a lock of another.
    waits: i64,
    longest: Duration,
}

/// Looks at the locks all the time.
fn locks(url: &str, stop: &AtomicBool) -> Seen {
    let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
    let sql = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8, \
               count(*) FILTER (WHERE wait_event IN ('transactionid', 'tuple', 'relation')), \
               count(*) FILTER (WHERE state LIKE 'idle in transaction%') \
               FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()";
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let row = client.query_one(sql, &[]).unwrap();
        seen.looks += 1;
        seen.longest = seen.longest.max(Duration::from_secs_f64(row.get(0)));
        seen.waits += row.get::<_, i64>(1);
        seen.idle += row.get::<_, i64>(2);
        thread::sleep(Duration::from_millis(1));
    }
    seen
}
