//! What went wrong on the line, as codes: classified by the bytes that were seen, not by texts.

use std::time::Duration;

use esp_link::connect::Attempt;
use esp_link::port::{PortError, UrlError};
use esp_link::reset::Sequence;
use esp_link::{ConnectError, LoaderError};
use esp_model::chip::Chip;
use esp_model::console::{Decoder, Event};
use esp_model::wire::Command;
use serde_json::json;

use crate::error::{Code, FlashState, ToolError};

impl From<PortError> for ToolError {
    fn from(error: PortError) -> Self {
        let text = error.to_string();
        match error {
            PortError::Url(_) | PortError::NotSerial { .. } | PortError::Unsupported { .. } => {
                Self::new(Code::PortUnsupported, text)
            }
            PortError::NotFound { present, .. } => {
                Self::new(Code::PortNotFound, text).seen("ports", present.join(", "))
            }
            PortError::NoMatch { present, .. } => Self::new(Code::PortNotFound, text).seen("ports", present.join(", ")),
            PortError::Several { matches, .. } => Self::new(Code::WhichPort, text).seen("ports", matches.join(", ")),
            PortError::UnknownMac { .. } => Self::new(Code::PortNotFound, text),
            PortError::Busy { holder, .. } => {
                let error = Self::new(Code::PortBusy, text);
                match holder {
                    Some(holder) => error.seen("holder", holder.to_string()),
                    None => error,
                }
            }
            PortError::Permission { group, .. } => match group {
                Some(group) => Self::new(Code::PortForbidden, text).next(format!(
                    "let a person add the user to the group {group} (sudo usermod -aG {group} $USER) and log in again"
                )),
                None => Self::new(Code::PortForbidden, text),
            },
            PortError::Unreachable { .. } => Self::new(Code::PortUnreachable, text),
            PortError::UnknownChip { .. } => Self::new(Code::UnknownChip, text).next("use one of the known names"),
            PortError::TooMany { .. } => Self::new(Code::LimitReached, text).next(
                "use a simulated device that is there (esp_scan_ports lists them); a person can raise simulated_limit",
            ),
            PortError::Virtual { .. } => Self::new(Code::VirtualFailed, text),
            PortError::Rfc2217 { .. } | PortError::Io { .. } => Self::new(Code::PortFailed, text),
        }
    }
}

impl From<UrlError> for ToolError {
    fn from(error: UrlError) -> Self {
        PortError::Url(error).into()
    }
}

impl From<LoaderError> for ToolError {
    fn from(error: LoaderError) -> Self {
        let text = error.to_string();
        let code = match &error {
            LoaderError::Line(_) => Code::PortLost,
            LoaderError::Cancelled => Code::Cancelled,
            LoaderError::NoAnswer { seen, .. } | LoaderError::Protocol { seen, .. } if says_boot(&seen.0) => {
                Code::DeviceRestarted
            }
            LoaderError::NoAnswer { .. }
            | LoaderError::Protocol { .. }
            | LoaderError::BadLine { .. }
            | LoaderError::TooLong { .. } => Code::LinkLost,
            LoaderError::Refused { .. } => Code::LoaderRefused,
            LoaderError::Unsupported { mode, .. } if mode.contains("secure") => Code::SecureDownload,
            LoaderError::Unsupported { stub_can: true, .. } => Code::StubMissing,
            LoaderError::Unsupported { .. } => Code::NotSupportedByChip,
            LoaderError::Stub(_) => Code::StubFailed,
            LoaderError::NoFlash(_) => Code::FlashUnknown,
            LoaderError::FlashBusy { .. } => Code::FlashTimeout,
            LoaderError::FlashSize(_) => Code::FlashSizeUnknown,
            LoaderError::Range(_) => Code::AddressOutOfRange,
            LoaderError::Mismatch { .. } => Code::VerifyFailed,
            LoaderError::Data(_) => Code::FileUnreadable,
            LoaderError::Changed(_) => Code::FileChanged,
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
            ConnectError::Loader { attempts, error } => {
                let error = if is_upload(&error) { LoaderError::Stub(error.to_string()) } else { error };
                Self::from(error).seen("attempts", shown(&attempts))
            }
            ConnectError::WrongChip { .. } => Self::new(Code::ChipMismatch, text).touched(FlashState::Unchanged),
        }
    }
}

/// What failed while connecting was the upload or the start of the stub.
fn is_upload(error: &LoaderError) -> bool {
    use Command::{MemBegin, MemData, MemEnd};
    match error {
        LoaderError::Refused { command, .. } => matches!(command, MemBegin | MemData | MemEnd),
        LoaderError::NoAnswer { command, .. } => *command == MemEnd,
        _ => false,
    }
}

