//! What may be done to which device. Every layer must allow it: a file of the computer, a file of the configuration, and
//! what a client asks for. Only files can allow what is off without them (burning eFuses); nothing else can widen.

mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use rules::{Limits, Rules};

use crate::config::Config;
use crate::tool::{Entry, Risk};
use crate::tools::error::ToolError;

/// Tools that do what a recipe says and nothing else.
const FOLLOW_RECIPES: [&str; 3] = ["esp_factory_program", "esp_batch_program", "esp_provision_device"];

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
        let system = system.filter(|path| path.exists()).map(Path::to_path_buf);
        for path in system.into_iter().chain(config.path("policy_file")) {
            let bad = |error: String| ToolError::new("bad_configuration", format!("{}: {error}", path.display()));
            let text = fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
            let rules = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
            policy.add(path.display().to_string(), rules, true)?;
        }
        let text = config.text("narrow");
        if !text.is_empty() {
            let bad = |error: toml::de::Error| ToolError::new("bad_configuration", format!("narrow: {error}"));
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
            return Err(ToolError::new("bad_configuration", format!("{origin}: {fault}")));
        }
        for root in &mut rules.project_roots {
            let named = crate::config::expand(&root.to_string_lossy());
            *root = fs::canonicalize(&named).unwrap_or(named);
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

    /// This tool may be listed and called at all.
    pub fn offers(&self, entry: &Entry) -> bool {
        entry.risk <= self.max_risk()
            && (!self.read_only || entry.hints().read_only)
            && (!self.in_production() || entry.risk <= Risk::Resets || FOLLOW_RECIPES.contains(&entry.name))
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
        Err(ToolError::new("policy_refused", text).seen("recipe", hash).seen("locked", is_locked))
    }

    /// Fails unless this tool may be called.
    pub fn allows_tool(&self, entry: &Entry) -> Result<(), ToolError> {
        if self.offers(entry) {
            return Ok(());
        }
        let why = match (self.read_only, entry.risk <= self.max_risk()) {
            (true, _) => "the server is read-only",
            (_, false) => "the policy's max_risk is below it",
            _ => "the policy is in production mode, in which only its recipes change devices",
        };
        Err(ToolError::new("policy_refused", format!("{} may not be called: {why}", entry.name)))
    }

    /// The policy tells ports apart.
    pub fn names_ports(&self) -> bool {
        self.layers().any(|layer| !layer.rules.allow_ports.is_empty() || !layer.rules.deny_ports.is_empty())
    }

    /// Fails unless the port with these names may be used.
    pub fn allows_port(&self, names: &[String]) -> Result<(), ToolError> {
        self.listed("port", names, |rules| (&rules.allow_ports, &rules.deny_ports))
    }

    /// Fails unless one call may name so many devices.
    pub fn allows_devices(&self, count: usize) -> Result<(), ToolError> {
        match self.limits().max_devices {
            Some(most) if count as u64 > most => {
                Err(ToolError::new("limit_reached", format!("{count} devices in one call; the policy allows {most}")))
            }
            _ => Ok(()),
        }
    }

    /// Fails unless a line may run at this rate.
    pub fn allows_baud(&self, baud: u32) -> Result<(), ToolError> {
        match self.limits().max_baud {
            Some(most) if baud > most => {
                Err(ToolError::new("limit_reached", format!("{baud} baud; the policy allows {most}")))
            }
            _ => Ok(()),
        }
    }

    /// The policy tells devices apart by MAC, so that the MAC must be known before anything is done.
    pub fn names_macs(&self) -> bool {
        self.layers().any(|layer| !layer.rules.allow_macs.is_empty() || !layer.rules.deny_macs.is_empty())
    }

    /// Fails unless the device with this base MAC may be used.
    pub fn allows_mac(&self, mac: &str) -> Result<(), ToolError> {
        self.listed("device", &[mac.to_string()], |rules| (&rules.allow_macs, &rules.deny_macs))
    }

    /// Fails unless eFuses of this device may be burned. Virtual devices always may.
    pub fn allows_burn(&self, mac: &str, is_virtual: bool) -> Result<(), ToolError> {
        if is_virtual || self.granted(|rules| rules.burn_macs.as_deref(), |pattern| rules::matches(pattern, mac)) {
            return Ok(());
        }
        Err(ToolError::new("burn_not_allowed", format!("the policy does not allow burning eFuses of {mac}")))
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

    fn listed<'a>(
        &'a self,
        what: &str,
        names: &[String],
        lists: impl Fn(&'a Rules) -> (&'a Vec<String>, &'a Vec<String>),
    ) -> Result<(), ToolError> {
        for layer in self.layers.iter().map(Arc::as_ref) {
            let (allowed, denied) = lists(&layer.rules);
            let named =
                |list: &[String]| list.iter().any(|pattern| names.iter().any(|name| rules::matches(pattern, name)));
            let refused = |why: &str| {
                let name = names.first().map_or("", String::as_str);
                let error = ToolError::new("policy_refused", format!("the {what} {name} {why}"));
                Err(error.seen("policy", layer.origin.as_str()))
            };
            if named(denied) {
                return refused("is on the policy's denied list");
            }
            if !allowed.is_empty() && !named(allowed) {
                return refused("is not on the policy's allowed list");
            }
        }
        Ok(())
    }
}

/// The computer's own policy file: it counts for everybody who starts this program here.
pub fn system_file() -> Option<PathBuf> {
    if cfg!(windows) {
        return std::env::var_os("ProgramData").map(|dir| PathBuf::from(dir).join("mcp-esptool/policy.toml"));
    }
    Some(PathBuf::from("/etc/mcp-esptool/policy.toml"))
}

#[cfg(test)]
mod tests;
