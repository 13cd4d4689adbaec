//! The eFuses that the commands work on: of a chip behind a port, or of a virtual one.

use std::path::PathBuf;

use esp_link::burn_facts::Known;
use esp_link::options::StubSource;
use esp_link::port::PortUrl;
use esp_model::chip::{self, Chip};

use esp_model::efuse::lint::{Facts, Severity};
use esp_model::efuse::{Block, Burn, BurnError, EfuseTable, Efuses, Plan, Request, Step, custom, token};
use esp_model::mac::Mac;

use super::{burn, register_file};
use crate::command::Call;
use crate::esptool::session::{Session, failed};
use crate::fault::Fault;
use crate::files;

/// What holds the eFuses.
pub enum Holder {
    /// A chip.
    Device(Box<Session>),
    /// A virtual chip, kept in a file or nowhere.
    Virtual(Option<PathBuf>),
}

/// The eFuses with what is to be burned.
pub struct Bench {
    /// The chip.
    pub chip: &'static Chip,
    /// What it holds.
    pub efuses: Efuses,
    /// What is to be burned.
    pub burn: Burn,
    /// The same, as it was asked for.
    pub requests: Vec<Request>,
    /// Several burns are done together at the end.
    pub batch: bool,
    /// What is to be burned is shown as a token.
    pub show_token: bool,
    /// Where it is.
    pub holder: Holder,
}

impl Bench {
    /// Connects, or reads the file.
    pub fn open(call: &Call<'_>) -> Result<Self, Fault> {
        let wanted = chip::by_name(call.option("chip").unwrap_or("auto"));
        let token = call.option("token");
        let (chip, efuses, holder) = match call.switch("virt") || token.is_some() {
            true => virtual_chip(call, wanted, token)?,
            false => device(call)?,
        };
        let efuses = Efuses { table: table_of(call, efuses.table)?, ..efuses };
        let bench = Self {
            chip,
            burn: Burn::new(efuses.clone()),
            requests: Vec::new(),
            efuses,
            batch: false,
            show_token: false,
            holder,
        };
        bench.say_registers(call);
        Ok(bench)
    }

    /// With `--debug`, what each block's registers hold.
    fn say_registers(&self, call: &Call<'_>) {
        if call.switch("debug") {
            super::dump::blocks(self, call, "read_regs");
        }
    }

    /// Leaves the chip.
    pub fn close(self, call: &Call<'_>) -> Result<(), Fault> {
        match self.holder {
            Holder::Device(mut session) if call.option("after") != Some("no-reset") => session.reset(call),
            _ => Ok(()),
        }
    }

    /// The chip's revision, major × 100 + minor.
    pub fn revision(&self) -> u16 {
        match &self.holder {
            Holder::Device(session) => session.loader.revision().unwrap_or(0),
            Holder::Virtual(_) => register_file::revision(&self.efuses),
        }
    }

    /// Carries out what is to be burned.
    pub fn program(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        let steps = self.burn.steps().map_err(burn::refused)?;
        match &mut self.holder {
            Holder::Device(session) => {
                if let Some(identity) = session.loader.identity().filter(|_| !is_virtual(call)) {
                    let mac = identity.mac;
                    call.host.records_burn(&self.requests, &self.efuses, mac).map_err(Fault::Fatal)?;
                }
                let job = session.job.shielded();
                let burned = session.loader.burn_efuses(&job, self.burn.before(), &steps, |_, _| ());
                burned.map_err(Fault::fatal)?;
                // What was closed cannot be read back any more.
                let read = session.loader.read_efuses(&session.job);
                let read = read.unwrap_or(self.burn.after().map_err(burn::refused)?);
                self.efuses = Efuses { table: self.efuses.table, ..read };
            }
            Holder::Virtual(file) => {
                for step in &steps {
                    if let Some(block) = self.efuses.table.block(step.block) {
                        self.efuses.burn(block, &step.data);
                    }
                }
                if let Some(file) = file {
                    register_file::store(&self.efuses, file)?;
                }
            }
        }
        self.burn = Burn::new(self.efuses.clone());
        self.requests.clear();
        self.say_registers(call);
        Ok(())
    }

