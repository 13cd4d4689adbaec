//! Sizes, numbers and options that the commands with a chip share.

use super::options;
use super::session::{Session, failed};
use crate::command::Call;
use crate::fault::Fault;
use crate::text;

/// A size as esptool names it: `4MB`, `512KB`.
pub fn name(bytes: u32) -> String {
    if bytes >= 1 << 20 { format!("{}MB", bytes >> 20) } else { format!("{}KB", bytes >> 10) }
}

/// A number that must be one.
pub fn number(call: &Call<'_>, argument: &str) -> Result<u32, Fault> {
    let value = call.text(argument);
    let wrong = || Fault::value(&argument.to_uppercase(), format_args!("'{value}' is not a valid integer."));
    text::word(value).ok_or_else(wrong)
}

/// A length with `k` or `M`, or `all` of the flash.
pub fn length(call: &Call<'_>, session: &mut Session, address: u32) -> Result<u32, Fault> {
    let value = call.text("size");
    if value.eq_ignore_ascii_case("all") {
        if session.is_locked() {
            let text = "Detecting flash size is not supported in secure download mode. Set an exact size value.";
            return Err(Fault::fatal(text));
        }
        let size = session
            .loader
            .attach_flash(&session.job, None)
            .map_err(|_| Fault::fatal("Detecting flash size failed. Set an exact size value."))?;
        call.terminal.say(format_args!("Detected flash size: {}", name(size)));
        return Ok(size.saturating_sub(address));
    }
    plain_length(value)
}

/// A length with `k` or `M`.
pub fn plain_length(value: &str) -> Result<u32, Fault> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (value.get(..value.len() - 1), 1u64 << 10),
        Some(b'M') => (value.get(..value.len() - 1), 1 << 20),
        _ => (Some(value), 1),
    };
    let number = digits.and_then(text::integer).and_then(|number| u32::try_from(number * unit).ok());
    number.ok_or_else(|| Fault::value("SIZE", format_args!("'{value}' is not a valid integer.")))
}

/// Refuses regions that reach beyond the flash.
pub fn within_flash(session: &mut Session, address: u32, size: u32) -> Result<(), Fault> {
    let end = u64::from(address) + u64::from(size);
    if session.is_locked() {
        return Ok(());
    }
    let flash = session.loader.attach_flash(&session.job, None).map_err(failed)?;
    match end.checked_sub(flash.into()).filter(|over| *over > 0) {
        Some(over) => Err(Fault::Fatal(format!(
            "Can't access flash regions larger than detected flash size (set size {size:#x} from address {address:#010x} goes past {} by {over:#x} bytes).",
            name(flash)
        ))),
        None => Ok(()),
    }
}

/// Tells the loader the flash's size as `--flash-size` wants it. Returns the size that images get, where one is set.
pub fn configure(call: &Call<'_>, session: &mut Session) -> Result<Option<String>, Fault> {
    let wanted = call.optional("flash-size").unwrap_or("keep");
    call.terminal.say("Configuring flash size...");
    if wanted == "keep" {
        if !session.is_locked() {
            let attached = session.loader.attach_flash(&session.job, None);
            if attached.is_err() {
                call.terminal.note("In case of failure, please set a specific flash size.");
                session.loader.attach_flash(&session.job, Some(4 << 20)).map_err(failed)?;
            }
        }
        return Ok(None);
    }
    if wanted == "detect" && session.is_locked() {
        let text =
            "Detecting flash size is not supported in secure download mode. Need to manually specify flash size.";
        return Err(Fault::fatal(text));
    }
    if wanted == "detect" {
        let found = session.loader.attach_flash(&session.job, None).ok().map(name);
        let size = found.unwrap_or_else(|| {
            call.terminal.warn("Could not auto-detect flash size, defaulting to 4MB.");
            "4MB".into()
        });
        call.terminal.say(format_args!("Auto-detected flash size: {size}"));
        session.loader.attach_flash(&session.job, options::size(&size)).map_err(failed)?;
        return Ok(Some(size));
    }
    let bytes = options::size(wanted.split('-').next().unwrap_or(wanted));
    session.loader.attach_flash(&session.job, bytes).map_err(failed)?;
    Ok(Some(wanted.to_string()))
}

/// `(123.4 kbit/s)` with a space in front, where time passed.
pub fn speed(bytes: u64, seconds: f64) -> String {
    if seconds > 0.0 { format!(" ({:.1} kbit/s)", bytes as f64 / seconds * 8.0 / 1000.0) } else { String::new() }
}
