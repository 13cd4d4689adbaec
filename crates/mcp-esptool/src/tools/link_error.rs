//! What went wrong on the line, as codes: classified by the bytes that were seen, not by texts.

use esp_link::connect::Attempt;
use esp_link::port::PortError;
use esp_link::{ConnectError, LoaderError};
use serde_json::json;

use crate::ctx::device::attempt_text;
use crate::tools::error::{FlashState, ToolError};

impl From<PortError> for ToolError {
    fn from(error: PortError) -> Self {
        let text = error.to_string();
        match error {
            PortError::Url(_) | PortError::NotSerial { .. } | PortError::Unsupported { .. } => {
                Self::new("port_unsupported", text)
            }
            PortError::NotFound { present, .. } => Self::new("port_not_found", text).seen("ports", present.join(", ")),
            PortError::UnknownMac { .. } => Self::new("port_not_found", text),
            PortError::Busy { holder, .. } => {
                let error = Self::new("port_busy", text);
                match holder {
                    Some(holder) => error.seen("holder", holder.to_string()),
                    None => error,
                }
            }
            PortError::Permission { group, .. } => match group {
                Some(group) => Self::new("port_forbidden", text)
                    .next(format!("add the user to the group {group} (sudo usermod -aG {group} $USER), log in again")),
                None => Self::new("port_forbidden", text),
            },
            PortError::Unreachable { .. } => Self::new("port_unreachable", text),
            PortError::Virtual { .. } => Self::new("virtual_failed", text),
            PortError::Rfc2217 { .. } | PortError::Io { .. } => Self::new("port_failed", text),
        }
    }
}

impl From<LoaderError> for ToolError {
    fn from(error: LoaderError) -> Self {
        let text = error.to_string();
        let code = match &error {
            LoaderError::Line(_) => "port_lost",
            LoaderError::Cancelled => "cancelled",
            LoaderError::NoAnswer { .. } | LoaderError::Protocol { .. } | LoaderError::BadLine { .. } => "link_lost",
            LoaderError::Refused { .. } => "loader_refused",
            LoaderError::Unsupported { mode, .. } if mode.contains("secure") => "secure_download",
            LoaderError::Unsupported { .. } => "not_supported_by_chip",
            LoaderError::Stub(_) => "stub_failed",
            LoaderError::NoFlash(_) => "flash_unknown",
            LoaderError::FlashSize(_) => "flash_size_unknown",
            LoaderError::Range(_) => "address_out_of_range",
            LoaderError::Mismatch { .. } => "verify_failed",
            LoaderError::Data(_) => "file_unreadable",
        };
        let mut out = Self::new(code, text).touched(FlashState::Unchanged);
        if let LoaderError::NoAnswer { seen, .. } | LoaderError::Protocol { seen, .. } = &error {
            out = out.seen("bytes", hex(&seen.0));
        }
        out
    }
}

impl From<ConnectError> for ToolError {
    fn from(error: ConnectError) -> Self {
        let text = error.to_string();
        match error {
            ConnectError::NoSync { attempts } => no_sync(text, &attempts),
            ConnectError::Loader { attempts, error } => Self::from(error).seen("attempts", shown(&attempts)),
            ConnectError::WrongChip { .. } => Self::new("chip_mismatch", text).touched(FlashState::Unchanged),
        }
    }
}

/// Why nobody answered, judged by what the attempts saw.
fn no_sync(text: String, attempts: &[Attempt]) -> ToolError {
    let newest = attempts.iter().rev().find(|attempt| !attempt.seen.is_empty());
    let code = match newest {
        None => "no_serial_data",
        Some(_) if attempts.iter().any(|attempt| attempt.waiting_for_download) => "no_sync",
        Some(_) if attempts.iter().any(|attempt| attempt.boot_mode.is_some()) => "wrong_boot_mode",
        Some(_) => "not_the_loader",
    };
    let mut error = ToolError::new(code, text).seen("attempts", shown(attempts)).touched(FlashState::Unchanged);
    if let Some(attempt) = newest {
        let end = attempt.seen.len().saturating_sub(64);
        error = error.seen("bytes", attempt.seen[end..].escape_ascii().to_string());
    }
    if let Some(mode) = attempts.iter().rev().find_map(|attempt| attempt.boot_mode) {
        error = error.seen("boot_mode", format!("{mode:#x}"));
    }
    error
}

fn shown(attempts: &[Attempt]) -> serde_json::Value {
    json!(attempts.iter().map(attempt_text).collect::<Vec<_>>())
}

fn hex(bytes: &[u8]) -> String {
    let end = bytes.len().saturating_sub(32);
    bytes[end..].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
