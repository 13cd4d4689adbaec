//! QEMU's control line (QMP): JSON objects, one per line, command and answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::VirtualError;

/// Longest line taken: the answer to `qom-list-types` has some hundred kilobytes.
const LONGEST: u64 = 4 << 20;

/// A connection after the handshake.
pub struct Qmp<S> {
    lines: BufReader<S>,
    /// Version text of the greeting.
    pub version: String,
}

impl<S: Read + Write> Qmp<S> {
    /// Takes the greeting and leaves capability negotiation. `stream` must have its own time-outs.
    pub fn handshake(stream: S) -> Result<Self, VirtualError> {
        let mut qmp = Self { lines: BufReader::new(stream), version: String::new() };
        let greeting = qmp.line("the QMP greeting")?;
        let Some(hello) = greeting.get("QMP") else {
            return Err(VirtualError::Refused { command: "the QMP greeting".into(), what: greeting.to_string() });
        };
        let part = |key| hello.pointer(&format!("/version/qemu/{key}")).and_then(Value::as_u64).unwrap_or(0);
        qmp.version = format!("{}.{}.{}", part("major"), part("minor"), part("micro"));
        qmp.run("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and gives its answer; events that come before it are passed over.
    pub fn run(&mut self, command: &str, arguments: Value) -> Result<Value, VirtualError> {
        let message = if arguments.as_object().is_some_and(|fields| !fields.is_empty()) {
            json!({ "execute": command, "arguments": arguments })
        } else {
            json!({ "execute": command })
        };
        let lost = |error: std::io::Error| silent(&format!("{command}: {error}"));
        self.lines.get_mut().write_all(format!("{message}\n").as_bytes()).map_err(lost)?;
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let mut answer = self.line(command)?;
            if let Some(error) = answer.get("error") {
                let what = error.get("desc").and_then(Value::as_str).unwrap_or("error").to_string();
                return Err(VirtualError::Refused { command: command.into(), what });
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
        Err(silent(command))
    }

    fn line(&mut self, waiting_for: &str) -> Result<Value, VirtualError> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LONGEST).read_until(b'\n', &mut line);
        match read {
            Ok(0) => Err(silent(&format!("{waiting_for}: the connection is closed"))),
            Ok(_) => serde_json::from_slice(&line).map_err(|error| VirtualError::Refused {
                command: waiting_for.into(),
                what: format!("not JSON: {error}"),
            }),
            Err(error) => Err(silent(&format!("{waiting_for}: {error}"))),
        }
    }
}

fn silent(what: &str) -> VirtualError {
    VirtualError::Silent { what: what.into(), output: String::new() }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// What QEMU says, and what it was told.
    struct Line(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Line {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Line {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.1.extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const HELLO: &str =
        r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 2, "major": 9}, "package": ""}, "capabilities": []}}"#;

    fn line(says: &[&str]) -> Line {
        Line(Cursor::new(says.join("\r\n").into_bytes()), Vec::new())
    }

    #[test]
    fn speaks_with_events_between() {
        let event = r#"{"timestamp": {"seconds": 1}, "event": "RESUME"}"#;
        let says = [HELLO, r#"{"return": {}}"#, event, r#"{"return": {"running": true}}"#, ""];
        let mut qmp = Qmp::handshake(line(&says)).unwrap();
        assert_eq!(qmp.version, "9.2.2");
        assert_eq!(qmp.run("query-status", json!({})).unwrap(), json!({"running": true}));
        let told = String::from_utf8(qmp.lines.into_inner().1).unwrap();
        assert_eq!(told, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n");
    }

    #[test]
    fn names_what_is_refused_or_missing() {
        let says = [HELLO, r#"{"return": {}}"#, r#"{"error": {"class": "GenericError", "desc": "no such"}}"#, ""];
        let error = Qmp::handshake(line(&says)).unwrap().run("stop", json!({"a": 1})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refuses stop: no such");
        for says in [vec![], vec!["SSH-2.0\n"], vec!["{}\n"], vec![HELLO], vec![HELLO, "x\n"]] {
            assert!(Qmp::handshake(line(&says)).is_err(), "{says:?}");
        }
    }
}
