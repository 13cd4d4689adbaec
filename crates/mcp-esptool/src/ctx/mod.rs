//! What every tool may use: configuration, policy, files, ports, warm sessions, background jobs.

pub mod bauds;
pub mod confirm;
pub mod device;
pub mod events;
pub mod files;
pub mod jobs;
pub mod policy;
pub mod ports;
pub mod sessions;
pub mod virtuals;

use std::ops::Deref;
use std::sync::Arc;

use crate::config::Config;
use crate::tools::error::ToolError;
use crate::tools::surface::Surface;

/// Handed to every call; cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    shared: Arc<Shared>,
    /// The tool that runs; names the holder of a device's lock.
    pub tool: &'static str,
    /// The client that called it, where there is one.
    client: Option<Arc<str>>,
}

/// What all calls share.
pub struct Shared {
    /// File, environment and flags.
    pub config: Config,
    /// What may be done to which device.
    pub policy: policy::Policy,
    /// Which tools are offered.
    pub surface: Surface,
    /// Files below the project roots.
    pub files: files::Files,
    /// Where ports are found and opened.
    pub ports: ports::Ports,
    /// Locks, warm connections, rates that the lines carry.
    pub devices: device::Devices,
    /// Virtual devices.
    pub virtuals: Arc<virtuals::Virtuals>,
    /// Background jobs.
    pub jobs: jobs::Jobs,
    /// What changes while the server runs.
    pub events: events::Events,
    /// Plans that wait for a confirmation.
    pub confirmations: confirm::Confirmations,
    /// What was planned, confirmed and burned.
    pub audit: confirm::AuditLog,
    /// The station's ledger.
    pub desk: Arc<crate::factory::desk::Desk>,
    /// What goes on in production just now.
    pub floor: Arc<crate::factory::floor::Floor>,
}

impl Deref for Ctx {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Ctx {
    /// Reads the policy and prepares the rest; opens and asks nothing.
    pub fn new(config: Config) -> Result<Self, ToolError> {
        let policy = policy::Policy::load(&config)?;
        let files = files::Files::new(config.project_roots());
        let virtuals = Arc::new(virtuals::Virtuals::new(&config));
        let ports = ports::Ports::new(&config, virtuals.clone());
        let sessions = sessions::Sessions::new(config.session_idle(), config.device_timeout());
        let devices = device::Devices::new(sessions, &config.state_dir());
        let surface = Surface::new(&config)?;
        let state = config.state_dir();
        let (confirmations, audit) = (confirm::Confirmations::new(&state), confirm::AuditLog::new(&state));
        let shared = Shared {
            surface,
            devices,
            policy,
            files,
            ports,
            virtuals,
            jobs: jobs::Jobs::default(),
            events: events::Events::default(),
            confirmations,
            audit,
            desk: Arc::new(crate::factory::desk::Desk::new(&config)),
            floor: Arc::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared), tool: "", client: None })
    }

    /// The same, for a call of this tool.
    pub fn for_tool(&self, tool: &'static str) -> Self {
        Self { tool, ..self.clone() }
    }

    /// The same, for a call by this client.
    pub fn for_client(&self, name: &str) -> Self {
        Self { client: Some(name.into()), ..self.clone() }
    }

    /// Who holds what this call locks: the tool, and the client that called it.
    pub fn holder(&self) -> String {
        match &self.client {
            Some(client) => format!("{} (called by {client})", self.tool),
            None => self.tool.into(),
        }
    }

    /// Stops what still runs in the background, waits a little for it, and gives all devices back.
    pub fn close(&self) {
        self.jobs.close();
        self.devices.sessions.close();
    }
}
