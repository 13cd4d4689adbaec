//! The RTC watchdog, by which clients reset chips whose lines cannot.

use std::time::Duration;

use esp_model::chip::Reset;

/// Its slow clock, about 136 kHz on most chips.
const TICK: Duration = Duration::from_nanos(7_350);
/// WDTCONFIG0: enable, and the action of stage 0 (4 and 5 reset the chip).
const ENABLE: u32 = 1 << 31;
const STAGE0_SHIFT: u32 = 28;

/// Its registers, as far as they matter.
#[derive(Debug, Default)]
pub struct Watchdog {
    unlocked: bool,
    timeout: u32,
    fires: Option<Duration>,
}

impl Watchdog {
    /// When it will reset the chip.
    pub fn fires(&self) -> Option<Duration> {
        self.fires
    }

    /// Takes note of a register write.
    pub fn register(&mut self, reset: &Reset, now: Duration, address: u32, value: u32) {
        let Some(map) = &reset.watchdog else { return };
        if address == map.protect {
            self.unlocked = value == map.key;
        } else if !self.unlocked {
        } else if address == map.config1 {
            self.timeout = value;
        } else if address == map.config0 {
            let resets = value & ENABLE != 0 && value >> STAGE0_SHIFT & 7 >= 4;
            self.fires = resets.then(|| now + TICK.saturating_mul(self.timeout));
        }
    }
}
