//! The calls that run just now: when the program ends they are told to stop, and waited for. A burn that has begun
//! does not stop: it is finished.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esp_model::job::Job;

/// Longest wait for calls when the program ends. Most stop within a second; a burn takes a few.
const CLOSING: Duration = Duration::from_secs(60);

/// All calls of this process.
#[derive(Default)]
pub struct Calls {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    table: Mutex<Table>,
    ended: Condvar,
}

#[derive(Default)]
struct Table {
    last: u64,
    running: HashMap<u64, Job>,
    closed: bool,
}

/// A call that runs until this is dropped.
pub struct Running {
    inner: Arc<Inner>,
    number: u64,
}

impl Calls {
    /// A call begins. Once the program ends, it is cancelled at once.
    pub fn begin(&self, job: &Job) -> Running {
        let mut table = self.inner.lock();
        table.last += 1;
        let number = table.last;
        if table.closed {
            job.cancel();
        }
        table.running.insert(number, job.clone());
        Running { inner: self.inner.clone(), number }
    }

    /// Tells all calls to stop and waits for them.
    pub fn close(&self) {
        let until = Instant::now() + CLOSING;
        let mut table = self.inner.lock();
        table.closed = true;
        table.running.values().for_each(Job::cancel);
        while !table.running.is_empty() && Instant::now() < until {
            let waited = self.inner.ended.wait_timeout(table, Duration::from_millis(100));
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.lock().running.remove(&self.number);
        self.inner.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_waits_for_shielded_work() {
        let (calls, job) = (Calls::default(), Job::new());
        let running = calls.begin(&job);
        let burn = std::thread::spawn(move || {
            let shielded = job.shielded();
            while !job.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(100));
            let finished = shielded.check().is_ok();
            drop(running);
            finished
        });
        let began = Instant::now();
        calls.close();
        assert!(began.elapsed() >= Duration::from_millis(100));
        assert!(burn.join().unwrap());
        let late = Job::new();
        let _running = calls.begin(&late);
        assert!(late.is_cancelled());
    }
}
