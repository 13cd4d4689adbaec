//! What can never be done again after a burn.

use super::Change;
use crate::chip::{ChipData, SecureBootScheme};
use crate::efuse::security::{FlashEncryptionMode, HARD_JTAG, NO_DOWNLOAD, SECURE_DOWNLOAD, SecurityView};
use crate::efuse::state::ActiveCoding;
use crate::efuse::{Efuses, Field};

/// What these fields end, by name on the various chips.
const ENDED_BY: [(&str, &str); 24] = [
    ("UART_DOWNLOAD_DIS", "connecting a loader"),
    ("DIS_DOWNLOAD_MODE", "connecting a loader"),
    (SECURE_DOWNLOAD, "reading flash, memory and eFuses by the loader"),
    ("DIS_USB_SERIAL_JTAG_DOWNLOAD_MODE", "connecting a loader over the built-in USB"),
    ("DIS_USB_OTG_DOWNLOAD_MODE", "connecting a loader over USB-OTG"),
    ("DIS_USB_DOWNLOAD_MODE", "connecting a loader over USB"),
    ("DIS_FORCE_DOWNLOAD", "entering download mode by software"),
    ("DIS_USB_SERIAL_JTAG", "using the built-in USB for console, loader and JTAG"),
    ("DIS_USB_OTG", "using USB-OTG"),
    ("DIS_USB_JTAG", "debugging over USB"),
    ("DIS_DIRECT_BOOT", "direct boot (starting code in flash without a bootloader)"),
    ("DIS_LEGACY_SPI_BOOT", "direct boot (starting code in flash without a bootloader)"),
    ("CONSOLE_DEBUG_DISABLE", "the ROM's BASIC console"),
    ("DISABLE_DL_ENCRYPT", "writing plain data through the loader to be encrypted by the chip"),
    ("DIS_DOWNLOAD_MANUAL_ENCRYPT", "writing plain data through the loader to be encrypted by the chip"),
    ("DISABLE_DL_DECRYPT", "reading encrypted flash as plain text through the loader"),
    ("DISABLE_DL_CACHE", "using the flash cache in download mode"),
    ("DIS_DOWNLOAD_ICACHE", "using the instruction cache in download mode"),
    ("DIS_DOWNLOAD_DCACHE", "using the data cache in download mode"),
    ("SECURE_BOOT_KEY_REVOKE0", "starting firmware signed by the key of digest 0"),
    ("SECURE_BOOT_KEY_REVOKE1", "starting firmware signed by the key of digest 1, or burning that digest"),
    ("SECURE_BOOT_KEY_REVOKE2", "starting firmware signed by the key of digest 2, or burning that digest"),
    ("DIS_TWAI", "using the CAN (TWAI) controller"),
    ("DIS_CAN", "using the CAN (TWAI) controller"),
];

/// A burn, seen before and after.
pub(super) struct Case<'a> {
    pub chip: &'a ChipData,
    pub before: &'a Efuses,
    /// As the hardware sees it afterwards.
    pub united: &'a Efuses,
    /// As it can be read afterwards.
    pub after: &'a Efuses,
    pub changes: &'a [Change],
}

