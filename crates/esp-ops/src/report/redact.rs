//! What must not leave the bench: values of passwords, keys and tokens.

use std::ops::Range;

use serde_json::Value;

/// Words behind which a secret may stand. In names of values they hide the value.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "private",
    "psk",
    "token",
    "api_key",
    "apikey",
    "bearer",
    "authorization",
];
/// Short words: only as a whole word in front of `=` or `:`.
const SHORT: &[&str] = &["pass", "pwd", "key"];
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

/// The same without values that might be secrets.
pub fn value(given: Value) -> Value {
    match given {
        Value::Object(fields) => {
            // A variable or an entry: its name stands in a field of its own.
            let named = ["name", "key", "field"].iter().filter_map(|name| fields.get(*name)?.as_str());
            let hides = named.into_iter().any(is_secret);
            let field = |(name, inner): (String, Value)| {
                let secret = is_secret(&name) || (hides && name == "value");
                let plain = inner.is_null() || inner.is_object() || inner.is_array();
                let inner = if secret && !plain { "(redacted)".into() } else { value(inner) };
                (name, inner)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        Value::String(given) => Value::String(text(&given)),
        other => other,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// Strikes secrets out of a text.
pub fn text(given: &str) -> String {
    let mut out = String::with_capacity(given.len());
    let mut end = 0;
    for span in spans(given.as_bytes()) {
        out.push_str(given.get(end..span.start).unwrap_or_default());
        out.push_str("(redacted)");
        end = span.end;
    }
    out + given.get(end..).unwrap_or_default()
}

/// Overwrites secrets in received bytes; their number stays.
pub fn bytes(given: &mut [u8]) {
    for span in spans(given) {
        given.get_mut(span).into_iter().flatten().for_each(|byte| *byte = b'*');
    }
}

/// Where secrets stand: from behind `password=`, `psk: ` and the like to the end of the line, and private keys in PEM form.
/// Spans begin and end at the ends of characters, as all that is looked for is ASCII.
fn spans(given: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut in_key = false;
    for line in given.split_inclusive(|byte| *byte == b'\n') {
        let lower = line.to_ascii_lowercase();
        let content = line.len() - line.iter().rev().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let has = |what: &str| position(line, what.as_bytes());
        if has(PEM_BEGIN).is_some() && position(&lower, b"private key").is_some() {
            in_key = true;
        } else if has(PEM_END).is_some() {
            in_key = false;
        } else if in_key && content > 0 {
            found.push(at..at + content);
        } else if let Some(start) = secret_in(&lower).filter(|start| *start < content) {
            found.push(at + start..at + content);
        }
        at += line.len();
    }
    found
}

/// Where the value begins that a word of the line announces.
fn secret_in(lower: &[u8]) -> Option<usize> {
    let announced = |word: &[u8], at: usize, gap: usize| {
        let end = at + word.len();
        let rest = lower.get(end..)?;
        let sign = rest.iter().take(gap).position(|byte| matches!(byte, b'=' | b':'))?;
        let blank = rest.get(sign + 1..)?.iter().take_while(|byte| **byte == b' ').count();
        Some(end + sign + 1 + blank)
    };
    let long = SECRET.iter().filter_map(|word| {
        let word = word.as_bytes();
        places(lower, word).find_map(|at| announced(word, at, 4))
    });
    let short = SHORT.iter().filter_map(|word| {
        let word = word.as_bytes();
        let whole = |at: &usize| {
            at.checked_sub(1).and_then(|at| lower.get(at)).is_none_or(|byte| !byte.is_ascii_alphanumeric())
        };
        places(lower, word).filter(whole).find_map(|at| announced(word, at, 2))
    });
    long.chain(short).min()
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    places(bytes, what).next()
}

fn places<'a>(bytes: &'a [u8], what: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(what.len()).enumerate().filter(move |(_, window)| *window == what).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_struck_out() {
        let given =
            json!({"wifi_password": "hunter2", "list": [{"PSK": "x"}], "line": "I (1) wifi: password: hunter2\nnext"});
        let shown = value(given).to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("\"x\""), "{shown}");
        assert!(shown.contains("next"));
        assert_eq!(text("the password was wrong"), "the password was wrong");
        assert_eq!(text("bypass: 1\r\npass = s3cret\r\n"), "bypass: 1\r\npass = (redacted)\r\n");
        assert_eq!(text("Authorization: Bearer abc"), "Authorization: (redacted)");
    }

    #[test]
    fn values_of_secret_variables_are_redacted() {
        let given = json!({"variables": [
            {"name": "wifi_password", "type": "char [16]", "value": "hunter2"},
            {"name": "count", "value": 3},
            {"key": "api_token", "value": 77},
        ]});
        let shown = value(given).to_string();
        assert!(!shown.contains("hunter2") && !shown.contains("77") && shown.contains("\"value\":3"), "{shown}");
    }

    #[test]
    fn private_keys_are_struck_out_and_certificates_stay() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nEEIB\n-----END EC PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nAB\n";
        let shown = text(key);
        assert!(!shown.contains("MHcCAQ") && !shown.contains("EEIB") && shown.contains("\nAB\n"), "{shown}");
    }

    #[test]
    fn received_bytes_keep_their_number() {
        let mut line = b"\xff\x80 ssid: home, password=hunter2\r\nI (5) app: up\r\n".to_vec();
        let length = line.len();
        bytes(&mut line);
        assert_eq!(line.len(), length);
        assert!(line.ends_with(b"password=*******\r\nI (5) app: up\r\n"), "{:?}", String::from_utf8_lossy(&line));
    }
}
