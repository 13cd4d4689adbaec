//! One lock per device, and the connection that the last call left behind for the next one.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esp_model::job::Job;

use crate::console::{Line, Pause};
use crate::error::{Code, ToolError};

/// Devices that are remembered before those that nobody uses are forgotten.
const REMEMBERED: usize = 64;
/// Longest sleep of somebody who waits: how late a cancel is noticed.
const STEP: Duration = Duration::from_millis(50);

/// All devices in use or lately used, by port URL. `T` is what stays warm.
pub struct Sessions<T> {
    devices: Mutex<HashMap<String, Arc<Device<T>>>>,
    idle: Duration,
    patience: Duration,
}

struct Device<T> {
    state: Mutex<State<T>>,
    freed: Condvar,
}

struct State<T> {
    holder: Option<Holder>,
    /// Who waits for the device.
    waiting: Vec<Arc<str>>,
    warm: Option<(T, Instant)>,
}

#[derive(Clone)]
struct Holder {
    name: Arc<str>,
    since: Instant,
}

/// The right to use a device; given back when dropped.
pub struct Lease<T: Send + 'static> {
    device: Arc<Device<T>>,
    idle: Duration,
    keep: Option<T>,
    /// The connection of the last call, if it is still warm.
    pub warm: Option<T>,
    /// The device's line, where the user's daemon lends it.
    pub line: Option<Line>,
    /// A console in another process that has given the port away until this ends.
    pub paused: Option<Pause>,
}

impl<T: Send + 'static> Sessions<T> {
    /// Connections stay for `idle`; a caller waits for a busy device at most `patience`.
    pub fn new(idle: Duration, patience: Duration) -> Self {
        Self { devices: Mutex::default(), idle, patience }
    }

    /// Waits for the device's lock. Fails with the holder's name when it does not come free in time.
    pub fn lease(&self, key: &str, holder: &str, job: &Job) -> Result<Lease<T>, ToolError> {
        let device = self.device(key);
        let until = Instant::now() + self.patience;
        let waiting = Waiting::new(&device, holder);
        let mut state = lock(&device.state);
        while let Some(other) = state.holder.clone() {
            job.check()?;
            if Instant::now() >= until {
                let since = other.since.elapsed().as_secs();
                return Err(ToolError::new(Code::DeviceBusy, format!("{key} is in use by {}", other.name))
                    .seen("held_for", format!("{since} s")));
            }
            state = device.freed.wait_timeout(state, STEP).unwrap_or_else(PoisonError::into_inner).0;
        }
        let warm = state.take(holder);
        drop(state);
        drop(waiting);
        Ok(Lease { device, idle: self.idle, keep: None, warm, line: None, paused: None })
    }

    /// The device's lock once nobody else has it or waits for it; `None` when that is not so within `wait`. For work
    /// that gives way to any other.
    pub fn lease_after_others(&self, key: &str, holder: &str, wait: Duration) -> Option<Lease<T>> {
        let device = self.device(key);
        let until = Instant::now() + wait;
        let mut state = lock(&device.state);
        while state.holder.is_some() || !state.waiting.is_empty() {
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = device.freed.wait_timeout(state, left.min(STEP)).unwrap_or_else(PoisonError::into_inner).0;
        }
        let warm = state.take(holder);
        drop(state);
        Some(Lease { device, idle: self.idle, keep: None, warm, line: None, paused: None })
    }

    /// Who holds the device.
    pub fn holder(&self, key: &str) -> Option<Arc<str>> {
        lock(&self.device(key).state).holder.as_ref().map(|holder| holder.name.clone())
    }

    /// Closes a warm connection, if the device is free.
    pub fn forget(&self, key: &str) {
        lock(&self.device(key).state).warm = None;
    }

    /// Devices with a warm connection or a running call: URL and who holds it.
    pub fn in_use(&self) -> Vec<(String, Option<Arc<str>>)> {
        let devices = lock(&self.devices);
        let shown = devices.iter().filter_map(|(key, device)| {
            let state = lock(&device.state);
            let holder = state.holder.as_ref().map(|holder| holder.name.clone());
            (holder.is_some() || state.warm.is_some()).then(|| (key.clone(), holder))
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        shown
    }

    fn device(&self, key: &str) -> Arc<Device<T>> {
        let mut devices = lock(&self.devices);
        let state = || State { holder: None, waiting: Vec::new(), warm: None };
        let fresh = || Arc::new(Device { state: Mutex::new(state()), freed: Condvar::new() });
        // What is named once and never again is not kept: nobody holds it, and nothing of it is warm.
        if devices.len() >= REMEMBERED {
            devices.retain(|_, device| Arc::strong_count(device) > 1 || lock(&device.state).warm.is_some());
        }
        devices.entry(key.into()).or_insert_with(fresh).clone()
    }
}

impl<T> Sessions<T> {
    /// Closes all warm connections.
    pub fn close(&self) {
        let devices: Vec<_> = lock(&self.devices).values().cloned().collect();
        for device in devices {
            drop(lock(&device.state).warm.take());
            device.freed.notify_all();
        }
    }
}

/// A command ends without an idle time: what it left connected goes with it.
impl<T> Drop for Sessions<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> State<T> {
    /// The holder gets the lock and what is warm.
    fn take(&mut self, holder: &str) -> Option<T> {
        self.holder = Some(Holder { name: holder.into(), since: Instant::now() });
        self.warm.take().map(|(warm, _)| warm)
    }
}

/// Somebody waits for a device until this is dropped.
struct Waiting<'d, T> {
    device: &'d Device<T>,
    name: Arc<str>,
}

