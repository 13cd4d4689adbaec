//! Requests to other systems of the site: encrypted, signed with a shared secret, and never followed elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Fewest bytes of a secret.
const SHORTEST_SECRET: usize = 16;

/// Who posts to one server.
pub struct Poster {
    secret: Option<Vec<u8>>,
    agent: ureq::Agent,
}

impl Poster {
    /// For a server at this address; the file holds the secret that signs.
    pub fn new(url: &str, secret_file: Option<&Path>) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("`{url}` is not a URL"))?;
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err("a password in the URL would be seen in logs; use events_secret_file".into());
        }
        let loopback = ["localhost", "127.0.0.1", "[::1]"];
        let name_only = host.rsplit_once(':').map_or(host, |(name, _)| name);
        if scheme != "https" && !(scheme == "http" && loopback.contains(&name_only)) {
            return Err(format!("`{url}`: https is needed, except for this computer"));
        }
        Ok(Self { secret: secret_file.map(secret).transpose()?, agent: agent() })
    }

    /// Posts JSON; `key` is the same whenever the same is posted again. An answer of any status is one.
    pub fn post(&self, url: &str, key: &str, body: &str) -> Result<Response<ureq::Body>, String> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut request = self
            .agent
            .post(url)
            .header("Content-Type", "application/json")
            .header("Idempotency-Key", key)
            .header("X-Esp-Timestamp", at.to_string());
        if let Some(secret) = &self.secret {
            request = request.header("X-Esp-Signature", format!("sha256={}", signature(secret, at, body)?));
        }
        request.send(body.as_bytes()).map_err(|error| error.to_string())
    }

    /// The same, where an answer of success is all that is wanted.
    pub fn deliver(&self, url: &str, key: &str, body: &str) -> Result<(), String> {
        let answer = self.post(url, key, body)?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("HTTP {}", answer.status().as_u16())) }
    }
}

fn secret(file: &Path) -> Result<Vec<u8>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let secret = text.trim().as_bytes().to_vec();
    let length = secret.len();
    if length < SHORTEST_SECRET {
        return Err(format!("{}: {length} bytes, at least {SHORTEST_SECRET} are needed", file.display()));
    }
    Ok(secret)
}

/// Authorities are those that this computer trusts.
fn agent() -> ureq::Agent {
    let native = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<Certificate<'static>> =
        native.iter().map(|one| Certificate::from_der(one.as_ref()).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = ureq::Agent::config_builder();
    config.timeout_global(Some(PATIENCE)).max_redirects(0).http_status_as_error(false).tls_config(tls).build().into()
}

/// HMAC-SHA256 over `TIMESTAMP.BODY`: an old request cannot be sent again later.
fn signature(secret: &[u8], at: u64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| error.to_string())?;
    mac.update(format!("{at}.{body}").as_bytes());
    Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_implementations() {
        // python3 -c 'import hmac; print(hmac.new(b"0123456789abcdef", b"5.{}", "sha256").hexdigest())'
        let wanted = "6e2cb7401c2f8e178b2f9c3c1303832994a6ed65f18856dbf5e33aba41e3a683";
        assert_eq!(signature(b"0123456789abcdef", 5, "{}").unwrap(), wanted);
    }

    #[test]
    fn requests_leave_this_computer_encrypted_only() {
        for good in ["https://mes.example/events?line=3", "http://127.0.0.1:9000/x", "http://localhost/x"] {
            assert!(Poster::new(good, None).is_ok(), "{good}");
        }
        for bad in ["http://mes.example/events", "ftp://localhost/x", "mes.example", "https://user:pw@mes.example/"] {
            assert!(Poster::new(bad, None).is_err(), "{bad}");
        }
    }
}
