//! `esp_diagnostic_report`: one folder that a maintainer could act on.

use std::fmt::Write as _;

use esp_model::job::Job;
use esp_model::picture::{Picture, flash_map, human};
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::{keep, map};
use esp_ops::guard::Risk;
use esp_ops::report::{pictures, recording, redact};
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct DiagnosticReport;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Folder for the report.
    output_dir: String,
    /// Seconds to run the application and keep its console (default 0: not run).
    #[serde(default)]
    capture_s: f64,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Files written.
    files: Vec<String>,
    /// Sections with a result.
    sections: Vec<String>,
    /// Sections that could not be made, each with the reason.
    missing: Vec<String>,
}

/// What the report asks of other tools: section, tool, parameters.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("chip", "esp_get_chip_info", "{}"),
    ("flash size", "esp_flash_size_detect", "{}"),
    ("security", "esp_security_info", "{}"),
    ("partitions", "esp_partition_analyze", "{}"),
    ("registers", "esp_register_dump", r#"{"group": "all"}"#),
    ("core dump", "esp_core_dump_analyze", "{}"),
    ("power", "esp_power_analysis", "{}"),
    ("thermal", "esp_thermal_status", "{}"),
    ("rf calibration", "esp_rf_calibration_check", "{}"),
];

impl Tool for DiagnosticReport {
    const NAME: &'static str = "esp_diagnostic_report";
    const TITLE: &'static str = "Diagnostic report";
    const ABOUT: &'static str = "Write a diagnostic report on a device (Markdown, JSON, pictures, console log, \
         replayable trace) for a maintainer. Contains no keys or other secrets.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if !(0.0..=600.0).contains(&input.capture_s) {
            return Err(ToolError::new(Code::BadParameter, "capture_s must be between 0 and 600 seconds"));
        }
        let device = ctx.with_device(input.port.as_ref(), job, |connected| Device::read(connected, job))?;
        let (mut sections, mut missing) = (Map::new(), Vec::new());
        let total = SECTIONS.len() as u64;
        for (i, (section, tool, parameters)) in SECTIONS.iter().enumerate() {
            job.check()?;
            job.progress(i as u64, total, format!("asking {tool}"));
            match ask(ctx, job, tool, parameters, &device.port) {
                Ok(data) => drop(sections.insert((*section).into(), redact::value(data))),
                Err(why) => missing.push(format!("{section}: {why}")),
            }
        }
        let map = whole_flash(ctx, job, &input, &device)?;
        let write = |name: &str, bytes: &[u8]| ctx.files.keep(&join(&input, name), bytes);
        let mut files = vec![write("flash-map.svg", map.svg().as_bytes())?];
        let connecting = recording::connecting(ctx, input.port.as_ref(), job)?;
        files.push(write("connecting.trace", connecting.to_string().as_bytes())?);
        let mut traces = vec![("connecting", connecting)];
        if input.capture_s > 0.0 {
            let (log, trace, console) = recording::console(ctx, input.port.as_ref(), input.capture_s, job)?;
            files.push(write("console.log", log.as_bytes())?);
            files.push(write("console.trace", trace.to_string().as_bytes())?);
            traces.push(("console", trace));
            sections.insert("console".into(), console);
        }
        let shown: Vec<_> = traces.iter().map(|(name, trace)| (*name, trace)).collect();
        files.push(write("timing.svg", pictures::timing(&shown).as_bytes())?);
        let markdown = markdown(&device, &sections, &missing, &input);
        let whole = json!({
            "format": "mcp-esptool-report",
            "version": env!("CARGO_PKG_VERSION"),
            "device": &device,
            "sections": &sections,
            "missing": &missing,
        });
        files.push(write("report.json", format!("{whole:#}\n").as_bytes())?);
        files.push(write("report.md", markdown.as_bytes())?);
        let files = files.into_iter().map(|path| path.display().to_string()).collect();
        Ok(Out { device, files, sections: sections.keys().cloned().collect(), missing })
    }

    fn summary(out: &Out) -> String {
        let report = out.files.last().map_or("", String::as_str);
        format!("{}\n{}, {} missing\n{report}", out.device, counted(out.sections.len(), "section"), out.missing.len())
    }
}

fn join(input: &In, name: &str) -> String {
    format!("{}/{name}", input.output_dir.trim_end_matches('/'))
}

/// Calls another tool on the same device.
fn ask(ctx: &Ctx, job: &Job, tool: &str, parameters: &str, port: &str) -> Result<Value, String> {
    let entry = crate::tools::find(tool).ok_or_else(|| format!("there is no tool {tool}"))?;
    let mut parameters: Map<String, Value> = serde_json::from_str(parameters).map_err(|error| error.to_string())?;
    parameters.insert("port".into(), port.into());
    match entry.call(ctx, job, Value::Object(parameters)) {
        Ok(reply) => Ok(Value::Object(reply.data)),
        Err(error) => Err(format!("{} ({})", error.message, error.code)),
    }
}

/// The whole flash with its partitions and gaps; what they hold is in the section `partitions`.
fn whole_flash(ctx: &Ctx, job: &Job, input: &In, device: &Device) -> Result<Picture, ToolError> {
    ctx.with_device(input.port.as_ref(), job, |connected| {
        let size = connected.loader.attach_flash(job, None)?;
        let table = keep::table(connected, job, None).unwrap_or_default();
        let areas = keep::Found::areas(table.as_ref(), connected, size);
        let regions: Vec<_> = areas.iter().map(map::region).collect();
        Ok(flash_map::draw(&format!("{}, {} of flash", device.chip, human(size.into())), size, &regions))
    })
}

fn markdown(device: &Device, sections: &Map<String, Value>, missing: &[String], input: &In) -> String {
    let mut text = format!("# Diagnostic report\n\n{device}\n\n");
    let capture = if input.capture_s > 0.0 { format!(" capture_s={}", input.capture_s) } else { String::new() };
    let command =
        format!("mcp-esptool call esp_diagnostic_report port={} output_dir={}{capture}", device.port, input.output_dir);
    let _ = writeln!(text, "Made by mcp-esptool {} with `{command}`.\n", env!("CARGO_PKG_VERSION"));
    text.push_str("Texts from the device are untrusted. Values that may be secrets are redacted.\n");
    for (section, data) in sections {
        let _ = write!(text, "\n## {section}\n\n```json\n{data:#}\n```\n");
    }
    if !missing.is_empty() {
        text.push_str("\n## Not available\n\n");
        for line in missing {
            let _ = writeln!(text, "- {line}");
        }
    }
    text.push_str("\n## Pictures and records\n\n![flash map](flash-map.svg)\n\n![timing of the line](timing.svg)\n\n");
    text.push_str("`mcp-esptool replay connecting.trace` plays the recorded connection to the client again.\n");
    text
}
