//! `esp_calibration_data_write`, `esp_manufacturing_data_write`: values in an NVS namespace, read back.

use std::collections::BTreeMap;

use esp_ledger::{Identity, Ledger, LedgerError, State, Unit};
use esp_model::job::Job;
use esp_model::nvs::{self, Change, Value};
use esp_model::partition;
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::keep::{self, Region};
use esp_ops::guard::Risk;
use esp_ops::partition::nvs_values::{FACTORY_DATA, USUAL, value_of};
use esp_ops::partition::nvs_write;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::report::shown;

/// The tool for calibration.
pub struct Calibration;
/// The tool for manufacturing data.
pub struct Manufacturing;

/// Namespaces that belong to the radio (ESP-IDF `phy_init.c`, `esp_phy`).
const RADIO: [&str; 2] = ["phy", "cal_data"];

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationIn {
    port: Option<PortUrl>,
    /// Values by key: numbers, texts or {"type", "value"} as for esp_nvs_partition_create.
    cal_data: Map<String, Json>,
    /// Namespace (default cal).
    namespace: Option<String>,
    /// NVS partition (default: fctry if the table has it, else nvs).
    partition: Option<String>,
    /// Limits by key: {"gain": [0.9, 1.1]}; a value outside is refused.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    limits: BTreeMap<String, [f64; 2]>,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManufacturingIn {
    port: Option<PortUrl>,
    /// Values by key: numbers, texts, {"type", "value"}; {"pool": "serials"} issues an identity from the ledger.
    mfg_data: Map<String, Json>,
    /// Namespace (default mfg).
    namespace: Option<String>,
    /// NVS partition (default: fctry if the table has it, else nvs).
    partition: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// The partition.
    partition: String,
    /// The namespace.
    namespace: String,
    /// Keys that were written and read back.
    written: Vec<String>,
    /// Identities that were issued, by key.
    identities: BTreeMap<String, String>,
}

impl Tool for Calibration {
    const NAME: &'static str = "esp_calibration_data_write";
    const TITLE: &'static str = "Write calibration data";
    const ABOUT: &'static str = "Write calibration values to an NVS namespace of the device, keep the others, and \
         read them back. Refuses the radio's own calibration.";
    const RISK: Risk = Risk::Writes;
    type In = CalibrationIn;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: CalibrationIn) -> Result<Out, ToolError> {
        for (key, [low, high]) in &input.limits {
            let number =
                input.cal_data.get(key).and_then(|value| value.as_f64().or_else(|| value.get("value")?.as_f64()));
            if number.is_none_or(|number| !(*low..=*high).contains(&number)) {
                let text = format!(
                    "{key} is {}, its limits are {low} to {high}",
                    input.cal_data.get(key).unwrap_or(&Json::Null)
                );
                return Err(ToolError::new(Code::OutsideLimits, text));
            }
        }
        let namespace = input.namespace.unwrap_or_else(|| "cal".into());
        write(ctx, job, input.port.as_ref(), &input.cal_data, namespace, input.partition)
    }

    fn summary(out: &Out) -> String {
        summary(out)
    }
}

impl Tool for Manufacturing {
    const NAME: &'static str = "esp_manufacturing_data_write";
    const TITLE: &'static str = "Write manufacturing data";
    const ABOUT: &'static str = "Write serial numbers and other values to an NVS namespace of the device, keep the \
         others, and read them back. Serials and MACs come from the ledger.";
    const RISK: Risk = Risk::Writes;
    type In = ManufacturingIn;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: ManufacturingIn) -> Result<Out, ToolError> {
        let namespace = input.namespace.unwrap_or_else(|| "mfg".into());
        write(ctx, job, input.port.as_ref(), &input.mfg_data, namespace, input.partition)
    }

    fn summary(out: &Out) -> String {
        summary(out)
    }
}

fn summary(out: &Out) -> String {
    let Out { device, partition, namespace, written, .. } = out;
    format!("{device}\n{} in {partition}, namespace {namespace}, read back", counted(written.len(), "value"))
}

fn write(
    ctx: &Ctx,
    job: &Job,
    port: Option<&PortUrl>,
    data: &Map<String, Json>,
    namespace: String,
    named: Option<String>,
) -> Result<Out, ToolError> {
    if RADIO.contains(&namespace.as_str()) {
        return Err(ToolError::new(
            Code::RadioCalibration,
            format!("the namespace {namespace} is the radio's own calibration"),
        ));
    }
    if data.is_empty() {
        return Err(ToolError::new(Code::NothingToDo, "there are no values"));
    }
    ctx.with_device(port, job, |connected| {
        let device = Device::read(connected, job)?;
        let mac = device.mac.ok_or_else(|| {
            ToolError::new(Code::SecureDownload, "the device's identity is unavailable (secure download mode)")
        })?;
        let unit = Unit::new(&mac.to_string());
        let (name, address, size) = place(connected, job, named.as_deref())?;
        let before = connected.loader.read_flash_bytes(job, address, size)?;
        let issued = issue(ctx, &unit, data)?;
        let mut changes = Vec::new();
        for (key, json) in data {
            let value = match issued.get(key) {
                Some(identity) => Value::Text(identity.value.clone()),
                None => value_of(ctx, &namespace, key, json)?,
            };
            changes.push(Change::Set { namespace: namespace.clone(), key: key.clone(), value });
        }
        let steps = nvs::change(&before, &changes, None)?;
        let ids: Vec<i64> = issued.values().map(|identity| identity.id).collect();
        ctx.app.desk.with(|ledger| ledger.advance_all(&ids, &unit, State::Writing))?;
        let region = Region { name: name.clone(), address, size };
        nvs_write::apply(connected, job, &region, &before, &steps)?;
        read_back(connected, job, (address, size), &changes)?;
        ctx.app.desk.with(|ledger| ledger.advance_all(&ids, &unit, State::Verified))?;
        let identities = issued.into_iter().map(|(key, identity)| (key.clone(), shown(&key, &identity))).collect();
        Ok(Out { device, partition: name, namespace, written: data.keys().cloned().collect(), identities })
    })
}

