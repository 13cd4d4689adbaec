//! What this program shows over HTTP beside MCP. Further pages (a station's page, for one) are merged here; all of
//! them are behind the guard of [`super::guarded`]: a request without the token does not reach them.

use axum::Router;
use axum::routing::get;

use crate::ctx::Ctx;

/// The pages' routes.
pub fn routes(ctx: Ctx) -> Router {
    Router::new().route("/health", get(|| async { "ok\n" })).merge(crate::factory::station::data_routes(ctx))
}
