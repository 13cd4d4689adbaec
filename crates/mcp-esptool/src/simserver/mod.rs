//! `mcp-esptool sim`: a virtual chip in real time, for other people's tools, over TCP, RFC 2217 or a pseudo terminal.

mod args;
mod engine;
pub(crate) mod files;
mod lines;

use std::sync::mpsc;

pub use args::Args;
use engine::{Engine, Event};

/// Why the simulator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A parameter makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file, socket or terminal failed.
    #[error("{what}: {source}")]
    Io {
        /// Which one.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl SimError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Serves one virtual chip until it is told to stop (Ctrl-C, SIGTERM). Says on standard error where it listens.
pub fn run(args: &Args) -> Result<(), SimError> {
    let config = args.config()?;
    let files = files::Files::open(args, &config)?;
    let (events, inbox) = mpsc::channel();
    let stop = events.clone();
    std::thread::spawn(move || {
        wait_for_signal();
        let _ = stop.send(Event::Stop);
    });
    let mut engine = Engine::new(&config, files, args.reset_on_disconnect);
    let place = lines::listen(args, events)?;
    eprintln!("{} ready on {place}", config.chip.name);
    engine.run(&inbox)
}

/// Returns at Ctrl-C or SIGTERM.
fn wait_for_signal() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    runtime.block_on(async {
        #[cfg(unix)]
        if let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            return;
        }
        let _ = tokio::signal::ctrl_c().await;
    });
}
