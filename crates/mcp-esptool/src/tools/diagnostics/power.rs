//! `esp_power_analysis`: what is known of the supply without instruments.

use std::time::Duration;

use esp_link::monitor::CaptureOptions;
use esp_link::reset::Sequence;
use esp_model::console::Summary;
use esp_model::job::Job;
use esp_model::port::Port;
use esp_ops::args::PortUrl;
use esp_ops::boot::capture;
use esp_ops::boot::evidence::{Finding, NotMeasurable, reset_cause};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct PowerAnalysis;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Seconds to run the application and count brown-outs (default 0: not run).
    #[serde(default)]
    watch_s: f64,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// supply_suspect, no_sign_of_trouble or unknown.
    #[schemars(extend("enum" = ["supply_suspect", "no_sign_of_trouble", "unknown"]))]
    verdict: &'static str,
    /// What was found.
    findings: Vec<Finding>,
    /// What cannot be measured from here.
    not_measurable: Vec<NotMeasurable>,
}

impl Tool for PowerAnalysis {
    const NAME: &'static str = "esp_power_analysis";
    const TITLE: &'static str = "Analyze power";
    const ABOUT: &'static str = "Collect evidence about the power supply: reset cause, brown-out detector, flash \
         voltage, brown-outs while the app runs. Does not measure current.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if !(0.0..=600.0).contains(&input.watch_s) {
            return Err(ToolError::new(Code::BadParameter, "watch_s must be between 0 and 600 seconds"));
        }
        let (device, mut findings) = ctx.with_device(input.port.as_ref(), job, |connected| {
            Ok((Device::read(connected, job)?, registers_and_efuses(connected, job)?))
        })?;
        let mut watched = None;
        if input.watch_s > 0.0 {
            let summary = watch(ctx, job, &input)?;
            let text = format!("{} brown-outs, {} boots in {} s", summary.brown_outs, summary.boots, input.watch_s);
            let (verdict, meaning) = match summary.brown_outs {
                0 => ("ok", "the detector did not fire while the application ran"),
                _ => ("suspect", "the supply dips below the detector's threshold under load"),
            };
            findings.push(Finding::new("console while running", text, verdict, meaning));
            watched = Some(summary);
        }
        let suspect = findings.iter().any(|finding| finding.verdict == "suspect");
        let verdict = match watched {
            _ if suspect => "supply_suspect",
            // An application that never came up has put no load on the supply.
            Some(summary) if summary.app_started && !summary.boot_loop => "no_sign_of_trouble",
            _ => "unknown",
        };
        let not_measurable = vec![
            NotMeasurable::new(
                "current and energy",
                "the loader has no way to measure them",
                "a power analyser or a shunt in the 3.3 V line (PPK2, INA219 …), with the application running",
            ),
            NotMeasurable::new(
                "supply voltage",
                "no converter measures the supply in download mode",
                "a meter at the 3V3 pin, at best an oscilloscope while the radio starts",
            ),
        ];
        Ok(Out { device, verdict, findings, not_measurable })
    }

    fn summary(out: &Out) -> String {
        let shown = out.findings.iter().filter_map(|f| Some(format!("{}: {}", f.what, f.value.as_ref()?)));
        format!("{}\n{}\n{}", out.device, out.verdict, shown.collect::<Vec<_>>().join("; "))
    }
}

/// eFuse fields that speak of voltages and regulators, on whichever chip has them.
const FIELDS: &[&str] = &[
    "VDD_SPI_FORCE",
    "VDD_SPI_XPD",
    "VDD_SPI_TIEH",
    "XPD_SDIO_FORCE",
    "XPD_SDIO_REG",
    "XPD_SDIO_TIEH",
    "K_RTC_LDO",
    "K_DIG_LDO",
    "V_RTC_DBIAS20",
    "V_DIG_DBIAS20",
    "DIG_DBIAS_HVT",
    "ACTIVE_HP_DBIAS",
    "ACTIVE_LP_DBIAS",
    "LSLP_HP_DBG",
];

fn registers_and_efuses(connected: &mut Connected, job: &Job) -> Result<Vec<Finding>, ToolError> {
    let mut findings = vec![reset_cause(connected, job)?];
    let chip = connected.loader.chip();
    for register in chip.registers().registers.iter().filter(|register| register.name.contains("BROWN_OUT")) {
        let value = connected.loader.read_reg(job, register.address)?;
        for field in register.decode(value, &chip.boot).into_iter().filter(|field| field.name.ends_with("_DET")) {
            let (verdict, meaning) = match field.value {
                0 => ("ok", "the supply is above the threshold now"),
                _ => ("suspect", "the supply is below the detector's threshold now"),
            };
            findings.push(Finding::new(field.name, field.value.to_string(), verdict, meaning));
        }
    }
    for name in FIELDS {
        if let Some(value) = connected.efuse_number(name, job)? {
            findings.push(Finding::new(
                &format!("eFuse {name}"),
                value.to_string(),
                "info",
                "factory or board setting",
            ));
        }
    }
    Ok(findings)
}

fn watch(ctx: &Ctx, job: &Job, input: &In) -> Result<Summary, ToolError> {
    let mut listener = capture::listen(ctx, input.port.as_ref(), job)?;
    let info = listener.reader.info();
    let options = CaptureOptions {
        baud: Some(115_200),
        reset: Sequence::start(&info),
        time: Some(Duration::from_secs_f64(input.watch_s)),
        absence: Duration::from_secs(10),
        ..CaptureOptions::default()
    };
    Ok(capture::run(&mut listener, &options, job, &mut |_, _, _| true)?.decoder.summary())
}
