//! How far a start comes, and what that makes of the reset that ends it.

use super::address::{Place, place};
use super::finding::Collector;
use super::parse::{hex_after, log_line};
use super::{Boot, ResetKind, Stage};
use crate::chip::{self, Chip};

/// Boots this close together, in milliseconds, count as one loop.
const LOOP_GAP_MS: u64 = 15_000;
/// This many boots in a row make a boot loop.
const LOOP_BOOTS: usize = 3;

/// Lines of ROMs between their boot line and the jump to what they loaded.
const OF_ROM: &[&str] = &[
    "SPIWP:",
    "configsip:",
    "clk_drv:",
    "mode:",
    "load:",
    "load 0x",
    "tail ",
    "chksum",
    "csum",
    "ho ",
    "1st ",
    "SHA-256",
    "Calculated:",
    "Expected:",
    "Attempting to boot",
    "Build:",
    "ESP-ROM",
    "ets_main",
    "ets_loader",
    "Valid secure",
    "secure boot",
    "Secure boot",
    "Fast boot",
    "wdt reset",
    "flash read err",
    "invalid header",
    "Saved PC",
    "pwr_",
    "core0_",
    "SPI",
    "Core0",
    "Core1",
    "flash_",
];

/// Follows one start after the other.
#[derive(Debug, Default)]
pub(super) struct Starts {
    stage: Stage,
    /// The boot line whose next lines may have more to say.
    fresh: Option<(Boot, String)>,
    /// Boots of the loop that goes on, with the time of the last.
    boots: usize,
    last_ms: u64,
}

impl Starts {
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn begin(&mut self, boot: &Boot, text: &str) {
        let near = boot.at_ms.saturating_sub(self.last_ms) <= LOOP_GAP_MS;
        self.boots = if boot.download {
            0
        } else if near {
            self.boots + 1
        } else {
            1
        };
        self.last_ms = boot.at_ms;
        self.fresh = Some((boot.clone(), text.to_owned()));
        self.stage = Stage::Rom;
    }

    pub(super) fn saved_pc(&mut self, pc: u32) {
        if let Some((boot, _)) = &mut self.fresh {
            boot.saved_pc = Some(pc);
        }
    }

    /// Tells the catalogue of the boot line, once all that belongs to it was seen.
    pub(super) fn flush(&mut self, chip: Option<&Chip>, findings: &mut Collector) {
        let Some((boot, text)) = self.fresh.take() else { return };
        let name = boot.reset_name.as_deref().unwrap_or("none").replace(' ', "_");
        let (kind, before) = (boot.reset_kind.word(), boot.before.word());
        let pc = boot.saved_pc.map_or("none", |pc| place(chip, pc).word());
        let shown = boot.saved_pc.map_or_else(|| "not printed".into(), |pc| format!("{pc:#010x}"));
        let mode = boot.mode.as_deref().unwrap_or("none");
        // Power may come slowly: the resets by hand and by power do not make a loop.
        let counts = !matches!(boot.reset_kind, ResetKind::PowerOn | ResetKind::External | ResetKind::DeepSleep);
        let straps = boot.straps;
        let facts = format!(
            "reset={name} kind={kind} before={before} pc_place={pc} saved_pc={shown} straps={straps:#x} mode={mode}"
        );
        findings.fact(&format!("@boot {facts}"), &text, boot.at_ms);
        if self.boots >= LOOP_BOOTS && counts {
            findings.fact(&format!("@loop boots={} {facts}", self.boots), &text, boot.at_ms);
        }
    }

    /// Takes a line behind a boot line.
    pub(super) fn line(&mut self, text: &str, at_ms: u64, chip: Option<&Chip>, findings: &mut Collector) {
        if let Some(address) = hex_after(text, "load:0x").filter(|_| text.starts_with("load:")) {
            // What the ROM loads goes to RAM; mapped flash among it is an application's.
            if place(chip, address) == Place::Flash {
                findings.fact(&format!("@load place=flash address={address:#010x}"), text, at_ms);
            }
        }
        self.stage = self.stage.max(stage_of(text, self.stage));
    }
}

fn stage_of(text: &str, now: Stage) -> Stage {
    if text.contains("2nd stage bootloader") {
        return Stage::Bootloader;
    }
    if text.starts_with("entry 0x") || text.starts_with("~ld") {
        return Stage::Entry;
    }
    if OF_ROM.iter().any(|mark| text.starts_with(mark)) || now < Stage::Entry && log_line(text).is_none() {
        return now;
    }
    let Some((_, tag, message)) = log_line(text) else {
        // Bare text after the jump is the program's own, unless it is noise.
        let readable = text.chars().filter(char::is_ascii_graphic).count() * 2 > text.len() && text.len() > 3;
        return if readable && now >= Stage::Loaded { Stage::App } else { now };
    };
    let of_bootloader = matches!(
        tag.split('.').next().unwrap_or(tag),
        "boot"
            | "boot_comm"
            | "esp_image"
            | "flash_encrypt"
            | "secure_boot"
            | "secure_boot_v2"
            | "secure_boot_v1"
            | "efuse"
            | "qio_mode"
            | "flash_parts"
            | "bootloader_flash"
            | "bootloader_common"
            | "bootloader_random"
            | "bootloader_utils"
            | "wdt"
    );
    if message.starts_with("Loaded app from partition") || message.starts_with("Disabling RNG early entropy") {
        Stage::Loaded
    } else if of_bootloader {
        now.max(Stage::Bootloader)
    } else if now >= Stage::Entry || now == Stage::Unseen {
        Stage::App
    } else {
        now
    }
}

/// A chip that a bootloader's tag names (`boot.esp32s3: SPI Mode`), or a line that only its ROM prints.
pub(super) fn names_chip(text: &str) -> Option<&'static Chip> {
    let own = |chip: &&Chip| chip.boot.own_line.as_deref().is_some_and(|own| text.starts_with(own));
    if let Some(chip) = chip::all().iter().find(own) {
        return Some(chip);
    }
    let (_, tag, _) = log_line(text)?;
    chip::by_name(tag.strip_prefix("boot.")?)
}

/// What the bootloader and the app's start say of note.
pub(super) fn said(tag: &str, message: &str) -> Option<(&'static str, String)> {
    let value = |mark: &str| message.split_once(mark).map(|(_, value)| value.trim().to_owned());
    match tag {
        "boot" if message.contains("2nd stage bootloader") => Some(("bootloader", message.to_owned())),
        "boot" if message.starts_with("chip revision:") => Some(("chip_revision", value("chip revision:")?)),
        tag if tag.starts_with("boot") && message.starts_with("SPI Flash Size") => Some(("flash_size", value(":")?)),
        "boot" if message.starts_with("Loaded app from partition at offset") => Some(("app_offset", value("offset")?)),
        "cpu_start" if message.contains("Starting scheduler") || message.starts_with("Pro cpu start user code") => {
            Some(("app_started", message.to_owned()))
        }
        "main_task" if message.starts_with("Calling app_main") => Some(("app_started", message.to_owned())),
        "app_init" | "cpu_start" if message.starts_with("Project name:") => Some(("project", value(":")?)),
        "app_init" | "cpu_start" if message.starts_with("App version:") => Some(("version", value(":")?)),
        "app_init" | "cpu_start" if message.starts_with("ESP-IDF:") => Some(("idf", value(":")?)),
        "app_init" | "cpu_start" if message.starts_with("ELF file SHA256:") => {
            Some(("elf_sha256", value(":")?.trim_end_matches('.').to_owned()))
        }
        _ => None,
    }
}
