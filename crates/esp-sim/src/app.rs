//! An app that cannot run, told by what lies in flash: what it says before it restarts. No code runs.
//!
//! Sources: ESP-IDF `nvs_page.cpp`, `nvs_pagemanager.cpp` (when the NVS library gives up), `esp_err.c`, `panic.c` and
//! `panic_arch.c` (what is printed then).

use std::fmt::Write as _;

use esp_model::boot::BootReport;
use esp_model::chip::Arch;
use esp_model::crc::rom_crc32;
use esp_model::partition;

use crate::machine::Machine;
use crate::nor::Nor;

/// What is wrong with the app.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppFaults {
    /// An app that lies at this flash address crashes at its start (a bad update).
    pub crash_at: Option<u32>,
    /// The app aborts when `nvs_flash_init()` fails on what lies in the NVS partition.
    pub needs_nvs: bool,
    /// The app crashes on its own settings, as long as there are any in NVS.
    pub bad_settings: bool,
}

/// A page of NVS: one flash sector.
const PAGE: u32 = 0x1000;
/// The version byte that ESP-IDF writes; it counts down.
const NVS_VERSION: u8 = 0xfe;
const ESP_ERR_NOT_FOUND: (u32, &str) = (0x105, "ESP_ERR_NOT_FOUND");
const NO_FREE_PAGES: (u32, &str) = (0x110d, "ESP_ERR_NVS_NO_FREE_PAGES");
const NEW_VERSION_FOUND: (u32, &str) = (0x1110, "ESP_ERR_NVS_NEW_VERSION_FOUND");

/// What the app says when it crashes at its start; `None`: it runs.
pub fn crash(machine: &Machine, faults: &AppFaults, report: &BootReport) -> Option<String> {
    let arch = machine.chip.arch;
    let app = report.app.as_ref()?;
    let sha256 = app.description.as_ref().map(|description| description.elf_sha256);
    let sha256: String = sha256.iter().flatten().take(5).map(|byte| format!("{byte:02x}")).collect();
    let pages = || pages(&machine.nor, report);
    if faults.crash_at == Some(app.address) || (faults.bad_settings && pages().is_some_and(|pages| holds(&pages))) {
        return Some(exception(arch, &sha256));
    }
    let error = faults.needs_nvs.then(|| pages().map_or(Some(ESP_ERR_NOT_FOUND), |pages| init(&pages)))??;
    Some(aborted(arch, error, &sha256))
}

/// The pages of the NVS partition.
fn pages(nor: &Nor, report: &BootReport) -> Option<Vec<Vec<u8>>> {
    let part = report.table.as_ref()?.find_kind(partition::DATA, partition::DATA_NVS)?;
    let read = |index: u32| nor.read(part.offset + index * PAGE, PAGE as usize).ok();
    (0..part.size / PAGE).map(read).collect()
}

/// A page as the library finds it.
enum Page {
    /// Blank, or not understood: it will be erased when it is needed.
    Free,
    InUse,
    /// Written by a later version of the library.
    Newer,
}

fn page(bytes: &[u8]) -> Page {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    let sound = bytes.get(4..28).map(rom_crc32) == word(28);
    match word(0) {
        _ if !sound => Page::Free,
        Some(u32::MAX) => Page::Free,
        _ if bytes.get(8).is_some_and(|version| *version < NVS_VERSION) => Page::Newer,
        // Active, full, being freed.
        Some(0xffff_fffe | 0xffff_fffc | 0xffff_fff8) => Page::InUse,
        _ => Page::Free,
    }
}

fn holds(pages: &[Vec<u8>]) -> bool {
    pages.iter().any(|bytes| matches!(page(bytes), Page::InUse))
}

/// How `nvs_flash_init()` fails: a page of a later version, or no page left to move entries to.
fn init(pages: &[Vec<u8>]) -> Option<(u32, &'static str)> {
    if pages.iter().any(|bytes| matches!(page(bytes), Page::Newer)) {
        return Some(NEW_VERSION_FOUND);
    }
    let free = pages.iter().any(|bytes| matches!(page(bytes), Page::Free));
    (!free).then_some(NO_FREE_PAGES)
}

