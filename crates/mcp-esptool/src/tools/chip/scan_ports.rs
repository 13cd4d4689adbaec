//! `esp_scan_ports`: all ports, without touching any unless asked to.

use esp_link::port::scan::FoundPort;
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct ScanPorts;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Connect to each port and identify the chip (resets the devices).
    #[serde(default)]
    probe: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The ports.
    ports: Vec<Found>,
}

/// What a port is.
#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A serial port of this computer; one on USB has `usb`.
    #[default]
    Serial,
    /// A simulated chip of this process.
    Simulated,
    /// A running virtual device.
    Virtual,
    /// A port that the configuration names.
    Remote,
}

/// One port.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Found {
    /// What to give as `port`.
    port: String,
    /// What it is.
    kind: Kind,
    /// The name of a virtual or remote device; `port` takes it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// USB vendor and product id, `303a:1001`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usb: Option<String>,
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    /// USB serial number; the MAC for a chip's own USB.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    /// Place on the USB bus; `location:…` names the port by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
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
    const ABOUT: &'static str = "List serial ports, virtual devices and configured remote ports; boards on USB \
         first. Opens and resets nothing unless probe is true.";
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
        // A UART of the computer itself rarely has a board on it.
        ports.sort_by_key(|found| found.usb.is_none());
        ports.extend(ctx.ports.simulated().iter().map(|sim| named(Kind::Simulated, sim.url())));
        ports.extend(ctx.ports.running_virtuals().iter().map(|status| Found {
            name: Some(status.config.id.clone()),
            product: Some(format!("virtual {}", status.config.chip)),
            ..named(Kind::Virtual, &format!("qemu://{}", status.config.id))
        }));
        let remote = ctx.ports.remote().iter();
        ports.extend(remote.map(|one| Found { name: one.name.clone(), ..named(Kind::Remote, &one.url) }));
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
    let port: PortUrl = found.port.parse()?;
    match ctx.with_device(Some(&port), job, |connected| Device::read(connected, job)) {
        Ok(device) => found.device = Some(device),
        Err(error) if error.code == Code::Cancelled => return Err(error),
        Err(error) => found.error = Some(format!("{}: {}", error.code, error.message)),
    }
    Ok(())
}

fn named(kind: Kind, url: &str) -> Found {
    Found { port: url.into(), kind, ..Found::default() }
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
        location: usb.location,
        ..named(Kind::Serial, &found.path)
    }
}

impl Found {
    fn line(&self) -> String {
        let known = [&self.name, &self.usb, &self.product, &self.driver];
        let mut parts: Vec<String> = known.into_iter().flatten().cloned().collect();
        parts.extend(self.holder.as_ref().map(|holder| format!("in use by {holder}")));
        parts.extend(self.device.as_ref().map(Device::to_string));
        parts.extend(self.error.clone());
        let kind = serde_json::to_value(self.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        format!("{} ({kind}) {}", self.port, parts.join(", ")).trim_end().to_string()
    }
}
