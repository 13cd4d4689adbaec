//! `esp_scan_ports`: all ports, without touching any unless asked to.

use esp_link::port::scan::FoundPort;
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ops::args::PortUrl;
use crate::ops::error::{Code, ToolError};
use crate::ops::guard::Risk;
use crate::ops::session::identity::Device;
use crate::tool::Tool;

/// The tool.
pub struct ScanPorts;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Connect to each port and ask which chip is there; this resets the devices.
    #[serde(default)]
    probe: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The ports.
    ports: Vec<Found>,
}

/// One port.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Found {
    /// What to give as `port`.
    port: String,
    /// serial, simulated, virtual or remote.
    kind: String,
    /// USB vendor and product id, `303a:1001`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usb: Option<String>,
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    /// USB serial number; the MAC for a chip's own USB.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    /// The driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    /// Names that stay the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<String>,
    /// Who uses it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    /// Who answered, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// Why nobody answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Tool for ScanPorts {
    const NAME: &'static str = "esp_scan_ports";
    const TITLE: &'static str = "Scan ports";
    const ABOUT: &'static str = "List serial ports, virtual devices and configured remote ports. Opens and resets nothing unless probe is true.";
    const RISK: Risk = Risk::Resets;
    const LEAST_RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn risk(input: &In) -> Risk {
        if input.probe { Risk::Resets } else { Risk::Reads }
    }

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let in_use = ctx.devices.sessions.in_use();
        let mut ports: Vec<Found> = ctx.ports.serial().into_iter().map(of_serial).collect();
        ports.extend(ctx.ports.simulated().iter().map(|sim| named("simulated", sim.url())));
        ports.extend(ctx.ports.running_virtuals().iter().map(|status| Found {
            product: Some(format!("virtual {}", status.config.chip)),
            ..named("virtual", &format!("qemu://{}", status.config.id))
        }));
        ports.extend(ctx.ports.remote().iter().map(|url| named("remote", url)));
        for found in &mut ports {
            let ours = in_use.iter().find(|(url, _)| *url == found.port);
            found.holder = match ours {
                Some((_, Some(tool))) => Some(format!("this server ({tool})")),
                Some((_, None)) => Some("this server (idle connection)".into()),
                None => found.holder.take(),
            };
        }
        if input.probe {
            let total = ports.len() as u64;
            for (index, found) in ports.iter_mut().enumerate() {
                job.check()?;
                job.progress(index as u64, total, format!("asking {}", found.port));
                probe(ctx, job, found)?;
            }
        }
        Ok(Out { ports })
    }

    fn summary(out: &Out) -> String {
        if out.ports.is_empty() {
            return "no ports; sim://esp32 is a virtual chip that is always there".into();
        }
        out.ports.iter().map(Found::line).collect::<Vec<_>>().join("\n")
    }
}

fn probe(ctx: &Ctx, job: &Job, found: &mut Found) -> Result<(), ToolError> {
    let port = PortUrl(found.port.clone());
    match ctx.with_device(Some(&port), job, |connected| Device::read(connected, job)) {
        Ok(device) => found.device = Some(device),
        Err(error) if error.code == Code::Cancelled => return Err(error),
        Err(error) => found.error = Some(format!("{}: {}", error.code, error.message)),
    }
    Ok(())
}

fn named(kind: &str, url: &str) -> Found {
    Found { port: url.into(), kind: kind.into(), ..Found::default() }
}

fn of_serial(found: FoundPort) -> Found {
    let usb = found.usb.unwrap_or_default();
    Found {
        usb: (usb.vid != 0).then(|| format!("{:04x}:{:04x}", usb.vid, usb.pid)),
        product: usb.product,
        serial_number: usb.serial_number,
        driver: found.driver,
        links: found.links,
        holder: found.holder.map(|holder| holder.to_string()),
        ..named("serial", &found.path)
    }
}

impl Found {
    fn line(&self) -> String {
        let known = [&self.usb, &self.product, &self.driver];
        let mut parts: Vec<String> = known.into_iter().flatten().cloned().collect();
        parts.extend(self.holder.as_ref().map(|holder| format!("in use by {holder}")));
        parts.extend(self.device.as_ref().map(Device::to_string));
        parts.extend(self.error.clone());
        format!("{} ({}) {}", self.port, self.kind, parts.join(", ")).trim_end().to_string()
    }
}