impl<'d, T> Waiting<'d, T> {
    fn new(device: &'d Device<T>, name: &str) -> Self {
        let name: Arc<str> = name.into();
        lock(&device.state).waiting.push(name.clone());
        Self { device, name }
    }
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let mut state = lock(&self.device.state);
        let mine = state.waiting.iter().position(|name| Arc::ptr_eq(name, &self.name));
        mine.map(|index| state.waiting.remove(index));
    }
}

impl<T: Send + 'static> Lease<T> {
    /// Who waits for the device.
    pub fn wanted_by(&self) -> Option<Arc<str>> {
        lock(&self.device.state).waiting.first().cloned()
    }

    /// Leaves this connection for the next call; closes it where a console waits for the port.
    pub fn keep(&mut self, connection: T) {
        match &self.paused {
            None => self.keep = Some(connection),
            Some(_) => drop(connection),
        }
    }
}

impl<T: Send + 'static> Drop for Lease<T> {
    fn drop(&mut self) {
        // Closing may take time: outside of the lock, but before the next holder comes.
        self.warm = None;
        let mut state = lock(&self.device.state);
        state.holder = None;
        if let Some(connection) = self.keep.take() {
            let at = Instant::now();
            state.warm = Some((connection, at));
            close_later(self.device.clone(), at, self.idle);
        }
        drop(state);
        self.device.freed.notify_all();
    }
}

/// Closes the connection left at `at` after `idle`, unless somebody has used it since.
fn close_later<T: Send + 'static>(device: Arc<Device<T>>, at: Instant, idle: Duration) {
    std::thread::spawn(move || {
        let until = at + idle;
        let mut state = lock(&device.state);
        while state.warm.as_ref().is_some_and(|(_, left)| *left == at) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.warm = None;
                break;
            }
            state = device.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions<u32> {
        Sessions::new(Duration::from_millis(80), Duration::from_millis(120))
    }

    #[test]
    fn a_connection_stays_warm_and_then_goes() {
        let (sessions, job) = (sessions(), Job::new());
        sessions.lease("a", "one", &job).unwrap().keep(7);
        let mut lease = sessions.lease("a", "two", &job).unwrap();
        assert_eq!(lease.warm.take(), Some(7));
        lease.keep(8);
        drop(lease);
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(sessions.lease("a", "three", &job).unwrap().warm, None);
    }

    #[test]
    fn unused_devices_are_forgotten_and_used_ones_are_not() {
        let (sessions, job) = (Sessions::new(Duration::from_secs(60), Duration::ZERO), Job::new());
        sessions.lease("warm", "one", &job).unwrap().keep(1);
        let _held = sessions.lease("held", "one", &job).unwrap();
        (0..1000).for_each(|number| drop(sessions.lease(&format!("once-{number}"), "one", &job).unwrap()));
        assert!(lock(&sessions.devices).len() <= REMEMBERED);
        assert_eq!(sessions.in_use().len(), 2);
        assert_eq!(sessions.lease("warm", "one", &job).unwrap().warm.take(), Some(1));
    }

    #[test]
    fn a_busy_device_names_its_holder_and_cancel_ends_the_wait() {
        let (sessions, job) = (sessions(), Job::new());
        let _held = sessions.lease("a", "esp_flash_read", &job).unwrap();
        let error = sessions.lease("a", "two", &job).err().unwrap();
        assert_eq!(error.code, Code::DeviceBusy);
        assert!(error.message.contains("esp_flash_read"));
        assert_eq!(sessions.in_use(), vec![("a".to_string(), Some("esp_flash_read".into()))]);
        job.cancel();
        assert_eq!(sessions.lease("a", "two", &job).err().unwrap().code, Code::Cancelled);
        assert!(sessions.lease("b", "two", &job).is_ok());
    }
}
