//! `esp_rf_calibration_check`: the radio's calibration data in NVS, and the PHY init partition.

use esp_model::job::Job;
use esp_model::mac::Mac;
use esp_model::nvs::{self, Value};
use esp_model::partition::{DATA, DATA_NVS, DATA_PHY};
use esp_ops::args::OnlyPort;
use esp_ops::boot::evidence::{self, Finding, NotMeasurable};
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct RfCalibrationCheck;

/// What ESP-IDF puts at both ends of a PHY init partition (`phy_init_data.h`).
const PHY_MAGIC: &[u8] = b"PHYINIT\0";
/// Largest NVS partition that is read.
const MOST: u32 = 1 << 20;

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

impl Tool for RfCalibrationCheck {
    const NAME: &'static str = "esp_rf_calibration_check";
    const TITLE: &'static str = "Check RF calibration";
    const ABOUT: &'static str = "Check that the radio's stored calibration (NVS namespace phy) and PHY init data \
         exist, belong to this device and are intact. The app rebuilds missing data at its next boot.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let device = Device::read(connected, job)?;
            let findings = findings(connected, job)?;
            let not_measurable = vec![NotMeasurable::new(
                "transmit power, sensitivity, frequency error",
                "they need a signal to be measured",
                "an RF tester with the maker's test firmware, or a golden unit at a fixed distance",
            )];
            Ok(Out { device, findings, not_measurable })
        })
    }

    fn summary(out: &Out) -> String {
        let shown = out.findings.iter().map(|f| format!("{}: {}", f.what, f.verdict));
        format!("{}\n{}", out.device, shown.collect::<Vec<_>>().join("; "))
    }
}

fn findings(connected: &mut Connected, job: &Job) -> Result<Vec<Finding>, ToolError> {
    if connected.is_encrypted(job)? {
        return Ok(vec![Finding::unknown(
            "calibration data",
            "flash encryption is on: NVS cannot be judged from here",
        )]);
    }
    let table = match evidence::partition_table(connected, job)? {
        Ok(table) => table,
        Err(why) => return Ok(vec![Finding::unknown("calibration data", why)]),
    };
    let mut findings = Vec::new();
    match evidence::partition(&table, DATA, DATA_NVS) {
        None => findings.push(Finding::unknown("calibration data", "the partition table has no NVS partition")),
        Some(place) if place.size > MOST => {
            findings.push(Finding::unknown("calibration data", "the NVS partition is larger than 1 MB"));
        }
        Some(place) => {
            let image = connected.loader.read_flash_bytes(job, place.offset, place.size)?;
            let mac = connected.identify(job)?.map(|identified| identified.mac);
            findings.extend(in_nvs(&nvs::read(&image), mac));
        }
    }
    if let Some(place) = evidence::partition(&table, DATA, DATA_PHY) {
        let data = connected.loader.read_flash_bytes(job, place.offset, place.size.min(0x1000))?;
        findings.push(phy_init(&data));
    }
    Ok(findings)
}

fn in_nvs(contents: &nvs::Contents, mac: Option<Mac>) -> Vec<Finding> {
    if contents.findings.contains(&nvs::Finding::Unreadable) {
        return vec![Finding::unknown("cal_data", "no entry of NVS is readable: it is probably encrypted")];
    }
    let get = |key: &str| contents.get("phy", key);
    let rebuilt = "the app recalibrates at its next boot (about 100 ms) and stores the result";
    let Some(data) = get("cal_data") else {
        return vec![Finding::new("cal_data", "none", "info", rebuilt)];
    };
    let mut findings = Vec::new();
    let size = if let Value::Blob(bytes) = data { bytes.len() } else { 0 };
    findings.push(match size {
        0 => Finding::new("cal_data", data.type_name(), "suspect", "it is not a blob as ESP-IDF writes it"),
        _ => Finding::new("cal_data", format!("{size} bytes"), "ok", "stored calibration is there"),
    });
    findings.push(match get("cal_version").and_then(Value::number) {
        Some(version) => {
            Finding::new("cal_version", version.to_string(), "info", "version of the PHY library that made it")
        }
        None => Finding::new("cal_version", "none", "info", rebuilt),
    });
    findings.push(match (get("cal_mac"), mac) {
        (Some(Value::Blob(stored)), Some(mac)) => {
            let shown = esp_model::hex::joined(stored, ":");
            match stored.as_slice() == mac.0 {
                true => Finding::new("cal_mac", shown, "ok", "the calibration was made on this device"),
                false => {
                    let meaning = format!("the calibration is of another device (this is {mac}): {rebuilt}");
                    Finding::new("cal_mac", shown, "info", meaning)
                }
            }
        }
        (Some(_), None) => Finding::unknown("cal_mac", "this device's own MAC cannot be read"),
        _ => Finding::new("cal_mac", "none", "info", rebuilt),
    });
    findings
}

