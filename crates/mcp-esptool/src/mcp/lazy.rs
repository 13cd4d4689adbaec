//! Hints for clients that load tools only when they are needed: which few are always wanted, and words that people use
//! for what a tool's name does not say. The keys are those that Claude Code reads; others skip them.

use rmcp::model::MetaObject;
use serde_json::json;

/// Tools that nearly every session uses.
static ALWAYS: &[&str] = &["esp_scan_ports", "esp_detect_chip", "esp_flash_firmware", "esp_console_capture"];

/// Words to find a tool by, beside its name and description.
static WORDS: &[(&str, &str)] = &[
    ("esp_recover_chip", "dead board, bricked, does not boot"),
    ("esp_log_decode", "Guru Meditation, panic, backtrace"),
    ("esp_nvs_partition_create", "Wi-Fi credentials, settings"),
    ("esp_qemu_start", "emulator, no hardware"),
];

/// Adds a tool's hints to its metadata.
pub(super) fn add(tool: &str, meta: &mut MetaObject) {
    if ALWAYS.contains(&tool) {
        meta.0.insert("anthropic/alwaysLoad".into(), json!(true));
    }
    if let Some((_, words)) = WORDS.iter().find(|(name, _)| *name == tool) {
        meta.0.insert("anthropic/searchHint".into(), json!(words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_for_tools_that_are_there() {
        for name in ALWAYS.iter().chain(WORDS.iter().map(|(name, _)| name)) {
            assert!(crate::tools::ALL.iter().any(|entry| entry.name == *name), "{name}");
        }
    }
}
