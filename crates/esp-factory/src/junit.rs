//! JUnit XML of a result: what build servers show.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Map, Value};

use esp_ops::error::ToolError;

/// The report of a call: one suite a unit when the result has units, one case a step. An error is one case that failed.
pub fn report(tool: &str, result: Result<&Map<String, Value>, &ToolError>) -> String {
    let mut report = Report::new(tool);
    match result {
        Err(error) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type(error.code.to_string()).set_description(error.to_string());
            let mut suite = TestSuite::new(tool);
            suite.add_test_case(case(tool, "call", status));
            report.add_test_suite(suite);
        }
        Ok(data) => {
            let units: Vec<&Map<String, Value>> = match data.get("units").and_then(Value::as_array) {
                Some(units) => units.iter().filter_map(Value::as_object).collect(),
                None => vec![data],
            };
            report.add_test_suites(units.into_iter().map(|unit| suite(tool, unit)));
        }
    }
    // Writing to memory does not fail.
    report.to_string().unwrap_or_default()
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn case(tool: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(tool);
    case
}

/// One unit.
fn suite(tool: &str, unit: &Map<String, Value>) -> TestSuite {
    let name = [text(unit, "port"), text(unit, "mac")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let mut suite = TestSuite::new(if name.is_empty() { tool } else { &name });
    let phases = unit.get("phases_s").and_then(Value::as_object);
    let seconds: f64 = phases.into_iter().flatten().filter_map(|(_, seconds)| seconds.as_f64()).sum();
    suite.set_time(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let steps = unit.get("steps").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    suite.add_test_cases(steps.map(|step| case(tool, text(step, "name").unwrap_or("step"), verdict(step))));
    // The verdict itself: a unit with nothing measured, or one that broke off, is no success.
    let is_failed = unit.get("passed") == Some(&Value::Bool(false));
    let status = match text(unit, "verdict").unwrap_or(if is_failed { "fail" } else { "pass" }) {
        "pass" => TestCaseStatus::success(),
        word => failure(text(unit, "error").unwrap_or(word)),
    };
    suite.add_test_case(case(tool, "verdict", status));
    suite
}

fn failure(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(why);
    status
}

fn verdict(step: &Map<String, Value>) -> TestCaseStatus {
    let value = text(step, "value").unwrap_or("not measured");
    let limits = format!("{} to {}", text(step, "low").unwrap_or("…"), text(step, "high").unwrap_or("…"));
    let why = text(step, "note").map_or_else(|| format!("{value} ({limits})"), str::to_owned);
    match text(step, "verdict") {
        Some("pass") => TestCaseStatus::success(),
        Some("fail") => failure(&why),
        _ => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why);
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esp_ops::error::Code;
    use serde_json::json;

    #[test]
    fn verdicts_become_cases() {
        let data = json!({"units": [
            {"port": "a", "verdict": "pass", "steps": [{"name": "one", "verdict": "pass"}], "phases_s": {"write": 1.5}},
            {"port": "b", "verdict": "fail", "error": "link_lost: <no answer>", "steps": [
                {"name": "vdd", "verdict": "fail", "value": "2.9", "low": "3.2"}, {"name": "rf", "verdict": "unknown"}]},
        ]});
        let xml = report("esp_batch_program", Ok(data.as_object().unwrap()));
        assert!(
            xml.contains(
                "<testsuites name=\"esp_batch_program\" tests=\"5\" skipped=\"1\" failures=\"2\" errors=\"0\">"
            ),
            "{xml}"
        );
        assert!(xml.contains("<failure message=\"2.9 (3.2 to …)\"/>") && xml.contains("&lt;no answer&gt;"), "{xml}");
        assert!(xml.contains("time=\"1.500\""));
        let failed = report("t", Err(&ToolError::new(Code::Internal, "a & b")));
        assert!(failed.contains("<error type=\"internal\">") && failed.contains("a &amp; b"), "{failed}");
    }
}
