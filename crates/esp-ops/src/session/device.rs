//! A connected device: from a port's name to a loader that answers, kept warm for the next call.

use std::path::Path;
use std::time::{Duration, Instant};

use esp_link::connect::Report;
use esp_link::options::StubSource;
use esp_link::port::PortUrl;
use esp_link::port::scan::FoundPort;
use esp_link::{ConnectError, ConnectOptions, Loader, LoaderError, Mode};
use esp_model::chip::{self, Identified};
use esp_model::job::Job;
use esp_model::port::Port;

use crate::Call;
use crate::config::Origin;
use crate::console::Line;
use crate::error::{Code, ToolError};
use crate::session::bauds::{self, Bauds};
use crate::session::image::OpenImage;
use crate::session::overrides::Overrides;
use crate::session::sessions::{Lease, Sessions};

/// Rate that every bridge and cable can do.
const SAFE_BAUD: u32 = 115_200;
/// Rate for virtual devices: they have no line that could be bad, and are as fast as they are told.
const VIRTUAL_BAUD: u32 = 2_000_000;

/// Time between two looks for a port that is waited for.
const LOOK_FOR_PORT: Duration = Duration::from_millis(200);

/// A device with a loader that answers.
pub struct Connected {
    /// The loader.
    pub loader: Loader,
    /// The port.
    pub url: PortUrl,
    /// How the connection came about.
    pub report: Report,
    /// Whether the device is reset into its application when the connection goes.
    pub reset_at_end: bool,
    /// The flash image that is the device.
    pub image: Option<OpenImage>,
    /// What the call that connected said about the connection.
    pub made_for: Overrides,
    /// The line belongs to the user's daemon, which keeps it this long for the next call.
    pub borrowed: Option<(Line, Duration)>,
}

/// A connection that waits for the next call. Dropped, it starts the device's application again.
pub struct Warm(Option<Connected>);

impl Warm {
    /// Keeps a connection.
    pub fn new(connected: Connected) -> Self {
        Self(Some(connected))
    }

    /// Closes the connection and leaves the device as it is.
    pub fn leave(mut self) {
        drop(self.0.take());
    }

    /// Gives the port back as it is, and says whether the device is to be reset into its application.
    pub fn into_port(mut self) -> Option<(Box<dyn Port>, bool)> {
        self.0.take().map(|connected| (connected.loader.into_port(), connected.reset_at_end))
    }

    /// The connection, if it is as this call wants it; otherwise it closes.
    fn serving(mut self, wanted: &Overrides) -> Option<Connected> {
        let fits = self.0.as_ref().is_some_and(|connected| wanted.is_served_by(&connected.made_for));
        if fits { self.0.take() } else { None }
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        let Some(connected) = &mut self.0 else { return };
        if let Some((line, idle)) = &connected.borrowed {
            // What is not a stub could not be found again without a reset.
            let idle = if connected.loader.mode() == Mode::Stub { *idle } else { Duration::ZERO };
            return line.leave(connected.reset_at_end, idle);
        }
        if connected.reset_at_end
            && connected.loader.port().info().modem_lines
            && let Err(error) = connected.loader.hard_reset()
        {
            tracing::debug!("{} was not reset: {error}", connected.url);
        }
    }
}

/// All devices of this process, and the rates that their lines have turned out to carry.
pub struct Devices {
    /// Locks and warm connections.
    pub sessions: Sessions<Warm>,
    /// What lines carry.
    bauds: Bauds,
}

impl Devices {
    /// `state`: folder for what is remembered.
    pub fn new(sessions: Sessions<Warm>, state: &Path) -> Self {
        Self { sessions, bauds: Bauds::new(state) }
    }
}

impl Call {
    /// The rate that this port's bridge is known to carry, in baud.
    pub fn known_baud(&self, url: &PortUrl) -> Option<u32> {
        self.devices.bauds.get(&bauds::bridge(url, &self.present(url)))
    }

    /// Remembers the rate that this port's bridge carries.
    pub fn remember_baud(&self, url: &PortUrl, baud: u32) {
        self.devices.bauds.set(&bauds::bridge(url, &self.present(url)), baud);
    }

