//! `esp_mac_address_read`: all addresses of the chip.

use esp_model::efuse::Shown;
use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::efuse::pipeline;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Mac;

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// The base address, from which ESP-IDF derives the others.
    base: String,
    /// Wi-Fi station: the base address.
    #[serde(skip_serializing_if = "Option::is_none")]
    wifi_station: Option<String>,
    /// Wi-Fi access point: base + 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    wifi_access_point: Option<String>,
    /// Bluetooth: base + 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    bluetooth: Option<String>,
    /// Ethernet: base + 3.
    ethernet: String,
    /// EUI-64 of IEEE 802.15.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    eui64: Option<String>,
    /// The custom address with what speaks for it, if one is burned.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<String>,
    /// What the chip says about the base address: CRC or coding.
    check: String,
}

impl Tool for Mac {
    const NAME: &'static str = "esp_mac_address_read";
    const TITLE: &'static str = "MAC addresses";
    const ABOUT: &'static str = "Read base, Wi-Fi, Bluetooth, Ethernet, EUI-64 and custom MAC addresses, CRC checked.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let identity = connected.identify(job)?;
            let identity =
                identity.ok_or_else(|| ToolError::new(Code::SecureDownload, "the MAC address cannot be read"))?;
            let value = |name: &str| match efuses.value(efuses.table.field(name)?).value {
                Shown::Text(text) => Some(text),
                _ => None,
            };
            let custom = value("CUSTOM_MAC").filter(|text| !text.starts_with("00:00:00:00:00:00"));
            let check = value("MAC").and_then(|text| text.split_once(' ').map(|(_, check)| check.to_string()));
            let has = |what: &str| identity.features.iter().any(|feature| feature.contains(what));
            let plus = |add| identity.mac.plus(add).to_string();
            let wifi = has("Wi-Fi") || has("WiFi");
            let eui64 = identity.eui64().map(|bytes| esp_model::efuse::hex(&bytes, ':'));
            Ok(Out {
                device,
                base: plus(0),
                wifi_station: wifi.then(|| plus(0)),
                wifi_access_point: wifi.then(|| plus(1)),
                bluetooth: (has("BT") || has("Bluetooth")).then(|| plus(2)),
                ethernet: plus(3),
                eui64,
                custom,
                check: check.unwrap_or_else(|| "unknown".into()),
            })
        })
    }

    fn summary(out: &Out) -> String {
        let custom = out.custom.as_ref().map_or(String::new(), |mac| format!(", custom {mac}"));
        format!("{}\nbase {} {}{custom}", out.device, out.base, out.check)
    }
}
