//! Where a ledger is, as people may see it.

/// Parameters of a PostgreSQL connection text that say where the server is or what is wanted there.
const PLACE: [&str; 6] = ["host", "hostaddr", "port", "dbname", "user", "service"];

/// The address is a PostgreSQL server's: `postgres://…`, or `host=… dbname=…`. Anything else is a file, whatever its
/// folders are called.
pub fn is_server(address: &str) -> bool {
    if let Some((scheme, _)) = address.split_once("://") {
        return ["postgres", "postgresql"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
    }
    let first = address.trim_start().split_once('=').map(|(name, _)| name.trim());
    let named = |name: &str| PLACE.iter().any(|known| name.eq_ignore_ascii_case(known));
    first.is_some_and(|first| {
        named(first) || (is_word(first) && PLACE.iter().any(|name| take_pair(address, name).1.is_some()))
    })
}

/// A parameter's name, which a path is not.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The address without the password: `postgres://user:secret@host/db`, `host=… password=…` and `?password=…` alike.
pub fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return of_pairs(address) };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    // A password may hold `@` and `/`: what follows the last `@` is the host.
    let rest = match rest.rsplit_once('@') {
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            if user.is_empty() { host.to_owned() } else { format!("{user}@{host}") }
        }
        None => rest.to_owned(),
    };
    let shown = |pair: &&str| !pair.to_ascii_lowercase().starts_with("password=");
    let query: Vec<&str> = query.unwrap_or_default().split('&').filter(shown).filter(|pair| !pair.is_empty()).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("{scheme}://{rest}{query}")
}

/// `name=value` pairs between blanks, without the password.
fn of_pairs(text: &str) -> String {
    take_pair(text, "password").0
}

/// The address without this parameter, and the parameter's value.
pub fn take_parameter(address: &str, name: &str) -> (String, Option<String>) {
    let Some((place, query)) = address.split_once('?').filter(|(place, _)| place.contains("://")) else {
        return if address.contains("://") { (address.to_owned(), None) } else { take_pair(address, name) };
    };
    let mut found = None;
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case(name) => found = Some(unescaped(value)),
            _ => kept.push(pair),
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    (format!("{place}{query}"), found)
}

/// `%2F` is `/`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text without the pair of this name, and its value. A value may be quoted, and blanks may stand around the `=`.
fn take_pair(text: &str, name: &str) -> (String, Option<String>) {
    let (mut kept, mut found, mut rest) = (Vec::new(), None, text.trim_start());
    while !rest.is_empty() {
        let Some((key, behind)) = rest.split_once('=') else {
            kept.push(rest.trim_end());
            break;
        };
        let behind = behind.trim_start();
        let (value, length) = pair_value(behind);
        let (pair, after) = rest.split_at(rest.len() - behind.len() + length);
        if key.trim().eq_ignore_ascii_case(name) {
            found = Some(value);
        } else {
            kept.push(pair);
        }
        rest = after.trim_start();
    }
    (kept.join(" "), found)
}

/// A value without quotes and escapes, and how many bytes of the text it takes.
fn pair_value(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let (mut value, mut escaped) = (String::new(), false);
    for (at, letter) in text.char_indices().skip(usize::from(quoted)) {
        let ends = !escaped && if quoted { letter == '\'' } else { letter.is_whitespace() };
        if ends {
            return (value, at + usize::from(quoted));
        }
        escaped = !escaped && letter == '\\';
        if !escaped {
            value.push(letter);
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_from_files() {
        for address in [
            "postgres://ann@host/db",
            "PostgreSQL://host/db",
            "host=h user=ann",
            "dbname=d",
            " user = ann  host = /run/postgresql",
            "sslmode=require host=h",
            "application_name='line 1' dbname=d",
        ] {
            assert!(is_server(address), "{address}");
        }
        for address in [
            "/srv/dbname=x/ledger.db",
            "sqlite:/srv/host=a/ledger.db",
            "ledger.db",
            "C:\\line\\dbname=d.db",
            "line=1.db",
            "sqlite://ledger.db",
            "",
        ] {
            assert!(!is_server(address), "{address}");
        }
    }

    #[test]
    fn passwords_are_never_shown() {
        for (address, shown) in [
            ("/var/lib/ledger.db", "/var/lib/ledger.db"),
            ("postgres://ann:se@cr/et@host:5432/db?sslmode=require", "postgres://ann@host:5432/db?sslmode=require"),
            ("postgresql://host/db?password=secret", "postgresql://host/db"),
            ("postgres://host/db?sslmode=require&PASSWORD=secret", "postgres://host/db?sslmode=require"),
            ("host=h user=ann password=secret dbname=d", "host=h user=ann dbname=d"),
            ("host=h password = 'se cr\\'et' dbname=d", "host=h dbname=d"),
            ("password=secret", ""),
        ] {
            assert_eq!(without_password(address), shown);
            assert!(!without_password(address).contains("ecr"), "{address}");
        }
    }

    #[test]
    fn parameters_are_taken_out() {
        for (address, rest, value) in [
            ("postgres://h/d?sslmode=require&x=y", "postgres://h/d?x=y", Some("require")),
            ("postgres://h/d?sslmode=a%2Fb", "postgres://h/d", Some("a/b")),
            ("postgres://h/d", "postgres://h/d", None),
            ("host=h sslmode = 'a \\'b' dbname=d", "host=h dbname=d", Some("a 'b")),
            ("host='a b' sslmode=x", "host='a b'", Some("x")),
            ("host=sslmode dbname=d", "host=sslmode dbname=d", None),
        ] {
            assert_eq!(take_parameter(address, "sslmode"), (rest.to_owned(), value.map(str::to_owned)), "{address}");
        }
    }
}
