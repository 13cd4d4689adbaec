//! The chain of events as an outbox, and the queries of the Grafana board.

use esp_ledger::Outcome;
use serde_json::{Value as Json, json};

use crate::server::Server;
use crate::{open, serials, unit};

/// Each receiver has a cursor of its own, which never goes back.
pub fn receivers_have_cursors(url: &str) {
    let (mut one, mut other) = (open(url, "one"), open(url, "two"));
    for number in 0..5 {
        one.record(None, "test", &json!({ "number": number })).unwrap();
    }
    other.record(None, "test", &json!({})).unwrap();
    let sequence = |ledger: &mut esp_ledger::Ledger, sink: &str| -> Vec<i64> {
        ledger.pending(sink, 100).unwrap().iter().map(|event| event.seq).collect()
    };
    assert_eq!(sequence(&mut one, "mes"), [1, 2, 3, 4, 5]);
    assert_eq!(one.pending("mes", 2).unwrap().len(), 2);
    one.confirmed("mes", 3).unwrap();
    one.confirmed("mes", 2).unwrap();
    assert_eq!(sequence(&mut one, "mes"), [4, 5]);
    assert_eq!(sequence(&mut one, "broker"), [1, 2, 3, 4, 5]);
    assert_eq!(sequence(&mut other, "mes"), [1]);
    drop(one);
    assert_eq!(sequence(&mut open(url, "one"), "mes"), [4, 5]);
}

/// A person names a unit by its serial number, in any letters.
pub fn a_value_leads_to_its_unit(url: &str) {
    let mut ledger = open(url, "one");
    ledger.add_pool("serials", "serial", &serials(3)).unwrap();
    ledger.reserve("serials", &unit(1)).unwrap();
    assert_eq!(ledger.holder(" sn-00001 ").unwrap().map(|unit| unit.base_mac), Some("240ac4000001".into()));
    assert!(ledger.holder("SN-00002").unwrap().is_none());
}

/// Every panel's query runs on a ledger, and finds what is there.
pub fn the_board_of_grafana_fits_the_schema(server: &Server) {
    let url = server.database("grafana");
    let mut ledger = open(&url, "line-3");
    ledger.add_pool("serials", "serial", &serials(5)).unwrap();
    let run = ledger.begin_run(&unit(1), None).unwrap();
    ledger.end_run(run, Outcome::Passed).unwrap();
    ledger.record(None, "device_not_identified", &json!({})).unwrap();
    let board = include_str!("../../../../packaging/grafana/line.json");
    let board: Json = serde_json::from_str(board).unwrap();
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() >= 8);
    for panel in panels {
        let sql = panel["targets"][0]["rawSql"].as_str().unwrap();
        let sql = sql.replace("$__unixEpochFrom()", "0").replace("$__unixEpochTo()", "4102444800");
        let rows = client.query(sql.as_str(), &[]).unwrap_or_else(|error| panic!("{}: {error}\n{sql}", panel["title"]));
        assert!(!rows.is_empty() || panel["title"] == "Most frequent failures", "{}", panel["title"]);
    }
}
