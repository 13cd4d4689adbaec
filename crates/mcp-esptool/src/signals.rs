//! What tells the program to end: Ctrl-C, SIGTERM, and SIGHUP where nobody (`nohup`) has switched it off.

/// Waits until the program is told to end.
#[cfg(unix)]
pub async fn told_to_end() {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    async fn of(signal: Option<Signal>) {
        match signal {
            Some(mut signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
    let terminate = signal(SignalKind::terminate()).ok();
    let hangup = if ignores_hangup() { None } else { signal(SignalKind::hangup()).ok() };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = of(terminate) => {}
        () = of(hangup) => {}
    }
}

/// Waits until the program is told to end.
#[cfg(not(unix))]
pub async fn told_to_end() {
    let _ = tokio::signal::ctrl_c().await;
}

/// SIGHUP was switched off by whoever started the program.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}