    /// Adds what is to be burned.
    pub fn add(&mut self, request: &Request) -> Result<(), BurnError> {
        self.burn.add(request)?;
        self.requests.push(request.clone());
        Ok(())
    }

    /// Refuses a burn that would brick a real chip, and one that nobody confirms and the policy does not allow.
    pub fn may_burn(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        let revision = self.revision();
        let Holder::Device(session) = &mut self.holder else { return Ok(()) };
        let Some(identity) = session.loader.identity() else {
            return Err(Fault::fatal("eFuses cannot be burned in secure download mode."));
        };
        let mac = identity.mac;
        let pretend = is_virtual(call);
        let seen = facts_of_device(session, &self.efuses, &self.requests)?;
        // Virtual devices try out what a real one then gets.
        let (key_taken, mac_taken) = match pretend {
            true => (false, false),
            false => call.host.others_have(&self.requests, &self.efuses, mac).map_err(Fault::Fatal)?,
        };
        let vouched = |what: &str| call.host.vouches(what);
        let facts = Facts {
            key_is_unique: key_taken.then_some(false),
            mac_taken,
            ota_proven: vouched("ota_proven"),
            flash_voltage_known: vouched("flash_voltage"),
            voltage_override_ran: vouched("flash_voltage"),
            flash_wiring_known: vouched("flash_wiring"),
            ..seen
        };
        let plan = Plan::new(self.chip, revision, mac, &self.burn, &facts).map_err(burn::refused)?;
        for finding in plan.findings.iter().filter(|finding| finding.severity != Severity::Deny) {
            call.terminal.warn(&finding.text);
        }
        let denied: Vec<_> = plan.findings.iter().filter(|finding| finding.severity == Severity::Deny).collect();
        if !denied.is_empty() {
            let list: Vec<String> =
                denied.iter().map(|finding| format!("rule {}: {}", finding.rule, finding.text)).collect();
            return Err(Fault::Fatal(format!("This burn is refused.\n  {}", list.join("\n  "))));
        }
        may_be_unasked(call, mac)
    }

    /// Blocks with errors that can be burned again, the last one first.
    fn recoverable(&self) -> Vec<Step> {
        let with_errors = |block: &&Block| self.efuses.errors.iter().any(|error| error.block == block.id);
        let blocks = self.efuses.table.blocks.iter().rev().filter(with_errors);
        blocks.filter_map(|block| Burn::again(&self.efuses, block)).collect()
    }

    /// Burns blocks with errors again as they read. Nothing becomes 1 that does not read as 1 already.
    pub fn recover(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        let steps = self.recoverable();
        let Holder::Device(session) = &mut self.holder else { return Ok(()) };
        if steps.is_empty() {
            return Ok(());
        }
        if let Some(identity) = session.loader.identity() {
            may_be_unasked(call, identity.mac)?;
        }
        call.terminal.say("Recovery of block coding errors");
        burn::confirm(call)?;
        let job = session.job.shielded();
        for step in &steps {
            session
                .loader
                .burn_efuses(&job, &self.efuses, std::slice::from_ref(step), |_, _| ())
                .map_err(Fault::fatal)?;
            call.terminal.say(format_args!("BURN BLOCK{}  - OK (the same data again)", step.block));
        }
        let read = session.loader.read_efuses(&session.job).map_err(failed)?;
        self.efuses = Efuses { table: self.efuses.table, ..read };
        self.burn = Burn::new(self.efuses.clone());
        Ok(())
    }
}

