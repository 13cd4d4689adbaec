//! `esp_register_dump`: named registers with their fields.

use esp_model::chip::RegisterGroup;
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct RegisterDump;

/// Which registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Reset cause.
    Reset,
    /// Strapping pins.
    Strap,
    /// RTC domain: watchdogs, brown-out, stored words.
    Rtc,
    /// Flash SPI controller.
    Spi,
    /// Download UART.
    Uart,
    /// GPIO.
    Gpio,
    /// Clocks.
    Clock,
    /// All of them.
    All,
}

/// Groups by their names in the chips' data.
const GROUPS: [(Group, RegisterGroup, &str); 7] = [
    (Group::Reset, RegisterGroup::Reset, "reset"),
    (Group::Strap, RegisterGroup::Strap, "strap"),
    (Group::Rtc, RegisterGroup::Rtc, "rtc"),
    (Group::Spi, RegisterGroup::Spi, "spi"),
    (Group::Uart, RegisterGroup::Uart, "uart"),
    (Group::Gpio, RegisterGroup::Gpio, "gpio"),
    (Group::Clock, RegisterGroup::Clock, "clock"),
];

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Which registers (default: reset).
    group: Option<Group>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Where these values come from.
    provenance: String,
    /// The registers.
    registers: Vec<RegisterOut>,
}

/// One register.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RegisterOut {
    /// The manual's name.
    name: String,
    /// Group.
    group: String,
    /// Address.
    address: String,
    /// Content.
    value: String,
    /// It differs from what the manual gives after reset; left out where the manual gives nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs_from_reset: Option<bool>,
    /// Fields.
    fields: Vec<FieldOut>,
}

/// One field.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FieldOut {
    /// The manual's name.
    name: String,
    /// Bits, as `5:0`.
    bits: String,
    /// Value.
    value: u32,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    meaning: Option<String>,
}

impl Tool for RegisterDump {
    const NAME: &'static str = "esp_register_dump";
    const TITLE: &'static str = "Dump registers";
    const ABOUT: &'static str = "Read and decode named registers: reset cause, straps, RTC, SPI, UART, GPIO, clocks.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let wanted = input.group.unwrap_or(Group::Reset);
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let chip = connected.loader.chip();
            let mut registers = Vec::new();
            for (group, kind, name) in GROUPS {
                if wanted != Group::All && wanted != group {
                    continue;
                }
                for register in chip.registers().group(kind) {
                    let value = connected.loader.read_reg(job, register.address)?;
                    let fields = register.decode(value, &chip.boot).into_iter().map(|field| {
                        let (low, high) = (field.bits.bit, field.bits.bit + field.bits.len.max(1) - 1);
                        let bits = if low == high { low.to_string() } else { format!("{high}:{low}") };
                        FieldOut { name: field.name.into(), bits, value: field.value, meaning: field.meaning }
                    });
                    registers.push(RegisterOut {
                        name: register.name.clone(),
                        group: name.into(),
                        address: format!("{:#010x}", register.address),
                        value: format!("{value:#010x}"),
                        differs_from_reset: register.reset.map(|reset| reset != value),
                        fields: fields.collect(),
                    });
                }
            }
            if registers.is_empty() {
                return Err(ToolError::new(Code::NotSupportedByChip, "no registers of this group are known for the chip"));
            }
            let provenance = "read through the loader. Entering it reset the chip, so the reset cause and the straps are \
                              those of that reset; the console's boot line shows the ones of a normal start";
            Ok(Out { device, provenance: provenance.into(), registers })
        })
    }

    fn summary(out: &Out) -> String {
        let meanings = out.registers.iter().flat_map(|register| &register.fields);
        let meanings: Vec<String> =
            meanings.filter_map(|field| Some(format!("{}: {}", field.name, field.meaning.as_ref()?))).collect();
        format!("{}\n{}\n{}", out.device, counted(out.registers.len(), "register"), meanings.join("; "))
    }
}
