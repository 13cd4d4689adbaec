//! `esp_thermal_status`: what eFuses say about temperature; the sensor needs running code.

use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::boot::evidence::{Finding, NotMeasurable};
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct ThermalStatus;

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// What was found.
    findings: Vec<Finding>,
    /// What cannot be measured from here.
    not_measurable: Vec<NotMeasurable>,
}

/// eFuse fields that speak of temperature, on whichever chip has them.
const FIELDS: &[(&str, &str)] = &[
    ("TEMP_CALIB", "calibration of the chip's temperature sensor, set in the factory; 0 means none"),
    ("TEMPERATURE_SENSOR", "calibration of the chip's temperature sensor, set in the factory; 0 means none"),
    ("FLASH_TEMP", "temperature grade of flash in the package, as coded by the maker"),
    ("PSRAM_TEMP", "temperature grade of PSRAM in the package, as coded by the maker"),
    ("TEMP", "temperature grade of the package, as coded by the maker"),
];

impl Tool for ThermalStatus {
    const NAME: &'static str = "esp_thermal_status";
    const TITLE: &'static str = "Thermal status";
    const ABOUT: &'static str = "Read temperature calibration and grade from eFuses. Does not measure temperature: \
         that needs firmware running on the chip.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let device = Device::read(connected, job)?;
            let mut findings = Vec::new();
            for (name, meaning) in FIELDS {
                if let Some(value) = connected.efuse_number(name, job)? {
                    findings.push(Finding::new(&format!("eFuse {name}"), value.to_string(), "info", *meaning));
                }
            }
            if findings.is_empty() {
                findings.push(Finding::unknown("temperature eFuses", "this chip has none, or they cannot be read"));
            }
            let not_measurable = vec![NotMeasurable::new(
                "chip temperature",
                "the sensor needs clocks and code that the loader does not run",
                "an application that prints it (temperature_sensor driver), read with esp_console_capture until=…; or an \
                 infrared camera",
            )];
            Ok(Out { device, findings, not_measurable })
        })
    }

    fn summary(out: &Out) -> String {
        let shown = out.findings.iter().filter_map(|f| Some(format!("{}: {}", f.what, f.value.as_ref()?)));
        format!("{}\ntemperature: not measurable from the loader\n{}", out.device, shown.collect::<Vec<_>>().join("; "))
    }
}