/// `--do-not-confirm` on a real device takes a line in the policy.
fn may_be_unasked(call: &Call<'_>, mac: Mac) -> Result<(), Fault> {
    if !call.switch("do-not-confirm") || is_virtual(call) || call.host.burns_unasked(mac) {
        return Ok(());
    }
    Err(Fault::Fatal(format!(
        "--do-not-confirm burns the eFuses of a real device only where the policy allows it: add burn_macs = \
         [\"{mac}\"] to the policy file, or leave --do-not-confirm out and type BURN."
    )))
}

/// The chip's table, with the fields of `--extend-efuse-table`.
fn table_of(call: &Call<'_>, table: &'static EfuseTable) -> Result<&'static EfuseTable, Fault> {
    let Some(path) = call.option("extend-efuse-table") else { return Ok(table) };
    let text = String::from_utf8_lossy(&files::read(path, "--extend-efuse-table")?).into_owned();
    let extended = custom::extend(table, &text).map_err(|error| Fault::Fatal(format!("{path}: {error}")))?;
    // Tables live as long as the program, which is one line long.
    Ok(Box::leak(Box::new(extended)))
}

/// The port is a simulated or emulated device.
fn is_virtual(call: &Call<'_>) -> bool {
    let url = call.option("port").and_then(|port| port.parse::<PortUrl>().ok());
    matches!(url, Some(PortUrl::Sim { .. } | PortUrl::Qemu(_)))
}

/// What the device tells beyond its eFuses: the same that the tools look at.
fn facts_of_device(session: &mut Session, efuses: &Efuses, requests: &[Request]) -> Result<Facts, Fault> {
    // Without its flash the device may still be burned: what cannot be read is unknown.
    let _ = session.loader.attach_flash(&session.job, None);
    let known = Known { requests, attempts: &session.attempts, ..Known::default() };
    session.loader.burn_facts(&session.job, efuses, &known).map_err(failed)
}

fn device(call: &Call<'_>) -> Result<(&'static Chip, Efuses, Holder), Fault> {
    if call.option("port").is_none()
        && std::env::var_os("ESPTOOL_PORT").is_none()
        && std::env::var_os("ESPPORT").is_none()
    {
        return Err(Fault::Usage("Missing required argument. Please specify the --port option.".into()));
    }
    let mut session = Session::connect(call, StubSource::None)?.0;
    let efuses = session.loader.read_efuses(&session.job).map_err(failed)?;
    Ok((session.loader.chip(), efuses, Holder::Device(Box::new(session))))
}

fn virtual_chip(
    call: &Call<'_>,
    wanted: Option<&'static Chip>,
    text: Option<&str>,
) -> Result<(&'static Chip, Efuses, Holder), Fault> {
    let file = call.option("path-efuse-file").map(PathBuf::from);
    if let Some(text) = text {
        let table = |id: &str, revision| chip::by_name(id).map(|chip| chip.efuse_at(revision));
        let (id, revision, words) = token::decode(text, table).map_err(Fault::fatal)?;
        let chip = chip::by_name(&id).ok_or_else(|| Fault::Fatal(format!("the token's chip {id} is not known")))?;
        if wanted.is_some_and(|wanted| wanted.id != chip.id) {
            return Err(Fault::Fatal(format!(
                "This token is of {}, not {}.",
                chip.name,
                call.option("chip").unwrap_or_default()
            )));
        }
        let efuses = Efuses::new(chip.efuse_at(revision), &words);
        if let Some(file) = &file {
            register_file::store(&efuses, file)?;
        }
        return Ok((chip, efuses, Holder::Virtual(file)));
    }
    // The first of the family, when none is named.
    let chip = wanted.or_else(|| chip::by_chip_id(0)).ok_or_else(|| Fault::fatal("no chip is known"))?;
    let efuses = match &file {
        Some(file) => register_file::load(chip, file)?,
        None => Efuses::blank(chip.efuse_at(0)),
    };
    Ok((chip, efuses, Holder::Virtual(file)))
}