/// The bytes hold lines of a ROM's or bootloader's start.
fn says_boot(seen: &[u8]) -> bool {
    let holds = |mark: &[u8]| seen.windows(mark.len()).any(|window| window == mark);
    [&b"rst:0x"[..], b"rst cause:", b"ESP-ROM:", b") boot: "].into_iter().any(holds)
}

/// Why nobody answered, judged by what the attempts saw.
fn no_sync(text: String, attempts: &[Attempt]) -> ToolError {
    let newest = attempts.iter().rev().find(|attempt| !attempt.seen.is_empty());
    let mut console = Decoder::new(None);
    for attempt in attempts {
        console.feed(Duration::ZERO, &attempt.seen);
        console.feed(Duration::ZERO, b"\r\n");
    }
    let disabled = console.events().iter().any(|event| matches!(event, Event::DownloadDisabled { .. }));
    // The ladder begins with this sequence on the chip's own USB only.
    let usb = attempts.first().is_some_and(|first| first.sequence == Sequence::usb_serial_jtag().name);
    let code = match newest {
        None if usb => Code::UsbSilent,
        None => Code::NoSerialData,
        Some(_) if disabled => Code::NotInDownloadMode,
        // The line and the way into the loader are good: it stopped answering.
        Some(_) if attempts.iter().any(|attempt| attempt.synced) => Code::LinkLost,
        Some(_) if attempts.iter().any(|attempt| attempt.waiting_for_download) => Code::NoSync,
        Some(_) if attempts.iter().any(|attempt| attempt.boot_mode.is_some()) => Code::WrongBootMode,
        Some(_) => Code::NotTheLoader,
    };
    let mut error = ToolError::new(code, text).seen("attempts", shown(attempts)).touched(FlashState::Unchanged);
    if let Some(attempt) = newest {
        let end = attempt.seen.len().saturating_sub(64);
        error = error.seen("bytes", attempt.seen[end..].escape_ascii().to_string());
    }
    let mode = attempts.iter().rev().find_map(|attempt| attempt.boot_mode);
    if let Some(mode) = mode {
        error = error.seen("boot_mode", format!("{mode:#x}"));
    }
    match console.chip() {
        Some(chip) => named(error, chip, mode),
        None => error,
    }
}

/// The chip named itself: its pins can be told.
fn named(error: ToolError, chip: &Chip, mode: Option<u32>) -> ToolError {
    let boot = &chip.boot;
    let error = error.seen("chip", chip.name.as_str());
    match (error.code, mode, &chip.uart.pins) {
        (Code::WrongBootMode, Some(mode), _) if let Some(other) = boot.wrong_strap(mode) => {
            let pin = &boot.pin;
            let seen = format!("{pin} was 0 at reset, as download mode wants it; {other}");
            error.seen("boot_pin", seen).next(format!(
                "{pin} is right: make the other strap right ({also}; a pull resistor of 10 kΩ, nothing else on that pin), then \
                 call again. In the mode that it started in the chip does not answer on its UART",
                also = boot.also.as_deref().unwrap_or_default()
            ))
        }
        (Code::WrongBootMode, Some(mode), _) => {
            let level = u8::from(mode & 1 << boot.pin_bit != 0);
            let also = boot.also.as_ref().map_or(String::new(), |also| format!(", {also}"));
            let step = format!(
                "hold BOOT ({pin} low{also}), tap EN, release BOOT, and call again with before=no-reset; disconnect what is wired to {pin}",
                pin = boot.pin
            );
            error.seen("boot_pin", format!("{} was {level} at reset", boot.pin)).next(step)
        }
        (Code::NoSync, _, Some(pins)) => error.next(format!(
            "check the wire from the host's TX to the chip's RX (GPIO{}) and remove whatever else drives it",
            pins.rx
        )),
        _ => error,
    }
}

fn shown(attempts: &[Attempt]) -> serde_json::Value {
    json!(attempts.iter().map(attempt_text).collect::<Vec<_>>())
}

fn hex(bytes: &[u8]) -> String {
    let end = bytes.len().saturating_sub(32);
    bytes[end..].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// What an attempt saw, in a few words.
pub fn attempt_text(attempt: &Attempt) -> String {
    let mut text = format!("{}: {} bytes", attempt.sequence, attempt.seen.len());
    if let Some(mode) = attempt.boot_mode {
        text += &format!(", boot:{mode:#x}");
    }
    if attempt.waiting_for_download {
        text += ", waiting for download";
    }
    if attempt.synced {
        text += ", answered";
    }
    text
}
