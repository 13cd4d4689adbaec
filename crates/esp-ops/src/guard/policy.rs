//! What may be done to which device. Every layer must allow it: a file of the computer, a file of the configuration, and
//! what a client asks for. Only files can allow what is off without them (burning eFuses); nothing else can widen.

mod mac;
mod rules;

use esp_model::mac::Mac;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use rules::{Approval, Limits, Rules};

use crate::config::Config;
use crate::error::{Code, ToolError};
use crate::guard::{Operation, Production, Risk};
use crate::own_file;

/// Rules of one origin.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Where they come from.
    pub origin: String,
    /// What they say.
    pub rules: Rules,
    /// A person wrote them down: they may allow burning.
    grants: bool,
}

/// The policy. The default allows everything but burning eFuses of real devices.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    layers: Vec<Arc<Layer>>,
    read_only: bool,
}

impl Policy {
    /// Reads the computer's policy file, the configured one and the configured narrowing. An unreadable one is an error.
    pub fn load(config: &Config) -> Result<Self, ToolError> {
        Self::load_with(config, system_file().as_deref())
    }

    /// The same with another file of the computer.
    fn load_with(config: &Config, system: Option<&Path>) -> Result<Self, ToolError> {
        let mut policy = Self { layers: Vec::new(), read_only: config.flag("read_only") };
        let there = |path: &&Path| match own_file::is_there(path) {
            Ok(there) => Some(Ok(path.to_path_buf())).filter(|_| there),
            Err(error) => Some(Err(ToolError::new(Code::BadConfiguration, format!("{}: {error}", path.display())))),
        };
        let system = system.as_ref().and_then(there).transpose()?;
        for path in system.into_iter().chain(config.path("policy_file")) {
            let bad = |error: String| ToolError::new(Code::BadConfiguration, format!("{}: {error}", path.display()));
            let text = own_file::read_text(&path).map_err(|error| bad(error.to_string()))?;
            let rules = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
            policy.add(path.display().to_string(), rules, true)?;
        }
        let text = config.text("narrow");
        if !text.is_empty() {
            let bad = |error: toml::de::Error| ToolError::new(Code::BadConfiguration, format!("narrow: {error}"));
            let origin = config.origin("narrow").map_or_else(String::new, |origin| format!(" ({origin})"));
            policy.add(format!("narrow{origin}"), toml::from_str(text).map_err(bad)?, false)?;
        }
        Ok(policy)
    }

    /// The same policy, narrowed by these rules. They can forbid and never allow.
    pub fn narrowed(&self, origin: &str, rules: Rules) -> Result<Self, ToolError> {
        let mut policy = self.clone();
        policy.add(origin.into(), rules, false)?;
        Ok(policy)
    }

    fn add(&mut self, origin: String, mut rules: Rules, grants: bool) -> Result<(), ToolError> {
        if let Some(fault) = rules.limits.fault() {
            return Err(ToolError::new(Code::BadConfiguration, format!("{origin}: {fault}")));
        }
        if let Some((rule, mac)) = rules.bad_mac() {
            let text = format!("{origin}: {rule}: `{mac}` is not a MAC address or a pattern of one");
            return Err(
                ToolError::new(Code::BadConfiguration, text).next("write it as 24:0a:c4:00:11:22 or 24:0a:c4:*")
            );
        }
        for root in &mut rules.project_roots {
            let named = crate::config::expand(&root.to_string_lossy());
            *root = crate::paths::real(&named).unwrap_or(named);
        }
        self.layers.push(Arc::new(Layer { origin, rules, grants }));
        Ok(())
    }

