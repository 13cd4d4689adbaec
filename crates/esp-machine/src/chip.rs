//! A chip's machine as data: `chips/ID/machine.toml` and the generated register files.
//!
//! Nothing in code names a chip. A device's behaviour is one type per IP (`ip` in the data); what differs between chips
//! (addresses, interrupt sources, bit positions) is a number in `machine.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::registers::Block;

/// The text of one chip's folder; listed by the build script.
struct ChipFiles {
    id: &'static str,
    machine: &'static str,
    registers: &'static str,
}

static FILES: &[ChipFiles] = include!(concat!(env!("OUT_DIR"), "/machines.rs"));

/// What a chip's machine is made of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The chip, as `esp_model` names it.
    #[serde(skip)]
    pub id: &'static str,
    /// Where the numbers come from.
    pub source: String,
    /// Instruction set: `rv32imc`, `rv32imac`, `rv32imafc`, `lx6`, `lx7`.
    pub isa: String,
    /// Number of processor cores.
    #[serde(default = "one")]
    pub cores: u32,
    /// Programs for flash do not run yet: virtual devices of this chip imitate it.
    #[serde(default)]
    pub unfinished: bool,
    /// Where a core begins after a reset.
    pub reset_vector: u32,
    /// Crystal.
    pub crystal_mhz: u32,
    /// ROM images (names without `.elf`), by the least chip revision (major × 100 + minor) that has them.
    pub roms: BTreeMap<String, String>,
    /// GPIO_STRAP for a start from flash and for download mode.
    pub straps: Straps,
    /// Where the chip says why it was reset.
    pub reset_cause: ResetCause,
    /// Memories.
    pub memory: Vec<Area>,
    /// How flash appears in the address space.
    pub cache: Cache,
    /// Where registers are: first address and length.
    pub registers: Vec<[u32; 2]>,
    /// Other addresses of the same registers: first address, length, what is shown.
    #[serde(default)]
    pub aliases: Vec<[u32; 3]>,
    /// Clock tree as far as it decides how fast instructions run.
    pub clock: ClockTree,
    /// The interrupt controller.
    pub interrupts: InterruptMap,
    /// Bytes of external RAM that a board usually has; 0 where firmware could not use it.
    #[serde(default)]
    pub psram: u32,
    /// Blocks.
    pub peripheral: Vec<Peripheral>,
    /// Bits that read as something else than what was written.
    #[serde(default)]
    pub bits: Vec<Bits>,
    /// Register ranges (first, last) of the radio: a program that polls them waits for what is not there.
    #[serde(default)]
    pub radio: Vec<[u32; 2]>,
    /// Ranges (first address, length) where nothing is known to be and accesses are answered all the same: reads give 0.
    #[serde(default)]
    pub answered: Vec<[u32; 2]>,
    /// All blocks with their registers, from the generated file.
    #[serde(skip)]
    pub blocks: Vec<Block>,
}

fn one() -> u32 {
    1
}

/// GPIO_STRAP.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Straps {
    /// Start from flash.
    pub boot: u32,
    /// Serial download.
    pub download: u32,
}

/// The cause of the last reset.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetCause {
    /// Register, first bit and number of bits, for each core.
    pub fields: Vec<[u32; 3]>,
    /// What stands there after power-on.
    #[serde(default = "one")]
    pub power_on: u32,
}

/// One memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u32,
    /// Read-only: the mask ROM.
    #[serde(default)]
    pub rom: bool,
    /// Cleared by nothing but a power-on: RTC memory.
    #[serde(default)]
    pub retained: bool,
    /// Where it appears.
    pub at: Vec<View>,
}

/// Where (a part of) a memory appears.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// First address.
    pub start: u32,
    /// First byte of the memory that is shown here.
    #[serde(default)]
    pub offset: u32,
    /// Bytes shown; 0 for all behind `offset`.
    #[serde(default)]
    pub size: u32,
    /// No fetches here.
    #[serde(default)]
    pub data_only: bool,
}

/// How the cache's memory management unit is programmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MmuStyle {
    /// Entries are words at `table`.
    Table,
    /// An index register and a content register.
    Indexed,
}

