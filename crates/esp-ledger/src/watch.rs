//! Word of runs that begin and end, at any station: a PostgreSQL server passes it on (LISTEN/NOTIFY), a file does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the runs that began or ended at any station of a ledger, as its server tells. Counting ends with it.
pub struct Changes(Arc<AtomicU64>);

impl Changes {
    /// Begins to count; `None` for a ledger that passes nothing on.
    pub fn of(url: &str) -> Option<Self> {
        if !crate::url::is_server(url) {
            return None;
        }
        let count = Arc::new(AtomicU64::new(0));
        start(url, &count).then_some(Self(count))
    }

    /// How many it heard of. What came while there was no connection counts as one.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "postgres")]
fn start(url: &str, count: &Arc<AtomicU64>) -> bool {
    let (url, count) = (url.to_owned(), Arc::downgrade(count));
    let listener = std::thread::Builder::new().name("ledger listener".into());
    listener.spawn(move || server::keep_listening(&url, &count)).is_ok()
}

#[cfg(not(feature = "postgres"))]
fn start(_: &str, _: &Arc<AtomicU64>) -> bool {
    false
}

#[cfg(feature = "postgres")]
mod server {
    use std::sync::Weak;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use postgres::fallible_iterator::FallibleIterator;

    use crate::LedgerError;

    /// The channel of the trigger in `schema/postgres_6.sql`.
    const LISTEN: &str = "LISTEN mcp_esptool_run";
    /// How often it is looked whether somebody still wants to know.
    const TICK: Duration = Duration::from_secs(1);
    /// Ticks without a word after which the server is asked whether it is there.
    const QUIET_TICKS: u32 = 30;
    /// Longest wait for that answer.
    const ANSWER: Duration = Duration::from_secs(10);
    /// Longest pause before the next connection.
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);

    /// Listens until nobody wants to know any more, again after each broken connection.
    pub fn keep_listening(url: &str, count: &Weak<AtomicU64>) {
        let mut pause = TICK;
        while count.strong_count() > 0 {
            if listen(url, count, &mut pause).is_ok() {
                return;
            }
            let mut waited = Duration::ZERO;
            while waited < pause && count.strong_count() > 0 {
                thread::sleep(TICK);
                waited += TICK;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn listen(url: &str, count: &Weak<AtomicU64>, pause: &mut Duration) -> Result<(), LedgerError> {
        let lost = |error: postgres::Error| LedgerError::Lost(crate::postgres::describe(&error));
        let mut client = crate::tls::connect(url)?;
        client.batch_execute(LISTEN).map_err(lost)?;
        *pause = TICK;
        add(count);
        let mut quiet = 0;
        while count.strong_count() > 0 {
            quiet += 1;
            {
                let mut notifications = client.notifications();
                let mut heard = notifications.timeout_iter(TICK);
                while heard.next().map_err(lost)?.is_some() {
                    add(count);
                    quiet = 0;
                }
            }
            if client.is_closed() {
                return Err(LedgerError::Lost("the server closed the connection".into()));
            }
            if quiet >= QUIET_TICKS {
                client.is_valid(ANSWER).map_err(lost)?;
                quiet = 0;
            }
        }
        Ok(())
    }

    fn add(count: &Weak<AtomicU64>) {
        if let Some(count) = count.upgrade() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
