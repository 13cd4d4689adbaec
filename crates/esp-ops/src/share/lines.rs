//! DTR and RTS that come one after the other over a network.
//!
//! The usual reset circuit lets the chip go when both lines are asserted. A client on a cable passes that state within
//! microseconds; over a network a whole round trip lies between its two messages, and the chip would start with the
//! boot pin high. So that state waits for the message that ends it.

use std::time::{Duration, Instant};

/// How long both lines may be asserted before they are set so: longer than a slow round trip.
const TRANSIENT: Duration = Duration::from_millis(600);

/// Both lines, as the client wants them.
#[derive(Debug, Default)]
pub struct Lines {
    set: (bool, bool),
    /// Since when both are wanted asserted and are not yet.
    held: Option<Instant>,
}

impl Lines {
    /// The client wants this; what is to be set at once.
    pub fn want(&mut self, dtr: bool, rts: bool, now: Instant) -> Option<(bool, bool)> {
        let passes = (dtr, rts) == (true, true) && self.set != (false, false);
        if passes {
            self.held.get_or_insert(now);
            return None;
        }
        self.held = None;
        self.set = (dtr, rts);
        Some(self.set)
    }

    /// What waited long enough.
    pub fn due(&mut self, now: Instant) -> Option<(bool, bool)> {
        let is_due = self.held.is_some_and(|since| now.saturating_duration_since(since) >= TRANSIENT);
        if is_due { self.now() } else { None }
    }

    /// What waits: the client goes on with other things.
    pub fn now(&mut self) -> Option<(bool, bool)> {
        self.held.take().map(|_| {
            self.set = (true, true);
            self.set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chip_is_not_let_go_between_two_messages() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let far = now + Duration::from_millis(200);
        assert_eq!(lines.want(false, true, now), Some((false, true)));
        // DTR comes, and RTS a round trip later.
        assert_eq!(lines.want(true, true, now), None);
        assert_eq!(lines.due(far), None);
        assert_eq!(lines.want(true, false, far), Some((true, false)));
        assert_eq!(lines.due(far + Duration::from_secs(5)), None);
    }

    #[test]
    fn lines_that_stay_asserted_are_set_so() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        assert_eq!(lines.want(true, true, now), Some((true, true)), "nothing was held before");
        lines.want(true, false, now);
        assert_eq!(lines.want(true, true, now), None);
        assert_eq!(lines.due(now + Duration::from_secs(1)), Some((true, true)));
        lines.want(false, true, now);
        lines.want(true, true, now);
        assert_eq!(lines.now(), Some((true, true)), "bytes come: the client means it");
    }
}
