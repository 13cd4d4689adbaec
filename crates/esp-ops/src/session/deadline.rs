//! The policy's longest call: when it is over, the call is cancelled at its next safe point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use esp_model::job::Job;

use crate::error::{Code, ToolError};

/// Watches a call until it is dropped.
pub struct Deadline {
    limit: Duration,
    passed: Arc<AtomicBool>,
    _ends: Sender<()>,
}

impl Deadline {
    /// Cancels `job` after `limit`.
    pub fn start(job: Job, limit: Duration) -> Self {
        let (sender, ends) = channel::<()>();
        let passed = Arc::new(AtomicBool::new(false));
        let seen = passed.clone();
        std::thread::spawn(move || {
            if ends.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                seen.store(true, Ordering::Relaxed);
                job.cancel();
            }
        });
        Self { limit, passed, _ends: sender }
    }

    /// Says of a call that was cancelled for this reason why it was.
    pub fn explain<T>(&self, result: Result<T, ToolError>) -> Result<T, ToolError> {
        let late = self.passed.load(Ordering::Relaxed);
        result.map_err(|error| match error.code {
            Code::Cancelled if late => {
                let text =
                    format!("the call took longer than the {} s that the policy allows", self.limit.as_secs_f64());
                ToolError { code: Code::LimitReached, message: text, ..error }
                    .next("do it in smaller parts; a person can raise max_call_s in the policy file")
            }
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_call_is_cancelled_and_says_why() {
        let cancelled = || Err::<(), _>(ToolError::new(Code::Cancelled, "cancelled"));
        let job = Job::new();
        let slow = Deadline::start(job.clone(), Duration::from_millis(20));
        assert_eq!(slow.explain(cancelled()).unwrap_err().code, Code::Cancelled);
        while !job.is_cancelled() {
            std::thread::yield_now();
        }
        assert_eq!(slow.explain(cancelled()).unwrap_err().code, Code::LimitReached);
        assert_eq!(slow.explain(Err::<(), _>(ToolError::new(Code::LinkLost, ""))).unwrap_err().code, Code::LinkLost);
        assert!(slow.explain(Ok(())).is_ok());
        let quick = Job::new();
        drop(Deadline::start(quick.clone(), Duration::from_millis(5)));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!quick.is_cancelled());
    }
}