/// The flash windows and the unit that fills them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// How entries are written.
    pub style: MmuStyle,
    /// Windows; all show the same entries, unless one says where its entries begin.
    pub windows: Vec<Window>,
    /// Number of entries.
    pub entries: u32,
    /// First entry, or the content register.
    pub table: u32,
    /// The index register, with style `indexed`.
    #[serde(default)]
    pub index: u32,
    /// Bits of an entry that are the flash page's number.
    pub number: u32,
    /// Bits that must be set in a valid entry.
    #[serde(default)]
    pub valid: u32,
    /// Bits that must not be set in a valid entry.
    #[serde(default)]
    pub invalid: u32,
    /// Bits that select external RAM.
    #[serde(default)]
    pub psram: u32,
    /// A window that always shows the external RAM from its beginning: first address and length.
    #[serde(default)]
    pub psram_window: Option<[u32; 2]>,
    /// The bit that says that the page is encrypted; 0 when all are, once encryption is on.
    #[serde(default)]
    pub encrypted: u32,
    /// Page sizes by the value of `size_field`; the first one without that field.
    pub page_sizes: Vec<u32>,
    /// Register, first bit and number of bits of the page size.
    #[serde(default)]
    pub size_field: Option<[u32; 3]>,
}

/// One flash window.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// First address.
    pub start: u32,
    /// Bytes.
    pub size: u32,
    /// Entry of its first page.
    #[serde(default)]
    pub first: u32,
    /// No fetches here.
    #[serde(default)]
    pub data_only: bool,
}

/// Which register and which of its bits say where the processor's clock comes from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockTree {
    /// Register, first bit and number of bits of the source selection.
    pub select: [u32; 3],
    /// By value of the selection.
    pub sources: Vec<ClockSource>,
}

/// One source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSource {
    /// Frequencies in MHz, by the value of `field`; the first one without that field.
    pub mhz: Vec<u32>,
    /// Register, first bit and number of bits that choose among `mhz`.
    #[serde(default)]
    pub field: Option<[u32; 3]>,
    /// Register, first bit and number of bits of a divider that holds one less than it divides by.
    #[serde(default)]
    pub divider: Option<[u32; 3]>,
}

/// The kind of interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptStyle {
    /// Matrix, enable, priorities and threshold in one block (first RISC-V chips).
    Intc,
    /// Matrix, and a PLIC with its mirror in INTPRI.
    Plic,
    /// Matrix, and a CLIC.
    Clic,
    /// Matrix only: the core has the rest (Xtensa).
    Matrix,
}

/// Where the interrupt controller is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterruptMap {
    /// Its kind.
    pub style: InterruptStyle,
    /// First register of the matrix, by core; a source's register is at 4 × its number.
    pub matrix: Vec<u32>,
    /// Number of sources.
    pub sources: u32,
    /// First of the registers that show which sources are active; 0 when there are none.
    #[serde(default)]
    pub status: u32,
    /// Enable bits.
    #[serde(default)]
    pub enable: u32,
    /// Edge (1) or level (0), by line.
    #[serde(default)]
    pub kind: u32,
    /// Clears latched edges.
    #[serde(default)]
    pub clear: u32,
    /// Priority of line 0; one word a line. With a CLIC: its line 0.
    #[serde(default)]
    pub priority: u32,
    /// Threshold.
    #[serde(default)]
    pub threshold: u32,
    /// A second view of the same registers: [base here, base there] by register, as pairs of addresses.
    #[serde(default)]
    pub mirror: Vec<[u32; 3]>,
    /// Registers by which software raises a source: address, source.
    #[serde(default)]
    pub software: Vec<[u32; 2]>,
    /// Registers that each core has for itself at the same address: first address, length, and how far behind it those of the
    /// second core are kept.
    #[serde(default)]
    pub private: Option<[u32; 3]>,
}

/// A block with behaviour.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peripheral {
    /// Instance, as the generated register file names it.
    pub name: String,
    /// Behaviour; `plain` for a block that keeps what is written and needs no more.
    pub ip: String,
    /// First address; that of the register file when left out.
    #[serde(default)]
    pub base: u32,
    /// Bytes; a multiple of 256.
    #[serde(default = "page")]
    pub size: u32,
    /// Interrupt sources; those of the register file when left out.
    #[serde(default)]
    pub sources: Vec<u32>,
    /// What the behaviour needs to know.
    #[serde(default)]
    pub set: BTreeMap<String, u32>,
}

