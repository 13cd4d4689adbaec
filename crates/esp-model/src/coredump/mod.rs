//! Core dumps of ESP-IDF: what a crashed device left in flash, in a file or on its console.
//!
//! Layouts as `components/espcoredump` of ESP-IDF writes them (`core_dump_elf.c`, `core_dump_binary.c`,
//! `port/{xtensa,riscv}/core_dump_port.c`). Everything in a dump was written by a device that had just crashed:
//! nothing of it is trusted, sizes are checked before use, text is data.

mod binary;
mod container;
mod elf;
mod headless;
mod hexdump;
mod realign;
mod registers;
mod task;
mod text;

use serde::Serialize;

pub use container::{Checksum, ChecksumKind, Version};
pub use registers::{RISCV_NAMES, Registers, XTENSA_NAMES, cause_name, saved_registers};
pub use task::TaskState;

use crate::chip::Arch;

/// Dumps above this size are refused: no flash partition for them is near it.
pub const MAX_LEN: usize = 64 << 20;

/// Why bytes are no core dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreDumpError {
    /// An erased partition.
    #[error("the partition is blank: no core dump was saved")]
    Blank,
    /// Neither a dump header, nor ELF, nor base64 text of one.
    #[error("not a core dump: {0}")]
    NotACoreDump(&'static str),
    /// A version this code does not know.
    #[error("unknown core dump version {0:#06x}")]
    Version(u16),
    /// A line of a console's base64 text was cut or mixed with other text.
    #[error("line {line} is not a whole base64 line ({have} characters)")]
    Line {
        /// Its number in the text, from 1.
        line: usize,
        /// Its characters.
        have: usize,
    },
    /// What is there belongs to a dump, but its beginning with the header is not there.
    #[error("the beginning of the core dump is missing, and with it the header")]
    Headless,
    /// The text holds fewer dumps.
    #[error("dump {wanted} was asked for; the text holds {have}")]
    Which {
        /// The one asked for, from 1.
        wanted: usize,
        /// How many there are.
        have: usize,
    },
    /// The header promises more than is there.
    #[error("core dump is cut: {what} needs {need} bytes, {have} are there")]
    Cut {
        /// What is incomplete.
        what: &'static str,
        /// Bytes needed.
        need: usize,
        /// Bytes present.
        have: usize,
    },
    /// The bytes changed since the device wrote them.
    #[error("{} mismatch: stored {stored}, computed {computed}", kind.name())]
    Checksum {
        /// The check used.
        kind: ChecksumKind,
        /// What the dump says, in hex.
        stored: String,
        /// What its bytes give, in hex.
        computed: String,
    },
    /// A structure inside contradicts itself.
    #[error("core dump is malformed: {0}")]
    Malformed(&'static str),
}

/// What to do when the checksum does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Refuse the dump.
    Enforce,
    /// Decode what is there and report the mismatch in [`CoreDump::checksum`].
    Report,
}

/// How the dump came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// An ELF core file inside the dump header, or alone.
    Elf,
    /// The older binary layout.
    Binary,
}

/// One piece of the device's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Address on the device.
    pub address: u32,
    /// What was there.
    pub bytes: Vec<u8>,
}

/// One task of the device.
#[derive(Debug, Clone)]
pub struct Task {
    /// Address of its control block, which is its handle.
    pub tcb: u32,
    /// Its registers when the device crashed or when it was switched out.
    pub registers: Registers,
    /// Where its saved stack begins and how long it is, where the dump says so.
    pub stack: Option<(u32, u32)>,
    /// What the device or the layout says about the task's control block and stack.
    pub state: TaskState,
}

