//! What may be done to which device: one TOML file outside of the projects, which a call can only narrow.

use std::fs;

use serde::Deserialize;

use crate::config::Config;
use crate::tool::{Entry, Risk};
use crate::tools::error::ToolError;

/// The policy. The default allows everything but burning eFuses of real devices.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The worst that any tool may do.
    pub max_risk: Risk,
    /// Ports that may be used; `*` stands for any text. Empty: all.
    pub allow_ports: Vec<String>,
    /// Ports that may not, whatever else is said ("golden" units).
    pub deny_ports: Vec<String>,
    /// Devices that may be used, by base MAC. Empty: all.
    pub allow_macs: Vec<String>,
    /// Devices that may not.
    pub deny_macs: Vec<String>,
    /// Real devices whose eFuses may be burned, by base MAC; `*` for any.
    pub burn_macs: Vec<String>,
    /// Recipes, by hash, whose eFuses may be burned without asking for each unit. A person vouches for them here.
    pub burn_recipes: Vec<String>,
    /// What a person vouches for because no tool can measure it: `ota_proven`, `flash_voltage`.
    pub vouch: Vec<String>,
    #[serde(skip)]
    read_only: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_risk: Risk::Irreversible,
            allow_ports: Vec::new(),
            deny_ports: Vec::new(),
            allow_macs: Vec::new(),
            deny_macs: Vec::new(),
            burn_macs: Vec::new(),
            burn_recipes: Vec::new(),
            vouch: Vec::new(),
            read_only: false,
        }
    }
}

impl Policy {
    /// Reads the configured policy file. Without one, the default holds; an unreadable one is an error.
    pub fn load(config: &Config) -> Result<Self, ToolError> {
        let mut policy = match config.path("policy_file") {
            None => Self::default(),
            Some(path) => {
                let bad = |error: String| ToolError::new("bad_configuration", format!("{}: {error}", path.display()));
                let text = fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
                toml::from_str(&text).map_err(|error| bad(error.to_string()))?
            }
        };
        policy.read_only = config.flag("read_only");
        Ok(policy)
    }

    /// This tool may be listed and called at all.
    pub fn offers(&self, entry: &Entry) -> bool {
        entry.risk <= self.max_risk && (!self.read_only || entry.hints().read_only)
    }

    /// Fails unless this tool may be called.
    pub fn allows_tool(&self, entry: &Entry) -> Result<(), ToolError> {
        if self.offers(entry) {
            return Ok(());
        }
        let why = if self.read_only { "the server is read-only" } else { "the policy's max_risk is below it" };
        Err(ToolError::new("policy_refused", format!("{} may not be called: {why}", entry.name)))
    }

    /// Fails unless this port may be used.
    pub fn allows_port(&self, url: &str) -> Result<(), ToolError> {
        self.listed("port", url, &self.allow_ports, &self.deny_ports)
    }

    /// The policy tells devices apart by MAC, so that the MAC must be known before anything is done.
    pub fn names_macs(&self) -> bool {
        !self.allow_macs.is_empty() || !self.deny_macs.is_empty()
    }

    /// Fails unless the device with this base MAC may be used.
    pub fn allows_mac(&self, mac: &str) -> Result<(), ToolError> {
        self.listed("device", mac, &self.allow_macs, &self.deny_macs)
    }

    /// Fails unless eFuses of this device may be burned. Virtual devices always may.
    pub fn allows_burn(&self, mac: &str, is_virtual: bool) -> Result<(), ToolError> {
        if is_virtual || self.burn_macs.iter().any(|pattern| matches(pattern, mac)) {
            return Ok(());
        }
        Err(ToolError::new("burn_not_allowed", format!("the policy does not allow burning eFuses of {mac}")))
    }

    /// A person vouches for this.
    pub fn vouches(&self, what: &str) -> bool {
        self.vouch.iter().any(|item| item == what)
    }

    fn listed(&self, what: &str, name: &str, allowed: &[String], denied: &[String]) -> Result<(), ToolError> {
        let refused = |why: &str| ToolError::new("policy_refused", format!("the {what} {name} {why}"));
        if denied.iter().any(|pattern| matches(pattern, name)) {
            return Err(refused("is on the policy's denied list"));
        }
        if !allowed.is_empty() && !allowed.iter().any(|pattern| matches(pattern, name)) {
            return Err(refused("is not on the policy's allowed list"));
        }
        Ok(())
    }
}

/// `pattern` with `*` for any text, letters of either case.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let mut parts: Vec<&str> = parts.collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("/dev/ttyUSB*", "/dev/ttyUSB0") && matches("*", "") && matches("a*b*c", "aXbYc"));
        assert!(!matches("/dev/ttyUSB*", "/dev/ttyACM0") && !matches("ab", "abc") && !matches("a*b", "a"));
        assert!(matches("24:0A:C4:*", "24:0a:c4:00:01:02"));
        assert!(!matches("aba*ba", "aba"));
    }

    #[test]
    fn denied_wins_over_allowed() {
        let policy: Policy = toml::from_str("allow_ports = [\"sim://*\"]\ndeny_ports = [\"sim://gold\"]").unwrap();
        assert!(policy.allows_port("sim://a").is_ok());
        assert_eq!(policy.allows_port("sim://gold").unwrap_err().code, "policy_refused");
        assert_eq!(policy.allows_port("/dev/ttyUSB0").unwrap_err().code, "policy_refused");
    }

    #[test]
    fn real_devices_are_not_burned_unless_named() {
        let policy = Policy::default();
        assert!(policy.allows_burn("24:0a:c4:00:00:01", true).is_ok());
        assert_eq!(policy.allows_burn("24:0a:c4:00:00:01", false).unwrap_err().code, "burn_not_allowed");
        assert!(toml::from_str::<Policy>("max_rsk = 1").is_err());
    }
}
