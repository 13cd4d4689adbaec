//! Faults that can be injected, all seeded: the same seed gives the same damage.

use std::str::FromStr;
use std::time::Duration;

use crate::app::AppFaults;
use crate::nor::NorFaults;
use crate::rng::Rng;

/// What is wrong with the device or its line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Damage to bytes on their way to the chip.
    pub to_chip: LineFaults,
    /// Damage to bytes on their way to the host.
    pub to_host: LineFaults,
    /// The host's transmit line is dead: nothing reaches the chip.
    pub tx_dead: bool,
    /// The chip never says anything.
    pub silent: bool,
    /// The boot pin cannot be pulled low: every reset starts the app.
    pub no_boot_pin: bool,
    /// EN rises this late after RTS let go (much capacitance on it).
    pub slow_en: Option<Duration>,
    /// EN cannot be pulled low: resets by the lines do nothing.
    pub no_reset: bool,
    /// The app writes a log line at this interval.
    pub app_log: Option<Duration>,
    /// The supply fails for a moment when this many commands were handled; the chip restarts into the app.
    pub brown_out_after: Option<u64>,
    /// The supply fails this long after each start from flash.
    pub brown_out_ms: Option<Duration>,
    /// The loader stops answering when this many commands were handled, and again after each reset.
    pub hang_after: Option<u64>,
    /// The same, once: a reset helps.
    pub crash_after: Option<u64>,
    /// The line is gone when this many commands were handled (unplugged).
    pub unplug_after: Option<u64>,
    /// The line is gone when the lines reset the chip, and does not come back (USB passed on to a virtual machine).
    pub unplug_at_reset: bool,
    /// Bytes of an earlier session that lie in the host's buffer when the port is opened first.
    pub stale: u16,
    /// Blocks for RAM are refused as if they had been damaged on the way.
    pub refuses_ram: bool,
    /// An uploaded stub dies at its start.
    pub stub_dies: bool,
    /// One burned bit of each coded eFuse block reads as 0, until the block is burned again.
    pub efuse_lost_bits: bool,
    /// Flash operations take this many times as long; 0 and 1 are as usual.
    pub slow_flash: u16,
    /// The flash part.
    pub flash: NorFaults,
    /// The app in flash.
    pub app: AppFaults,
    /// Above this rate nothing arrives whole (a bad cable), in baud.
    pub max_clean_baud: Option<u32>,
}

/// Chances of damage per byte, 0…1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LineFaults {
    /// A byte is lost.
    pub drop: f64,
    /// A byte arrives twice.
    pub duplicate: f64,
    /// A bit flips.
    pub corrupt: f64,
}

impl LineFaults {
    /// The same chance for each kind.
    pub fn all(p: f64) -> Self {
        Self { drop: p, duplicate: p, corrupt: p }
    }

    fn total(&self) -> f64 {
        self.drop + self.duplicate + self.corrupt
    }
}

/// A damaging line: keeps the distance to the next hit, so that clean stretches cost nothing.
#[derive(Debug)]
pub struct Damage {
    chances: LineFaults,
    rng: Rng,
    clean: u64,
}

impl Damage {
    /// A line with these chances of damage.
    pub fn new(chances: LineFaults, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let clean = rng.gap(chances.total());
        Self { chances, rng, clean }
    }

    /// What arrives of `bytes`; `None` when nothing is damaged.
    pub fn apply(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.clean >= bytes.len() as u64 {
            self.clean = self.clean.saturating_sub(bytes.len() as u64);
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len() + 4);
        let mut rest = bytes;
        while self.clean < rest.len() as u64 {
            let (good, hit) = rest.split_at(self.clean as usize);
            out.extend_from_slice(good);
            self.hit(hit[0], &mut out);
            rest = &hit[1..];
            self.clean = self.rng.gap(self.chances.total());
        }
        self.clean -= rest.len() as u64;
        out.extend_from_slice(rest);
        Some(out)
    }

