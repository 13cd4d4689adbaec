//! The one place where port URLs become ports.

mod network;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use esp_link::port::scan::{self, FoundPort};
use esp_link::port::{self, OpenOptions, PortError, PortUrl};
use esp_model::chip::{self, Emulation};
use esp_model::port::Port;
use esp_sim::SimDevice;
use esp_virtual::instance::Backend;
use esp_virtual::manager::Status;

use crate::config::Config;
use crate::error::{Code, ToolError};
use crate::guard::policy::Policy;
use crate::session::virtuals::Virtuals;

/// Where ports are found and opened.
pub struct Ports {
    remote: Vec<String>,
    sims: Mutex<BTreeMap<String, SimDevice>>,
    most_sims: usize,
    virtuals: Arc<Virtuals>,
}

/// A port that may be meant when none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its URL.
    pub url: String,
    /// What is known of it without opening it.
    pub about: String,
    /// It is only a port of this computer, with nothing known behind it: it is not used unless it is named.
    pub unknown: bool,
}

impl Ports {
    /// Remembers the configured remote ports; looks at nothing yet.
    pub fn new(config: &Config, virtuals: Arc<Virtuals>) -> Self {
        let most_sims = config.number("simulated_limit").max(1);
        Self { remote: config.list("remote_ports"), sims: Mutex::default(), most_sims, virtuals }
    }

    /// The configured remote ports.
    pub fn remote(&self) -> &[String] {
        &self.remote
    }

    /// The configuration names this remote port.
    pub fn is_configured(&self, url: &PortUrl) -> bool {
        self.remote.iter().any(|known| known.parse().is_ok_and(|known: PortUrl| known == *url))
    }

    /// The serial ports of this machine, looked up without opening any.
    pub fn serial(&self) -> Vec<FoundPort> {
        scan::scan()
    }

    /// The simulated devices of this process.
    pub fn simulated(&self) -> Vec<SimDevice> {
        self.sims().values().cloned().collect()
    }

    /// Puts a simulated device under its URL, in place of an older one.
    pub fn add_simulated(&self, device: SimDevice) {
        self.sims().insert(device.url().to_string(), device);
    }

    /// Removes a simulated device; true if it was there.
    pub fn remove_simulated(&self, url: &str) -> bool {
        self.sims().remove(url).is_some()
    }

    /// The virtual devices that run, whoever started them.
    pub fn running_virtuals(&self) -> Vec<Status> {
        let all = self.virtuals.manager.list().unwrap_or_default();
        all.into_iter().filter(|status| status.record.is_some()).collect()
    }

