//! What clients are told without asking again: changed resources, and log lines to those of the older eras.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::{ErrorData, ResourceUpdatedNotificationParam, SubscriptionFilter};
#[expect(deprecated, reason = "clients of the older revisions ask for log lines")]
use rmcp::model::{LoggingLevel, LoggingMessageNotificationParam};
use rmcp::service::{Peer, RequestContext, RoleServer, SubscriptionContext};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Server;
use crate::ctx::Ctx;
use crate::ctx::events::Event;
use crate::{logs, resources};

/// How often it is looked whether a client is still there.
const LOOK: Duration = Duration::from_secs(5);

/// What one client of the older eras wants to be told.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    inner: Mutex<Wishes>,
}

#[derive(Debug, Default)]
struct Wishes {
    uris: BTreeSet<String>,
    updates_run: bool,
    level: Option<tracing::Level>,
    logs_run: bool,
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// The part of a filter that this server can serve: resources that it has.
    pub(super) fn accepted(&self, requested: &SubscriptionFilter) -> SubscriptionFilter {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| resources::known(&self.ctx, uri));
        }
        accepted
    }

    /// Tells of changed resources until the client or the server ends it.
    pub(super) async fn tell(&self, context: SubscriptionContext) {
        let mut events = self.ctx.listen();
        let uris = context.accepted().resource_subscriptions.clone().unwrap_or_default();
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = context.cancelled() => return,
            };
            for uri in changed(&uris, &event) {
                if context.sink().notify_resource_updated(uri.clone()).await.is_err() {
                    return;
                }
            }
            if event == Err(RecvError::Closed) {
                return;
            }
        }
    }

    pub(super) fn subscribe_to(&self, uri: String, peer: &Peer<RoleServer>) -> Result<(), ErrorData> {
        if !resources::known(&self.ctx, &uri) {
            return Err(ErrorData::resource_not_found(format!("there is no resource {uri}"), None));
        }
        let mut wishes = self.wanted.lock();
        wishes.uris.insert(uri);
        if !std::mem::replace(&mut wishes.updates_run, true) {
            tokio::spawn(updates(self.ctx.clone(), self.wanted.clone(), peer.clone()));
        }
        Ok(())
    }

    pub(super) fn unsubscribe_from(&self, uri: &str) {
        self.wanted.lock().uris.remove(uri);
    }

    #[expect(deprecated, reason = "clients of the older revisions ask for log lines")]
    pub(super) fn log_from(&self, level: LoggingLevel, peer: &Peer<RoleServer>) {
        let mut wishes = self.wanted.lock();
        wishes.level = Some(own_level(level));
        if !std::mem::replace(&mut wishes.logs_run, true) {
            tokio::spawn(log_lines(self.wanted.clone(), self.number, peer.clone()));
        }
    }
}

#[expect(deprecated, reason = "clients ask for log lines")]
fn own_level(level: LoggingLevel) -> tracing::Level {
    match level {
        LoggingLevel::Debug => tracing::Level::DEBUG,
        LoggingLevel::Info | LoggingLevel::Notice => tracing::Level::INFO,
        LoggingLevel::Warning => tracing::Level::WARN,
        _ => tracing::Level::ERROR,
    }
}

#[expect(deprecated, reason = "clients ask for log lines")]
fn message_of(line: logs::Line) -> LoggingMessageNotificationParam {
    let level = match line.level {
        tracing::Level::ERROR => LoggingLevel::Error,
        tracing::Level::WARN => LoggingLevel::Warning,
        tracing::Level::INFO => LoggingLevel::Info,
        _ => LoggingLevel::Debug,
    };
    LoggingMessageNotificationParam::new(level, line.text.into()).with_logger(line.target)
}

/// The lines of one call, for a client of the revision without sessions: it asks for them in each request's `_meta`.
pub(super) struct CallLog {
    /// The call's number.
    pub(super) call: u64,
    level: tracing::Level,
    lines: Receiver<logs::Line>,
}

impl CallLog {
    /// What this request asks for, if anything.
    pub(super) fn wanted(context: &RequestContext<RoleServer>) -> Option<Self> {
        let level = own_level(context.meta.log_level()?);
        Some(Self { call: logs::new_number(), level, lines: logs::listen() })
    }

    fn fits(&self, line: &logs::Line) -> bool {
        line.call == self.call && line.level <= self.level
    }

    /// Waits for a line and sends it, if it is one of the call's.
    pub(super) async fn forward(&mut self, context: &RequestContext<RoleServer>) {
        match self.lines.recv().await {
            Ok(line) if self.fits(&line) => send_line(context, line).await,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Sends what came until the call ended.
    pub(super) async fn rest(&mut self, context: &RequestContext<RoleServer>) {
        while let Ok(line) = self.lines.try_recv() {
            if self.fits(&line) {
                send_line(context, line).await;
            }
        }
    }
}

#[expect(deprecated, reason = "clients ask for log lines")]
async fn send_line(context: &RequestContext<RoleServer>, line: logs::Line) {
    // A client that is gone needs none.
    let _ = context.peer.notify_logging_message(message_of(line)).await;
}

/// Of these resources, those that are other ones after an event.
fn changed<'a>(uris: &'a [String], event: &Result<Event, RecvError>) -> Vec<&'a String> {
    let concerned = |uri: &&String| match event {
        Ok(event) => resources::concerns(uri, event),
        // Too slow for all events: any of them may have changed.
        Err(RecvError::Lagged(_)) => true,
        Err(RecvError::Closed) => false,
    };
    uris.iter().filter(concerned).collect()
}

/// The task of one client, until it is gone.
async fn updates(ctx: Ctx, wanted: Arc<Wanted>, peer: Peer<RoleServer>) {
    let mut events = ctx.listen();
    while !peer.is_transport_closed() {
        let event = tokio::select! {
            event = events.recv() => event,
            () = tokio::time::sleep(LOOK) => continue,
        };
        let uris: Vec<String> = wanted.lock().uris.iter().cloned().collect();
        for uri in changed(&uris, &event) {
            if peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri.clone())).await.is_err() {
                return;
            }
        }
        if event == Err(RecvError::Closed) {
            return;
        }
    }
}

#[expect(deprecated, reason = "clients of the older revisions ask for log lines")]
async fn log_lines(wanted: Arc<Wanted>, client: u64, peer: Peer<RoleServer>) {
    let mut lines = logs::listen();
    while !peer.is_transport_closed() {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = tokio::time::sleep(LOOK) => continue,
        };
        let line = match line {
            Ok(line) => line,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        // What is said for another client is not for this one.
        if line.client != client || wanted.lock().level.is_none_or(|level| line.level > level) {
            continue;
        }
        if peer.notify_logging_message(message_of(line)).await.is_err() {
            return;
        }
    }
}
