//! Where log lines go: to stderr, and to those who listen (MCP clients of the older eras that ask for them).

use std::cell::Cell;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::{Receiver, Sender, channel};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// How bad it is.
    pub level: Level,
    /// The part of the program that says it.
    pub target: &'static str,
    /// What it says.
    pub text: String,
    /// The client for whose call it was said; 0 for none.
    pub client: u64,
    /// The call in whose thread it was said; 0 for none.
    pub call: u64,
}

thread_local! {
    /// Client and call.
    static CALL: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// A number for a client, or for a call whose lines somebody wants.
pub fn new_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The client for whose call this thread works; 0 for none.
pub fn client() -> u64 {
    CALL.get().0
}

/// Does `work`; the lines of this thread meanwhile are those of the client and its call.
pub fn during<T>(client: u64, call: u64, work: impl FnOnce() -> T) -> T {
    let before = CALL.replace((client, call));
    let result = work();
    CALL.set(before);
    result
}

/// Lines that a slow listener may be behind.
const BEHIND: usize = 256;

fn sender() -> &'static Sender<Line> {
    static SENDER: OnceLock<Sender<Line>> = OnceLock::new();
    SENDER.get_or_init(|| channel(BEHIND).0)
}

/// Listens to this program's own lines, from `debug` on.
pub fn listen() -> Receiver<Line> {
    sender().subscribe()
}

/// Begins to log: to stderr from `level` on, and to listeners. `sdk`: the protocol's library, as it names itself.
pub fn start(level: &str, sdk: &str) {
    let level = level.parse().unwrap_or(LevelFilter::WARN);
    // The SDK warns of each request that is refused: that is an answer, and noise in a client's log.
    let of_sdk = if level == LevelFilter::WARN { LevelFilter::ERROR } else { level };
    let level = Targets::new().with_default(level).with_target(sdk, of_sdk);
    let shown = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // Not what the SDK says: it would speak of sending these very lines.
    let own = filter_fn(|about| {
        *about.level() <= Level::DEBUG
            && (about.target().starts_with("mcp_esptool") || about.target().starts_with("esp_"))
    });
    let both = tracing_subscriber::registry().with(shown.with_filter(level)).with(Forward.with_filter(own));
    let _ = both.try_init();
}

struct Forward;

impl<S: Subscriber> Layer<S> for Forward {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if sender().receiver_count() == 0 {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let about = event.metadata();
        let (client, call) = CALL.get();
        let _ = sender().send(Line { level: *about.level(), target: about.target(), text: text.0, client, call });
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
