//! Which chip is on a port, and what belongs to it.

use std::fmt;

use esp_link::Mode;
use esp_model::chip::Identified;
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ToolError;
use crate::session::device::Connected;
use crate::session::identity::Device;

/// What is known of a chip on a port.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Detected {
    #[serde(flatten)]
    /// The device.
    pub device: Device,
    /// The chip's id, as other tools take it.
    pub chip_id: String,
    /// Package; left out in secure download mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Revision, `v3.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Radios, cores, flash and PSRAM in the package.
    pub features: Vec<String>,
    /// Crystal, measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crystal_mhz: Option<u32>,
    /// Addresses made from the base MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<Macs>,
    /// JEDEC id of the flash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash_id: Option<String>,
    /// Maker of the flash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash_maker: Option<String>,
    /// Size of the flash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flash_size_bytes: Option<u32>,
    /// bridge, usb_serial_jtag, usb_otg or none (a socket or simulation).
    pub connection: String,
    /// Only few commands work.
    pub secure_download: bool,
    /// Flash encryption is on.
    pub flash_encryption: bool,
    /// What answers: ROM loader or stub.
    pub loader: String,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// Addresses of the interfaces, as ESP-IDF derives them from the base MAC.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Macs {
    /// Wi-Fi station: the base MAC.
    wifi_sta: String,
    /// Wi-Fi access point.
    wifi_ap: String,
    /// Bluetooth.
    bluetooth: String,
    /// Ethernet.
    ethernet: String,
    /// IEEE 802.15.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    eui64: Option<String>,
}

impl Macs {
    /// ESP-IDF's default: four universal addresses, counted up in the last byte (docs, "Miscellaneous System APIs").
    fn of(identified: &Identified) -> Self {
        let plus = |n| identified.mac.plus(n).to_string();
        let eui64 = identified.eui64().map(|id| id.map(|byte| format!("{byte:02x}")).join(":"));
        Self { wifi_sta: plus(0), wifi_ap: plus(1), bluetooth: plus(2), ethernet: plus(3), eui64 }
    }
}

/// In two or three lines, for people.
impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.flash_size_bytes.map_or("unknown".into(), |size| format!("{} MB", size >> 20));
        let crystal = self.crystal_mhz.map_or("unknown".into(), |mhz| format!("{mhz} MHz"));
        write!(f, "{}\n{}; crystal {crystal}, flash {size}", self.device, self.features.join(", "))?;
        match self.unknown.as_slice() {
            [] => Ok(()),
            unknown => write!(f, "\nunknown: {}", unknown.join("; ")),
        }
    }
}

/// All of it; what cannot be read is named as unknown.
pub fn detect(connected: &mut Connected, job: &Job) -> Result<Detected, ToolError> {
    let identified = connected.identify(job)?;
    let device = Device::of(connected, identified.as_ref());
    let secure_download = connected.loader.mode() == Mode::SecureDownload;
    let mut unknown = Vec::new();
    if secure_download {
        unknown.push("eFuses, flash id: not readable in secure download mode".to_string());
    }
    let crystal_mhz = if secure_download { None } else { Some(connected.loader.crystal_mhz(job)?) };
    let flash = if secure_download { None } else { note(connected.loader.flash_id(job), "flash", &mut unknown)? };
    let info = connected.loader.port().info();
    let connection = match info.usb {
        Some(_) if info.is_usb_serial_jtag() => "usb_serial_jtag",
        Some((esp_model::port::ESPRESSIF_VID, _)) => "usb_otg",
        Some(_) => "bridge",
        None => "none",
    };
    Ok(Detected {
        chip_id: connected.loader.chip().id.into(),
        package: identified.as_ref().map(|known| known.package.clone()),
        revision: identified
            .as_ref()
            .and_then(|known| known.revision)
            .map(|(major, minor)| format!("v{major}.{minor}")),
        features: identified.as_ref().map(|known| known.features.clone()).unwrap_or_default(),
        crystal_mhz,
        macs: identified.as_ref().map(Macs::of),
        flash_id: flash.map(|id| id.to_string()),
        flash_maker: flash.and_then(|id| id.manufacturer_name()).map(str::to_string),
        flash_size_bytes: flash.and_then(|id| id.size()),
        connection: connection.into(),
        secure_download,
        flash_encryption: connected.is_encrypted(job)?,
        loader: connected.loader.mode().describe().into(),
        unknown,
        device,
    })
}

/// A failed question becomes an unknown, unless the line is gone or the caller wants to stop.
fn note<T>(
    answer: Result<T, esp_link::LoaderError>,
    what: &str,
    unknown: &mut Vec<String>,
) -> Result<Option<T>, ToolError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error @ (esp_link::LoaderError::Line(_) | esp_link::LoaderError::Cancelled)) => Err(error.into()),
        Err(error) => {
            unknown.push(format!("{what}: {error}"));
            Ok(None)
        }
    }
}
