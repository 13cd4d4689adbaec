//! What most results say about the device they come from.

use esp_model::chip::Identified;
use esp_model::job::Job;
use esp_model::mac::Mac;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ToolError;
use crate::session::device::Connected;

/// The device that a result is about; flattened into it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Device {
    /// The port's URL.
    pub port: String,
    /// The chip, as `ESP32-C6 (QFN40) (revision v0.1)`; only its kind in secure download mode.
    pub chip: String,
    /// The base MAC address; left out where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub mac: Option<Mac>,
    /// The device is simulated or emulated.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
}

impl Device {
    /// It is a flash image.
    pub fn is_image(&self) -> bool {
        self.port.starts_with("image:")
    }

    /// Reads who the device is, now.
    pub fn read(connected: &mut Connected, job: &Job) -> Result<Self, ToolError> {
        let identified = connected.known_identity(job)?;
        Ok(Self::of(connected, identified.as_ref()))
    }

    /// The same from an identity that was read already.
    pub fn of(connected: &mut Connected, identified: Option<&Identified>) -> Self {
        Self {
            port: connected.url.to_string(),
            chip: identified.map_or_else(|| connected.loader.chip().name.clone(), |known| known.description.clone()),
            mac: identified.map(|known| known.mac),
            is_virtual: connected.is_virtual(),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.chip, self.port)?;
        if let Some(mac) = &self.mac {
            write!(f, ", MAC {mac}")?;
        }
        if self.is_image() {
            return f.write_str(", flash image");
        }
        if self.is_virtual { write!(f, ", virtual") } else { Ok(()) }
    }
}