    /// The serial ports, where the port is one of them.
    fn present(&self, url: &PortUrl) -> Vec<FoundPort> {
        if matches!(url, PortUrl::Serial(_)) { self.ports.serial() } else { Vec::new() }
    }
}

impl Call {
    /// Connects (or uses the warm connection), does `work`, and leaves the connection for the next call.
    pub fn with_device<T>(
        &self,
        port: Option<&PortUrl>,
        job: &Job,
        work: impl FnOnce(&mut Connected) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        let (mut lease, mut connected) = self.take_device(port, job)?;
        let before = connected.loader.port().baud();
        let result = work(&mut connected).map_err(|mut error| {
            error.device_touched = true;
            error
        });
        self.learn_baud(&mut connected, before, result.as_ref().err());
        if let Some(image) = connected.image.take() {
            // What went wrong half-way leaves the file as it was.
            if result.is_ok() {
                image.save(&self.files, &self.images)?;
            }
            return result;
        }
        match &result {
            // After these the loader may be in the middle of something: the next call begins anew.
            Err(error) if error.code.ends_session() => drop(connected),
            _ => leave(&mut lease, connected),
        }
        result
    }

    /// The same for work that does not leave a loader behind: a reset, a program in RAM. The lock goes with the lease.
    pub fn take_device(&self, port: Option<&PortUrl>, job: &Job) -> Result<(Lease<Warm>, Connected), ToolError> {
        let (mut lease, url) = self.lease(port, true, job)?;
        if let Some(warm) = lease.warm.take()
            && let Some(mut connected) = warm.serving(&self.overrides)
            && still_answers(&mut connected.loader, job)
        {
            // The connection may come from a call with another policy.
            connected = self.admitted(&url, connected, job)?;
            connected.reset_at_end = self.overrides.reset_at_end.unwrap_or(connected.reset_at_end);
            return Ok((lease, connected));
        }
        let options = self.options_for(&url);
        let connected = match lease.line.take() {
            Some(line) => self.connect_by(line, &url, options, job)?,
            None => self.connect(&url, options, job)?,
        };
        Ok((lease, connected))
    }

    /// After a step down on a bad line, or when the line failed altogether, the next connection begins lower.
    fn learn_baud(&self, connected: &mut Connected, before: u32, error: Option<&ToolError>) {
        let now = connected.loader.port().baud();
        let failed = error.is_some_and(|error| error.code == Code::LinkLost);
        let carried = if failed { esp_link::flash::slower(now).unwrap_or(now) } else { now };
        if carried < before {
            tracing::info!("{}: {carried} baud from now on", connected.url);
            self.remember_baud(&connected.url, carried);
        }
    }

    /// The port that is meant. Over HTTP a call may name another computer's port only where the configuration does: the
    /// server would otherwise send any text to any address for whoever asks.
    pub fn choose_port(&self, named: Option<&PortUrl>) -> Result<PortUrl, ToolError> {
        let url = self.ports.choose(named, &self.policy)?;
        if matches!(url, PortUrl::Image(_)) && !self.takes_images {
            let text =
                format!("{url} is a flash image: {} needs a device, for it deals with more than flash", self.operation);
            return Err(ToolError::new(Code::ImageHasOnlyFlash, text));
        }
        let leads_away = matches!(url, PortUrl::Socket(_) | PortUrl::Rfc2217(_));
        if self.caller.is_remote && leads_away && !self.ports.is_configured(&url) {
            let text = format!("{url} is not in remote_ports, and a call over HTTP cannot name other addresses");
            let configured = self.ports.remote().iter().map(|remote| remote.url.clone()).collect::<Vec<_>>().join(", ");
            return Err(ToolError::new(Code::PolicyRefused, text)
                .seen("remote_ports", configured)
                .next("use a port that esp_scan_ports lists; a person can add others to remote_ports"));
        }
        Ok(url)
    }

