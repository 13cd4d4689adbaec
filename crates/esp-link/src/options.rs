//! What a caller chooses about a connection.

use std::path::PathBuf;

use esp_model::chip::Chip;

use crate::reset::Sequence;

/// Where stubs come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StubSource {
    /// Built in.
    #[default]
    BuiltIn,
    /// A folder with `NAME.toml` or `NAME.json`; what it lacks is taken from the built-in ones.
    Folder(PathBuf),
    /// No stub: the ROM loader does what it can.
    None,
}

/// Rate at which the ROM is first spoken to, in baud.
pub const ROM_BAUD: u32 = 115_200;

/// What to do before the first SYNC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Before {
    /// The ladder: what fits the port, then its variants.
    #[default]
    Ladder,
    /// Nothing: the chip is in download mode already.
    NoReset,
    /// One sequence only.
    Only(Sequence),
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Reset before the first SYNC.
    pub before: Before,
    /// Reset sequences to try, at most.
    pub attempts: u32,
    /// Rate to work at, in baud; taken when the loader and the line can.
    pub baud: u32,
    /// The same for the ROM's loader, where it can do less.
    pub rom_baud: u32,
    /// Where the stub comes from.
    pub stub: StubSource,
    /// Refuse any other chip.
    pub expect: Option<&'static Chip>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            before: Before::Ladder,
            attempts: 7,
            baud: 460_800,
            rom_baud: u32::MAX,
            stub: StubSource::BuiltIn,
            expect: None,
        }
    }
}
