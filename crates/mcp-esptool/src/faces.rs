//! The program under other names: `esptool`, `espsecure` … (crate `esp-faces`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use esp_faces::{Face, Host, Hsm};
use esp_link::options::StubSource;
use esp_link::port::{PortError, PortUrl};
use esp_model::efuse::{Efuses, Request};
use esp_model::mac::Mac;
use esp_model::port::Port;
use esp_model::secure::{PublicKey, Scheme};

use esp_ops::config::{Config, Sources};
use esp_ops::console::Pause;
use esp_ops::console::daemon::Place;
use esp_ops::efuse::marks::{self, Mark};
use esp_ops::efuse::pkcs11::Module;
use esp_ops::guard::audit::AuditLog;
use esp_ops::guard::policy::Policy;
use esp_ops::session::ports::Ports;
use esp_ops::session::virtuals::Virtuals;

/// What the faces need from this program; read when it is needed.
struct Program;

/// The console that waits until this program ends.
static PAUSED: Mutex<Option<Pause>> = Mutex::new(None);

impl Host for Program {
    fn open_virtual(&self, url: &PortUrl) -> Result<Box<dyn Port>, PortError> {
        let failed = |what: String| PortError::Virtual { url: url.to_string(), what };
        let ports = config().map(|config| ports(&config)).map_err(failed)?;
        ports.open(url).map_err(|error| failed(error.to_string()))
    }

    fn stubs(&self) -> StubSource {
        let folder = config().ok().and_then(|config| config.path("stub_dir"));
        folder.map_or(StubSource::BuiltIn, StubSource::Folder)
    }

    fn allows_port(&self, url: &PortUrl) -> Result<(), String> {
        let config = config()?;
        let policy = Policy::load(&config).map_err(|error| error.to_string())?;
        ports(&config).check(url, &policy).map_err(|error| error.to_string())?;
        let mut paused = PAUSED.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_none() {
            let place = Place::new(PathBuf::new(), config.state_dir());
            *paused = Pause::of(&place, url, "a command line of esptool").map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn burns_unasked(&self, mac: Mac) -> bool {
        let policy = config().and_then(|config| Policy::load(&config).map_err(|error| error.to_string()));
        policy.is_ok_and(|policy| policy.allows_burn(mac, false).is_ok())
    }

    fn vouches(&self, what: &str) -> bool {
        let policy = config().and_then(|config| Policy::load(&config).map_err(|error| error.to_string()));
        policy.is_ok_and(|policy| policy.vouches(what))
    }

    fn others_have(&self, requests: &[Request], efuses: &Efuses, mac: Mac) -> Result<(bool, bool), String> {
        let audit = AuditLog::new(&config()?.state_dir());
        let taken = marks::taken(&audit, &Mark::of(requests, efuses), Some(mac)).map_err(|error| error.to_string())?;
        Ok((taken.key, taken.mac))
    }

    fn records_burn(&self, requests: &[Request], efuses: &Efuses, mac: Mac) -> Result<(), String> {
        let audit = AuditLog::new(&config()?.state_dir());
        marks::record(&audit, &Mark::of(requests, efuses), mac).map_err(|error| error.to_string())
    }

    fn hsm_public_key(&self, hsm: &Hsm) -> Result<PublicKey, String> {
        module(hsm).public_key(&hsm.public_label).map_err(|error| error.to_string())
    }

    fn hsm_sign(&self, hsm: &Hsm, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, String> {
        module(hsm).sign(&hsm.label, scheme, digest).map_err(|error| error.to_string())
    }
}

fn module(hsm: &Hsm) -> Module {
    Module::in_slot(Path::new(&hsm.library), hsm.slot, hsm.pin.clone())
}

fn config() -> Result<Config, String> {
    let env = |name: &str| std::env::var(name).ok();
    let sources = Sources { file: None, flags: Vec::new(), env: &env };
    Config::load(&sources).map_err(|error| error.to_string())
}

fn ports(config: &Config) -> Ports {
    Ports::new(config, Arc::new(Virtuals::new(config)))
}

/// Runs a face when the program is called by its name, or as `mcp-esptool face NAME …`. Comes before everything else: a
/// face needs no configuration and starts in milliseconds.
pub fn dispatch(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = arguments.map(|word| word.to_string_lossy().into_owned());
    let program = words.next()?;
    if let Some(face) = esp_faces::by_name(&program) {
        return Some(esp_faces::run(face, words.collect(), &Program));
    }
    let face = words.next().filter(|word| word == "face").and_then(|_| words.next());
    let face: &Face = esp_faces::by_name(&face?)?;
    Some(esp_faces::run(face, words.collect(), &Program))
}

/// The names of all faces.
pub fn names() -> Vec<&'static str> {
    esp_faces::FACES.iter().map(|face| face.name).collect()
}
