//! Functions of the mask ROMs. A dump or log does not say which revision of the chip it is from: a name counts when all
//! revisions agree.

use esp_machine::rom::{self, Rom, RomError};
use esp_model::chip::Chip;

use crate::error::{Code, ToolError};

/// The ROMs of one chip.
#[derive(Default)]
pub struct RomNames(Vec<(&'static str, Rom)>);

impl RomNames {
    /// All ROMs of this chip that are built in; none is no error.
    pub fn of(chip: &Chip) -> Result<Self, ToolError> {
        let damaged = |error: RomError| ToolError::new(Code::Internal, error.to_string());
        let roms = rom::built_in_for(chip.id).into_iter().map(|name| Ok((name, Rom::named(name).map_err(damaged)?)));
        roms.collect::<Result<_, ToolError>>().map(Self)
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    /// The function at an address; where revisions differ, each with its ROM.
    pub fn function(&self, address: u32) -> Option<String> {
        let found: Vec<(&str, Option<&str>)> =
            self.0.iter().map(|(name, rom)| (*name, rom.function_in_rom(address))).collect();
        let first = found.first()?.1;
        if found.iter().all(|(_, function)| *function == first) {
            return first.map(str::to_owned);
        }
        let each = found.iter().filter_map(|(name, function)| Some(format!("{} in {name}", (*function)?)));
        Some(each.collect::<Vec<_>>().join(" or "))
    }

    /// The address of a function, where all revisions agree.
    pub fn address_of(&self, function: &str) -> Option<u32> {
        let of = |rom: &Rom| rom.functions.iter().find(|(_, name)| *name == function).map(|(address, _)| *address);
        let mut all = self.0.iter().map(|(_, rom)| of(rom));
        let first = all.next()??;
        all.all(|address| address == Some(first)).then_some(first)
    }
}
