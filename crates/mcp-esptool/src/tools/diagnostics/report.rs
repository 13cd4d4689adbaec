//! `esp_diagnostic_report`: one folder that a maintainer could act on.

use std::fmt::Write as _;
use std::time::Duration;

use esp_link::monitor::CaptureOptions;
use esp_link::reset::Sequence;
use esp_model::job::Job;
use esp_model::port::{ESPRESSIF_VID, Port};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{capture, console};
use crate::ctx::Ctx;
use crate::tool::{Risk, Tool};
use crate::tools::args::PortUrl;
use crate::tools::device::Device;
use crate::tools::error::ToolError;

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
    const ABOUT: &'static str = "Write a report on a device (Markdown, JSON, flash map, console log) that a maintainer could act on. Keys and \
         other secrets are not in it.";
    const RISK: Risk = Risk::Resets;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if !(0.0..=600.0).contains(&input.capture_s) {
            return Err(ToolError::new("bad_parameter", "capture_s must be between 0 and 600 seconds"));
        }
        let device = ctx.with_device(input.port.as_ref(), job, |connected| Device::read(connected, job))?;
        let (mut sections, mut missing) = (Map::new(), Vec::new());
        let total = SECTIONS.len() as u64;
        for (i, (section, tool, parameters)) in SECTIONS.iter().enumerate() {
            job.check()?;
            job.progress(i as u64, total, format!("asking {tool}"));
            match ask(ctx, job, tool, parameters, &device.port) {
                Ok(data) => drop(sections.insert((*section).into(), redacted(data))),
                Err(why) => missing.push(format!("{section}: {why}")),
            }
        }
        let table = connected_table(ctx, job, &input)?;
        let mut files = vec![ctx.files.write(&join(&input, "flash-map.svg"), flash_map(&table).as_bytes())?];
        if input.capture_s > 0.0 {
            let (log, console) = listen(ctx, job, &input)?;
            files.push(ctx.files.write(&join(&input, "console.log"), &log)?);
            sections.insert("console".into(), console);
        }
        let markdown = markdown(&device, &sections, &missing, &input);
        let whole = json!({
            "format": "mcp-esptool-report",
            "version": env!("CARGO_PKG_VERSION"),
            "device": &device,
            "sections": &sections,
            "missing": &missing,
        });
        files.push(ctx.files.write(&join(&input, "report.json"), format!("{whole:#}\n").as_bytes())?);
        files.push(ctx.files.write(&join(&input, "report.md"), markdown.as_bytes())?);
        let files = files.into_iter().map(|path| path.display().to_string()).collect();
        Ok(Out { device, files, sections: sections.keys().cloned().collect(), missing })
    }

    fn summary(out: &Out) -> String {
        let report = out.files.last().map_or("", String::as_str);
        format!("{}\n{} sections, {} missing\n{report}", out.device, out.sections.len(), out.missing.len())
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

/// Names under which values of secrets might stand.
const SECRET: &[&str] = &["password", "passwd", "secret", "private", "psk", "token"];

/// The same without values that might be secrets, and with Wi-Fi passwords in texts struck out.
fn redacted(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let secret = SECRET.iter().any(|word| name.to_ascii_lowercase().contains(word));
                    let value = if secret && value.is_string() { "(redacted)".into() } else { redacted(value) };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(redacted).collect()),
        Value::String(text) => Value::String(redacted_text(&text)),
        other => other,
    }
}

/// Strikes out what follows `password=`, `psk: ` and the like, to the end of the word.
fn redacted_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let mark = SECRET.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min();
        let value = mark.and_then(|at| line.get(at..)?.find(['=', ':']).filter(|gap| *gap < 4).map(|gap| at + gap + 1));
        match value.and_then(|at| line.split_at_checked(at)) {
            Some((head, tail)) => {
                let end = if tail.ends_with('\n') { "\n" } else { "" };
                let _ = write!(out, "{head} (redacted){end}");
            }
            None => out.push_str(line),
        }
    }
    out
}

