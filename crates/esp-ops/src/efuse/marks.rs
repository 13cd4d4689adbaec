//! What only one device may have: secret keys and custom MAC addresses, as the audit log remembers them.

use esp_model::efuse::{Efuses, Request};
use esp_model::mac::Mac;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::ToolError;
use crate::guard::audit::AuditLog;

/// Something that no second device may have.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// A fingerprint of a secret key. It tells nothing of the key: that has 128 random bits or more.
    Key(String),
    /// A MAC address.
    Mac(Mac),
}

impl Mark {
    /// Those of a burn.
    pub fn of(requests: &[Request], efuses: &Efuses) -> Vec<Self> {
        let is_secret = |purpose: &str| {
            efuses.table.key_purposes.iter().any(|one| one.name == purpose && one.read_protect && !one.digest)
        };
        let mark = |request: &Request| match request {
            Request::Key { key, purpose, .. } if is_secret(purpose) => Some(Self::Key(fingerprint(key))),
            Request::CustomMac(mac) => Some(Self::Mac(*mac)),
            _ => None,
        };
        requests.iter().filter_map(mark).collect()
    }

    /// It marks a key.
    pub fn is_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    /// As it stands in the log.
    pub fn text(&self) -> String {
        match self {
            Self::Key(print) => format!("key {print}"),
            Self::Mac(mac) => format!("mac {mac}"),
        }
    }

    /// This event of the log gave it to a device.
    pub fn is_in(&self, event: &Value) -> bool {
        event["marks"].as_array().is_some_and(|marks| marks.contains(&json!(self.text())))
    }
}

/// What of a burn another device has already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// A secret key.
    pub key: bool,
    /// A custom MAC address.
    pub mac: bool,
}

/// What of these marks the log gave to another device than the one with this base MAC address.
pub fn taken(audit: &AuditLog, marks: &[Mark], mac: Option<Mac>) -> Result<Taken, ToolError> {
    let mut found = Taken::default();
    for mark in marks {
        let taken = audit.any(|event| mark.is_in(event) && event["mac"] != json!(mac))?;
        if mark.is_key() { found.key |= taken } else { found.mac |= taken }
    }
    Ok(found)
}

/// Puts into the log what the device with this base MAC address receives, before it is burned.
pub fn record(audit: &AuditLog, marks: &[Mark], mac: Mac) -> Result<(), ToolError> {
    if marks.is_empty() {
        return Ok(());
    }
    let marks: Vec<_> = marks.iter().map(Mark::text).collect();
    audit.append(json!({ "event": "receives", "mac": mac, "marks": marks }))
}

/// A name for a secret that tells nothing of it, for 128 random bits or more.
pub fn fingerprint(key: &[u8]) -> String {
    let hash = Sha256::new().chain_update(b"fingerprint of an eFuse key\0").chain_update(key).finalize();
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
