//! MCP over Streamable HTTP, on a loopback address unless told otherwise.
//!
//! Every request passes the guard first ([`guard`]): Host and Origin against DNS rebinding and foreign pages, then the
//! bearer token, then the client's share of open requests. TLS is a reverse proxy's work.

mod guard;
mod limits;
mod oauth;
mod options;
mod pages;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router, middleware};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use options::{Auth, Options};

use crate::ctx::Ctx;
use crate::mcp;

/// Longest time for a request's head to arrive.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest wait for open requests when the server ends.
const CLOSING: Duration = Duration::from_secs(10);

/// The address that a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// Serves until the process is told to end (Ctrl-C, SIGTERM, SIGHUP).
pub fn serve(ctx: Ctx, options: Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let listener = TcpListener::bind(options.address).await?;
        options.announce(listener.local_addr()?);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            crate::signals::told_to_end().await;
            stopping.cancel();
        });
        run(ctx.clone(), options, listener, stop).await
    });
    ctx.close();
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Serves on a listener until `stop`. Then open requests are cancelled, waited for a while, and left.
pub async fn run(ctx: Ctx, options: Options, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    // Pages beside MCP (the station page …) are mounted in `pages`; they are behind the same guard.
    let sessions = mcp::HttpSessions::default();
    let routes = mcp::http_routes(ctx.clone(), &sessions, options.max_body_bytes, &stop).merge(pages::routes(ctx));
    run_router(guarded(&options, sessions, routes), options.connections, listener, stop).await
}

/// The same for any router.
pub async fn run_router(
    router: Router,
    connections: usize,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(connections));
    let open = GracefulShutdown::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = open.watch(connection(stream, router.clone().layer(Extension(Peer(peer)))).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("{peer}: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(CLOSING, open.shutdown()).await;
    Ok(())
}

type Service = TowerToHyperService<Router>;

fn connection(
    stream: TcpStream,
    router: Router,
) -> hyper_util::server::conn::auto::Connection<'static, TokioIo<TcpStream>, Service, TokioExecutor> {
    let _ = stream.set_nodelay(true);
    // Not told that it is HTTP/1 only, the builder would wait for the first bytes without any limit.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned()
}

/// Routes behind the guard, and beside them what everybody may read.
pub fn guarded(options: &Options, sessions: mcp::HttpSessions, routes: Router) -> Router {
    let guard = Arc::new(guard::Guard::new(options, sessions));
    let guarded = routes.layer(middleware::from_fn_with_state(guard.clone(), guard::admit));
    // Pages hold no data: what they show comes from guarded routes.
    let open = oauth::routes(options).merge(crate::factory::station::page_routes());
    let open = open.layer(middleware::from_fn_with_state(guard, guard::check_address));
    guarded.merge(open)
}