fn page() -> u32 {
    0x1000
}

impl Peripheral {
    /// A number of `set`; 0 when it is not there.
    pub fn number(&self, name: &str) -> u32 {
        self.set.get(name).copied().unwrap_or(0)
    }

    /// A number of `set`, or what is usual.
    pub fn number_or(&self, name: &str, usual: u32) -> u32 {
        self.set.get(name).copied().unwrap_or(usual)
    }
}

/// Bits of a register that read as something else than what was written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bits {
    /// The register.
    pub address: u32,
    /// Always 1.
    #[serde(default)]
    pub ones: u32,
    /// Always 0: self-clearing starts.
    #[serde(default)]
    pub zeros: u32,
    /// Keep what is written, whatever the file says.
    #[serde(default)]
    pub writable: u32,
    /// The second bit reads as the first, above which it stands.
    #[serde(default)]
    pub copy: Option<[u32; 2]>,
    /// Content after a reset, when the register file does not know it.
    #[serde(default)]
    pub reset: Option<u32>,
}

impl View {
    /// Bytes shown of a memory of this size.
    pub fn shown(&self, whole: u32) -> u32 {
        if self.size == 0 { whole.saturating_sub(self.offset) } else { self.size }
    }
}

impl Board {
    /// The block of that name.
    pub fn block(&self, name: &str) -> Option<&Block> {
        self.blocks.iter().find(|block| block.name == name)
    }

    /// `BLOCK.REGISTER` of an address; empty when no file knows it.
    pub fn register_name(&self, address: u32) -> String {
        let known = self.blocks.iter().filter(|block| block.base <= address).find_map(|block| {
            let register = block.registers.get(&(address - block.base))?;
            Some(format!("{}.{}", block.name, register.name))
        });
        known
            .or_else(|| {
                let below = self.blocks.iter().filter(|block| block.base <= address).max_by_key(|block| block.base)?;
                let offset = address - below.base;
                (offset < 0x1000).then(|| format!("{}+{offset:#x}", below.name))
            })
            .unwrap_or_default()
    }
}

/// Chips that have a machine.
pub fn ids() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|files| files.id)
}

/// A chip's machine, when there is one.
pub fn board(id: &str) -> Option<&'static Board> {
    static BOARDS: OnceLock<Vec<OnceLock<Option<Board>>>> = OnceLock::new();
    let boards = BOARDS.get_or_init(|| FILES.iter().map(|_| OnceLock::new()).collect());
    let at = FILES.iter().position(|files| files.id == id)?;
    let files = FILES.get(at)?;
    boards.get(at)?.get_or_init(|| parse(files).ok()).as_ref()
}

fn parse(files: &ChipFiles) -> Result<Board, toml::de::Error> {
    let mut board: Board = toml::from_str(files.machine)?;
    board.id = files.id;
    board.blocks = crate::registers::parse(files.registers);
    for peripheral in &mut board.peripheral {
        if let Some(block) = board.blocks.iter().find(|block| block.name == peripheral.name) {
            if peripheral.base == 0 {
                peripheral.base = block.base;
            }
            if peripheral.sources.is_empty() {
                peripheral.sources.clone_from(&block.sources);
            }
        }
    }
    Ok(board)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chip_data_of_every_machine_is_complete() {
        for files in FILES {
            let board = parse(files).unwrap_or_else(|error| panic!("{}: {error}", files.id));
            assert!(esp_model::chip::by_name(files.id).is_some(), "{}", files.id);
            for peripheral in &board.peripheral {
                let name = &peripheral.name;
                assert!(peripheral.size.is_multiple_of(256), "{} {name}", files.id);
                assert!(peripheral.base != 0, "{} {name}: no base", files.id);
                assert!(crate::devices::known(&peripheral.ip), "{} {name}: {}", files.id, peripheral.ip);
            }
        }
    }
}
