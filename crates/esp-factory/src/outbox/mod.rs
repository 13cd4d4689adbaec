//! Events of the ledger leave for other systems: in order, at least once, each with its hash as the idempotency key.
//!
//! The ledger's chain of events is the outbox: an event is committed with the change that it is about. What a receiver has
//! confirmed, a cursor in the same database says. A crash between the two sends an event again, and never loses one.

mod file;
#[cfg(feature = "events")]
mod http;
#[cfg(feature = "events")]
mod mes;
#[cfg(feature = "events")]
mod mqtt;
#[cfg(feature = "events")]
mod webhook;

#[cfg(feature = "events")]
pub use mes::Mes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use esp_ledger::Event;
use esp_ops::config::Config;
use esp_ops::error::{Code, ToolError};
use serde_json::{Value as Json, json};

use crate::Desk;

/// Events that are asked of the ledger at once.
const BATCH: i64 = 100;
/// How often a running server looks for new events.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An event as it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The event's hash: the same whenever it is sent again.
    pub key: String,
    /// Its place in the station's chain.
    pub seq: i64,
    /// Whose chain.
    pub station: String,
    /// JSON on one line.
    pub body: String,
}

impl From<&Event> for Message {
    fn from(event: &Event) -> Self {
        let data: Json = serde_json::from_str(&event.body).unwrap_or_else(|_| json!(event.body));
        let body = json!({
            "station": event.station, "seq": event.seq, "at_ms": event.at_ms, "run": event.run,
            "kind": event.kind, "data": data, "hash": event.hash, "prev_hash": event.prev_hash,
        });
        Self { key: event.hash.clone(), seq: event.seq, station: event.station.clone(), body: body.to_string() }
    }
}

/// A receiver.
pub trait Sink: Send {
    /// Its name in the ledger, which its cursor belongs to.
    fn name(&self) -> &str;

    /// Delivers one message; `Ok` only when the receiver has confirmed it.
    fn deliver(&mut self, message: &Message) -> Result<(), String>;
}

/// The receivers of the configuration.
pub fn sinks(config: &Config) -> Result<Vec<Box<dyn Sink>>, ToolError> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(path) = config.path("events_file") {
        sinks.push(Box::new(file::File::new(&path)));
    }
    for (setting, make) in [("events_webhook", webhook as Make), ("events_mqtt", mqtt), ("mes_url", mes)] {
        if !config.text(setting).is_empty() {
            let bad = |error: String| ToolError::new(Code::BadConfiguration, format!("{setting}: {error}"));
            sinks.push(make(config, config.text(setting)).map_err(bad)?);
        }
    }
    Ok(sinks)
}

/// Makes a receiver of an address.
type Make = fn(&Config, &str) -> Result<Box<dyn Sink>, String>;

#[cfg(feature = "events")]
fn webhook(config: &Config, url: &str) -> Result<Box<dyn Sink>, String> {
    let secret = config.path("events_secret_file");
    Ok(Box::new(webhook::Webhook::new(url, secret.as_deref())?))
}

#[cfg(feature = "events")]
fn mqtt(_: &Config, url: &str) -> Result<Box<dyn Sink>, String> {
    Ok(Box::new(mqtt::Mqtt::new(url)?))
}

#[cfg(feature = "events")]
fn mes(config: &Config, url: &str) -> Result<Box<dyn Sink>, String> {
    Ok(Box::new(Mes::new(config, url)?))
}

#[cfg(not(feature = "events"))]
use without as webhook;
#[cfg(not(feature = "events"))]
use without as mes;
#[cfg(not(feature = "events"))]
use without as mqtt;

#[cfg(not(feature = "events"))]
fn without(_: &Config, _: &str) -> Result<Box<dyn Sink>, String> {
    Err("this program was built without it (feature `events`)".into())
}

/// Delivers what is pending; the number of confirmed events. Stops at the first event that is not confirmed.
pub fn send_pending(desk: &Desk, sink: &mut dyn Sink) -> Result<u64, ToolError> {
    let mut count = 0;
    loop {
        let events = desk.with(|ledger| ledger.pending(sink.name(), BATCH))?;
        if events.is_empty() {
            return Ok(count);
        }
        for event in &events {
            sink.deliver(&event.into()).map_err(|error| {
                let text = format!("{}: event {} was not confirmed: {error}", sink.name(), event.seq);
                ToolError::new(Code::EventsNotSent, text)
            })?;
            desk.with(|ledger| ledger.confirmed(sink.name(), event.seq))?;
            count += 1;
        }
    }
}

/// Sends in the background while a server runs.
pub struct Sender(Arc<AtomicBool>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts a thread for each receiver; a receiver that is away does not hold up the others.
pub fn start(desk: &Arc<Desk>, config: &Config) -> Result<Sender, ToolError> {
    let stop = Arc::new(AtomicBool::new(false));
    for mut sink in sinks(config)? {
        let (desk, stop) = (desk.clone(), stop.clone());
        let failed = |error: std::io::Error| ToolError::new(Code::Internal, error.to_string());
        let work = move || keep_sending(&desk, sink.as_mut(), &stop);
        std::thread::Builder::new().name("events".into()).spawn(work).map_err(failed)?;
    }
    Ok(Sender(stop))
}

fn keep_sending(desk: &Desk, sink: &mut dyn Sink, stop: &AtomicBool) {
    let mut pause = POLL_INTERVAL;
    while !stop.load(Ordering::Relaxed) {
        pause = match send_pending(desk, sink) {
            Ok(_) => POLL_INTERVAL,
            Err(error) => {
                tracing::warn!("{}; again in {} s", error.message, pause.as_secs());
                (pause * 2).min(LONGEST_PAUSE)
            }
        };
        let until = Instant::now() + pause;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver that confirms until it fails.
    struct Flaky {
        got: Vec<Message>,
        room: usize,
    }

    impl Sink for Flaky {
        fn name(&self) -> &str {
            "test"
        }

        fn deliver(&mut self, message: &Message) -> Result<(), String> {
            if self.got.len() == self.room {
                return Err("full".into());
            }
            self.got.push(message.clone());
            Ok(())
        }
    }

    #[test]
    fn events_are_sent_in_order_and_go_on_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::at(&dir.path().join("ledger.db"), "line-3");
        for number in 0..250 {
            desk.with(|ledger| ledger.record(None, "test", &json!({ "number": number }))).unwrap();
        }
        let mut sink = Flaky { got: Vec::new(), room: 120 };
        let error = send_pending(&desk, &mut sink).unwrap_err();
        assert!(error.message.contains("event 121") && error.message.contains("full"), "{error}");
        sink.room = 1000;
        assert_eq!(send_pending(&desk, &mut sink).unwrap(), 130);
        assert_eq!(send_pending(&desk, &mut sink).unwrap(), 0);
        let sequence: Vec<i64> = sink.got.iter().map(|message| message.seq).collect();
        assert_eq!(sequence, (1..=250).collect::<Vec<_>>());
        let body: Json = serde_json::from_str(&sink.got[7].body).unwrap();
        assert_eq!((&body["data"]["number"], &body["station"]), (&json!(7), &json!("line-3")));
        assert_eq!(body["hash"], sink.got[7].key.as_str());
    }
}