    fn hit(&mut self, byte: u8, out: &mut Vec<u8>) {
        let dice = self.rng.unit() * self.chances.total();
        if dice < self.chances.drop {
        } else if dice < self.chances.drop + self.chances.duplicate {
            out.extend_from_slice(&[byte, byte]);
        } else {
            out.push(byte ^ 1 << self.rng.below(8));
        }
    }
}

/// A fault's description could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown fault {0:?} (known: {known})", known = known())]
pub struct BadFault(String);

/// All faults: how each is written and what it does.
#[rustfmt::skip]
pub const ALL: [(&str, &str); 31] = [
    ("line=P", "each byte is lost, doubled and changed with the chance P (0 to 1), in both directions"),
    ("drop=P", "a byte is lost with the chance P"),
    ("duplicate=P", "a byte arrives twice with the chance P"),
    ("corrupt=P", "a bit of a byte flips with the chance P"),
    ("tx-dead", "nothing reaches the chip: the host's transmit line is broken"),
    ("silent", "the chip never says anything"),
    ("no-boot-pin", "the boot pin cannot be pulled low: every reset starts the app"),
    ("no-reset", "EN cannot be pulled low: resets by DTR and RTS do nothing"),
    ("slow-en=MS", "EN rises MS milliseconds late (a large capacitor on it)"),
    ("app-log=MS", "the app writes a log line every MS milliseconds"),
    ("brown-out=N", "the supply fails for a moment after N commands; the chip restarts into the app"),
    ("app-brown-out=MS", "the supply fails MS milliseconds after each start of the app"),
    ("hang=N", "the loader stops answering after N commands, and again after each reset"),
    ("crash=N", "the loader stops answering after N commands, once: a reset helps"),
    ("unplug=N", "the port is gone after N commands"),
    ("unplug-at-reset", "the port is gone when the chip is reset, and does not come back (USB given to a virtual machine)"),
    ("stale=BYTES", "the host's buffer holds this many bytes of an earlier session when the port is opened first"),
    ("ram-refused", "blocks for RAM are refused as if they had been damaged"),
    ("stub-dead", "an uploaded stub dies at its start"),
    ("efuse-lost-bits", "one burned bit of each coded eFuse block reads as 0, until the block is burned again"),
    ("flash-absent", "the flash does not answer: every read gives 0xff"),
    ("flash-asleep", "the flash is in deep power-down, which a reset does not end"),
    ("flash-voltage", "the flash gets a wrong voltage (strapping pin) until the chip's register overrides it"),
    ("flash-busy", "the flash stays busy after the first erase or program"),
    ("flash-protected", "erases and programs are ignored (write protection)"),
    ("flash-slow=FACTOR", "flash operations take FACTOR times as long"),
    ("flash-stuck=ADDRESS:MASK", "the bits MASK of the byte at ADDRESS always read as 0"),
    ("max-baud=BAUD", "above BAUD nothing arrives whole (a bad cable)"),
    ("app-crash=ADDRESS", "an app at this flash address (not code address) crashes at its start"),
    ("app-needs-nvs", "the app aborts when the NVS partition cannot be read"),
    ("app-bad-settings", "the app crashes while its NVS holds any settings"),
];

/// How the faults are written, in one line.
fn known() -> String {
    ALL.map(|(form, _)| form).join(", ")
}

