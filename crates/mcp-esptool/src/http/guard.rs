//! Who is let in: the right Host and Origin, a token, and not too many requests at once.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::limits::{self, Limits};
use crate::http::{Auth, Options, Peer, token};

/// Names of this computer that no other one can have.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The rules, and the open requests.
pub struct Guard {
    auth: Auth,
    hosts: Vec<String>,
    origins: Vec<String>,
    limits: Limits,
}

impl Guard {
    /// The rules of these options.
    pub fn new(options: &Options) -> Self {
        let ip = options.address.ip();
        let mut hosts: Vec<String> = LOOPBACK.iter().map(|name| name.to_string()).collect();
        if !ip.is_unspecified() {
            hosts.push(ip.to_string());
        }
        hosts.extend(options.hosts.iter().cloned());
        Self {
            auth: options.auth.clone(),
            hosts,
            origins: options.origins.clone(),
            limits: Limits::new(options.client_requests),
        }
    }

    /// The request is addressed to this server by one of its names. Another one is a page that had its name changed
    /// to this address (DNS rebinding).
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
        let mut named = headers.get_all(HOST).iter();
        let authority = match (named.next(), named.next()) {
            (Some(host), None) => host.to_str().ok()?.parse::<Authority>().ok()?,
            (None, None) => uri.authority()?.clone(),
            _ => return None,
        };
        let name = plain(authority.host());
        let fits = |allowed: &String| match allowed.parse::<Authority>() {
            Ok(allowed) if allowed.port().is_some() => {
                plain(allowed.host()) == name && allowed.port_u16() == authority.port_u16()
            }
            _ => plain(allowed) == name,
        };
        self.hosts.iter().any(fits).then_some(authority)
    }

    /// No browser's page sent it, or one of this server's own pages, or one that the configuration names.
    fn origin(&self, host: &Authority, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => origin.to_str().is_ok_and(|origin| {
                let own = [format!("http://{host}"), format!("https://{host}")];
                own.iter().chain(&self.origins).any(|allowed| allowed.eq_ignore_ascii_case(origin))
            }),
            _ => false,
        }
    }

    fn addressed_rightly(&self, request: &Request) -> Result<(), Refusal> {
        let host = self.host(request.uri(), request.headers()).ok_or(Refusal::Host)?;
        if self.origin(&host, request.headers()) { Ok(()) } else { Err(Refusal::Origin) }
    }

    /// Who calls, as far as the token tells.
    fn caller(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        match (&self.auth, given) {
            (Auth::None, _) => Ok(String::new()),
            (Auth::Token(wanted), Some(given)) if token::same(given, wanted) => Ok(String::new()),
            (Auth::OAuth(rules), Some(given)) => {
                rules.subject(given).map_err(|error| Refusal::OAuth(error, rules.challenge(error)))
            }
            (Auth::OAuth(rules), None) => Err(Refusal::Token(rules.challenge_missing())),
            (Auth::Token(_), _) => Err(Refusal::Token("Bearer".into())),
        }
    }
}

/// A host name in one spelling: small letters, no brackets.
fn plain(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase()
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Why a request is not let in.
enum Refusal {
    Host,
    Origin,
    Token(String),
    OAuth(super::oauth::TokenError, String),
    Limit,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Host => (StatusCode::FORBIDDEN, "the Host is not one of this server's names\n").into_response(),
            Self::Origin => (StatusCode::FORBIDDEN, "the Origin may not call this server\n").into_response(),
            Self::Token(challenge) => {
                let text = "a bearer token is needed: Authorization: Bearer TOKEN\n";
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], text).into_response()
            }
            Self::OAuth(error, challenge) => {
                (error.status(), [(WWW_AUTHENTICATE, challenge)], format!("{error}\n")).into_response()
            }
            Self::Limit => {
                let text = "this client has too many requests open\n";
                (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], text).into_response()
            }
        }
    }
}

/// Lets a request in when all rules hold.
pub async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let opened = guard.addressed_rightly(&request).and_then(|()| {
        let caller = guard.caller(request.headers())?;
        guard.limits.open(&client(&caller, &request)).ok_or(Refusal::Limit)
    });
    match opened {
        Ok(open) => limits::hold(next.run(request).await, open),
        Err(refusal) => refusal.into_response(),
    }
}

/// Lets a request in that is addressed rightly: for what everybody may read.
pub async fn check_address(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.addressed_rightly(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// One client: who its token names, where it calls from, and its session where it has one.
fn client(caller: &str, request: &Request) -> String {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default();
    let session = request.headers().get("mcp-session-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    format!("{caller} {peer} {session}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard {
            auth: Auth::Token("secret-secret-secret".into()),
            hosts: LOOPBACK.iter().map(|name| name.to_string()).chain(["esp.example:8443".to_string()]).collect(),
            origins: vec!["https://app.example".into()],
            limits: Limits::new(1),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_its_own_names_are_answered() {
        let guard = guard();
        let uri = Uri::from_static("/mcp");
        let known = |host: &str| guard.host(&uri, &headers(&[("host", host)])).is_some();
        assert!(known("localhost:8080") && known("LOCALHOST") && known("[::1]:80") && known("esp.example:8443"));
        assert!(!known("evil.example") && !known("localhost.evil.example") && !known("esp.example") && !known("a b"));
        assert!(guard.host(&uri, &headers(&[("host", "localhost"), ("host", "evil")])).is_none());
        assert!(guard.host(&uri, &HeaderMap::new()).is_none());
    }

    #[test]
    fn foreign_pages_may_not_call() {
        let guard = guard();
        let host: Authority = "localhost:8080".parse().unwrap();
        let may = |origin: &str| guard.origin(&host, &headers(&[("origin", origin)]));
        assert!(may("http://localhost:8080") && may("https://app.example") && guard.origin(&host, &HeaderMap::new()));
        assert!(!may("http://localhost:9090") && !may("null") && !may("http://evil.example") && !may(""));
        assert!(!guard.origin(&host, &headers(&[("origin", "http://localhost:8080"), ("origin", "http://evil")])));
    }

    #[test]
    fn the_token_is_wanted_whole() {
        let guard = guard();
        let may = |value: &str| guard.caller(&headers(&[("authorization", value)])).is_ok();
        assert!(may("Bearer secret-secret-secret") && may("bearer  secret-secret-secret"));
        assert!(!may("secret-secret-secret") && !may("Bearer secret") && !may("Basic secret-secret-secret"));
        assert!(guard.caller(&HeaderMap::new()).is_err());
    }
}