    /// The same, waiting for the port to appear where the call says so.
    pub fn find_port(&self, named: Option<&PortUrl>, job: &Job) -> Result<PortUrl, ToolError> {
        let until = Instant::now() + self.overrides.wait;
        loop {
            let error = match self.choose_port(named) {
                Ok(url) if self.ports.is_present(&url) => return Ok(url),
                // Opening it says what is missing.
                Ok(url) if Instant::now() >= until => return Ok(url),
                Ok(url) => ToolError::new(Code::PortNotFound, format!("{url} is not there")),
                Err(error) => error,
            };
            let may_come = matches!(error.code, Code::NoPort | Code::PortNotFound | Code::WhichPort);
            if !may_come || Instant::now() >= until {
                return Err(error);
            }
            job.check()?;
            job.progress(0, 0, "waiting for the port to appear");
            std::thread::sleep(LOOK_FOR_PORT);
        }
    }

    /// The lock of the port's device, and the port's URL.
    pub fn lease_port(&self, port: Option<&PortUrl>, job: &Job) -> Result<(Lease<Warm>, PortUrl), ToolError> {
        self.lease(port, false, job)
    }

    /// The same; `borrows`: with the line itself, where the daemon lends it.
    fn lease(&self, port: Option<&PortUrl>, borrows: bool, job: &Job) -> Result<(Lease<Warm>, PortUrl), ToolError> {
        let url = self.find_port(port, job)?;
        let key = self.consoles.lease_key(&url);
        let mut lease = self.devices.sessions.lease(&key, &self.holder(), job)?;
        // A connection that is warm has the port already.
        if lease.warm.is_none() && borrows && self.may_borrow(&url) {
            lease.line = self.consoles.borrow(&url, &self.holder())?;
        }
        if lease.warm.is_none() && lease.line.is_none() {
            lease.paused = self.consoles.pause(&url, &self.holder())?;
        }
        Ok((lease, url))
    }

    /// Calls of the command line share what they leave connected, where the daemon can keep it: on serial ports that the
    /// system lists, and on the network where somebody asks for it.
    fn may_borrow(&self, url: &PortUrl) -> bool {
        let usual = self.overrides.before.is_none()
            && self.overrides.no_stub.is_none()
            && self.overrides.reset_at_end.is_none()
            && self.config.text("stub") != "none";
        let asked = self.config.origin("cli_session_idle_s") != Some(&Origin::Default);
        let there = match url {
            PortUrl::Serial(path) => asked || self.present(url).iter().any(|port| port.path == *path),
            PortUrl::Socket(_) | PortUrl::Rfc2217(_) => asked,
            _ => false,
        };
        usual && there && self.shared.is_some() && !self.config.cli_session_idle().is_zero()
    }

    /// Goes on with the stub that the call before left on this line; connects anew where there is none.
    fn connect_by(
        &self,
        line: Line,
        url: &PortUrl,
        options: ConnectOptions,
        job: &Job,
    ) -> Result<Connected, ToolError> {
        let resumed = line.is_warm.then(|| Loader::resume(line.port(), line.baud(), &options, job));
        let (loader, report) = match resumed {
            Some(Ok(resumed)) => resumed,
            _ => self.meet(|| Ok(line.port()), url, options, job)?,
        };
        let borrowed = Some((line, self.shared.unwrap_or_default()));
        let made_for = self.overrides.clone();
        let connected =
            Connected { loader, url: url.clone(), report, reset_at_end: true, image: None, made_for, borrowed };
        self.admitted(url, connected, job)
    }

