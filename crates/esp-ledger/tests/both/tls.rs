//! PostgreSQL over TLS: a real server with a certificate of the test's own.

use esp_ledger::{Ledger, LedgerError};

use crate::server::Server;

pub fn certificates_are_checked_as_asked(server: &mut Server) {
    let (port, authority) = server.with_tls();
    let authority = authority.display().to_string();
    let other = authority.replace("ca.pem", "other.pem");
    server.database("encrypted");
    let open = |host: &str, how: &str| {
        let url = format!("host={host} port={port} user=ledger dbname=encrypted {how}");
        Ledger::open(&url, "line 1", "this computer").map(drop)
    };
    let root = format!("sslrootcert={authority}");
    for (host, how) in [
        ("localhost", format!("sslmode=verify-full {root}")),
        ("127.0.0.1", format!("sslmode=verify-ca {root}")),
        ("127.0.0.1", format!("sslmode=require {root}")),
        ("127.0.0.1", "sslmode=require".into()),
    ] {
        open(host, &how).unwrap_or_else(|error| panic!("{host} {how}: {error}"));
    }
    let full = format!("postgres://ledger@localhost:{port}/encrypted?sslmode=verify-full&sslrootcert={authority}");
    Ledger::open(&full, "line 1", "this computer").unwrap();
    for (host, how, why) in [
        ("127.0.0.1", format!("sslmode=verify-full {root}"), "certificate"),
        ("localhost", format!("sslmode=verify-full sslrootcert={other}"), "certificate"),
        ("localhost", format!("sslmode=verify-ca sslrootcert={other}"), "certificate"),
        ("localhost", format!("sslmode=verify-full sslrootcert={authority}.none"), "sslrootcert"),
        // The server takes nobody in without TLS, and nobody is let fall back to plain text silently.
        ("localhost", "sslmode=disable".into(), "no encryption"),
        ("db.example.invalid", "sslmode=prefer".into(), "plain text"),
    ] {
        match open(host, &how) {
            Err(LedgerError::Unreachable(text)) => assert!(text.contains(why), "{host} {how}: {text}"),
            other => panic!("{host} {how}: {other:?}"),
        }
    }
}
