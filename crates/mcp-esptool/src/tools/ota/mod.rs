//! OTA tools and the boot check.

pub mod boot_check;
pub mod flash_prepare;
pub mod package;

use esp_model::image;

use crate::ops::error::{Code, ToolError};
use crate::ops::flash::belongs;
use crate::ops::session::device::Connected;

/// Refuses an image that this chip would not start from a partition of `room` bytes.
pub(crate) fn check_app(name: &str, app: &[u8], connected: &mut Connected, room: u32) -> Result<(), ToolError> {
    belongs::check_app(name, app, connected.loader.chip())?;
    let invalid = |text: String| ToolError::new(Code::ImageInvalid, text);
    let parsed = image::parse(app).map_err(|error| invalid(error.to_string()))?;
    let chip = connected.loader.chip();
    if parsed.chip.id != chip.id {
        let text = format!("the image is for {}, the chip is {}", parsed.chip.name, chip.name);
        return Err(ToolError::new(Code::ChipMismatch, text));
    }
    if parsed.checksum != parsed.computed_checksum() || parsed.digest().is_some_and(|digest| !digest.is_valid()) {
        return Err(invalid("the image's checksum or SHA-256 does not fit its bytes".into()));
    }
    if let (Some(extended), Some(revision)) = (parsed.extended, connected.loader.revision()) {
        let most = extended.max_rev_full;
        if revision < extended.min_rev_full || (!matches!(most, 0 | u16::MAX) && revision > most) {
            let text =
                format!("the image is for revisions {} to {most}, the chip has {revision}", extended.min_rev_full);
            return Err(ToolError::new(Code::RevisionMismatch, text));
        }
    }
    if app.len() > room as usize {
        let text = format!("the image has {} bytes, the partition {room}", app.len());
        return Err(ToolError::new(Code::ImageRefused, text));
    }
    Ok(())
}