impl Case<'_> {
    /// The list is empty only when nothing changes.
    pub(super) fn all(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.secure_boot(&mut out);
        self.flash_encryption(&mut out);
        self.interfaces(&mut out);
        self.protection(&mut out);
        self.blocks(&mut out);
        if !self.changes.is_empty() {
            let names: Vec<_> = self.changes.iter().map(|change| change.field.as_str()).collect();
            out.push(format!("clearing the bits burned in {}", names.join(", ")));
        }
        let mut seen = std::collections::BTreeSet::new();
        out.retain(|line| seen.insert(line.clone()));
        out
    }

    fn view<'b>(&'b self, efuses: &'b Efuses) -> SecurityView<'b> {
        SecurityView { chip: self.chip, efuses }
    }

    fn turns_on(&self, name: &str) -> bool {
        !self.before.is_set(name) && self.united.is_set(name)
    }

    fn secure_boot(&self, out: &mut Vec<String>) {
        for scheme in self.chip.security.secure_boot.iter().filter(|scheme| self.turns_on(&scheme.enable)) {
            out.push(match scheme.scheme {
                SecureBootScheme::V1 => "starting a bootloader without the digest made with the burned key".into(),
                _ => "starting a bootloader that is not signed by a key whose digest is burned".into(),
            });
            out.push("turning secure boot off".into());
        }
    }

    fn flash_encryption(&self, out: &mut Vec<String>) {
        let (before, after) = (self.view(self.before), self.view(self.united));
        let (Some((old, _)), Some((set, len))) = (before.crypt_count(), after.crypt_count()) else { return };
        if old == set {
            return;
        }
        let on = after.flash_encryption() != FlashEncryptionMode::Off;
        let left = u32::from(len) - set;
        if on && before.flash_encryption() == FlashEncryptionMode::Off {
            out.push("starting plain firmware, or reading the flash as plain text, while encryption is on".into());
        }
        match (on, left) {
            (true, 0) => out.push("turning flash encryption off".into()),
            (true, 1) => out.push("turning flash encryption on again once it was turned off".into()),
            (true, left) => {
                out.push(format!("changing flash encryption more than {left} times: each change takes a bit"));
            }
            (false, 0) => out.push("turning flash encryption on again".into()),
            (false, left) => {
                out.push(format!("changing flash encryption more than {left} times: each change takes a bit"));
            }
        }
    }

    fn interfaces(&self, out: &mut Vec<String>) {
        let mut fields = std::collections::BTreeSet::new();
        for (name, ended) in ENDED_BY.iter().filter(|(name, _)| self.turns_on(name)) {
            // Two names of one field are one entry.
            let own = self.united.table.field(name).map_or("", |field| &field.name);
            if fields.insert(own) {
                out.push((*ended).to_string());
            }
        }
        if HARD_JTAG.iter().any(|name| self.turns_on(name)) {
            out.push("debugging over JTAG on the pins".into());
        }
        let (before, after) = (self.view(self.before), self.view(self.united));
        if !before.jtag_soft() && after.jtag_soft() {
            out.push("debugging over JTAG without the HMAC secret, unless another bit of SOFT_DIS_JTAG is left".into());
        }
        let closed = |efuses: &Efuses| NO_DOWNLOAD.iter().any(|name| efuses.is_set(name));
        if !closed(self.before) && closed(self.united) {
            out.push("repairing this chip by cable".into());
        }
    }

    /// Fields that freeze or hide without having been asked for.
    fn protection(&self, out: &mut Vec<String>) {
        let lost = |field: &&'static Field| {
            let full = field.bytes(self.united.block(field.block)).iter().all(|byte| *byte != 0);
            let asked = self.changes.iter().any(|change| change.field == field.name);
            let frozen = self.before.writeable(field.write_protect) && !self.after.writeable(field.write_protect);
            field.shown && !field.composed && frozen && !asked && !full
        };
        out.extend(self.after.table.fields.iter().filter(lost).map(|field| format!("setting {}", field.name)));
        let hidden = |field: &&'static Field| {
            self.before.readable(&field.read_protect) && !self.after.readable(&field.read_protect)
        };
        out.extend(self.after.table.fields.iter().filter(hidden).map(|field| format!("reading {}", field.name)));
        let frozen = |name: &str| {
            let field = self.after.table.field(name)?;
            let freezes = self.before.writeable(field.write_protect) && !self.after.writeable(field.write_protect);
            freezes.then_some(())
        };
        if frozen("RD_DIS").is_some() {
            out.push("hiding any further key from software".into());
        }
    }

    /// A block with an error code is burned once as a whole.
    fn blocks(&self, out: &mut Vec<String>) {
        let burned = self.before.table.blocks.iter().filter(|block| {
            self.before.coding(block) == ActiveCoding::ReedSolomon
                && self.before.block(block.id) != self.united.block(block.id)
        });
        out.extend(burned.map(|block| format!("burning {} a second time", block.name)));
    }
}
