//! What the linter must know beyond the eFuses.

use esp_link::burn_facts::{Known, touches_secure_boot};
use esp_model::efuse::lint::Facts;
use esp_model::efuse::{Efuses, Request};
use esp_model::job::Job;

use crate::Call;
use crate::efuse::marks::{self, Mark};
use crate::efuse::pipeline::Intent;
use crate::error::ToolError;
use crate::flash::keep;
use crate::session::device::Connected;

/// What can be found out about the device; what cannot, the policy may vouch for.
pub fn gather(
    call: &Call,
    job: &Job,
    connected: &mut Connected,
    first: &Efuses,
    requests: &[Request],
    intent: &Intent,
) -> Result<Facts, ToolError> {
    let vouched = |what: &str| call.policy.vouches(what);
    let table = match touches_secure_boot(connected.loader.chip(), requests) {
        true => keep::table(connected, job, None).ok().flatten().map(|found| found.table),
        false => None,
    };
    let attempts = connected.report.attempts.clone();
    let known = Known { requests, flash: intent.flash, key: intent.flash_key, table, attempts: &attempts };
    let seen = connected.loader.burn_facts(job, first, &known)?;
    // Virtual devices try out what a real one then gets.
    let marks = if connected.is_virtual() { Vec::new() } else { Mark::of(requests, first) };
    let mac = connected.identify(job)?.map(|identity| identity.mac);
    let taken = marks::taken(&call.audit, &marks, mac)?;
    Ok(Facts {
        profile: intent.profile.into(),
        // What no log knows may still be shared: only the opposite is certain.
        key_is_unique: taken.key.then_some(false),
        encryption_wanted: intent.encryption_wanted,
        ota_proven: vouched("ota_proven"),
        flash_voltage_known: vouched("flash_voltage"),
        voltage_override_ran: vouched("flash_voltage"),
        flash_wiring_known: vouched("flash_wiring"),
        images: intent.images.clone(),
        mac_taken: taken.mac,
        ..seen
    })
}
