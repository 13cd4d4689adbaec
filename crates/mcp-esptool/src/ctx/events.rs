//! What changes while the server runs: ports come and go, devices are written. Clients that subscribe are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esp_ops::console::session::About;
use esp_ops::guard::Risk;
use serde_json::{Map, Value};
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::ctx::Ctx;
use crate::tool::Entry;

/// How often the ports are looked at while somebody wants to know.
const PERIOD: Duration = Duration::from_secs(1);
/// Events that a slow client may be behind; then it is told that everything may have changed.
const BEHIND: usize = 64;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A port or virtual device came or went.
    Ports,
    /// A device was written, erased or burned; any device where the port is not known.
    Device(Option<String>),
    /// The console of this port has something new, or another state.
    Console(String),
}

/// Who wants to know.
pub struct Events {
    sender: Sender<Event>,
    watching: AtomicBool,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: channel(BEHIND).0, watching: AtomicBool::new(false) }
    }
}

impl Events {
    /// Tells all who listen.
    pub fn tell(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.sender.send(event);
    }

    /// Tells what a call may have changed.
    pub fn after_call(&self, entry: &Entry, port: Option<&str>, result: Option<&Map<String, Value>>) {
        if entry.risk < Risk::Writes || self.sender.receiver_count() == 0 {
            return;
        }
        if entry.set == "virtual" {
            self.tell(Event::Ports);
        }
        let found = result.and_then(|data| data.get("port")).and_then(Value::as_str);
        self.tell(Event::Device(port.or(found).map(str::to_string)));
    }
}

impl Ctx {
    /// Listens to what changes. While somebody listens, the ports are looked at every second; none is opened.
    pub fn listen(&self) -> Receiver<Event> {
        let receiver = self.app.events.sender.subscribe();
        if !self.app.events.watching.swap(true, Ordering::AcqRel) {
            let ctx = self.clone();
            std::thread::spawn(move || watch(&ctx));
        }
        receiver
    }
}

fn watch(ctx: &Ctx) {
    let look = || ctx.ports.candidates().into_iter().map(|found| found.url).collect::<Vec<_>>();
    let consoles = || ctx.consoles.list().into_iter().map(|about| (about.url.clone(), about)).collect();
    let mut known = look();
    let mut heard: BTreeMap<String, About> = consoles();
    loop {
        std::thread::sleep(PERIOD);
        if ctx.app.events.sender.receiver_count() == 0 {
            ctx.app.events.watching.store(false, Ordering::Release);
            let again = ctx.app.events.sender.receiver_count() > 0;
            if !again || ctx.app.events.watching.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        let now = look();
        if now != known {
            ctx.app.events.tell(Event::Ports);
            known = now;
        }
        let now: BTreeMap<String, About> = consoles();
        let urls = now.keys().chain(heard.keys()).collect::<BTreeSet<_>>();
        for url in urls.into_iter().filter(|url| now.get(*url) != heard.get(*url)) {
            ctx.app.events.tell(Event::Console(url.clone()));
        }
        heard = now;
    }
}
