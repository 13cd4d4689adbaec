//! The one place where port URLs become ports.

mod network;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
use crate::own_file;
use crate::session::virtuals::Virtuals;

/// Where ports are found and opened.
pub struct Ports {
    remote: Vec<Remote>,
    sims: Mutex<BTreeMap<String, SimDevice>>,
    most_sims: usize,
    virtuals: Arc<Virtuals>,
    /// File with the token of shared boards.
    token_file: Option<PathBuf>,
}

/// A port of another computer that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name, where the configuration gives one: `bench=rfc2217://host:4000`.
    pub name: Option<String>,
    /// Its URL.
    pub url: String,
}

impl Remote {
    fn new(text: &str) -> Self {
        let is_name = |name: &str| !name.is_empty() && !name.contains([':', '/', '?']);
        match text.split_once('=').filter(|(name, _)| is_name(name.trim())) {
            Some((name, url)) => Self { name: Some(name.trim().into()), url: url.trim().into() },
            None => Self { name: None, url: text.into() },
        }
    }
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
        let remote = config.list("remote_ports").iter().map(|text| Remote::new(text)).collect();
        let token_file = config.path("share_token_file");
        Self { remote, sims: Mutex::default(), most_sims, virtuals, token_file }
    }

    /// The configured remote ports.
    pub fn remote(&self) -> &[Remote] {
        &self.remote
    }

    /// The configuration names this remote port.
    pub fn is_configured(&self, url: &PortUrl) -> bool {
        self.remote.iter().any(|known| known.url.parse().is_ok_and(|known: PortUrl| known == *url))
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
        let remote = self.remote.iter().map(|remote| {
            let about = remote.name.clone().unwrap_or_else(|| "configured".into());
            Candidate { url: remote.url.clone(), about, unknown: false }
        });
        let running = self.running_virtuals().into_iter().map(|status| {
            let about = format!("virtual {}", status.config.chip);
            Candidate { url: PortUrl::Qemu(status.config.id).to_string(), about, unknown: false }
        });
        serial.chain(simulated).chain(running).chain(remote).collect()
    }

    /// The port that is meant: the named one, or the only one there is that the policy allows.
    pub fn choose(&self, named: Option<&PortUrl>, policy: &Policy) -> Result<PortUrl, ToolError> {
        if let Some(url) = named {
            let url = self.resolved(self.by_name(url.clone()))?;
            if policy.names_ports() {
                self.check(&url, policy)?;
            }
            return Ok(url);
        }
        let mut found = self.candidates();
        found.retain(|found| self.allowed(&found.url, policy));
        only_one(found)
    }

    /// A name that the configuration or a virtual device has stands for its URL.
    fn by_name(&self, url: PortUrl) -> PortUrl {
        let PortUrl::Serial(text) = &url else { return url };
        let remote = self.remote.iter().find(|remote| remote.name.as_ref() == Some(text));
        if let Some(Ok(known)) = remote.map(|remote| remote.url.parse()) {
            return known;
        }
        let is_path = text.contains(['/', '\\']) || text.to_ascii_uppercase().starts_with("COM");
        if !is_path && self.running_virtuals().iter().any(|status| status.config.id == *text) {
            return PortUrl::Qemu(text.clone());
        }
        url
    }

    /// The port that a name by USB device (`usb:303a:1001`) stands for; other names stay as they are.
    fn resolved(&self, url: PortUrl) -> Result<PortUrl, ToolError> {
        if !url.selects_usb() {
            return Ok(url);
        }
        Ok(PortUrl::Serial(scan::the_one(&url, &self.serial())?))
    }

    /// The port is there now, as far as that can be seen without opening it.
    pub fn is_present(&self, url: &PortUrl) -> bool {
        match url {
            PortUrl::Serial(path) => Path::new(path).exists() || self.serial().iter().any(|found| found.path == *path),
            PortUrl::Mac(mac) => port::path_of_mac(*mac).is_some(),
            _ => true,
        }
    }

    /// The policy allows the port of this URL.
    pub fn allowed(&self, url: &str, policy: &Policy) -> bool {
        url.parse().is_ok_and(|url| self.check(&url, policy).is_ok())
    }

    /// Fails unless the policy allows this port, by whatever name.
    pub fn check(&self, url: &PortUrl, policy: &Policy) -> Result<(), ToolError> {
        // A flash image is a file: the policy for files decides.
        if !policy.names_ports() || matches!(url, PortUrl::Image(_)) {
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
        // A file that cannot be read matters only to a board that asks for what is in it, and that says so.
        let token = self.token_file.as_deref().and_then(|file| own_file::read_text(file).ok());
        let token = token.map(|text| text.trim().to_owned());
        Ok(port::open_with(url, &OpenOptions { token, ..OpenOptions::default() }, |url| self.open_virtual(url))?)
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

/// The candidate that is meant when none is named: plain UARTs of the computer, with nothing known behind them, never
/// are.
fn only_one(found: Vec<Candidate>) -> Result<PortUrl, ToolError> {
    let listed = |found: &[Candidate]| {
        found.iter().map(|found| format!("{} ({})", found.url, found.about)).collect::<Vec<_>>().join(", ")
    };
    let (plain, known): (Vec<Candidate>, Vec<Candidate>) = found.into_iter().partition(|found| found.unknown);
    match (known.as_slice(), plain.as_slice()) {
        ([only], _) => Ok(only.url.parse()?),
        ([], []) => Err(ToolError::new(Code::NoPort, "no port was named and none was found")),
        ([], [first, ..]) => {
            let text = "no port was named, and no board was found: only serial ports with nothing known behind them";
            let next =
                format!("plug the board in (with a data cable), or pass port={} if it is on that port", first.url);
            Err(ToolError::new(Code::NoPort, text).seen("ports", listed(&plain)).next(next))
        }
        (many, _) => {
            let error = ToolError::new(Code::WhichPort, "no port was named and there are several");
            Err(error.seen("ports", listed(many)))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(url: &str, unknown: bool) -> Candidate {
        Candidate { url: url.into(), about: "about".into(), unknown }
    }

    #[test]
    fn boards_come_before_plain_uarts() {
        let (usb, other) = (candidate("/dev/ttyUSB0", false), candidate("sim://esp32", false));
        let plain = [candidate("/dev/ttyS0", true), candidate("/dev/ttyS1", true)];
        let chosen = |found: &[Candidate]| only_one(found.to_vec()).map(|url| url.to_string());
        let all = [plain.as_slice(), std::slice::from_ref(&usb)].concat();
        assert_eq!(chosen(&all).unwrap(), "/dev/ttyUSB0");
        let error = chosen(&plain).unwrap_err();
        assert!(error.code == Code::NoPort && error.next_step.contains("port=/dev/ttyS0"), "{error}");
        let error = chosen(&[usb, other]).unwrap_err();
        assert!(error.code == Code::WhichPort && error.evidence["ports"].to_string().contains("ttyUSB0"), "{error}");
    }

    #[test]
    fn remote_ports_may_have_names() {
        let remote = |text: &str| Remote::new(text);
        let named = remote("bench = rfc2217://host:4000");
        assert_eq!((named.name.as_deref(), named.url.as_str()), (Some("bench"), "rfc2217://host:4000"));
        assert_eq!(remote("rfc2217://host:4000?timeout=3").name, None);
    }
}
