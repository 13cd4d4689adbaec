//! Who is let in: the right Host and Origin, a token, and not too many requests at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use esp_ops::caller::Caller;
use futures_util::StreamExt;

use crate::http::limits::{self, Limits, Open};
use crate::http::{Auth, Options, Peer, token};
use crate::mcp::HttpSessions;

/// Longest time for a request's body to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Names of this computer that no other one can have.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The rules, and the open requests.
pub struct Guard {
    auth: Auth,
    hosts: Vec<String>,
    origins: Vec<String>,
    limits: Limits,
    sessions: HttpSessions,
    max_body_bytes: usize,
    max_sessions: usize,
}

impl Guard {
    /// The rules of these options.
    pub fn new(options: &Options, sessions: HttpSessions) -> Self {
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
            sessions,
            max_body_bytes: options.max_body_bytes,
            max_sessions: options.sessions,
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
        if authority.as_str().contains('@') {
            return None; // a name before the host: a trick, no client sends it
        }
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
    Sessions,
    Slow,
    Large,
    Cut,
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
            Self::Sessions => {
                let text = "there are too many sessions; end one (DELETE /mcp) or wait until one has expired\n";
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "60")], text).into_response()
            }
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n").into_response(),
            Self::Large => (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than allowed\n").into_response(),
            Self::Cut => (StatusCode::BAD_REQUEST, "the body is not whole\n").into_response(),
            Self::Limit => {
                let text = "this client has too many requests open\n";
                (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], text).into_response()
            }
        }
    }
}

/// Lets a request in when all rules hold.
pub async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.opened(request).await {
        Ok((request, open)) => limits::hold(next.run(request).await, open),
        Err(refusal) => refusal.into_response(),
    }
}

impl Guard {
    /// The request with its whole body and with who sent it, and the client's place for it.
    async fn opened(&self, request: Request) -> Result<(Request, Open), Refusal> {
        self.addressed_rightly(&request)?;
        let subject = self.caller(request.headers())?;
        let session = self.session(request.headers()).await;
        let open = self.limits.open(&client(&subject, session.as_deref(), &request)).ok_or(Refusal::Limit)?;
        let (mut parts, body) = request.into_parts();
        let body = tokio::time::timeout(BODY_TIME, whole(body, self.max_body_bytes)).await;
        let body = body.map_err(|_| Refusal::Slow)??;
        if session.is_none() && begins_a_session(&body) && self.sessions.count().await >= self.max_sessions {
            return Err(Refusal::Sessions);
        }
        parts.extensions.insert(Caller::remote(&subject, session.as_deref()));
        Ok((Request::from_parts(parts, Body::from(body)), open))
    }

    /// The session that the request names, if there is one of this id: what is made up opens no further share.
    async fn session(&self, headers: &HeaderMap) -> Option<String> {
        let id = headers.get("mcp-session-id")?.to_str().ok()?;
        self.sessions.knows(id).await.then(|| id.to_owned())
    }
}

/// The body, up to `most` bytes.
async fn whole(body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    if body.size_hint().lower() > most as u64 {
        return Err(Refusal::Large);
    }
    let (mut parts, mut bytes) = (body.into_data_stream(), Vec::new());
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Refusal::Cut)?;
        if bytes.len() + part.len() > most {
            return Err(Refusal::Large);
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// The message asks for a session.
fn begins_a_session(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Message {
        method: Option<String>,
    }
    serde_json::from_slice::<Message>(body).is_ok_and(|message| message.method.as_deref() == Some("initialize"))
}

/// Lets a request in that is addressed rightly: for what everybody may read.
pub async fn check_address(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.addressed_rightly(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// One client: who its token names, where it calls from, and its session where it has one.
fn client(caller: &str, session: Option<&str>, request: &Request) -> String {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_string()).unwrap_or_default();
    let session = session.unwrap_or_default();
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
            sessions: HttpSessions::default(),
            max_body_bytes: 1000,
            max_sessions: 1,
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
        assert!(!known("evil@127.0.0.1") && !known("evil@localhost:8080"));
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
