//! The station's ledger.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use esp_ledger::{Changes, Identity, Ledger, LedgerError, Unit};
use serde_json::{Value as Json, json};

use esp_ops::config::Config;
use esp_ops::error::{Code, ToolError};
use esp_ops::own_file;

use crate::report;

/// The ledger of this station, opened at its first use. Operations are short; nobody holds it while a device works.
pub struct Desk {
    ledger: Mutex<Option<Ledger>>,
    /// Word of runs at other stations, from when it was first asked for.
    changes: OnceLock<Option<Changes>>,
    url: String,
    /// The same, where it is a file.
    file: Option<PathBuf>,
    /// Where it is kept what the ledger's file has issued, outside of it.
    marks: Option<PathBuf>,
    /// The station's name.
    pub station: String,
    /// Who works at it.
    pub operator: String,
    /// The shift that works now.
    pub shift: String,
}

impl Desk {
    /// Reads the settings; opens nothing.
    pub fn new(config: &Config) -> Self {
        let url = match config.text("ledger") {
            "" => config.state_dir().join("ledger.db").display().to_string(),
            url => url.to_owned(),
        };
        let station = match config.text("station") {
            "" => host_name(),
            name => name.to_owned(),
        };
        let marks = Some(config.state_dir().join("ledger-marks"));
        let (operator, shift) = (config.text("operator").to_owned(), config.text("shift").to_owned());
        let (ledger, changes) = (Mutex::default(), OnceLock::new());
        Self { ledger, changes, url, file: config.ledger_file(), marks, station, operator, shift }
    }

    /// A ledger of its own, for a rehearsal.
    pub fn at(path: &Path, station: &str) -> Self {
        let (url, station) = (path.display().to_string(), station.to_owned());
        let file = Some(path.to_owned());
        let (operator, shift) = (String::new(), String::new());
        let (ledger, changes) = (Mutex::default(), OnceLock::new());
        Self { ledger, changes, url, file, marks: None, station, operator, shift }
    }

    /// Where the ledger is, without a password.
    pub fn place(&self) -> String {
        esp_ledger::without_password(&self.url)
    }

    /// A number that grows when a run begins or ends at any station. `None`: the ledger does not tell, ask it now and then.
    pub fn changes(&self) -> Option<u64> {
        self.changes.get_or_init(|| Changes::of(&self.url)).as_ref().map(Changes::count)
    }

    /// Does something with the ledger.
    pub fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> Result<T, LedgerError>) -> Result<T, ToolError> {
        let mut slot = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = match slot.take() {
            Some(ledger) => ledger,
            None => self.open()?,
        };
        Ok(work(slot.insert(ledger))?)
    }

    fn open(&self) -> Result<Ledger, ToolError> {
        if let Some(file) = &self.file {
            let failed = |error: std::io::Error| ToolError::new(Code::LedgerUnreachable, error.to_string());
            own_file::private(file).map_err(failed)?;
        }
        let ledger = Ledger::open(&self.url, &self.station, &computer())?;
        Ok(match &self.marks {
            Some(folder) => ledger.with_marks(folder),
            None => ledger,
        })
    }
}

/// The unit that a person names by its base MAC address or by one of its identities, such as its serial number.
pub fn find_unit(ledger: &mut Ledger, named: &str) -> Result<Option<Unit>, LedgerError> {
    let unit = Unit::new(named);
    if unit.key().is_ok() && ledger.device(&unit)?.is_some() {
        return Ok(Some(unit));
    }
    ledger.holder(named)
}

/// A unit with its identities and its runs, each with what it measured. None when it is not known.
pub fn history(ledger: &mut Ledger, unit: &Unit) -> Result<Option<Json>, LedgerError> {
    let Some(device) = ledger.device(unit)? else { return Ok(None) };
    let shown = |identity: Identity| Identity { value: report::shown(&identity.pool, &identity), ..identity };
    let identities: Vec<Identity> = ledger.of_unit(unit)?.into_iter().map(shown).collect();
    let mut runs = Vec::new();
    for run in ledger.runs(Some(unit), 50)? {
        let measured = ledger.measurements(run.id)?;
        runs.push(json!({"run": run, "measured": measured}));
    }
    let record = ledger.last_event(unit, "record")?.and_then(|event| serde_json::from_str::<Json>(&event.body).ok());
    Ok(Some(json!({"device": device, "identities": identities, "runs": runs, "last_record": record})))
}

/// Something that a copy of the ledger on another computer would not have.
fn computer() -> String {
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()).unwrap_or_else(host_name)
}

fn host_name() -> String {
    let file = std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
    let name = file.filter(|name| !name.is_empty());
    name.or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_else(|| "station".into())
}