/// `ESP_ERROR_CHECK(nvs_flash_init())`.
fn aborted(arch: Arch, (code, name): (u32, &str), sha256: &str) -> String {
    let (at, abort) = match arch {
        Arch::Xtensa => (0x4008_5d38u32, 0x4008_5d3bu32),
        Arch::Riscv => (0x4038_6b1a, 0x4038_6b1d),
    };
    let check = format!(
        "ESP_ERROR_CHECK failed: esp_err_t {code:#x} ({name}) at {at:#010x}\r\nfile: \"./main/main.c\" line 42\r\n\
         func: app_main\r\nexpression: nvs_flash_init()\r\n\r\nabort() was called at PC {abort:#010x} on core 0\r\n"
    );
    // An abort prints no registers on Xtensa.
    let state = if arch == Arch::Xtensa { String::new() } else { registers(arch, 2, 0) };
    format!("{check}{state}{}", ending(arch, sha256))
}

/// The app reads through a null pointer.
fn exception(arch: Arch, sha256: &str) -> String {
    let (name, cause) = match arch {
        Arch::Xtensa => ("LoadProhibited", 28),
        Arch::Riscv => ("Load access fault", 5),
    };
    let head = format!("Guru Meditation Error: Core  0 panic'ed ({name}). Exception was unhandled.\r\n");
    format!("{head}{}{}", registers(arch, cause, 4), ending(arch, sha256))
}

fn registers(arch: Arch, cause: u32, address: u32) -> String {
    const XTENSA: &str =
        "PC PS A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 A13 A14 A15 SAR EXCCAUSE EXCVADDR LBEG LEND LCOUNT";
    const RISCV: &str = "MEPC RA SP GP TP T0 T1 T2 S0/FP S1 A0 A1 A2 A3 A4 A5 A6 A7 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 T3 T4 T5 T6 \
                         MSTATUS MTVEC MCAUSE MTVAL MHARTID";
    let names = if arch == Arch::Xtensa { XTENSA } else { RISCV };
    let mut text = "\r\nCore  0 register dump:\r\n".to_owned();
    for (index, name) in names.split(' ').enumerate() {
        let value = match name {
            "PC" => 0x400d_66b9,
            "A0" if arch == Arch::Xtensa => 0x800d_66d4,
            "A1" if arch == Arch::Xtensa => 0x3ffb_4f60,
            "MEPC" => 0x4200_66ba,
            "RA" => 0x4200_66d4,
            "SP" => 0x3fc9_1f60,
            "EXCCAUSE" | "MCAUSE" => cause,
            "EXCVADDR" | "MTVAL" => address,
            _ => 0,
        };
        let _ = write!(text, "{name:<8}: {value:#010x}  {}", if index % 4 == 3 { "\r\n" } else { "" });
    }
    text + "\r\n"
}

fn ending(arch: Arch, sha256: &str) -> String {
    let chain = match arch {
        Arch::Xtensa => "\r\n\r\nBacktrace: 0x400d66b6:0x3ffb4f60 0x400d66d1:0x3ffb4f80\r\n",
        Arch::Riscv => "\r\nStack memory:\r\n3fc91f60: 0x00000000 0x420066d4 0x00000000 0x00000000\r\n",
    };
    format!("{chain}\r\n\r\n\r\n\r\nELF file SHA256: {sha256}\r\n\r\nRebooting...\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(state: u32, version: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; PAGE as usize];
        bytes[..4].copy_from_slice(&state.to_le_bytes());
        bytes[4..8].copy_from_slice(&0u32.to_le_bytes());
        bytes[8] = version;
        let crc = rom_crc32(&bytes[4..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_nvs_library_gives_up_as_on_a_device() {
        let blank = vec![0xff; PAGE as usize];
        let noise = vec![0x5a; PAGE as usize];
        let (full, newer) = (page_of(0xffff_fffc, 0xfe), page_of(0xffff_fffe, 0xfd));
        assert_eq!(init(&[blank.clone(), blank.clone(), blank.clone()]), None);
        // Pages that are not understood are erased when they are needed.
        assert_eq!(init(&[noise, full.clone(), full.clone()]), None);
        assert_eq!(init(&[full.clone(), full.clone(), full.clone()]), Some(NO_FREE_PAGES));
        assert_eq!(init(&[newer, blank.clone(), full.clone()]), Some(NEW_VERSION_FOUND));
        assert!(holds(&[blank.clone(), full]) && !holds(&[blank]));
    }
}
