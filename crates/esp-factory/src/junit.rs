//! JUnit XML of a result: what build servers show.

use std::fmt::Write;

use serde_json::{Map, Value};

use esp_ops::error::ToolError;

/// The report of a call: one suite a unit when the result has units, one case a step. An error is one case that failed.
pub fn report(tool: &str, result: Result<&Map<String, Value>, &ToolError>) -> String {
    let mut suites = String::new();
    let mut totals = (0, 0, 0);
    match result {
        Err(error) => {
            totals = (1, 1, 0);
            let _ = write!(
                suites,
                "  <testsuite name=\"{0}\" tests=\"1\" failures=\"0\" errors=\"1\">\n    <testcase classname=\"{0}\" \
                 name=\"call\">\n      <error type=\"{1}\">{2}</error>\n    </testcase>\n  </testsuite>\n",
                escaped(tool),
                error.code,
                escaped(&error.to_string())
            );
        }
        Ok(data) => {
            let units: Vec<&Map<String, Value>> = match data.get("units").and_then(Value::as_array) {
                Some(units) => units.iter().filter_map(Value::as_object).collect(),
                None => vec![data],
            };
            for unit in units {
                let counts = suite(tool, unit, &mut suites);
                totals = (totals.0 + counts.0, totals.1 + counts.1, totals.2 + counts.2);
            }
        }
    }
    let (tests, failures, skipped) = totals;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" \
         skipped=\"{skipped}\">\n{suites}</testsuites>\n",
        escaped(tool)
    )
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// One unit. Cases, failures, skipped.
fn suite(tool: &str, unit: &Map<String, Value>, out: &mut String) -> (usize, usize, usize) {
    let name = [text(unit, "port"), text(unit, "mac")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() { tool.to_owned() } else { name };
    let seconds: f64 =
        unit.get("phases_s").and_then(Value::as_object).into_iter().flatten().filter_map(|(_, s)| s.as_f64()).sum();
    let steps: Vec<&Map<String, Value>> =
        unit.get("steps").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect();
    let (mut cases, mut counts) = (String::new(), (0, 0, 0));
    for step in steps {
        counts.0 += 1;
        let value = text(step, "value").unwrap_or("not measured");
        let limits = format!("{} to {}", text(step, "low").unwrap_or("…"), text(step, "high").unwrap_or("…"));
        let why = text(step, "note").map_or_else(|| format!("{value} ({limits})"), str::to_owned);
        let body = match text(step, "verdict") {
            Some("pass") => None,
            Some("fail") => {
                counts.1 += 1;
                Some(format!("<failure message=\"{}\"/>", escaped(&why)))
            }
            _ => {
                counts.2 += 1;
                Some(format!("<skipped message=\"{}\"/>", escaped(&why)))
            }
        };
        case(&mut cases, tool, text(step, "name").unwrap_or("step"), body.as_deref());
    }
    // The verdict itself: a unit with nothing measured, or one that broke off, is no success.
    counts.0 += 1;
    let verdict =
        text(unit, "verdict").unwrap_or(if unit.get("passed") == Some(&Value::Bool(false)) { "fail" } else { "pass" });
    let body = (verdict != "pass").then(|| {
        counts.1 += 1;
        format!("<failure message=\"{}\"/>", escaped(text(unit, "error").unwrap_or(verdict)))
    });
    case(&mut cases, tool, "verdict", body.as_deref());
    let (tests, failures, skipped) = counts;
    let _ = write!(
        out,
        "  <testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n{cases}  </testsuite>\n",
        escaped(&name)
    );
    counts
}

fn case(out: &mut String, tool: &str, name: &str, body: Option<&str>) {
    let head = format!("    <testcase classname=\"{}\" name=\"{}\"", escaped(tool), escaped(name));
    let _ = match body {
        None => writeln!(out, "{head}/>"),
        Some(body) => writeln!(out, "{head}>{body}</testcase>"),
    };
}

/// Text for XML: what has a meaning there is written as an entity, what cannot stand there at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {}
            letter => out.push(letter),
        }
    }
    out
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
            xml.contains("<testsuites name=\"esp_batch_program\" tests=\"5\" failures=\"2\" skipped=\"1\">"),
            "{xml}"
        );
        assert!(xml.contains("<failure message=\"2.9 (3.2 to …)\"/>") && xml.contains("&lt;no answer&gt;"), "{xml}");
        assert!(xml.contains("time=\"1.500\""));
        let failed = report("t", Err(&ToolError::new(Code::Internal, "a & b")));
        assert!(failed.contains("<error type=\"internal\">") && failed.contains("a &amp; b"), "{failed}");
    }
}
