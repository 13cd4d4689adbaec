//! `esp_flash_status`: the flash part's status registers, write protection and unique id.

use std::collections::BTreeMap;

use esp_model::flash::status::{Protection, RegisterLock};
use esp_model::image::hex::hex;
use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::error::ToolError;
use esp_ops::flash::part;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct FlashStatus;

/// A status register.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Register {
    /// The opcode that reads it.
    opcode: u8,
    /// Its value.
    value: u8,
    /// Its bits by the data sheet's names.
    bits: BTreeMap<&'static str, bool>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// JEDEC id: manufacturer, type, capacity.
    jedec_id: String,
    /// The maker, if its code is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<String>,
    /// Parts whose registers look alike, by which the bits were named.
    family: String,
    /// The maker is known to belong to them; false: the bits are named as on most parts.
    family_known: bool,
    /// The registers, the first one first.
    registers: Vec<Register>,
    /// A program or erase is under way.
    busy: bool,
    /// Write enable latch.
    write_enabled: bool,
    /// Four data lines are switched on; left out where the part has no such bit or does not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    quad_enable: Option<bool>,
    /// none, part, all or unknown: what refuses programs and erases.
    write_protection: String,
    /// open, pin (WP decides), until_power_up or permanent: who may change the registers.
    register_lock: String,
    /// The part's unique id; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_id: Option<String>,
    /// What stands out.
    notes: Vec<String>,
}

impl Tool for FlashStatus {
    const NAME: &'static str = "esp_flash_status";
    const TITLE: &'static str = "Flash status";
    const ABOUT: &'static str = "Read the flash chip's status registers (quad enable, write protection, busy) and \
         unique id.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let device = Device::read(connected, job)?;
            let id = connected.loader.flash_id(job)?;
            let read = part::registers(connected, job, id)?;
            let unique_id = part::unique_id(connected, job)?.map(|id| hex(&id));
            let registers = read.values.iter().enumerate().map(|(index, (opcode, value))| {
                let of_it = |field: &&esp_model::flash::status::Field| usize::from(field.register) == index + 1;
                let bits = read.status.fields.iter().filter(of_it).map(|field| (field.name, field.set)).collect();
                Register { opcode: *opcode, value: *value, bits }
            });
            Ok(Out {
                device,
                jedec_id: id.to_string(),
                manufacturer: id.manufacturer_name().map(str::to_string),
                family: read.family.name.clone(),
                family_known: read.known,
                registers: registers.collect(),
                busy: read.status.busy,
                write_enabled: read.status.write_enabled,
                quad_enable: read.status.quad_enable,
                write_protection: word(&read.status.protection),
                register_lock: word(&read.status.lock),
                unique_id,
                notes: notes(&read),
            })
        })
    }

    fn summary(out: &Out) -> String {
        let quad = out.quad_enable.map_or("unknown", |on| if on { "on" } else { "off" });
        let maker = out.manufacturer.as_deref().unwrap_or("unknown maker");
        let values: Vec<String> = out.registers.iter().map(|register| format!("{:#04x}", register.value)).collect();
        let notes = if out.notes.is_empty() { String::new() } else { format!("\n{}", out.notes.join("; ")) };
        format!(
            "{}\nflash {} ({maker}), status {}: quad {quad}, write protection {}, registers {}{notes}",
            out.device,
            out.jedec_id,
            values.join(" "),
            out.write_protection,
            out.register_lock
        )
    }
}

fn notes(read: &part::Registers) -> Vec<String> {
    let status = &read.status;
    let lock = match status.lock {
        RegisterLock::Open => None,
        RegisterLock::Pin => Some("the status registers can be changed only while the pin WP is high"),
        RegisterLock::UntilPowerUp => Some("the status registers are locked until the next power-up"),
        RegisterLock::Permanent => Some("the status registers are locked permanently"),
    };
    let protection = match status.protection {
        Protection::None => None,
        Protection::Part | Protection::All => Some(
            "block protect bits are set: writes there are ignored without an error (loaders clear them when they can)",
        ),
        Protection::Unknown => Some(
            "all bits read as 1: a flash that does not answer, or registers damaged by a power loss during a write",
        ),
    };
    let family = (!read.known).then_some("the maker is not known: bits are named as on most parts");
    [lock, protection, family].into_iter().flatten().map(str::to_owned).collect()
}

/// A state by the name that it has in JSON.
fn word(state: &impl Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