    /// How to connect to this port when the call says nothing about it: with a loader that runs there, at a rate that its
    /// line carries.
    pub fn options_for(&self, url: &PortUrl) -> ConnectOptions {
        let emulation = self.ports.emulation(url);
        let stub = match (self.config.text("stub"), self.config.path("stub_dir")) {
            ("none", _) => StubSource::None,
            _ if emulation.is_some_and(|emulation| !emulation.runs_stub) => StubSource::None,
            (_, Some(folder)) => StubSource::Folder(folder),
            _ => StubSource::BuiltIn,
        };
        let usual = match url {
            PortUrl::Qemu(_) if self.config.origin("baud") == Some(&Origin::Default) => VIRTUAL_BAUD,
            _ => self.config.baud(),
        };
        let most = self.policy.limits().max_baud.unwrap_or(u32::MAX);
        let known = self.known_baud(url).unwrap_or(u32::MAX);
        let rom_baud = emulation.and_then(|emulation| emulation.rom_baud).unwrap_or(u32::MAX);
        let options = ConnectOptions { baud: usual.min(most).min(known), rom_baud, stub, ..ConnectOptions::default() };
        self.overrides.applied(options)
    }

    /// Opens the port and connects. When the line does not carry the rate, once more at 115200 baud.
    pub fn connect(&self, url: &PortUrl, options: ConnectOptions, job: &Job) -> Result<Connected, ToolError> {
        if let PortUrl::Image(image) = url {
            let image = OpenImage::open(&self.files, image, &self.images)?;
            let (loader, report) = Loader::connect(Box::new(image.port()), &options, job)?;
            return Ok(Connected {
                loader,
                url: url.clone(),
                report,
                reset_at_end: false,
                image: Some(image),
                made_for: self.overrides.clone(),
                borrowed: None,
            });
        }
        let (loader, report) = self.meet(|| self.ports.open(url), url, options, job)?;
        let made_for = self.overrides.clone();
        let reset_at_end = made_for.reset_at_end.unwrap_or(true);
        let connected =
            Connected { loader, url: url.clone(), report, reset_at_end, image: None, made_for, borrowed: None };
        self.admitted(url, connected, job)
    }

    /// Connects over a port, and remembers the rate that it carries.
    fn meet(
        &self,
        open: impl Fn() -> Result<Box<dyn Port>, ToolError>,
        url: &PortUrl,
        mut options: ConnectOptions,
        job: &Job,
    ) -> Result<(Loader, Report), ToolError> {
        let first = options.baud;
        let connected = match Loader::connect(open()?, &options, job) {
            Err(ConnectError::Loader { error, .. }) if first > SAFE_BAUD && is_the_line(&error) => {
                tracing::warn!("{url}: {error}; trying again at {SAFE_BAUD} baud");
                options.baud = SAFE_BAUD;
                Loader::connect(open()?, &options, job)
            }
            other => other,
        };
        let (mut loader, report) = connected.map_err(|error| ToolError::from(error).seen("port", url.to_string()))?;
        let carried = loader.port().baud();
        // A ROM may have no other rate; a stub was slower only because the line was bad.
        if loader.mode() == Mode::Stub && carried < first {
            self.remember_baud(url, carried);
        }
        Ok((loader, report))
    }

    /// The connection, if the device may be used; one that may not gets its application back.
    fn admitted(&self, url: &PortUrl, mut connected: Connected, job: &Job) -> Result<Connected, ToolError> {
        match self.check_identity(url, &mut connected, job) {
            Ok(()) => Ok(connected),
            Err(error) => {
                drop(Warm::new(connected));
                Err(error)
            }
        }
    }

    /// Who is on this port decides whether it may be used: it must be connected to before anything else is done.
    pub fn must_identify(&self, url: &PortUrl) -> bool {
        matches!(url, PortUrl::Mac(_)) || self.policy.names_macs()
    }

    /// Refuses a device that the policy or a `mac:` URL rules out.
    fn check_identity(&self, url: &PortUrl, connected: &mut Connected, job: &Job) -> Result<(), ToolError> {
        let wanted = match url {
            PortUrl::Mac(mac) => Some(*mac),
            _ => None,
        };
        if !self.must_identify(url) {
            return Ok(());
        }
        let found = connected.identify(job)?.map(|identified| identified.mac);
        if let (Some(wanted), true) = (wanted, found != wanted) {
            let found = found.map_or_else(|| "unknown".into(), |mac| mac.to_string());
            return Err(ToolError::new(Code::IdentityMismatch, format!("the device is {found}, not {wanted}")));
        }
        match found {
            Some(mac) => self.policy.allows_mac(mac),
            None => {
                Err(ToolError::new(Code::PolicyRefused, "the policy names devices by MAC, and this one cannot be read"))
            }
        }
    }
}

