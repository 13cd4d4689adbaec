//! Runs in the form of OpenHTF's test records (its JSON output, version 1.6.3), which test-data systems read.

use serde_json::{Map, Value as Json, json};

/// The ended runs of a ledger's export (`Ledger::export_json`), oldest first: one record a run, its measurements in one phase.
pub fn records(export: &Json) -> Vec<Json> {
    let rows = |table: &str| export["tables"][table].as_array().map(Vec::as_slice).unwrap_or_default();
    let recipe = |hash: &Json| rows("recipe").iter().find(|one| one["hash"] == *hash).map(|one| one["name"].clone());
    let ended = rows("run").iter().filter(|run| !run["ended_ms"].is_null());
    let record = |run: &Json| {
        let own: Vec<&Json> = rows("measurement").iter().filter(|one| one["run"] == run["id"]).collect();
        let identities = rows("identity").iter().filter(|one| one["device"] == run["device"]);
        let identities: Map<_, _> = identities
            .filter(|one| !esp_model::nvs::is_secret_name(one["kind"].as_str().unwrap_or_default()))
            .filter_map(|one| Some((one["kind"].as_str()?.to_owned(), one["value"].clone())))
            .collect();
        let name = recipe(&run["recipe"]).unwrap_or(Json::Null);
        json!({
            "dut_id": run["device"],
            "start_time_millis": run["started_ms"],
            "end_time_millis": run["ended_ms"],
            "outcome": outcome(run),
            "outcome_details": [],
            "station_id": run["station"],
            "metadata": {
                "test_name": name, "config": { "station_id": run["station"] },
                "recipe_hash": run["recipe"], "run": run["id"], "identities": identities,
            },
            "phases": [{
                "name": "production",
                "start_time_millis": run["started_ms"],
                "end_time_millis": run["ended_ms"],
                "outcome": if run["state"] == "PASSED" { "PASS" } else { "FAIL" },
                "result": { "phase_result": "CONTINUE" },
                "measurements": own.iter().map(|one| measurement(one)).collect::<Map<_, _>>(),
                "attachments": {},
            }],
            "log_records": [],
        })
    };
    ended.map(record).collect()
}

fn outcome(run: &Json) -> &'static str {
    match run["state"].as_str() {
        Some("PASSED") => "PASS",
        Some("FAILED") => "FAIL",
        _ => "ABORTED",
    }
}

/// A measurement by its name; one that was not measured is unset there, too.
fn measurement(row: &Json) -> (String, Json) {
    let name = row["name"].as_str().unwrap_or_default().to_owned();
    let limit = |name: &str| row[name].as_str().filter(|limit| !limit.is_empty());
    let validators: Vec<String> = match (limit("low"), limit("high")) {
        (Some(low), Some(high)) if low == high => vec![format!("x == {low}")],
        (Some(low), Some(high)) => vec![format!("{low} <= x <= {high}")],
        (Some(low), None) => vec![format!("{low} <= x")],
        (None, Some(high)) => vec![format!("x <= {high}")],
        (None, None) => Vec::new(),
    };
    let verdict = row["verdict"].as_str().unwrap_or_default().to_ascii_uppercase();
    let is_known = matches!(verdict.as_str(), "PASS" | "FAIL");
    let mut out = json!({
        "name": name, "outcome": if is_known { verdict.as_str() } else { "UNSET" }, "validators": validators,
    });
    if let (true, Some(value)) = (is_known, row["value"].as_str()) {
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
        out["measured_value"] = number.map_or_else(|| value.into(), Json::from);
    }
    (name, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_runs_become_records() {
        let export = json!({ "tables": {
            "recipe": [{ "hash": "ab", "name": "lamp" }],
            "identity": [
                { "device": "240ac4000001", "kind": "serial", "value": "SN-1" },
                { "device": "240ac4000001", "kind": "password", "value": "hidden" }],
            "run": [
                { "id": 1, "device": "240ac4000001", "station": "one", "recipe": "ab", "state": "FAILED", "started_ms": 5, "ended_ms": 9 },
                { "id": 2, "device": "240ac4000002", "station": "one", "recipe": "ab", "state": "RUNNING", "started_ms": 7, "ended_ms": null }],
            "measurement": [
                { "run": 1, "name": "vdd", "value": "3.1", "low": "3.2", "high": "3.4", "verdict": "fail", "at_ms": 6 },
                { "run": 1, "name": "fw", "value": "1.2.0", "low": null, "high": null, "verdict": "pass", "at_ms": 6 },
                { "run": 1, "name": "rf", "value": null, "low": null, "high": "9", "verdict": "unknown", "at_ms": 6 }],
        }});
        let records = records(&export);
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((&record["dut_id"], &record["outcome"]), (&json!("240ac4000001"), &json!("FAIL")));
        assert_eq!(record["metadata"]["test_name"], "lamp");
        assert_eq!(record["metadata"]["identities"], json!({ "serial": "SN-1" }));
        let measured = &record["phases"][0]["measurements"];
        let wanted =
            json!({ "name": "vdd", "outcome": "FAIL", "validators": ["3.2 <= x <= 3.4"], "measured_value": 3.1 });
        assert_eq!(measured["vdd"], wanted);
        assert_eq!(measured["fw"]["measured_value"], "1.2.0");
        assert_eq!(measured["rf"], json!({ "name": "rf", "outcome": "UNSET", "validators": ["x <= 9"] }));
    }
}