impl Faults {
    /// Adds what `text` describes: `NAME` or `NAME=VALUE`, see [`ALL`].
    pub fn add(&mut self, text: &str) -> Result<(), BadFault> {
        let bad = || BadFault(text.into());
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let chance = || value.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(bad);
        let count = || number(value).ok_or_else(bad);
        let mut both = |set: fn(&mut LineFaults, f64)| -> Result<(), BadFault> {
            let p = chance()?;
            set(&mut self.to_chip, p);
            set(&mut self.to_host, p);
            Ok(())
        };
        match name {
            "line" => both(|line, p| *line = LineFaults::all(p))?,
            "drop" => both(|line, p| line.drop = p)?,
            "duplicate" => both(|line, p| line.duplicate = p)?,
            "corrupt" => both(|line, p| line.corrupt = p)?,
            "tx-dead" => self.tx_dead = true,
            "silent" => self.silent = true,
            "no-boot-pin" => self.no_boot_pin = true,
            "slow-en" => self.slow_en = Some(Duration::from_millis(count()?)),
            "no-reset" => self.no_reset = true,
            "app-log" => self.app_log = Some(Duration::from_millis(count()?.max(1))),
            "brown-out" => self.brown_out_after = Some(count()?),
            "app-brown-out" => self.brown_out_ms = Some(Duration::from_millis(count()?.max(1))),
            "hang" => self.hang_after = Some(count()?),
            "crash" => self.crash_after = Some(count()?),
            "unplug" => self.unplug_after = Some(count()?),
            "unplug-at-reset" => self.unplug_at_reset = true,
            "stale" => self.stale = u16::try_from(count()?).map_err(|_| bad())?,
            "ram-refused" => self.refuses_ram = true,
            "stub-dead" => self.stub_dies = true,
            "efuse-lost-bits" => self.efuse_lost_bits = true,
            "flash-slow" => self.slow_flash = u16::try_from(count()?).map_err(|_| bad())?,
            "flash-absent" => self.flash.absent = true,
            "flash-asleep" => self.flash.asleep = true,
            "flash-busy" => self.flash.busy = true,
            "flash-voltage" => self.flash.wrong_voltage = true,
            "flash-protected" => self.flash.write_protected = true,
            "flash-stuck" => {
                let (address, mask) = value.split_once(':').ok_or_else(bad)?;
                let (address, mask) = (number(address).ok_or_else(bad)?, number(mask).ok_or_else(bad)?);
                self.flash.stuck_low.push((address as u32, mask as u8));
            }
            "app-crash" => self.app.crash_at = Some(u32::try_from(count()?).map_err(|_| bad())?),
            "app-needs-nvs" => self.app.needs_nvs = true,
            "app-bad-settings" => self.app.bad_settings = true,
            "max-baud" => self.max_clean_baud = Some(count()? as u32),
            _ => return Err(bad()),
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = BadFault;

    /// Several faults, separated by commas.
    fn from_str(text: &str) -> Result<Self, BadFault> {
        let mut faults = Self::default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).try_for_each(|part| faults.add(part))?;
        Ok(faults)
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_list_can_be_added() {
        for (form, about) in ALL {
            let value = |name: &str| if name == "flash-stuck" { "0x10:1" } else { "1" };
            let text = form.split_once('=').map_or(form.to_string(), |(name, _)| format!("{name}={}", value(name)));
            assert!(Faults::default().add(&text).is_ok() && !about.is_empty(), "{form}");
        }
        let error = Faults::default().add("help me").unwrap_err().to_string();
        assert!(error.contains("tx-dead, silent"), "{error}");
    }

    #[test]
    fn faults_are_read_from_text() {
        let faults: Faults = "line=1e-4, app-log=100, flash-stuck=0x1000:0x80, app-crash=0x110000".parse().unwrap();
        assert_eq!(faults.to_chip, LineFaults::all(1e-4));
        assert_eq!(faults.app_log, Some(Duration::from_millis(100)));
        assert_eq!(faults.app.crash_at, Some(0x11_0000));
        assert_eq!(faults.flash.stuck_low, [(0x1000, 0x80)]);
        assert!("drop=2".parse::<Faults>().is_err());
        assert!("nonsense".parse::<Faults>().is_err());
    }

    #[test]
    fn damage_repeats_by_seed_and_matches_its_chance() {
        let bytes = vec![0x55; 100_000];
        let run = |seed| Damage::new(LineFaults { drop: 0.01, ..LineFaults::default() }, seed).apply(&bytes).unwrap();
        assert_eq!(run(1), run(1));
        let lost = bytes.len() - run(2).len();
        assert!((800..1200).contains(&lost), "{lost}");
        assert_eq!(Damage::new(LineFaults::default(), 3).apply(&bytes), None);
    }
}
