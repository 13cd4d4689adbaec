//! Rules for what a plan hides, how the flash is wired, and what the bootloader verifies.

use super::super::security::WIRING;
use super::super::{Block, bits};
use super::{Case, Finding, Severity};
use crate::chip::SecureBootScheme;
use crate::secure::verifier::{Verifies, verifies};

use Severity::{Deny, Info, Warn};

impl Case<'_> {
    /// Rule 16: a chip that is told wrongly how its flash is wired never starts again, and cannot be flashed either.
    pub(super) fn wiring(&self, found: &mut Vec<Finding>) {
        let is_wiring = |name: &str| {
            WIRING.iter().any(|known| known.strip_suffix('*').map_or(*known == name, |start| name.starts_with(start)))
        };
        let fields = self.united.efuses.table.fields.iter().filter(|field| is_wiring(&field.name));
        let changed: Vec<_> = fields.map(|field| field.name.as_str()).filter(|name| self.changes(name)).collect();
        if changed.is_empty() || self.facts.flash_wiring_known {
            return;
        }
        let text = format!(
            "{}: says how the flash is wired and supplied; where that differs from the board, the chip never starts nor \
             takes firmware again. A person who knows the schematic vouches for it: vouch = [\"flash_wiring\"]",
            changed.join(", ")
        );
        found.push(Finding::new(16, Deny, text));
    }

    /// Rule 17: only secret keys that are there are hidden. A block with another purpose must stay readable, and an empty
    /// one can never be checked or used.
    pub(super) fn hidden_blocks(&self, found: &mut Vec<Finding>) {
        let table = self.after.efuses.table;
        let newly = |block: &&Block| {
            !block.read_protect.is_empty()
                && self.before.efuses.readable(&block.read_protect)
                && !self.after.efuses.readable(&block.read_protect)
        };
        for block in table.blocks.iter().filter(newly) {
            if bits::is_zero(self.united.efuses.block(block.id)) {
                let text = format!("{} is empty: hidden, it could never be checked or used", block.name);
                found.push(Finding::new(17, Deny, text));
            }
            let Some(purpose) = self.united.efuses.purpose(block).filter(|_| block.is_key) else { continue };
            // Hiding a digest is rule 5's business.
            let known = table.key_purposes.iter().find(|one| one.name == purpose);
            if !known.is_some_and(|one| one.read_protect || one.digest) {
                let text =
                    format!("{} has the purpose {purpose}, which software reads: it must stay readable", block.name);
                found.push(Finding::new(17, Deny, text));
            }
        }
    }

    /// Rule 18: the ROM verifies the bootloader; that the application is verified too is the bootloader's work.
    pub(super) fn bootloader_verifies(&self, found: &mut Vec<Finding>) {
        let mut enabled = self.after.chip.security.secure_boot.iter().filter(|scheme| self.turns_on(&scheme.enable));
        let (Some(scheme), Some(bootloader)) = (enabled.next(), &self.facts.bootloader) else { return };
        let (severity, text) = match verifies(bootloader) {
            Verifies::Yes => {
                (Info, "the bootloader in flash contains the code that verifies signatures of applications")
            }
            Verifies::No => (
                Warn,
                "the bootloader in flash was built without secure boot: it verifies no application, so that any application \
                 starts; build it with secure boot and flash it first",
            ),
            Verifies::Unknown => (
                Warn,
                "whether the bootloader in flash verifies applications cannot be told: it contains no messages to judge by",
            ),
        };
        found.push(Finding::new(18, severity, text));
        let protect = self.after.efuses.table.field("RD_DIS").and_then(|field| field.write_protect);
        let (severity, text) = match (scheme.scheme, self.after.efuses.writeable(protect)) {
            (SecureBootScheme::V1, _) => return,
            (_, false) => (Info, "RD_DIS is write-protected: no digest can be hidden, and no further key either"),
            (_, true) => (
                Warn,
                "RD_DIS stays writeable: code on the chip could hide a key digest, and the chip would not start any more. Once \
                 all keys are burned, freeze it (esp_efuse_burn, kind=write_protect, efuse=RD_DIS)",
            ),
        };
        found.push(Finding::new(18, severity, text));
    }
}