impl Connected {
    /// Who the chip is, read now; `None` in secure download mode, where eFuses cannot be read.
    pub fn identify(&mut self, job: &Job) -> Result<Option<Identified>, ToolError> {
        if self.loader.mode() == Mode::SecureDownload {
            return Ok(None);
        }
        let chip = self.loader.chip();
        Ok(Some(chip::identify(chip, |address| self.loader.read_reg(job, address))?))
    }

    /// An eFuse field's value now; `None` where this chip has no such field or eFuses cannot be read.
    pub fn efuse_number(&mut self, name: &str, job: &Job) -> Result<Option<u32>, ToolError> {
        let chip = self.loader.chip();
        let table = chip.efuse();
        let Some(field) = table.field(name) else { return Ok(None) };
        let Some(block) = table.block(field.block) else { return Ok(None) };
        if self.loader.mode() == Mode::SecureDownload {
            return Ok(None);
        }
        let mut words = vec![0; usize::from(block.words)];
        for address in table.addresses(field) {
            let word = self.loader.read_reg(job, address)?;
            if let Some(slot) = words.get_mut((address.wrapping_sub(block.read) / 4) as usize) {
                *slot = word;
            }
        }
        Ok(Some(field.number(&words)))
    }

    /// Flash encryption is on: an odd number of bits of the counter is set.
    pub fn is_encrypted(&mut self, job: &Job) -> Result<bool, ToolError> {
        let count = match self.loader.security_info(job) {
            Ok(info) => Some(info.flash_crypt_count.into()),
            Err(error) if error.is_refusal() => match self.efuse_number("SPI_BOOT_CRYPT_CNT", job)? {
                Some(count) => Some(count),
                None => self.efuse_number("FLASH_CRYPT_CNT", job)?,
            },
            Err(LoaderError::Unsupported { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(count.is_some_and(|count: u32| count.count_ones() % 2 == 1))
    }

    /// Refuses where the loader does not read flash at all.
    pub fn must_read_flash(&self) -> Result<(), ToolError> {
        match self.loader.mode() {
            Mode::SecureDownload => {
                Err(ToolError::new(Code::SecureDownload, "in secure download mode flash cannot be read"))
            }
            _ => Ok(self.loader.must_read()?),
        }
    }

    /// The chip's revision; of an image it is not known.
    pub fn revision(&self) -> Option<u16> {
        self.loader.revision().filter(|_| self.image.is_none())
    }

    /// Who the chip is, for a result: of an image nothing but its flash is known.
    pub fn known_identity(&mut self, job: &Job) -> Result<Option<Identified>, ToolError> {
        if self.image.is_some() { Ok(None) } else { self.identify(job) }
    }

    /// The device is simulated or emulated.
    pub fn is_virtual(&mut self) -> bool {
        self.loader.port().info().is_virtual
    }
}

/// Leaves a connection for the next call. Where a console waits for the port, that gets it at once, and starts the
/// application itself, so that it hears its first byte.
fn leave(lease: &mut Lease<Warm>, mut connected: Connected) {
    match lease.paused.take() {
        Some(pause) => {
            let reset = connected.reset_at_end && connected.loader.port().info().modem_lines;
            drop(connected);
            pause.resume(reset);
        }
        None => lease.keep(Warm::new(connected)),
    }
}

/// A question that any loader answers, asked once.
fn still_answers(loader: &mut Loader, job: &Job) -> bool {
    let answer = match loader.mode() {
        Mode::SecureDownload => loader.security_info(job).map(drop),
        _ => loader.read_reg(job, loader.chip().uart.date).map(drop),
    };
    answer.is_ok()
}

fn is_the_line(error: &LoaderError) -> bool {
    matches!(error, LoaderError::NoAnswer { .. } | LoaderError::Protocol { .. } | LoaderError::BadLine { .. })
}