/// Name, offset and size of each partition; empty when there is no table.
fn connected_table(ctx: &Ctx, job: &Job, input: &In) -> Result<Vec<(String, u64, u64)>, ToolError> {
    ctx.with_device(input.port.as_ref(), job, |connected| {
        let table = super::evidence::partition_table(connected, job)?;
        let rows = table.map(|table| table.partitions).unwrap_or_default().into_iter();
        Ok(rows.map(|row| (row.name.clone(), u64::from(row.offset), u64::from(row.size))).collect())
    })
}

/// The flash as one bar with its partitions.
fn flash_map(rows: &[(String, u64, u64)]) -> String {
    const WIDTH: u64 = 960;
    const COLOURS: [&str; 6] = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1"];
    let end = rows.iter().map(|(_, offset, size)| offset + size).max().unwrap_or(1).max(1);
    let height = 70 + rows.len() * 20;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1000\" height=\"{height}\" font-family=\"monospace\" \
         font-size=\"13\">\n<rect x=\"20\" y=\"20\" width=\"{WIDTH}\" height=\"30\" fill=\"#ddd\"/>\n"
    );
    for (i, (name, offset, size)) in rows.iter().enumerate() {
        let (x, width) = (20 + offset * WIDTH / end, (size * WIDTH / end).max(1));
        let colour = COLOURS[i % COLOURS.len()];
        let y = 70 + i * 20;
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).collect();
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"20\" width=\"{width}\" height=\"30\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<rect x=\"20\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"40\" y=\"{}\">{name} {offset:#x} + {size:#x}</text>", y + 11);
    }
    svg + "</svg>\n"
}

fn listen(ctx: &Ctx, job: &Job, input: &In) -> Result<(Vec<u8>, Value), ToolError> {
    let mut listener = capture::listen(ctx, input.port.as_ref(), job)?;
    let info = listener.reader.info();
    let built_in = info.usb.is_some_and(|(vendor, _)| vendor == ESPRESSIF_VID);
    let options = CaptureOptions {
        baud: Some(115_200),
        reset: info.modem_lines.then(|| Sequence::hard_reset(built_in)),
        time: Some(Duration::from_secs_f64(input.capture_s)),
        bytes: Some(4 << 20),
        absence: Duration::from_secs(10),
        ..CaptureOptions::default()
    };
    let heard = capture::run(&mut listener, &options, job, &mut |_, _, _| true)?;
    let log: String = heard.lines.iter().map(|line| format!("[{}] {}\n", line.at.as_millis(), line.text)).collect();
    let crashes = capture::crashes(ctx, &heard.decoder, None)?;
    let summary = heard.decoder.summary();
    let quiet = console::is_quiet(&summary);
    Ok((redacted_text(&log).into_bytes(), json!({ "counts": summary, "quiet": quiet, "crashes": crashes })))
}

fn markdown(device: &Device, sections: &Map<String, Value>, missing: &[String], input: &In) -> String {
    let mut text = format!("# Diagnostic report\n\n{device}\n\n");
    let command =
        format!("mcp-esptool call esp_diagnostic_report port={} output_dir={}", device.port, input.output_dir);
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
    text.push_str("\nFlash map: [flash-map.svg](flash-map.svg)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_struck_out() {
        let given =
            json!({"wifi_password": "hunter2", "list": [{"PSK": "x"}], "line": "I (1) wifi: password: hunter2\nnext"});
        let text = redacted(given).to_string();
        assert!(!text.contains("hunter2") && !text.contains("\"x\""), "{text}");
        assert!(text.contains("next"));
        assert_eq!(redacted_text("the password was wrong"), "the password was wrong");
    }

    #[test]
    fn names_from_flash_cannot_write_markup() {
        let svg = flash_map(&[("<script>".into(), 0x9000, 0x6000)]);
        assert!(!svg.contains("<script"));
    }
}
