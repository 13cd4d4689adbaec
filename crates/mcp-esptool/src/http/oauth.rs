//! This server as an OAuth 2.1 protected resource (RFC 9728): says which authorization servers count, and checks their
//! tokens (JWT, RS256 or ES256) against public keys that the operator has put into a file. It asks nobody.

use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use esp_ops::config::Config;
use esp_ops::error::{Code, ToolError};
use p256::ecdsa::signature::Verifier as _;
use rsa::{BoxedUint, pkcs1v15};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Auth, Options};

/// Difference between clocks that is let pass, in seconds.
const LEEWAY: u64 = 30;
/// Where a resource's metadata are, before the resource's own path.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Whose tokens count, for what.
#[derive(Debug, Clone)]
pub struct OAuth {
    resource: String,
    issuers: Vec<String>,
    scope: Option<String>,
    keys: Arc<Vec<Key>>,
}

/// A public key and the name that tokens give it.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa(Box<pkcs1v15::VerifyingKey<rsa::sha2::Sha256>>),
    P256(Box<p256::ecdsa::VerifyingKey>),
}

/// Why a token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of a JWT.
    #[error("the token is not a JWT")]
    Malformed,
    /// No key fits its signature.
    #[error("the token's signature fits none of the known keys")]
    Signature,
    /// Too old, or too new.
    #[error("the token is not valid now")]
    Time,
    /// An authorization server that does not count.
    #[error("untrusted token issuer")]
    Issuer,
    /// A token for another server.
    #[error("the token is not for this server")]
    Audience,
    /// Its scope is too small.
    #[error("the token lacks the scope")]
    Scope,
}

impl TokenError {
    /// What HTTP calls it.
    pub fn status(self) -> StatusCode {
        if self == Self::Scope { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    /// The key; `None` for a kind that is not used here.
    fn read(&self) -> Option<Key> {
        let part = |text: &Option<String>| BASE64.decode(text.as_deref()?).ok();
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let number = |text| part(text).map(|bytes| BoxedUint::from_be_slice_vartime(&bytes));
                let key = rsa::PublicKey::new(number(&self.n)?, number(&self.e)?).ok()?;
                Public::Rsa(Box::new(pkcs1v15::VerifyingKey::new(key)))
            }
            ("EC", Some("P-256")) => {
                let point = [vec![4], part(&self.x)?, part(&self.y)?].concat();
                Public::P256(Box::new(p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?))
            }
            _ => return None,
        };
        Some(Key { id: self.kid.clone(), public })
    }
}

impl Key {
    fn signed(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        match (&self.public, algorithm) {
            (Public::Rsa(key), "RS256") => {
                pkcs1v15::Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            (Public::P256(key), "ES256") => {
                let read = p256::ecdsa::Signature::from_slice(signature);
                read.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            _ => false,
        }
    }
}

impl OAuth {
    /// Reads the configuration and the keys.
    pub fn new(config: &Config) -> Result<Self, ToolError> {
        let bad = |text: String| ToolError::new(Code::BadConfiguration, text);
        let (resource, issuers) = (config.text("oauth_resource").to_string(), config.list("oauth_issuers"));
        let file = config.path("oauth_keys_file");
        let (false, false, Some(file)) = (resource.is_empty(), issuers.is_empty(), file) else {
            return Err(bad("oauth needs `oauth_resource`, `oauth_issuers` and `oauth_keys_file`".into()));
        };
        let named = |error: String| bad(format!("{}: {error}", file.display()));
        let text = fs::read(&file).map_err(|error| named(error.to_string()))?;
        let set: KeySet = serde_json::from_slice(&text).map_err(|error| named(error.to_string()))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Jwk::read).collect();
        if keys.is_empty() {
            return Err(named("holds no RSA or P-256 key".into()));
        }
        let scope = Some(config.text("oauth_scope").to_string()).filter(|scope| !scope.is_empty());
        Ok(Self { resource, issuers, scope, keys: Arc::new(keys) })
    }

    /// Who the token names, if it counts now.
    pub fn subject(&self, token: &str) -> Result<String, TokenError> {
        self.subject_at(token, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }

    fn subject_at(&self, token: &str, now: u64) -> Result<String, TokenError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (head, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let bytes = |text: &str| BASE64.decode(text).map_err(|_| TokenError::Malformed);
        let object = |text: &str| {
            serde_json::from_slice::<Value>(&bytes(text)?).ok().filter(Value::is_object).ok_or(TokenError::Malformed)
        };
        let (head, claims, signature) = (object(head)?, object(claims)?, bytes(signature)?);
        let algorithm = head["alg"].as_str().unwrap_or_default();
        let fits = |key: &&Key| key.id.is_none() || head["kid"].is_null() || key.id.as_deref() == head["kid"].as_str();
        if !self.keys.iter().filter(fits).any(|key| key.signed(algorithm, message.as_bytes(), &signature)) {
            return Err(TokenError::Signature);
        }
        self.counts(&claims, now)?;
        Ok(claims["sub"].as_str().unwrap_or_default().to_string())
    }

    fn counts(&self, claims: &Value, now: u64) -> Result<(), TokenError> {
        let until = claims["exp"].as_f64().ok_or(TokenError::Time)?;
        let from = claims["nbf"].as_f64().unwrap_or(0.0);
        if now as f64 > until + LEEWAY as f64 || (now + LEEWAY) as f64 <= from {
            return Err(TokenError::Time);
        }
        let plain = |text: &str| text.trim_end_matches('/').to_string();
        let issuer = claims["iss"].as_str().map(plain).ok_or(TokenError::Issuer)?;
        if !self.issuers.iter().any(|known| plain(known) == issuer) {
            return Err(TokenError::Issuer);
        }
        let audiences = texts(&claims["aud"]);
        if !audiences.iter().any(|audience| plain(audience) == plain(&self.resource)) {
            return Err(TokenError::Audience);
        }
        let given = [texts(&claims["scope"]), texts(&claims["scp"])].concat();
        let given: Vec<&str> = given.iter().flat_map(|scope| scope.split(' ')).collect();
        match self.scope.as_deref() {
            Some(wanted) if !wanted.split(' ').all(|scope| given.contains(&scope)) => Err(TokenError::Scope),
            _ => Ok(()),
        }
    }

    /// Tells a client without a token where to get one.
    pub fn challenge_missing(&self) -> String {
        let scope = self.scope.as_ref().map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
        format!("Bearer resource_metadata=\"{}\"{scope}", self.metadata_url())
    }

    /// Tells a client what is wrong with its token.
    pub fn challenge(&self, error: TokenError) -> String {
        let code = if error == TokenError::Scope { "insufficient_scope" } else { "invalid_token" };
        format!("{}, error=\"{code}\", error_description=\"{error}\"", self.challenge_missing())
    }

    fn metadata_url(&self) -> String {
        let split = self
            .resource
            .find("://")
            .and_then(|scheme| self.resource[scheme + 3..].find('/').map(|at| scheme + 3 + at));
        let (host, path) = split.map_or((self.resource.as_str(), ""), |at| self.resource.split_at(at));
        format!("{host}{WELL_KNOWN}{}", path.trim_end_matches('/'))
    }

    fn metadata(&self) -> Value {
        let mut data = json!({
            "resource": self.resource,
            "authorization_servers": self.issuers,
            "bearer_methods_supported": ["header"],
            "resource_name": "mcp-esptool",
        });
        if let Some(scope) = &self.scope {
            data["scopes_supported"] = scope.split(' ').collect();
        }
        data
    }
}

/// A text or a list of texts.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        _ => Vec::new(),
    }
}