    /// All layers, the computer's first.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().map(Arc::as_ref)
    }

    /// The worst that any tool may do.
    pub fn max_risk(&self) -> Risk {
        self.layers().filter_map(|layer| layer.rules.max_risk).min().unwrap_or(Risk::Irreversible)
    }

    /// The bounds of all layers together.
    pub fn limits(&self) -> Limits {
        self.layers().fold(Limits::default(), |limits, layer| limits.and(layer.rules.limits))
    }

    /// Longest call.
    pub fn max_call(&self) -> Option<Duration> {
        self.limits().max_call_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// For each layer that names project roots, these: a file must lie in one of each.
    pub fn bounds(&self) -> Vec<Vec<PathBuf>> {
        self.layers().map(|layer| layer.rules.project_roots.clone()).filter(|roots| !roots.is_empty()).collect()
    }

    /// This tool may be listed: some call of it is allowed.
    pub fn offers(&self, operation: &Operation) -> bool {
        self.refusal(operation, operation.least).is_none()
    }

    /// Why a call of this tool with this risk may not be made.
    fn refusal(&self, operation: &Operation, risk: Risk) -> Option<&'static str> {
        if self.read_only && (risk > Risk::Reads || operation.files) {
            return Some("the server is read-only");
        }
        if risk > self.max_risk() {
            return Some("the policy's max_risk is below it");
        }
        let is_open = match operation.production {
            Production::Closed => risk <= Risk::Resets,
            Production::FollowsRecipe => true,
            Production::KeepsBooks => risk < Risk::Irreversible,
        };
        (self.in_production() && !is_open)
            .then_some("the policy is in production mode, in which only its recipes change devices")
    }

    /// Only named recipes change devices.
    fn in_production(&self) -> bool {
        self.layers().any(|layer| layer.rules.production_recipes.is_some())
    }

    /// Fails unless units may be produced by this recipe. Every layer that names recipes must name it.
    pub fn allows_production(&self, hash: &str, is_locked: bool) -> Result<(), ToolError> {
        let mut named = self.layers().filter_map(|layer| layer.rules.production_recipes.as_ref());
        if !self.in_production() || (is_locked && named.all(|recipes| recipes.iter().any(|named| named == hash))) {
            return Ok(());
        }
        let text = "the policy is in production mode and does not name this recipe in production_recipes";
        Err(ToolError::new(Code::PolicyRefused, text).seen("recipe", hash).seen("locked", is_locked))
    }

    /// Fails unless this tool may be called with this risk.
    pub fn allows_call(&self, operation: &Operation, risk: Risk) -> Result<(), ToolError> {
        let Some(why) = self.refusal(operation, risk) else { return Ok(()) };
        let what = if risk == operation.least {
            operation.name.to_string()
        } else {
            format!("this call of {}", operation.name)
        };
        let risk = serde_json::to_value(risk).unwrap_or_default();
        let error = ToolError::new(Code::PolicyRefused, format!("{what} is not allowed: {why}"));
        Err(error.seen("risk", risk.as_str().unwrap_or_default()))
    }

    /// Fails unless a command that is no tool may do this; `files`: it writes files.
    pub fn allows_command(&self, what: &str, risk: Risk, files: bool) -> Result<(), ToolError> {
        let why = match () {
            () if self.read_only && (files || risk > Risk::Reads) => "the server is read-only",
            () if risk > self.max_risk() => "the policy's max_risk is below it",
            () if self.in_production() && risk > Risk::Resets => "the policy is in production mode",
            () => return Ok(()),
        };
        Err(ToolError::new(Code::PolicyRefused, format!("{what} is not allowed: {why}")))
    }

    /// The policy tells ports apart.
    pub fn names_ports(&self) -> bool {
        self.layers().any(|layer| !layer.rules.allow_ports.is_empty() || !layer.rules.deny_ports.is_empty())
    }

    /// Fails unless the port with these names may be used. `also`: names that only a denial compares, such as the same
    /// line by another protocol.
    pub fn allows_port(&self, names: &[String], also: &[String]) -> Result<(), ToolError> {
        let known = |pattern: &str| names.iter().any(|name| rules::matches(pattern, name));
        let denied = |pattern: &str| known(pattern) || also.iter().any(|name| rules::matches(pattern, name));
        let name = names.first().map_or("", String::as_str);
        self.listed("port", name, |rules| {
            (listed(&rules.allow_ports, known), rules.deny_ports.iter().any(|one| denied(one)))
        })
    }

    /// The ports that are denied by name: their addresses are denied too.
    pub fn denied_ports(&self) -> impl Iterator<Item = &str> {
        self.layers().flat_map(|layer| layer.rules.deny_ports.iter().map(String::as_str))
    }

    /// An MCP client's answer may approve what cannot be undone on this kind of device.
    pub fn client_approves(&self, is_virtual: bool) -> bool {
        let named: Vec<Approval> = self.layers().filter_map(|layer| layer.rules.approval).collect();
        let granted =
            is_virtual || self.layers().any(|layer| layer.grants && layer.rules.approval == Some(Approval::Client));
        granted && !named.contains(&Approval::Terminal)
    }

    /// Fails unless one call may name so many devices.
    pub fn allows_devices(&self, count: usize) -> Result<(), ToolError> {
        match self.limits().max_devices {
            Some(most) if count as u64 > most => Err(ToolError::new(
                Code::LimitReached,
                format!("{count} devices in one call; the policy allows {most}"),
            )),
            _ => Ok(()),
        }
    }

    /// Fails unless a line may run at this rate.
    pub fn allows_baud(&self, baud: u32) -> Result<(), ToolError> {
        match self.limits().max_baud {
            Some(most) if baud > most => {
                Err(ToolError::new(Code::LimitReached, format!("{baud} baud; the policy allows {most}")))
            }
            _ => Ok(()),
        }
    }

    /// The policy tells devices apart by MAC, so that the MAC must be known before anything is done.
    pub fn names_macs(&self) -> bool {
        self.layers().any(|layer| !layer.rules.allow_macs.is_empty() || !layer.rules.deny_macs.is_empty())
    }

    /// Fails unless the device with this base MAC may be used.
    pub fn allows_mac(&self, mac: Mac) -> Result<(), ToolError> {
        let is_it = |pattern: &str| mac::is_it(pattern, mac);
        self.listed("device", &mac.to_string(), |rules| {
            (listed(&rules.allow_macs, is_it), rules.deny_macs.iter().any(|one| is_it(one)))
        })
    }

    /// Fails unless eFuses of this device may be burned. Virtual devices always may.
    pub fn allows_burn(&self, mac: Mac, is_virtual: bool) -> Result<(), ToolError> {
        if is_virtual || self.granted(|rules| rules.burn_macs.as_deref(), |pattern| mac::is_it(pattern, mac)) {
            return Ok(());
        }
        Err(ToolError::new(Code::BurnNotAllowed, format!("the policy does not allow burning eFuses of {mac}")))
    }

    /// The recipe with this hash may burn eFuses without asking for each unit.
    pub fn allows_recipe(&self, hash: &str) -> bool {
        self.granted(|rules| rules.burn_recipes.as_deref(), |known| known == hash)
    }

    /// A person vouches for this.
    pub fn vouches(&self, what: &str) -> bool {
        self.granted(|rules| rules.vouch.as_deref(), |known| known == what)
    }

    /// A file grants it, and every layer that says anything about it does.
    fn granted(&self, list: impl Fn(&Rules) -> Option<&[String]>, is_it: impl Fn(&str) -> bool) -> bool {
        let has = |names: &[String]| names.iter().any(|name| is_it(name));
        self.layers().any(|layer| layer.grants && list(&layer.rules).is_some())
            && self.layers().filter_map(|layer| list(&layer.rules)).all(has)
    }

    /// `lists` says of one layer's rules whether it is allowed (`None`: all are) and whether it is denied.
    fn listed(&self, what: &str, name: &str, lists: impl Fn(&Rules) -> (Option<bool>, bool)) -> Result<(), ToolError> {
        for layer in self.layers() {
            let why = match lists(&layer.rules) {
                (_, true) => "is on the policy's denied list",
                (Some(false), _) => "is not on the policy's allowed list",
                _ => continue,
            };
            let error = ToolError::new(Code::PolicyRefused, format!("the {what} {name} {why}"));
            return Err(error.seen("policy", layer.origin.as_str()));
        }
        Ok(())
    }
}

/// One of the names is it; `None` for an empty list, which allows all.
fn listed(names: &[String], is_it: impl Fn(&str) -> bool) -> Option<bool> {
    (!names.is_empty()).then(|| names.iter().any(|name| is_it(name)))
}

/// The computer's own policy file: it counts for everybody who starts this program here.
pub fn system_file() -> Option<PathBuf> {
    if cfg!(windows) {
        return std::env::var_os("ProgramData").map(|dir| PathBuf::from(dir).join("mcp-esptool").join("policy.toml"));
    }
    Some(PathBuf::from("/etc/mcp-esptool/policy.toml"))
}

#[cfg(test)]
mod tests;
