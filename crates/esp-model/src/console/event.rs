//! What can be told from a console.

use std::time::Duration;

use serde::Serialize;

use super::Panic;

/// Something the device said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The ROM's boot line: a reset.
    Boot(Boot),
    /// The ROM waits for a loader.
    DownloadMode {
        /// Milliseconds since the capture began.
        at_ms: u64,
    },
    /// The straps ask for a loader that the eFuses forbid.
    DownloadDisabled {
        /// Milliseconds since the capture began.
        at_ms: u64,
    },
    /// The ROM found no bootloader where it looked.
    NoBootloader {
        /// Milliseconds since the capture began.
        at_ms: u64,
        /// The line. Untrusted.
        text: String,
    },
    /// The second-stage bootloader or the app's start says something of note.
    Start {
        /// Milliseconds since the capture began.
        at_ms: u64,
        /// What: `bootloader`, `chip_revision`, `flash_size`, `app_offset`, `app_started`, `project`, `version`,
        /// `idf`, `elf_sha256`.
        what: &'static str,
        /// Its value. Untrusted.
        value: String,
    },
    /// The bootloader or the start-up code gave up on something.
    StartFailure {
        /// Milliseconds since the capture began.
        at_ms: u64,
        /// The line. Untrusted.
        text: String,
    },
    /// A panic, abort, failed assertion: all that belongs to it.
    Panic(Box<Panic>),
    /// The task watchdog spoke; the device may go on.
    TaskWatchdog(Box<Watchdog>),
    /// The supply fell below the detector's threshold.
    BrownOut {
        /// Milliseconds since the capture began.
        at_ms: u64,
    },
    /// A core dump in base64 passed by; decode it from the log.
    CoreDump {
        /// Milliseconds since the capture began.
        at_ms: u64,
        /// Its end was seen.
        complete: bool,
    },
}

/// A ROM boot line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// The chip, as far as the ROM's banner named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip: Option<&'static str>,
    /// Reset cause number.
    pub reset: u32,
    /// Its name: as printed, else from the chip's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_name: Option<String>,
    /// What sort of reset that is.
    pub reset_kind: ResetKind,
    /// Strapping pins as latched.
    pub straps: u32,
    /// Boot mode as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// It is a download mode.
    pub download: bool,
    /// Where the program was when the chip was reset, where the ROM prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_pc: Option<u32>,
    /// How far the start before this one came.
    pub before: Stage,
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was seen of it.
    #[default]
    Unseen,
    /// The ROM printed its boot line.
    Rom,
    /// The ROM jumped to what it had loaded.
    Entry,
    /// The second-stage bootloader spoke.
    Bootloader,
    /// It loaded an application.
    Loaded,
    /// The application spoke.
    App,
}

impl Stage {
    /// Its word in the decoder's facts.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Rom => "rom",
            Self::Entry => "entry",
            Self::Bootloader => "bootloader",
            Self::Loaded => "loaded",
            Self::App => "app",
        }
    }
}

/// Sorts of resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetKind {
    /// Power up or the EN pin.
    PowerOn,
    /// The brown-out detector.
    BrownOut,
    /// A watchdog.
    Watchdog,
    /// Software asked for it; a panic's restart too.
    Software,
    /// Wake up from deep sleep.
    DeepSleep,
    /// The USB unit or the debugger.
    Usb,
    /// The reset pin (ESP8266).
    External,
    /// Anything else.
    Other,
}

impl ResetKind {
    /// Its word in the decoder's facts.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::PowerOn => "power_on",
            Self::BrownOut => "brown_out",
            Self::Watchdog => "watchdog",
            Self::Software => "software",
            Self::DeepSleep => "deep_sleep",
            Self::Usb => "usb",
            Self::External => "external",
            Self::Other => "other",
        }
    }

    /// The sort that a ROM's name for a reset tells.
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_uppercase();
        let has = |part: &str| name.contains(part);
        // Newer ROMs write BOD for the brown-out detector; a glitch of the power is its quicker relative.
        if has("BROWN") || has("_BOD") || has("PWR_GLITCH") || has("POWER_GLITCH") {
            Self::BrownOut
        } else if has("WDT") || has("WATCHDOG") {
            Self::Watchdog
        } else if has("POWERON") || has("POWER_ON") || has("POWER ON") || has("CHIP_POWER") || name == "NORMAL" {
            Self::PowerOn
        } else if has("SLEEP") || has("PWR_DOWN") {
            Self::DeepSleep
        } else if has("USB") || has("JTAG") {
            Self::Usb
        } else if has("EXT") {
            Self::External
        } else if has("SW_") || has("SOFTWARE") {
            Self::Software
        } else {
            Self::Other
        }
    }
}

/// A report of the task watchdog.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Watchdog {
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// Who did not reset it in time. Untrusted.
    pub late: Vec<String>,
    /// What ran on the cores at that time. Untrusted.
    pub running: Vec<String>,
    /// What was printed of the task that ran: its registers, call chain or stack.
    #[serde(skip)]
    pub state: Panic,
}

impl Watchdog {
    /// The report in the form of a crash, so that its call chain can be explained.
    pub fn as_panic(&self) -> Panic {
        let reason = format!("task watchdog: {} did not reset it in time", self.late.join(", "));
        Panic { at_ms: self.at_ms, sort: "task_watchdog", reason, details: self.running.clone(), ..self.state.clone() }
    }
}

/// Milliseconds of a port's clock.
pub(super) fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
