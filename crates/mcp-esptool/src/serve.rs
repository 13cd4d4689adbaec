//! `serve`: over standard input and output, or over HTTP in a program that has it. Events of the ledger are sent meanwhile.

use std::io;
use std::time::Duration;

use esp_factory::outbox::{self, Sender};
use esp_ops::config::{Config, Origin};
use esp_ops::console::daemon;
use esp_ops::error::ToolError;

use crate::ctx::Ctx;

/// Where it listens when it is told no address.
pub const HTTP_ADDRESS: &str = "127.0.0.1:8080";

/// Serves the client that started the program.
pub fn over_stdio(config: Config) -> Result<io::Result<()>, ToolError> {
    let (ctx, _events) = ready(config)?;
    Ok(crate::mcp::serve_stdio(ctx))
}

/// What a server works with, and what sends events until it is dropped.
fn ready(config: Config) -> Result<(Ctx, Sender), ToolError> {
    let ctx = Ctx::new(config)?;
    // A person at a terminal may work anywhere; an agent's other programs are not held back by us.
    for (root, path) in ctx.files.exposed().into_iter().filter(|(_, path)| path.exists()) {
        let (root, path) = (root.display(), path.display());
        tracing::warn!("the project root {root} contains {path}, which stays closed to calls");
    }
    let events = outbox::start(&ctx.app.desk, &ctx.config)?;
    Ok((ctx, events))
}

/// Arguments of `daemon`.
#[derive(Debug, clap::Args)]
pub struct DaemonArgs {
    /// End after this many seconds without consoles and readers
    #[arg(long, default_value_t = daemon::IDLE.as_secs())]
    idle_s: u64,
}

/// Keeps consoles open for other programs of this user until nobody needs it.
pub fn consoles(mut config: Config, args: &DaemonArgs) -> Result<io::Result<()>, ToolError> {
    // It is the daemon: its consoles live here.
    config.set("console_daemon", "false".into(), Origin::Flag)?;
    Ok(daemon::serve(Ctx::new(config)?.consoles.clone(), Duration::from_secs(args.idle_s)))
}

/// Serves until the program is told to end.
#[cfg(feature = "http")]
pub fn over_http(config: Config, address: &str) -> Result<io::Result<()>, ToolError> {
    let options = crate::http::Options::new(&config, address)?;
    let (ctx, _events) = ready(config)?;
    Ok(crate::http::serve(ctx, options))
}

/// Says that this program cannot.
#[cfg(not(feature = "http"))]
pub fn over_http(_: Config, _: &str) -> Result<io::Result<()>, ToolError> {
    let text = "this program was built without HTTP (feature `http`)";
    Err(ToolError::new(esp_ops::error::Code::NotInThisBuild, text))
}