    /// How QEMU emulates the chip of this port; `None` where no QEMU is behind it.
    pub fn emulation(&self, url: &PortUrl) -> Option<&'static Emulation> {
        let PortUrl::Qemu(id) = url else { return None };
        let status = self.virtuals.manager.status(id).ok();
        let emulated = status.filter(|status| status.config.backend == Backend::Qemu)?;
        chip::by_name(&emulated.config.chip)?.emulation()
    }

    /// The ports that may be meant when none is named. Opens nothing.
    pub fn candidates(&self) -> Vec<Candidate> {
        let serial = self.serial().into_iter().map(|found| Candidate {
            about: describe(&found),
            unknown: found.usb.is_none(),
            url: found.path,
        });
        let simulated = self.simulated().into_iter();
        let simulated =
            simulated.map(|sim| Candidate { url: sim.url().to_string(), about: "simulated".into(), unknown: false });
        let remote =
            self.remote.iter().map(|url| Candidate { url: url.clone(), about: "configured".into(), unknown: false });
        let running = self.running_virtuals().into_iter().map(|status| {
            let about = format!("virtual {}", status.config.chip);
            Candidate { url: PortUrl::Qemu(status.config.id).to_string(), about, unknown: false }
        });
        serial.chain(simulated).chain(running).chain(remote).collect()
    }

    /// The port that is meant: the named one, or the only one there is that the policy allows.
    pub fn choose(&self, named: Option<&str>, policy: &Policy) -> Result<PortUrl, ToolError> {
        if let Some(text) = named {
            let url: PortUrl = text.parse().map_err(PortError::Url)?;
            if policy.names_ports() {
                self.check(&url, policy)?;
            }
            return Ok(url);
        }
        let mut found = self.candidates();
        found.retain(|found| self.allowed(&found.url, policy));
        match found.as_slice() {
            [only] if only.unknown => {
                let text = format!("no port was named, and {} is a serial port with nothing known behind it", only.url);
                Err(ToolError::new(Code::WhichPort, text)
                    .next(format!("pass port={} if the device is on it", only.url)))
            }
            [only] => Ok(only.url.parse().map_err(PortError::Url)?),
            [] => Err(ToolError::new(Code::NoPort, "no port was named and none was found")),
            many => {
                let list: Vec<String> = many.iter().map(|found| format!("{} ({})", found.url, found.about)).collect();
                let error = ToolError::new(Code::WhichPort, "no port was named and there are several");
                Err(error.seen("ports", list.join(", ")))
            }
        }
    }

    /// The policy allows the port of this URL.
    pub fn allowed(&self, url: &str, policy: &Policy) -> bool {
        url.parse().is_ok_and(|url| self.check(&url, policy).is_ok())
    }

    /// Fails unless the policy allows this port, by whatever name.
    pub fn check(&self, url: &PortUrl, policy: &Policy) -> Result<(), ToolError> {
        if !policy.names_ports() {
            return Ok(());
        }
        let mut also = network::same_line(url, &self.running_virtuals());
        // Who denies a name denies its address.
        let own = network::addresses(url);
        for denied in policy.denied_ports() {
            let other = denied.parse().map(|url| network::addresses(&url)).unwrap_or_default();
            if other.iter().any(|address| own.contains(address)) {
                also.push(denied.to_string());
            }
        }
        policy.allows_port(&self.names(url), &also)
    }

    /// Every name that the policy may know this port by: a link is no way around it.
    fn names(&self, url: &PortUrl) -> Vec<String> {
        let mut names = vec![url.to_string()];
        let real = |path: &str| std::fs::canonicalize(path).map(|real| real.display().to_string());
        if let PortUrl::Serial(path) = url {
            names.extend(real(path));
        }
        let is_it = |found: &FoundPort| match url {
            PortUrl::Mac(mac) => found.usb.as_ref().and_then(|usb| usb.mac()) == Some(*mac),
            _ => names.contains(&found.path),
        };
        if matches!(url, PortUrl::Serial(_) | PortUrl::Mac(_)) {
            let found: Vec<FoundPort> = self.serial().into_iter().filter(is_it).collect();
            names.extend(found.into_iter().flat_map(|found| [vec![found.path], found.links].concat()));
        }
        names
    }

    /// Opens a port at 115200 baud.
    pub fn open(&self, url: &PortUrl) -> Result<Box<dyn Port>, ToolError> {
        Ok(port::open_with(url, &OpenOptions::default(), |url| self.open_virtual(url))?)
    }

    fn open_virtual(&self, url: &PortUrl) -> Result<Box<dyn Port>, PortError> {
        match url {
            PortUrl::Sim { chip, name } => Ok(Box::new(self.sim(url, chip, name.as_deref())?.open())),
            PortUrl::Qemu(id) => Ok(Box::new(self.virtuals.manager.open(id, &OpenOptions::default())?)),
            _ => Err(PortError::Unsupported { url: url.to_string(), what: "not a virtual device".into() }),
        }
    }

    /// The simulated device of this URL, made at its first use.
    fn sim(&self, url: &PortUrl, chip: &str, name: Option<&str>) -> Result<SimDevice, PortError> {
        let shown = url.to_string();
        let mut sims = self.sims();
        if let Some(device) = sims.get(&shown) {
            return Ok(device.clone());
        }
        let chip = chip::by_name(chip).ok_or_else(|| {
            let known = chip::all().iter().map(|chip| chip.id).collect::<Vec<_>>().join(", ");
            PortError::UnknownChip { url: shown.clone(), chip: chip.to_owned(), known }
        })?;
        if sims.len() >= self.most_sims {
            return Err(PortError::TooMany { url: shown, most: self.most_sims });
        }
        // The demonstration's images have headers, but no code that could run.
        let runs = name != Some(IMITATED);
        let config = esp_sim::Config {
            firmware: runs.then_some(esp_machine::firmware::firmware),
            ..esp_sim::Config::new(chip, name.unwrap_or_default())
        };
        let device = SimDevice::new(&config, shown.clone());
        sims.insert(shown, device.clone());
        Ok(device)
    }

    fn sims(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SimDevice>> {
        self.sims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the simulated device that imitates boots on every chip, as the demonstration needs it.
const IMITATED: &str = "demo";

/// Whether a simulated device of this chip and name runs the firmware in its flash.
pub fn simulated_runs_code(chip: &str, name: Option<&str>) -> bool {
    name != Some(IMITATED) && esp_model::chip::by_name(chip).is_some_and(esp_machine::firmware::runs)
}

/// A serial port in a few words: its product, or its driver.
fn describe(found: &FoundPort) -> String {
    let usb = found.usb.as_ref();
    let product = usb.and_then(|usb| usb.product.clone());
    let id = usb.map(|usb| format!("{:04x}:{:04x}", usb.vid, usb.pid));
    let parts: Vec<String> = [id, product, found.driver.clone()].into_iter().flatten().collect();
    if parts.is_empty() { "serial port".into() } else { parts.join(" ") }
}
