//! What a console says about why a device does not work, as codes of the hint catalogue.

use super::{Event, Panic, ResetKind, Summary};

/// Codes for what was seen, the cause before its consequences; empty when nothing calls for attention.
///
/// Sources: ESP-IDF's bootloader and ROM messages, and the troubleshooting pages of esptool.
pub fn diagnoses(events: &[Event], summary: &Summary) -> Vec<&'static str> {
    let mut codes = Vec::new();
    for event in events {
        let code = match event {
            Event::DownloadDisabled { .. } => "not_in_download_mode",
            Event::BrownOut { .. } => "brown_out",
            Event::Boot(boot) if boot.reset_kind == ResetKind::BrownOut => "brown_out",
            Event::NoBootloader { text, .. } => no_bootloader(text),
            Event::Panic(panic) if gives_up_on_nvs(panic) => "nvs_unusable",
            Event::StartFailure { text, .. } => match start_failure(text) {
                Some(code) => code,
                None => continue,
            },
            _ => continue,
        };
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    if codes.is_empty() && summary.panics == 0 && summary.boot_loop && summary.watchdogs > 0 {
        codes.push("bootloader_damaged");
    }
    codes
}

/// The app aborts because `nvs_flash_init()` fails on what lies in the NVS partition: no page is free, or a later version
/// of the library wrote it (ESP-IDF's `nvs.h`; both are cured by an erase).
fn gives_up_on_nvs(panic: &Panic) -> bool {
    const CURED_BY_ERASE: [&str; 2] = ["esp_err_t 0x110d", "esp_err_t 0x1110"];
    panic.sort == "error_check" && CURED_BY_ERASE.iter().any(|code| panic.reason.contains(code))
}

fn no_bootloader(text: &str) -> &'static str {
    if text.contains("0xffffffff") {
        "no_bootloader"
    } else if text.starts_with("csum err") {
        "bootloader_damaged"
    } else {
        "bootloader_unreadable"
    }
}

fn start_failure(text: &str) -> Option<&'static str> {
    if text.contains("smaller than the size in the binary image header") {
        Some("flash_too_small")
    } else if text.contains("exceeds flash chip size") {
        Some("flash_header_small")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::console::{Decoder, diagnoses};

    fn of(log: &str) -> Vec<&'static str> {
        let mut decoder = Decoder::new(None);
        decoder.feed(Duration::ZERO, log.as_bytes());
        decoder.finish();
        diagnoses(decoder.events(), &decoder.summary())
    }

    #[test]
    fn known_messages_are_named_and_others_are_not() {
        for (log, codes) in [
            ("invalid header: 0xffffffff\n", &["no_bootloader"][..]),
            ("invalid header: 0x1b8a3c40\n", &["bootloader_unreadable"]),
            ("flash read err, 1000\nets_main.c 371\n", &["bootloader_unreadable"]),
            ("csum err:0x3!=0xb\nets_main.c 384\n", &["bootloader_damaged"]),
            ("Brownout detector was triggered\n", &["brown_out"]),
            (
                "rst:0x1 (POWERON),boot:0x5 (DOWNLOAD(USB/UART0/1))\nDownload boot modes disabled\n",
                &["not_in_download_mode"],
            ),
            (
                "E (57) spi_flash: x\nE (60) flash_parts: partition 3 invalid - offset 0x310000 size 0x100000 exceeds flash chip size 0x200000\n",
                &["flash_header_small"],
            ),
            (
                "E (98) boot: Detected size(2048k) smaller than the size in the binary image header(4096k). Probe failed.\n",
                &["flash_too_small"],
            ),
            (
                "ESP_ERROR_CHECK failed: esp_err_t 0x110d (ESP_ERR_NVS_NO_FREE_PAGES) at 0x400d1234\nfile: \"./main/x.c\" line 9\n\
                 func: app_main\nexpression: nvs_flash_init()\n\nabort() was called at PC 0x4008abcd on core 0\nRebooting...\n",
                &["nvs_unusable"],
            ),
            ("ESP_ERROR_CHECK failed: esp_err_t 0x1102 at 0x400d1234\nRebooting...\n", &[]),
            ("I (30) boot: ESP-IDF v5.4 2nd stage bootloader\n", &[]),
            ("rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\n", &[]),
        ] {
            assert_eq!(of(log), codes, "{log}");
        }
    }

    #[test]
    fn watchdog_resets_without_another_reason_mean_a_damaged_bootloader() {
        let turn = "rst:0x10 (RTCWDT_RTC_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\n";
        assert_eq!(of(&turn.repeat(5)), ["bootloader_damaged"]);
        assert_eq!(of(&(turn.to_owned() + "invalid header: 0xffffffff\n").repeat(5)), ["no_bootloader"]);
    }
}
