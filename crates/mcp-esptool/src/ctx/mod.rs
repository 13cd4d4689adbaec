//! What every tool may use: configuration, policy, files, ports, warm sessions, background jobs.

pub mod audit;
pub mod bauds;
pub mod caller;
pub mod calls;
pub mod confirm;
pub mod deadline;
pub mod device;
pub mod events;
pub mod files;
pub mod jobs;
pub mod policy;
pub mod ports;
pub mod sessions;
pub mod virtuals;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::config::{Config, Origin};
use crate::error::ToolError;
use crate::tools::diagnostics::findings;
use crate::tools::surface::Surface;

/// Handed to every call; cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    shared: Arc<Shared>,
    /// The tool that runs; names the holder of a device's lock.
    pub tool: &'static str,
    /// Who calls.
    pub caller: caller::Caller,
    /// The client that called it, where there is one.
    client: Option<Arc<str>>,
    /// What may be done to which device; a call may have narrowed it.
    pub policy: Arc<policy::Policy>,
    /// Files below the project roots.
    pub files: Arc<files::Files>,
    /// Project roots that the client named.
    roots: Option<Arc<[PathBuf]>>,
}

/// What all calls share.
pub struct Shared {
    /// File, environment and flags.
    pub config: Config,
    /// Which tools are offered.
    pub surface: Surface,
    /// Where ports are found and opened.
    pub ports: ports::Ports,
    /// Locks, warm connections, rates that the lines carry.
    pub devices: device::Devices,
    /// Virtual devices.
    pub virtuals: Arc<virtuals::Virtuals>,
    /// Background jobs.
    pub jobs: jobs::Jobs,
    /// Calls that run now.
    pub calls: calls::Calls,
    /// What changes while the server runs.
    pub events: events::Events,
    /// Plans that wait for a confirmation.
    pub confirmations: confirm::Confirmations,
    /// What was planned, confirmed and burned.
    pub audit: audit::AuditLog,
    /// The station's ledger.
    pub desk: Arc<crate::factory::desk::Desk>,
    /// What consoles are searched for.
    catalogue: OnceLock<Result<Arc<esp_model::console::Catalogue>, ToolError>>,
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
    /// What consoles are searched for, with the user's own entries; read when it is first asked for.
    pub fn catalogue(&self) -> Result<Arc<esp_model::console::Catalogue>, ToolError> {
        self.catalogue.get_or_init(|| findings::catalogue(&self.config)).clone()
    }

    /// Reads the policy and prepares the rest; opens and asks nothing.
    pub fn new(config: Config) -> Result<Self, ToolError> {
        let policy = policy::Policy::load(&config)?;
        let files = Arc::new(files_of(&config, &policy, None));
        for (root, path) in files.exposed().into_iter().filter(|(_, path)| path.exists()) {
            tracing::warn!(
                "the project root {} contains {}, which stays closed to calls",
                root.display(),
                path.display()
            );
        }
        let virtuals = Arc::new(virtuals::Virtuals::new(&config));
        let ports = ports::Ports::new(&config, virtuals.clone());
        let sessions = sessions::Sessions::new(config.session_idle(), config.device_timeout());
        let devices = device::Devices::new(sessions, &config.state_dir());
        let surface = Surface::new(&config)?;
        let state = config.state_dir();
        let (confirmations, audit) = (confirm::Confirmations::new(&state), audit::AuditLog::new(&state));
        let shared = Shared {
            surface,
            devices,
            ports,
            virtuals,
            jobs: jobs::Jobs::default(),
            calls: calls::Calls::default(),
            events: events::Events::default(),
            confirmations,
            audit,
            desk: Arc::new(crate::factory::desk::Desk::new(&config)),
            floor: Arc::default(),
            catalogue: OnceLock::new(),
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
            tool: "",
            caller: caller::Caller::default(),
            client: None,
            policy: Arc::new(policy),
            files,
            roots: None,
        })
    }

    /// The same, for a call of this tool.
    pub fn for_tool(&self, tool: &'static str) -> Self {
        Self { tool, ..self.clone() }
    }

    /// The same, for a call by this client.
    pub fn for_client(&self, name: &str) -> Self {
        Self { client: Some(name.into()), ..self.clone() }
    }

    /// The same, for a call by this caller.
    pub fn for_caller(&self, caller: caller::Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// The same, with less allowed.
    pub fn narrowed(&self, rules: policy::Rules) -> Result<Self, ToolError> {
        let policy = self.policy.narrowed("the call", rules)?;
        let files = Arc::new(files_of(&self.config, &policy, self.roots.as_deref()));
        Ok(Self { policy: Arc::new(policy), files, ..self.clone() })
    }

    /// Nobody set project roots: a client may name some.
    pub fn takes_roots(&self) -> bool {
        self.config.origin("project_roots") == Some(&Origin::Default)
    }

    /// The same, with the project roots that the client named.
    pub fn with_roots(&self, roots: Arc<[PathBuf]>) -> Self {
        let files = Arc::new(files_of(&self.config, &self.policy, Some(&roots)));
        Self { files, roots: Some(roots), ..self.clone() }
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
        self.calls.close();
        self.jobs.close();
        self.devices.sessions.close();
    }
}

/// The files that configuration and policy leave. Where nobody set a root, the policy's are the roots.
fn files_of(config: &Config, policy: &policy::Policy, roots: Option<&[PathBuf]>) -> files::Files {
    let (mut bounds, largest) = (policy.bounds(), policy.limits().max_file_bytes);
    let roots = roots.map_or_else(|| config.project_roots(), <[PathBuf]>::to_vec);
    let private = private(config);
    let usual = files::Files::new(roots.into_iter().chain(config.sketch_directories()).collect()).keeping_out(&private);
    let files = usual.within(&bounds, largest);
    if files.roots().is_empty() && !bounds.is_empty() && config.origin("project_roots") == Some(&Origin::Default) {
        let first = bounds.remove(0);
        return files::Files::new(first).keeping_out(&private).within(&bounds, largest);
    }
    files
}

/// What this program keeps for itself: a project that reaches it could approve its own plans.
fn private(config: &Config) -> Vec<PathBuf> {
    let state = config.state_dir();
    let own = ["policy_file", "http_token_file", "pkcs11_pin_file"].into_iter().filter_map(|name| config.path(name));
    let files = own.chain(policy::system_file()).chain(config.file().map(PathBuf::from));
    let usual = crate::config::default_file(&|name| std::env::var(name).ok());
    // Named one by one, so that they are known by another name (hard link) too.
    let kept = ["audit.jsonl", "http-token", "ledger.db"].map(|name| state.join(name));
    let ledger = crate::factory::desk::file(config).into_iter().flat_map(|file| {
        let beside = ["-wal", "-shm", "-journal"].map(|end| {
            let mut name = file.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        });
        beside.into_iter().chain([file])
    });
    [state].into_iter().chain(files).chain(usual).chain(kept).chain(ledger).collect()
}
