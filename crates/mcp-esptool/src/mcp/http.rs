//! MCP over HTTP: its sessions, and who calls.

use std::sync::Arc;

use axum::http::request::Parts;
use esp_ops::caller::Caller;
use rmcp::ServerHandler;
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::Server;
use crate::ctx::Ctx;

/// The sessions of clients over HTTP.
#[derive(Clone, Default)]
pub struct HttpSessions(Arc<LocalSessionManager>);

impl HttpSessions {
    /// There is a session of this id.
    pub async fn knows(&self, id: &str) -> bool {
        self.0.sessions.read().await.keys().any(|known| **known == *id)
    }

    /// How many there are.
    pub async fn count(&self) -> usize {
        self.0.sessions.read().await.len()
    }
}

/// MCP at `/mcp`, for clients of all revisions. Those that begin with `initialize` get a session.
pub fn http_routes(ctx: Ctx, sessions: &HttpSessions, max_body_bytes: usize, stop: &CancellationToken) -> axum::Router {
    routes_of(move || Server::new(ctx.clone()), sessions, max_body_bytes, stop)
}

/// The same for any server; tests serve fixtures in this way.
pub fn routes_of<H: ServerHandler>(
    make: impl Fn() -> H + Send + Sync + 'static,
    sessions: &HttpSessions,
    max_body_bytes: usize,
    stop: &CancellationToken,
) -> axum::Router {
    // Host and Origin are checked before a request comes here, by rules that the configuration may widen.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(max_body_bytes)
        .with_cancellation_token(stop.clone());
    let service = StreamableHttpService::new(move || Ok(make()), sessions.0.clone(), config);
    axum::Router::new().route_service("/mcp", service)
}

/// Whom the HTTP server let in, where the call came over HTTP.
pub fn caller(context: &RequestContext<RoleServer>) -> Option<&Caller> {
    context.extensions.get::<Parts>()?.extensions.get::<Caller>()
}
