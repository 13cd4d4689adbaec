//! A running piece of work: progress goes up, cancellation comes down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Handed down with every call that may take long.
#[derive(Clone, Default)]
pub struct Job {
    cancelled: Arc<AtomicBool>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    shielded: bool,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Units done of this phase, in what `unit` says.
    pub done: u64,
    /// Units in this phase; 0 when unknown.
    pub total: u64,
    /// What happens now, for people: "writing 0x10000".
    pub message: String,
}

/// The job was cancelled by its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Job {
    /// A job that nobody watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// A job whose progress goes to `sink`.
    pub fn with_progress(sink: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(sink)), ..Self::default() }
    }

    /// Asks the job to stop at the next frame. May be called from any thread.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Somebody asked this job to stop, shielded or not.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Fails once the job is cancelled, unless it is shielded.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() && !self.shielded { Err(Cancelled) } else { Ok(()) }
    }

    /// The same job for a stretch that must not be cut (an eFuse burn): `check` never fails in it.
    pub fn shielded(&self) -> Self {
        Self { shielded: true, ..self.clone() }
    }

    /// The same job without reports: for a part of a stretch that reports itself.
    pub fn silent(&self) -> Self {
        Self { progress: None, ..self.clone() }
    }

    /// Reports how far the work has come.
    pub fn progress(&self, done: u64, total: u64, message: impl Into<String>) {
        if let Some(sink) = &self.progress {
            sink(Progress { done, total, message: message.into() });
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("cancelled", &self.is_cancelled()).field("shielded", &self.shielded).finish()
    }
}
