//! The station page: what happens in every slot, and what the ledger says, as one page and as JSON.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use esp_model::job::Job;
use serde_json::{Value, json};

use super::metrics;
use crate::ctx::Ctx;
use crate::{pages, tools};
use esp_factory::desk::{find_unit, history};
use esp_factory::floor::now_ms;

/// The page. It loads nothing from elsewhere; its data comes from the routes below.
const PAGE: &str = include_str!("station.html");
/// Where the page's first data goes, for hosts that show it without a connection to this server.
const SNAPSHOT: &str = "/*SNAPSHOT*/null";
/// How often the stream looks for changes.
const TICK: Duration = Duration::from_millis(200);
/// How long what the ledger said is good for.
const LEDGER_AGE: Duration = Duration::from_secs(2);

/// Stations are shown with what they did in this time, in milliseconds.
const STATIONS_PERIOD_MS: u64 = 24 * 60 * 60 * 1000;

/// What the ledger said last, when, and after how many changes.
type Cached = Mutex<Option<(Instant, Option<u64>, Value)>>;

/// The pages alone: they hold no data, so that they need no token. The token goes into an address behind `#`, which
/// browsers keep to themselves.
pub fn page_routes() -> Router {
    let station = Router::new()
        .route("/station", get(|| async { page(pages::with_kit(PAGE)) }))
        .route("/", get(|| async { Redirect::temporary("/station") }));
    pages::VIEWS
        .iter()
        .fold(station, |router, view| router.route(view.path, get(move || async move { page(view.html()) })))
}

/// The page's data. To be mounted behind the guard.
pub fn data_routes(ctx: Ctx) -> Router {
    Router::new()
        .route("/station/status", get(status_now))
        .route("/station/events", get(stream))
        .route("/station/unit/{named}", get(unit))
        .route("/station/label/{mac}", post(label))
        .route("/metrics", get(metrics_now))
        .with_state(ctx)
}

/// The page with the present status inside.
pub fn snapshot(ctx: &Ctx) -> String {
    let status = script_safe(&status(ctx));
    pages::with_kit(PAGE).replacen(SNAPSHOT, &status, 1)
}

/// JSON that may stand within a script: without `<`, nothing looks like the script's end, a comment or another script.
/// The two line ends that JSON allows and older scripts do not are escaped too.
fn script_safe(value: &Value) -> String {
    let text = value.to_string().replace('<', "\\u003c");
    text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Slots, yield, pools, failures and the last runs.
pub fn status(ctx: &Ctx) -> Value {
    let (desk, view) = (&ctx.app.desk, ctx.app.floor.look());
    json!({
        "station": desk.station, "operator": desk.operator, "shift": desk.shift, "ledger": desk.place(),
        "now_ms": now_ms(), "version": view.version, "slots": view.slots, "totals": view.totals,
        "recipe": view.recipe, "production": production(ctx),
    })
}

/// What the ledger says, asked every two seconds, and at once where it tells of a run at another station.
fn production(ctx: &Ctx) -> Value {
    static CACHED: Cached = Mutex::new(None);
    let mut cached = CACHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (place, changes) = (ctx.app.desk.place(), ctx.app.desk.changes());
    if let Some((at, before, value)) = &*cached
        && at.elapsed() < LEDGER_AGE
        && *before == changes
        && value["place"] == *place
    {
        return value.clone();
    }
    let since = i64::try_from(now_ms().saturating_sub(STATIONS_PERIOD_MS)).unwrap_or_default();
    let asked = ctx.app.desk.with(|ledger| {
        Ok(json!({
            "place": place, "runs": ledger.run_counts()?, "top_failures": ledger.top_failures(5)?,
            "last_runs": ledger.runs(None, 20)?, "pools": ledger.pools()?, "stations": ledger.stations(since)?,
        }))
    });
    let value = asked.unwrap_or_else(|error| json!({"place": place, "error": error.to_string()}));
    *cached = Some((Instant::now(), changes, value.clone()));
    value
}

fn page(html: String) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

fn json_of(status: StatusCode, value: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, value.to_string()).into_response()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

async fn status_now(State(ctx): State<Ctx>) -> Response {
    match blocking(move || status(&ctx)).await {
        Some(status) => json_of(StatusCode::OK, &status),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics_now(State(ctx): State<Ctx>) -> Response {
    let text = blocking(move || metrics::text(&ctx.app.desk.station, &ctx.app.floor.look(), &production(&ctx))).await;
    match text {
        Some(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The status whenever something changed, and every two seconds.
async fn stream(State(ctx): State<Ctx>) -> impl IntoResponse {
    let start = (ctx, None::<((u64, Option<u64>), Instant)>);
    let events = futures_util::stream::unfold(start, |(ctx, sent)| async move {
        loop {
            let version = (ctx.app.floor.version(), ctx.app.desk.changes());
            let due = sent.is_none_or(|(before, at)| before != version || at.elapsed() >= LEDGER_AGE);
            if due {
                let own = ctx.clone();
                let status = blocking(move || status(&own)).await?;
                let event = Event::default().event("status").data(status.to_string());
                tokio::time::sleep(TICK).await;
                return Some((Ok::<_, Infallible>(event), (ctx, Some((version, Instant::now())))));
            }
            tokio::time::sleep(TICK).await;
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The history of a unit, named by its base MAC address or by an identity.
async fn unit(State(ctx): State<Ctx>, Path(named): Path<String>) -> Response {
    let looked = blocking(move || {
        ctx.app.desk.with(|ledger| match find_unit(ledger, &named)? {
            Some(unit) => history(ledger, &unit),
            None => Ok(None),
        })
    });
    match looked.await {
        Some(Ok(Some(found))) => json_of(StatusCode::OK, &found),
        Some(Ok(None)) => json_of(
            StatusCode::NOT_FOUND,
            &json!({"error": "the ledger has no unit with this MAC address or serial number"}),
        ),
        Some(Err(error)) => json_of(StatusCode::BAD_REQUEST, &json!({"error": error.message})),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Counts a print of a unit's label and gives its payload. It is the tool's action, so that the policy counts.
async fn label(State(ctx): State<Ctx>, Path(mac): Path<String>) -> Response {
    let printed = blocking(move || {
        let entry = tools::find("esp_ledger")?;
        Some(entry.call(&ctx, &Job::new(), json!({"action": "label", "unit": mac})))
    });
    match printed.await.flatten() {
        Some(Ok(reply)) => json_of(StatusCode::OK, reply.data.get("data").unwrap_or(&Value::Null)),
        Some(Err(error)) => json_of(StatusCode::BAD_REQUEST, &json!({"error": error.message})),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_devices_cannot_change_the_page() {
        let value = json!({"serial": "<!--<script></script>\u{2028}"});
        let text = script_safe(&value);
        assert!(!text.contains('<') && !text.contains('\u{2028}'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
