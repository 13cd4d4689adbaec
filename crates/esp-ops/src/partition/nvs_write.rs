//! Carries out the steps of a change in NVS on a device, and reads the partition back.

use esp_link::flash::{Part, WriteOptions};
use esp_link::{Loader, LoaderError};
use esp_model::job::Job;
use esp_model::nvs::{PAGE, Step};

use crate::error::{Code, FlashState, ToolError};
use crate::flash::keep::Region;
use crate::session::device::Connected;

/// Does the steps one by one, each as the driver would, so that a loss of power costs no other entry. Where the flash
/// cannot be programmed in that way, the sectors that differ are rewritten. Returns the partition as it is afterwards.
pub fn apply(
    connected: &mut Connected,
    job: &Job,
    region: &Region,
    before: &[u8],
    steps: &[Step],
) -> Result<Vec<u8>, ToolError> {
    let mut wanted = before.to_vec();
    steps.iter().for_each(|step| step.apply(&mut wanted));
    if steps.is_empty() {
        return Ok(wanted);
    }
    let partial = |error: LoaderError| ToolError::from(error).touched(FlashState::Partial);
    let loader = &mut connected.loader;
    match in_place(loader, job, region, steps) {
        Ok(()) => {
            let after = loader.read_flash_bytes(job, region.address, region.size).map_err(partial)?;
            if after == wanted {
                return Ok(after);
            }
            tracing::warn!("{} was not programmed in place: its sectors are rewritten", region.name);
        }
        Err(LoaderError::Range(why)) => tracing::info!("{}: {why}: sectors are rewritten", region.name),
        Err(error) if error.is_refusal() => tracing::info!("{}: {error}: sectors are rewritten", region.name),
        Err(error) => return Err(partial(error)),
    }
    let mut parts = [Part::bytes(region.address, wanted.clone())];
    loader.write_flash(job, &mut parts, &WriteOptions::default()).map_err(partial)?;
    let after = loader.read_flash_bytes(job, region.address, region.size).map_err(partial)?;
    if after == wanted {
        return Ok(after);
    }
    let text = format!("partition `{}` does not read back as it was written", region.name);
    Err(ToolError::new(Code::VerifyFailed, text).touched(FlashState::Written))
}

fn in_place(loader: &mut Loader, job: &Job, region: &Region, steps: &[Step]) -> Result<(), LoaderError> {
    for (number, step) in steps.iter().enumerate() {
        // A change is whole or not begun: it is not cut off half-way by a caller who gives up.
        job.progress(number as u64, steps.len() as u64, format!("changing {}", region.name));
        match step {
            Step::Program { at, bytes } => {
                loader.program_flash(&job.shielded().silent(), region.address + at, bytes)?
            }
            Step::Erase { at } => loader.erase_region(&job.shielded().silent(), region.address + at, PAGE as u32)?,
        }
    }
    Ok(())
}
