//! Which tools are offered: sets, profiles, single names, exclusions; and how large their list may be.

use esp_ops::config::Config;
use esp_ops::error::{Code, ToolError};
use esp_ops::nearest;

use crate::tool::{Entry, aliases};
use crate::tools::{ALL, sets};

/// A named choice of sets and tools, for clients that do better with few tools.
static PROFILES: &[(&str, &[&str])] = &[
    (
        "bench",
        &[
            "esp_scan_ports",
            "esp_detect_chip",
            "esp_reset_chip",
            "esp_run_firmware",
            "esp_test_connection",
            "esp_flash_firmware",
            "esp_flash_and_run",
            "esp_flash_read",
            "esp_flash_erase",
            "esp_flash_verify",
            "esp_partition_read",
            "esp_nvs",
            "esp_firmware_analyze",
            "esp_console_capture",
            "esp_console",
            "esp_job",
            "esp_docs",
        ],
    ),
    ("factory", &["chip", "flash", "production", "core", "esp_partition_read", "esp_firmware_analyze"]),
    (
        "security",
        &[
            "chip",
            "security",
            "core",
            // A plan is rehearsed on a twin, images are written before bits are burned, and the start is checked.
            "esp_qemu_start",
            "esp_qemu_stop",
            "esp_flash_firmware",
            "esp_flash_backup",
            "esp_boot_check",
        ],
    ),
    ("virtual", &["chip", "flash", "virtual", "core", "esp_console_capture", "esp_boot_check", "esp_partition_read"]),
];

/// What every set with a device needs beside its own tools.
static BASICS: &[&str] = &["esp_scan_ports", "esp_detect_chip", "esp_job", "esp_docs"];
/// Sets that need no device.
static WITHOUT_DEVICE: &[&str] = &["core", "firmware"];

/// The tools that the configuration chooses.
#[derive(Debug, Clone, Default)]
pub struct Surface {
    /// Sets and tool names that are chosen; none means all.
    chosen: Option<Vec<String>>,
    excluded: Vec<String>,
}

impl Surface {
    /// Reads `toolsets`, `tools` and `exclude_tools`. Unknown names are errors.
    pub fn new(config: &Config) -> Result<Self, ToolError> {
        let mut chosen = Vec::new();
        for name in config.list("toolsets") {
            match PROFILES.iter().find(|(profile, _)| *profile == name) {
                Some((_, parts)) => chosen.extend(parts.iter().map(|part| part.to_string())),
                None if sets().contains(&name.as_str()) => {
                    if !WITHOUT_DEVICE.contains(&name.as_str()) {
                        chosen.extend(BASICS.iter().map(|tool| tool.to_string()));
                    }
                    chosen.push(name);
                }
                None => return Err(unknown("toolset", &name, sets().into_iter().chain(PROFILES.iter().map(|p| p.0)))),
            }
        }
        let names = || ALL.iter().map(|entry| entry.name);
        let named = |name: &str| config.list(name).iter().map(|name| aliases::resolve(name).to_string()).collect();
        let (tools, excluded): (Vec<String>, Vec<String>) = (named("tools"), named("exclude_tools"));
        if let Some(name) = tools.iter().chain(&excluded).find(|name| !names().any(|known| known == name.as_str())) {
            return Err(unknown("tool", name, names()));
        }
        chosen.extend(tools);
        Ok(Self { chosen: (!chosen.is_empty()).then_some(chosen), excluded })
    }

    /// A part of the tools was chosen: the client wants a short list.
    pub fn is_choice(&self) -> bool {
        self.chosen.is_some()
    }

    /// This tool is among them.
    pub fn has(&self, entry: &Entry) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == entry.name || name == entry.set);
        !named(&self.excluded) && self.chosen.as_deref().is_none_or(named)
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> ToolError {
    let known: Vec<&str> = known.collect();
    let error = ToolError::new(Code::BadConfiguration, format!("there is no {what} `{name}`"));
    match nearest(name, known.iter().copied()) {
        Some(near) => error.next(format!("use `{near}`")),
        None => error.seen("known", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esp_ops::config::Origin;

    fn surface(settings: &[(&str, &str)]) -> Result<Vec<&'static str>, ToolError> {
        let mut config = Config::default();
        for (name, value) in settings {
            config.set(name, value.to_string(), Origin::Flag)?;
        }
        let surface = Surface::new(&config)?;
        Ok(ALL.iter().filter(|entry| surface.has(entry)).map(|entry| entry.name).collect())
    }

    #[test]
    fn sets_profiles_and_names() {
        assert_eq!(surface(&[]).unwrap().len(), ALL.len());
        assert_eq!(surface(&[("toolsets", "core")]).unwrap(), ["esp_job", "esp_docs"]);
        assert_eq!(surface(&[("toolsets", "core"), ("tools", "esp_detect_chip")]).unwrap().len(), 3);
        let flash = surface(&[("toolsets", "flash")]).unwrap();
        assert!(BASICS.iter().all(|tool| flash.contains(tool)), "a flash tool needs a port: {flash:?}");
        let security = surface(&[("toolsets", "security")]).unwrap();
        assert!(security.contains(&"esp_qemu_start") && security.contains(&"esp_boot_check"));
        assert!(!surface(&[("exclude_tools", "esp_job")]).unwrap().contains(&"esp_job"));
        let bench = surface(&[("toolsets", "bench")]).unwrap();
        assert!(bench.contains(&"esp_flash_firmware") && bench.len() < ALL.len());
        assert_eq!(surface(&[("toolsets", "cores")]).unwrap_err().next_step, "use `core`");
        assert_eq!(surface(&[("tools", "esp_jop")]).unwrap_err().code, Code::BadConfiguration);
    }
}
