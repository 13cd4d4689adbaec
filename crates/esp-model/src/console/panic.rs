//! Panics as the console shows them.

use serde::Serialize;

/// Everything a device printed about one crash. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Panic {
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// What sort: `exception`, `abort`, `assert`, `error_check`, `stack_smash`, `stack_overflow`, `interrupt_watchdog`,
    /// `task_watchdog`, `soft_watchdog` and `hardware_watchdog` (ESP8266), `cache_error`, `memory_protection`, `heap_corruption`,
    /// `fatal_exception` (ESP8266), `rust_panic`, `zephyr_fatal`, `nuttx_assert`.
    pub sort: &'static str,
    /// The core it happened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// The reason as printed.
    pub reason: String,
    /// Further lines that explain it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Registers as printed, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<(String, u32)>,
    /// Call chain as printed: program counter and stack pointer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<(u32, u32)>,
    /// The device itself says that the chain is broken.
    pub backtrace_corrupted: bool,
    /// First hex digits of the SHA-256 of the app's ELF file, as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elf_sha256: Option<String>,
    /// What the hardware found: `load`, `store`, `fetch`, `illegal`, `zero_division`, `alignment`, `cache`, `debug`,
    /// `double`, `bus`, `breakpoint`; empty when it was none of these.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub fault: &'static str,
    /// Number of the form in `console/forms.toml` that it is printed in; None: as ESP-IDF prints it.
    #[serde(skip)]
    pub form: Option<usize>,
    /// Stack as printed (RISC-V, ESP8266): address and words.
    #[serde(skip)]
    pub stack: Vec<(u32, Vec<u32>)>,
}

/// Most stack lines kept of one panic.
pub(super) const MAX_STACK_LINES: usize = 1024;

impl Panic {
    /// The first of these registers that was printed, with the name it was printed with.
    pub fn register(&self, names: &[&str]) -> Option<(&str, u32)> {
        names.iter().find_map(|name| {
            let found = self.registers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some((found.0.as_str(), found.1))
        })
    }

    /// The address that a line names: `abort() was called at PC 0x…`; of an ESP8266: `last failed alloc call: 40209D4A(5744)`.
    pub fn called_at(&self) -> Option<u32> {
        let lines = || std::iter::once(&self.reason).chain(&self.details);
        ["at PC ", "last failed alloc call", "last failed alloc caller"]
            .iter()
            .find_map(|mark| lines().find_map(|line| super::parse::hex_after(line.replace(':', " ").as_str(), mark)))
    }

    /// The fault is about an address, so that EXCVADDR or MTVAL means something.
    pub fn has_address(&self) -> bool {
        matches!(self.fault, "load" | "store" | "fetch" | "alignment" | "bus")
    }
}