fn phy_init(data: &[u8]) -> Finding {
    let what = "PHY init partition";
    if data.iter().all(|byte| *byte == 0xff) {
        return Finding::new(
            what,
            "blank",
            "info",
            "an app that expects its PHY init data in a partition would not start Wi-Fi",
        );
    }
    if !data.starts_with(PHY_MAGIC) {
        return Finding::new(what, "no PHYINIT mark", "suspect", "the partition does not hold PHY init data");
    }
    let ends = data.windows(PHY_MAGIC.len()).skip(PHY_MAGIC.len()).position(|window| window == PHY_MAGIC);
    match ends {
        Some(length) => Finding::new(what, format!("{length} bytes"), "ok", "marked at both ends"),
        None => Finding::new(what, "no mark at its end", "suspect", "the PHY init data is cut"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut builder = nvs::Builder::new(0x4000, nvs::Version::V2, None).unwrap();
        let phy = builder.namespace("phy").unwrap();
        builder.entry(phy, "cal_version", &Value::U32(6000)).unwrap();
        builder.entry(phy, "cal_mac", &Value::Blob(vec![2, 0xe5, 1, 2, 3, 4])).unwrap();
        builder.entry(phy, "cal_data", &Value::Blob(vec![0x5a; 1904])).unwrap();
        builder.finish()
    }

    /// Deterministic numbers.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end
        }
    }

    #[test]
    fn damaged_calibration_is_judged_without_harm() {
        let phy = [PHY_MAGIC, &[7; 128], PHY_MAGIC].concat();
        let (nvs, mac) = (image(), Some(Mac([2, 0xe5, 1, 2, 3, 4])));
        let verdicts = |findings: &[Finding]| findings.iter().map(|finding| finding.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(&in_nvs(&nvs::read(&nvs), mac)), ["ok", "info", "ok"]);
        let (mut random, mut seen) = (Random(1), std::collections::BTreeSet::new());
        for _ in 0..10_000 {
            let (mut part, mut stored) = (phy.clone(), nvs.clone());
            for _ in 0..=random.below(4) {
                let (at, value) = (random.below(part.len()), random.below(256) as u8);
                part[at] = value;
                // Where the entries are, and their page's header.
                let at = random.below(0x400);
                stored[at] ^= 1 << random.below(8);
            }
            part.truncate(random.below(2 * part.len()).max(1));
            seen.insert(phy_init(&part).verdict);
            seen.extend(in_nvs(&nvs::read(&stored), mac).iter().map(|finding| finding.verdict));
        }
        assert!(["ok", "info", "suspect"].iter().all(|verdict| seen.contains(verdict)), "{seen:?}");
    }

    #[test]
    fn encrypted_nvs_is_not_judged() {
        let keys = nvs::Keys::from_bytes(&[[7; 32], [8; 32]].concat()).unwrap();
        let found = in_nvs(&nvs::read(&nvs::encrypt(&image(), &keys)), None);
        assert_eq!((found.len(), found[0].verdict), (1, "unknown"), "{found:?}");
    }
}
