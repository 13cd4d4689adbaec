//! What every tool may use: the operations' own context, and what only the running program has.

pub mod calls;
pub mod events;
pub mod jobs;
pub mod results;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use esp_ops::Call;
use esp_ops::caller::Caller;
use esp_ops::config::Config;
use esp_ops::error::ToolError;
use esp_ops::files::pinned::Pins;
use esp_ops::guard::policy::Rules;
use esp_ops::session::overrides::Overrides;

use crate::tool::surface::Surface;
use esp_factory::{Desk, Floor, Station};

/// Handed to every call of a tool; cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    call: Call,
    /// What all calls share.
    pub app: Arc<App>,
}

/// What the running program has beyond the operations.
pub struct App {
    /// Which tools are offered.
    pub surface: Surface,
    /// Background jobs.
    pub jobs: jobs::Jobs,
    /// Calls that run now.
    pub calls: calls::Calls,
    /// What changes while the server runs.
    pub events: events::Events,
    /// Texts that were cut in answers.
    pub results: results::Results,
    /// The station's ledger.
    pub desk: Arc<Desk>,
    /// What goes on in production just now.
    pub floor: Arc<Floor>,
}

/// A tool is a call of operations first.
impl Deref for Ctx {
    type Target = Call;
    fn deref(&self) -> &Call {
        &self.call
    }
}

impl Ctx {
    /// Reads the policy and prepares the rest; opens and asks nothing.
    pub fn new(config: Config) -> Result<Self, ToolError> {
        let surface = Surface::new(&config)?;
        let desk = Arc::new(Desk::new(&config));
        let floor = Arc::new(Floor::default());
        floor.name_slots(&config.list("slots"));
        let app = App {
            surface,
            jobs: jobs::Jobs::default(),
            calls: calls::Calls::default(),
            events: events::Events::default(),
            results: results::Results::default(),
            desk,
            floor,
        };
        Ok(Self { call: Call::new(config)?, app: Arc::new(app) })
    }

    /// What production works with in this call.
    pub fn station(&self) -> Station {
        Station { call: self.call.clone(), desk: self.app.desk.clone(), floor: self.app.floor.clone() }
    }

    fn with(&self, call: Call) -> Self {
        Self { call, app: self.app.clone() }
    }

    /// The same, for a call of this tool; `takes_images`: it works on flash alone.
    pub fn for_tool(&self, tool: &'static str, takes_images: bool) -> Self {
        self.with(self.call.named(tool, takes_images))
    }

    /// The same, for a call that wants its device connected like this.
    pub fn with_overrides(&self, overrides: Overrides) -> Self {
        self.with(self.call.with_overrides(overrides))
    }

    /// The same for a call of the command line, see [`esp_ops::Call::sharing`].
    pub fn sharing(&self, changes: bool) -> Self {
        self.with(self.call.sharing(changes))
    }

    /// The same, for a call by this client.
    pub fn for_client(&self, name: &str) -> Self {
        self.with(self.call.for_client(name))
    }

    /// The same, for a call by this caller.
    pub fn for_caller(&self, caller: Caller) -> Self {
        self.with(self.call.for_caller(caller))
    }

    /// The same, with less allowed.
    pub fn narrowed(&self, rules: Rules) -> Result<Self, ToolError> {
        Ok(self.with(self.call.narrowed(rules)?))
    }

    /// The same, with files whose bytes are settled already.
    pub fn with_pins(&self, pins: Arc<Pins>) -> Self {
        self.with(self.call.with_pins(pins))
    }

    /// The same, with the project roots that the client named.
    pub fn with_roots(&self, roots: Arc<[PathBuf]>) -> Self {
        self.with(self.call.with_roots(roots))
    }

    /// The same for a person at a terminal, whose paths may lead anywhere.
    pub fn of_person(&self) -> Self {
        self.with(self.call.of_person())
    }

    /// Stops what still runs in the background, waits a little for it, and gives all devices back.
    pub fn close(&self) {
        self.app.calls.close();
        self.app.jobs.close();
        self.consoles.close();
        self.devices.sessions.close();
    }
}