/// A decoded core dump.
#[derive(Debug, Clone)]
pub struct CoreDump {
    /// How it came.
    pub format: Format,
    /// From the dump header, or from the note inside the ELF core.
    pub version: Option<Version>,
    /// Instruction set.
    pub arch: Arch,
    /// Chip revision, major × 100 + minor, where the version carries it.
    pub chip_revision: Option<u32>,
    /// The integrity check and its outcome.
    pub checksum: Checksum,
    /// First hex digits of the SHA-256 of the app's ELF file.
    pub app_sha256: Option<String>,
    /// The panic text that the device stored. Untrusted.
    pub panic_details: Option<String>,
    /// Handle of the task that crashed. None when the dump says that it was skipped, or says nothing.
    pub crashed_task: Option<u32>,
    /// The crash happened in an interrupt.
    pub in_isr: Option<bool>,
    /// Exception registers: `exccause`, `excvaddr`, `epc1` …; `mcause`, `mtval` … on RISC-V.
    pub exception: Vec<(&'static str, u32)>,
    /// All tasks; the crashed one first.
    pub tasks: Vec<Task>,
    /// All saved memory, in the dump's order.
    pub segments: Vec<Segment>,
    /// What was not whole in its text or at its end: those bytes are zeros.
    pub damage: Vec<String>,
}

impl CoreDump {
    /// Decodes a dump from the bytes of a partition, a binary or ELF file, base64 text or a console log.
    pub fn parse(bytes: &[u8], check: Check) -> Result<Self, CoreDumpError> {
        Self::parse_one(bytes, check, None)
    }

    /// The same for a text with several dumps: `which` counts from 1; the last one else.
    pub fn parse_one(bytes: &[u8], check: Check, which: Option<usize>) -> Result<Self, CoreDumpError> {
        if bytes.len() > MAX_LEN {
            return Err(CoreDumpError::NotACoreDump("larger than 64 MiB"));
        }
        if bytes.starts_with(b"\x7fELF") {
            return elf::decode(bytes, Checksum::none(), None, None, true);
        }
        if let Some(decoded) = text::decode(bytes, check, which) {
            let text = decoded?;
            let mut dump = if text.bytes.starts_with(b"\x7fELF") {
                elf::decode(&text.bytes, Checksum::none(), None, None, true)?
            } else {
                Self::with_header_or_without(&text.bytes, check, text.is_marked)?
            };
            dump.damage.splice(0..0, text.damage);
            return Ok(dump);
        }
        Self::with_header_or_without(bytes, check, false)
    }

    /// A dump that begins with its header, or one that lost it. `is_dump`: it was printed as a dump.
    fn with_header_or_without(bytes: &[u8], check: Check, is_dump: bool) -> Result<Self, CoreDumpError> {
        let error = match container::decode(bytes, check) {
            Err(error @ (CoreDumpError::Version(_) | CoreDumpError::Cut { what: "header", .. })) => error,
            decoded => return decoded,
        };
        match headless::decode(bytes) {
            Some(dump) if check == Check::Report => Ok(dump),
            Some(_) => Err(CoreDumpError::Headless),
            None if is_dump => Err(CoreDumpError::Headless),
            None => Err(error),
        }
    }

    /// The chip's id as in URLs and parameters, where the version names a known chip.
    pub fn chip(&self) -> Option<&'static str> {
        self.version.and_then(|version| crate::chip::by_chip_id(version.chip_id)).map(|chip| chip.id)
    }

    /// `len` bytes of the device's memory at `address`, if one segment holds them all.
    pub fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        self.segments.iter().find_map(|segment| {
            let start = usize::try_from(address.checked_sub(segment.address)?).ok()?;
            segment.bytes.get(start..start.checked_add(len)?)
        })
    }

    /// A word of the device's memory.
    pub fn word(&self, address: u32) -> Option<u32> {
        self.read(address, 4).and_then(le32)
    }

    /// Where the exception frame that RISC-V devices push begins: the segment whose first words are these registers.
    fn exception_frame(&self, registers: &Registers) -> Option<u32> {
        let pushed = registers.general.get(1..)?;
        self.segments.iter().map(|segment| segment.address).find(|start| {
            self.word(*start) == Some(registers.pc)
                && (1u32..).zip(pushed).all(|(i, value)| self.word(start.wrapping_add(i * 4)) == Some(*value))
        })
    }
}

/// A little-endian word at the start of `bytes`.
fn le32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