fn place(connected: &mut Connected, job: &Job, named: Option<&str>) -> Result<(String, u32, u32), ToolError> {
    connected.loader.attach_flash(job, None)?;
    let table = keep::table(connected, job, None)?.map(|found| found.table);
    let table = table.ok_or_else(|| ToolError::new(Code::NoPartitionTable, "there is no partition table at 0x8000"))?;
    let is_nvs = |p: &&partition::Partition| (p.kind, p.subtype) == (partition::DATA, partition::DATA_NVS);
    let has = |name: &str| table.find(name).filter(is_nvs).is_some();
    let name = named.unwrap_or(if has(FACTORY_DATA) || !has(USUAL) { FACTORY_DATA } else { USUAL });
    match table.find(name).filter(is_nvs) {
        Some(found) => Ok((found.name.clone(), found.offset, found.size)),
        None => {
            let known: Vec<&str> = table.partitions.iter().filter(is_nvs).map(|p| p.name.as_str()).collect();
            let error = ToolError::new(Code::UnknownPartition, format!("there is no NVS partition `{name}`"));
            Err(error.seen("nvs_partitions", known.join(", ")))
        }
    }
}

/// Identities for `{"pool": NAME}`; and no value that the ledger gave to another unit.
fn issue(ctx: &Ctx, unit: &Unit, data: &Map<String, Json>) -> Result<BTreeMap<String, Identity>, ToolError> {
    let mut issued = BTreeMap::new();
    for (key, json) in data {
        if let Some(pool) = json.get("pool").and_then(Json::as_str) {
            issued.insert(key.clone(), ctx.app.desk.with(|ledger| ledger.reserve(pool, unit))?);
            continue;
        }
        let text = json.as_str().or_else(|| json.get("value")?.as_str());
        let Some(text) = text else { continue };
        let found = ctx.app.desk.with(|ledger| anywhere(ledger, text))?;
        let own = unit.key()?;
        match found {
            Some(identity) if identity.unit.as_deref() == Some(&own) => {}
            Some(identity) if identity.unit.is_none() && identity.state == State::Free => {
                issued.insert(key.clone(), ctx.app.desk.with(|ledger| ledger.claim(&identity.kind, text, unit))?);
            }
            Some(identity) => {
                let owner =
                    identity.unit.map_or_else(|| "nobody: it is out of use".into(), |owner| format!("unit {owner}"));
                let text = format!("{key}: {text} is in the ledger and belongs to {owner}");
                let next = format!(
                    "{key}={{\"pool\": \"{}\"}} issues the next free value; esp_ledger action=status shows it",
                    identity.pool
                );
                return Err(ToolError::new(Code::IdentityConflict, text).next(next));
            }
            None if names_an_identity(key) => {
                let text = format!("{key}: {text} was not issued by the ledger");
                return Err(ToolError::new(Code::IdentityNotIssued, text));
            }
            None => {}
        }
    }
    Ok(issued)
}

fn anywhere(ledger: &mut Ledger, value: &str) -> Result<Option<Identity>, LedgerError> {
    for pool in ledger.pools()? {
        if let Some(found) = ledger.find(&pool.kind, value)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Keys under which serial numbers and addresses are kept.
fn names_an_identity(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let parts: Vec<&str> = key.split(['_', '-', '.']).collect();
    key.contains("serial") || parts.iter().any(|part| matches!(*part, "sn" | "mac"))
}

fn read_back(
    connected: &mut Connected,
    job: &Job,
    (address, size): (u32, u32),
    changes: &[Change],
) -> Result<(), ToolError> {
    let contents = nvs::read(&connected.loader.read_flash_bytes(job, address, size)?);
    for change in changes {
        if let Change::Set { namespace, key, value } = change
            && contents.get(namespace, key) != Some(value)
        {
            let text = format!("{namespace}/{key} does not read back as it was written");
            return Err(ToolError::new(Code::VerifyFailed, text).touched(FlashState::Written));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_of_identities_are_known() {
        for key in ["serial", "SerialNo", "dev_sn", "mac", "wifi_mac"] {
            assert!(super::names_an_identity(key), "{key}");
        }
        for key in ["snack", "machine", "hw_rev", "gain"] {
            assert!(!super::names_an_identity(key), "{key}");
        }
    }
}
