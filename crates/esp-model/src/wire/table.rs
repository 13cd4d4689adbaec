//! Which loader knows which command: one table for the client, which asks before it sends, and the simulator, which refuses.

use super::Command;
use crate::chip::Rom;

impl Command {
    /// The ROM loader takes this command, where `secure_download` tells that secure download mode is on.
    pub fn in_rom(self, rom: &Rom, secure_download: bool) -> bool {
        let (known, in_secure_download) = match self {
            Self::Sync | Self::FlashBegin | Self::FlashData | Self::FlashEnd => (true, true),
            Self::MemBegin | Self::MemData | Self::MemEnd | Self::ReadReg | Self::WriteReg => (true, false),
            Self::DeflBegin | Self::DeflData | Self::DeflEnd => (rom.extended, true),
            Self::SpiAttach | Self::SpiSetParams | Self::FlashMd5 => (rom.extended, true),
            Self::ChangeBaud => (rom.extended, rom.baud_in_secure_mode),
            Self::ReadFlashSlow => (rom.extended, false),
            Self::SecurityInfo => (rom.security_info_len > 0, true),
            Self::EraseFlash | Self::EraseRegion | Self::ReadFlash | Self::RunUserCode | Self::FlashEncryptData => {
                (false, false)
            }
        };
        known && (in_secure_download || !secure_download)
    }

    /// A stub takes this command.
    pub fn in_stub(self) -> bool {
        self != Self::ReadFlashSlow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip;

    #[test]
    fn secure_download_only_removes_commands() {
        for chip in chip::all() {
            for command in Command::ALL {
                let (open, locked) = (command.in_rom(&chip.rom, false), command.in_rom(&chip.rom, true));
                assert!(open || !locked, "{} {}", chip.id, command.name());
            }
            assert!(!Command::ReadReg.in_rom(&chip.rom, true), "{}: memory is not readable", chip.id);
            assert!(Command::FlashData.in_rom(&chip.rom, true), "{}: flash is writable", chip.id);
        }
    }

    #[test]
    fn rom_without_extensions_has_no_compression() {
        let without = chip::all().iter().filter(|chip| !chip.rom.extended);
        for chip in without {
            assert!(!Command::DeflBegin.in_rom(&chip.rom, false));
            assert!(Command::FlashBegin.in_rom(&chip.rom, false));
        }
    }
}
