//! `/metrics`: the station's numbers in Prometheus' text format.

use std::fmt::Write;

use esp_factory::floor::View;
use serde_json::Value;

/// The type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All numbers. `production` is what the ledger said, as the station page has it.
pub fn text(station: &str, view: &View, production: &Value) -> String {
    let mut out = Metrics { text: String::new(), station };
    let totals = &view.totals;
    out.family("esp_station_units_total", "counter", "Units since the server started, by whether they passed.");
    out.value("esp_station_units_total", &[("passed", "true")], totals.passed.into());
    out.value("esp_station_units_total", &[("passed", "false")], totals.not_passed.into());
    out.family("esp_station_failures_total", "counter", "Units that did not pass, by error code or failed step.");
    for (reason, count) in &totals.failures {
        out.value("esp_station_failures_total", &[("reason", reason)], (*count).into());
    }
    out.family("esp_station_slots", "gauge", "Slots by what they do.");
    for state in ["empty", "waiting", "running", "pass", "fail", "unknown", "aborted"] {
        let count = view.slots.iter().filter(|slot| slot.state == state).count();
        out.value("esp_station_slots", &[("state", state)], count as u64);
    }
    out.family("esp_ledger_up", "gauge", "1 when the ledger answers.");
    out.value("esp_ledger_up", &[], u64::from(production.get("error").is_none()));
    out.family("esp_ledger_runs", "gauge", "Runs in the ledger, by state.");
    for (state, count) in pairs(&production["runs"]) {
        out.value("esp_ledger_runs", &[("state", state)], count);
    }
    out.family("esp_ledger_pool_values", "gauge", "Values of a pool, by state.");
    for pool in production["pools"].as_array().into_iter().flatten() {
        let name = pool["name"].as_str().unwrap_or_default();
        for (state, count) in pairs(&pool["counts"]) {
            out.value("esp_ledger_pool_values", &[("pool", name), ("state", state)], count);
        }
    }
    out.text
}

/// `[["PASSED", 3], …]`.
fn pairs(list: &Value) -> impl Iterator<Item = (&str, u64)> {
    list.as_array().into_iter().flatten().filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_u64()?)))
}

struct Metrics<'a> {
    text: String,
    station: &'a str,
}

impl Metrics<'_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let station = [("station", self.station)];
        let labels: Vec<String> =
            station.iter().chain(labels).map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _ = writeln!(self.text, "{name}{{{}}} {value}", labels.join(","));
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_labels_and_texts_are_escaped() {
        let mut view = View::default();
        view.totals.not_passed = 2;
        view.totals.failures.insert("no \"sync\"\n".into(), 2);
        let ledger = serde_json::json!({
            "runs": [["PASSED", 7]], "pools": [{"name": "serials", "counts": [["FREE", 90], ["VERIFIED", 10]]}],
        });
        let text = text("line-3", &view, &ledger);
        for line in [
            "esp_station_units_total{station=\"line-3\",passed=\"false\"} 2",
            "esp_station_failures_total{station=\"line-3\",reason=\"no \\\"sync\\\"\\n\"} 2",
            "esp_ledger_up{station=\"line-3\"} 1",
            "esp_ledger_runs{station=\"line-3\",state=\"PASSED\"} 7",
            "esp_ledger_pool_values{station=\"line-3\",pool=\"serials\",state=\"FREE\"} 90",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Every line is a comment or a value.
        assert!(text.lines().all(|line| line.starts_with("# ")
            || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<u64>().is_ok())));
    }
}
