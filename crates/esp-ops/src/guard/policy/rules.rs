//! What one policy file, or one narrowing of it, says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::mac;
use crate::guard::Risk;

/// Rules of one origin. What is left out restricts nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// The worst that any tool may do.
    pub max_risk: Option<Risk>,
    /// Ports that may be used; `*` stands for any text. Empty: all.
    pub allow_ports: Vec<String>,
    /// Ports that may not, whatever else is said ("golden" units).
    pub deny_ports: Vec<String>,
    /// Devices that may be used, by base MAC. Empty: all.
    pub allow_macs: Vec<String>,
    /// Devices that may not.
    pub deny_macs: Vec<String>,
    /// Real devices whose eFuses may be burned, by base MAC; `*` for any.
    pub burn_macs: Option<Vec<String>>,
    /// Who may approve what cannot be undone, where a device asks for a person. Unset: a terminal for real devices.
    pub approval: Option<Approval>,
    /// Recipes, by hash, whose eFuses may be burned without asking for each unit. A person vouches for them here.
    pub burn_recipes: Option<Vec<String>>,
    /// Production mode: only these locked recipes, by hash, change devices, and no tool does so beside them.
    pub production_recipes: Option<Vec<String>>,
    /// What a person vouches for because no tool can measure it: `ota_proven`, `flash_voltage`, `flash_wiring`.
    pub vouch: Option<Vec<String>>,
    /// Folders that the project roots must lie in. Empty: anywhere.
    pub project_roots: Vec<PathBuf>,
    /// How much of anything one call may take.
    pub limits: Limits,
}

/// Where a person approves what cannot be undone on a real device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// `mcp-esptool approve` in a terminal. What an MCP client answers approves nothing.
    Terminal,
    /// A form that the MCP client shows counts too: the client is trusted to ask a person.
    Client,
}

impl Rules {
    /// The first MAC address or pattern that cannot be one, with the rule it is in.
    pub fn bad_mac(&self) -> Option<(&'static str, &str)> {
        let lists = [
            ("allow_macs", self.allow_macs.as_slice()),
            ("deny_macs", self.deny_macs.as_slice()),
            ("burn_macs", self.burn_macs.as_deref().unwrap_or_default()),
        ];
        let mut all = lists.into_iter().flat_map(|(rule, macs)| macs.iter().map(move |mac| (rule, mac.as_str())));
        all.find(|(_, mac)| mac::digits(mac).is_none())
    }

    /// Each rule that is set, by its name in the file.
    pub fn set(&self) -> Vec<(&'static str, String)> {
        let names = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
        let granted = |names: &Option<Vec<String>>| names.as_ref().map(|names| names.join(", "));
        let risk = self.max_risk.and_then(|risk| serde_json::to_value(risk).ok()?.as_str().map(str::to_string));
        let approval =
            self.approval.and_then(|approval| Some(serde_json::to_value(approval).ok()?.as_str()?.to_string()));
        let roots: Vec<String> = self.project_roots.iter().map(|root| root.display().to_string()).collect();
        let all = [
            ("max_risk", risk),
            ("allow_ports", names(&self.allow_ports)),
            ("deny_ports", names(&self.deny_ports)),
            ("allow_macs", names(&self.allow_macs)),
            ("deny_macs", names(&self.deny_macs)),
            ("approval", approval),
            ("burn_macs", granted(&self.burn_macs)),
            ("burn_recipes", granted(&self.burn_recipes)),
            ("production_recipes", granted(&self.production_recipes)),
            ("vouch", granted(&self.vouch)),
            ("project_roots", names(&roots)),
        ];
        let set = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        set.chain(self.limits.set()).collect()
    }
}

/// Upper bounds. What is left out has only the tools' own bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest file that a call reads or writes, in bytes.
    pub max_file_bytes: Option<u64>,
    /// Fastest rate of a serial line, in baud.
    pub max_baud: Option<u32>,
    /// Most devices that one call may name.
    pub max_devices: Option<u64>,
    /// Most background jobs that may run at once.
    pub max_jobs: Option<u64>,
    /// Longest call, in seconds; it is then cancelled at its next safe point.
    pub max_call_s: Option<f64>,
}

impl Limits {
    /// The smaller of both, one by one.
    pub fn and(self, other: Self) -> Self {
        fn least<T: PartialOrd>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(if other < one { other } else { one }),
                (one, other) => one.or(other),
            }
        }
        Self {
            max_file_bytes: least(self.max_file_bytes, other.max_file_bytes),
            max_baud: least(self.max_baud, other.max_baud),
            max_devices: least(self.max_devices, other.max_devices),
            max_jobs: least(self.max_jobs, other.max_jobs),
            max_call_s: least(self.max_call_s, other.max_call_s),
        }
    }

    /// Each bound that is set, by its name in the file.
    pub fn set(&self) -> Vec<(&'static str, String)> {
        let text = |value: Option<u64>| value.map(|value| value.to_string());
        let all = [
            ("max_file_bytes", text(self.max_file_bytes)),
            ("max_baud", text(self.max_baud.map(u64::from))),
            ("max_devices", text(self.max_devices)),
            ("max_jobs", text(self.max_jobs)),
            ("max_call_s", self.max_call_s.map(|value| value.to_string())),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// What is wrong with a bound, if anything is.
    pub fn fault(&self) -> Option<&'static str> {
        let seconds = self.max_call_s.is_none_or(|seconds| seconds.is_finite() && seconds > 0.0);
        if !seconds {
            return Some("max_call_s is not a time");
        }
        // Every serial loader begins at this rate.
        self.max_baud.is_some_and(|baud| baud < 115_200).then_some("max_baud is below 115200")
    }
}

/// `pattern` with `*` for any text, letters of either case.
pub fn matches(pattern: &str, text: &str) -> bool {
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
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
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
    fn the_smaller_limit_counts() {
        let one = Limits { max_baud: Some(460_800), max_jobs: Some(2), ..Limits::default() };
        let both = one.and(Limits { max_baud: Some(921_600), max_call_s: Some(1.5), ..Limits::default() });
        assert_eq!(both, Limits { max_baud: Some(460_800), max_jobs: Some(2), max_call_s: Some(1.5), ..one });
        assert_eq!(both.set().len(), 3);
        assert!(both.fault().is_none());
        assert!(Limits { max_baud: Some(9600), ..one }.fault().is_some());
        assert!(Limits { max_call_s: Some(f64::NAN), ..one }.fault().is_some());
    }
}
