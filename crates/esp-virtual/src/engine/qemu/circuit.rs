//! The auto-reset circuit of development boards, for a chip that has no pins: DTR and RTS in, restarts out.

use std::time::Duration;

use crate::BootMode;

/// How long after its release the chip samples the boot pin. On a board a capacitor does this; here it is long enough
/// for a client that sends one modem line at a time over a network (pyserial waits 50 ms between two).
pub const SETTLE: Duration = Duration::from_millis(150);

/// The two transistors: RTS alone pulls EN low (reset), DTR alone pulls GPIO0 low (boot pin); both together do neither.
#[derive(Debug, Default, Clone, Copy)]
pub struct Circuit {
    dtr: bool,
    rts: bool,
    /// The chip was released at this time and has not sampled the boot pin yet.
    released: Option<Duration>,
}

/// What a change of the lines does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing now.
    None,
    /// The chip is held in reset.
    Hold,
    /// The chip starts in this mode.
    Start(BootMode),
}

impl Circuit {
    /// Sets the lines at `now` (any clock).
    pub fn set_lines(&mut self, dtr: bool, rts: bool, now: Duration) -> Effect {
        let was_held = self.is_held();
        (self.dtr, self.rts) = (dtr, rts);
        if self.is_held() {
            self.released = None;
            return if was_held { Effect::None } else { Effect::Hold };
        }
        if was_held {
            self.released = Some(now);
        }
        if self.released.is_some() && dtr && !rts {
            self.released = None;
            return Effect::Start(BootMode::Download);
        }
        Effect::None
    }

    /// When [`Circuit::elapsed`] is to be called.
    pub fn due(&self) -> Option<Duration> {
        self.released.map(|at| at + SETTLE)
    }

    /// Time has passed.
    pub fn elapsed(&mut self, now: Duration) -> Effect {
        match self.due() {
            Some(due) if due <= now => {
                self.released = None;
                Effect::Start(BootMode::Normal)
            }
            _ => Effect::None,
        }
    }

    fn is_held(&self) -> bool {
        self.rts && !self.dtr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(steps: &[(bool, bool, u64)]) -> Vec<Effect> {
        let mut circuit = Circuit::default();
        let mut effects = Vec::new();
        let mut note = |effect| {
            if effect != Effect::None {
                effects.push(effect);
            }
        };
        let mut now = Duration::ZERO;
        for (dtr, rts, wait) in steps {
            note(circuit.set_lines(*dtr, *rts, now));
            now += Duration::from_millis(*wait);
            note(circuit.elapsed(now));
        }
        effects
    }

    const DOWNLOAD: [Effect; 2] = [Effect::Hold, Effect::Start(BootMode::Download)];
    const NORMAL: [Effect; 2] = [Effect::Hold, Effect::Start(BootMode::Normal)];

    #[test]
    fn knows_the_usual_sequences() {
        let (on, off) = (true, false);
        // Classic, one line at a time as over RFC 2217.
        assert_eq!(play(&[(off, off, 50), (off, on, 100), (on, on, 50), (on, off, 50), (off, off, 500)]), DOWNLOAD);
        // The other order.
        assert_eq!(play(&[(off, on, 100), (off, off, 50), (on, off, 50), (off, off, 500)]), DOWNLOAD);
        // Tight: both lines at once.
        assert_eq!(play(&[(off, off, 0), (on, on, 0), (off, on, 100), (on, off, 50), (off, off, 500)]), DOWNLOAD);
        // Hard reset.
        assert_eq!(play(&[(off, on, 100), (off, off, 500)]), NORMAL);
        assert_eq!(play(&[(on, off, 10), (on, on, 10), (off, on, 100), (off, off, 500)]), NORMAL);
        // A monitor that opens with both, or releases both, restarts nothing.
        assert_eq!(play(&[(on, on, 500), (off, off, 500), (on, off, 500), (off, off, 500)]), []);
    }
}