/// The metadata, for everybody to read; nothing where OAuth is not used.
pub fn routes(options: &Options) -> Router {
    let Auth::OAuth(rules) = &options.auth else { return Router::new() };
    let text = rules.metadata().to_string();
    let page = move || async move { ([(CONTENT_TYPE, "application/json")], text) };
    Router::new().route(WELL_KNOWN, get(page.clone())).route(&format!("{WELL_KNOWN}/mcp"), get(page))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{Signature, SigningKey};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_slice(&[7; 32]).unwrap()
    }

    fn rules(scope: Option<&str>) -> OAuth {
        let public = Public::P256(Box::new(*key().verifying_key()));
        OAuth {
            resource: "https://esp.example/mcp".into(),
            issuers: vec!["https://login.example".into()],
            scope: scope.map(str::to_string),
            keys: Arc::new(vec![Key { id: Some("one".into()), public }]),
        }
    }

    fn token(head: Value, claims: Value) -> String {
        let message = format!("{}.{}", BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
        let signature: Signature = key().sign(message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature.to_bytes()))
    }

    fn claims() -> Value {
        json!({"iss": "https://login.example/", "aud": "https://esp.example/mcp", "exp": 1000, "sub": "ann", "scope": "a esp"})
    }

    #[test]
    fn a_token_counts_when_all_of_it_fits() {
        let head = || json!({"alg": "ES256", "kid": "one"});
        let check = |head, claims| rules(Some("esp")).subject_at(&token(head, claims), 900);
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            claims
        };
        assert_eq!(check(head(), claims()).unwrap(), "ann");
        assert_eq!(check(head(), with("aud", json!(["x", "https://esp.example/mcp"]))).unwrap(), "ann");
        assert_eq!(check(head(), with("exp", json!(800))), Err(TokenError::Time));
        assert_eq!(check(head(), with("exp", Value::Null)), Err(TokenError::Time));
        assert_eq!(check(head(), with("nbf", json!(2000))), Err(TokenError::Time));
        assert_eq!(check(head(), with("iss", json!("https://evil.example"))), Err(TokenError::Issuer));
        assert_eq!(check(head(), with("aud", json!("https://other.example/mcp"))), Err(TokenError::Audience));
        assert_eq!(check(head(), with("scope", json!("a"))), Err(TokenError::Scope));
        assert_eq!(check(json!({"alg": "none"}), claims()), Err(TokenError::Signature));
        assert_eq!(check(json!({"alg": "RS256"}), claims()), Err(TokenError::Signature));
        assert_eq!(check(json!({"alg": "ES256", "kid": "two"}), claims()), Err(TokenError::Signature));
        for text in ["", "a", "a.b", "a.b.c", "..", "e30.e30."] {
            assert!(rules(None).subject_at(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_changed_token_does_not_count() {
        let good = token(json!({"alg": "ES256"}), claims());
        let forged = BASE64.encode(json!({"iss": "https://login.example", "sub": "root"}).to_string());
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[1] = &forged;
        assert_eq!(rules(None).subject_at(&parts.join("."), 900), Err(TokenError::Signature));
    }

    #[test]
    fn a_client_is_told_where_to_get_a_token() {
        let text = rules(Some("esp")).challenge_missing();
        let url = "https://esp.example/.well-known/oauth-protected-resource/mcp";
        assert_eq!(text, format!("Bearer resource_metadata=\"{url}\", scope=\"esp\""));
        assert!(rules(None).challenge(TokenError::Scope).contains("insufficient_scope"));
        assert_eq!(rules(None).metadata()["authorization_servers"], json!(["https://login.example"]));
    }
}
