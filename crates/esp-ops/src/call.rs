//! What an operation works with: settings, ports, warm connections, files, and what its caller may do.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esp_model::console::Catalogue;

use crate::boot::findings;
use crate::caller::Caller;
use crate::config::{Config, Origin};
use crate::console::Consoles;
use crate::error::ToolError;
use crate::files::Files;
use crate::files::pinned::Pins;
use crate::guard::audit::AuditLog;
use crate::guard::confirm::Confirmations;
use crate::guard::policy::{self, Policy, Rules};
use crate::session::device::Devices;
use crate::session::image::Changed;
use crate::session::overrides::Overrides;
use crate::session::ports::Ports;
use crate::session::sessions::Sessions;
use crate::session::virtuals::Virtuals;

/// One call; cheap to clone. The first fields are the process's, the others the call's own.
#[derive(Clone)]
pub struct Call {
    /// File, environment and flags.
    pub config: Arc<Config>,
    /// Where ports are found and opened.
    pub ports: Arc<Ports>,
    /// Locks, warm connections, rates that the lines carry.
    pub devices: Arc<Devices>,
    /// Virtual devices.
    pub virtuals: Arc<Virtuals>,
    /// Consoles that are open, here and in the user's daemon.
    pub consoles: Arc<Consoles>,
    /// Plans that wait for a confirmation.
    pub confirmations: Arc<Confirmations>,
    /// What was planned, confirmed and burned.
    pub audit: Arc<AuditLog>,
    /// What consoles are searched for.
    catalogue: Arc<OnceLock<Result<Arc<Catalogue>, ToolError>>>,
    /// What runs; names the holder of a device's lock.
    pub operation: &'static str,
    /// Who calls.
    pub caller: Caller,
    /// The client that called it, where there is one.
    client: Option<Arc<str>>,
    /// What may be done to which device; a call may have narrowed it.
    pub policy: Arc<Policy>,
    /// Files below the project roots.
    pub files: Arc<Files>,
    /// How this call wants its device connected.
    pub overrides: Overrides,
    /// Project roots that the client named.
    roots: Option<Arc<[PathBuf]>>,
    /// The operation works on flash alone: a flash image will do for a device.
    pub(crate) takes_images: bool,
    /// Flash images that this call has changed.
    pub images: Changed,
    /// What the call leaves connected is there for the next one of the command line, for this long.
    pub(crate) shared: Option<Duration>,
}

impl Call {
    /// Reads the policy and prepares the rest; opens and asks nothing.
    pub fn new(config: Config) -> Result<Self, ToolError> {
        let policy = Policy::load(&config)?;
        let files = Arc::new(files_of(&config, &policy, None));
        let virtuals = Arc::new(Virtuals::new(&config));
        let sessions = Sessions::new(config.session_idle(), config.device_timeout());
        let state = config.state_dir();
        let ports = Arc::new(Ports::new(&config, virtuals.clone()));
        let devices = Arc::new(Devices::new(sessions, &state));
        Ok(Self {
            consoles: Arc::new(Consoles::new(&config, ports.clone(), devices.clone())),
            ports,
            devices,
            virtuals,
            confirmations: Arc::new(Confirmations::new(&state)),
            audit: Arc::new(AuditLog::new(&state)),
            catalogue: Arc::default(),
            config: Arc::new(config),
            operation: "",
            caller: Caller::default(),
            client: None,
            policy: Arc::new(policy),
            files,
            overrides: Overrides::default(),
            roots: None,
            takes_images: false,
            images: Changed::default(),
            shared: None,
        })
    }

    /// The next call of the command line goes on where this one ends.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The same for a call of the command line: the next one goes on where it ends. After one that `changes` the device,
    /// the application starts at once.
    #[must_use]
    pub fn sharing(&self, changes: bool) -> Self {
        let idle = if changes { Duration::ZERO } else { self.config.cli_session_idle() };
        Self { shared: Some(idle), ..self.clone() }
    }

    /// What consoles are searched for, with the user's own entries; read when it is first asked for.
    pub fn catalogue(&self) -> Result<Arc<Catalogue>, ToolError> {
        self.catalogue.get_or_init(|| findings::catalogue(&self.config)).clone()
    }

    /// The same, for this operation; `takes_images`: it works on flash alone.
    pub fn named(&self, operation: &'static str, takes_images: bool) -> Self {
        Self { operation, takes_images, images: Changed::default(), ..self.clone() }
    }

    /// The same, for a call that wants its device connected like this.
    #[must_use]
    pub fn with_overrides(&self, overrides: Overrides) -> Self {
        Self { overrides, ..self.clone() }
    }

    /// The same, by this client.
    pub fn for_client(&self, name: &str) -> Self {
        Self { client: Some(name.into()), ..self.clone() }
    }

    /// The same, by this caller.
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// The same, with less allowed.
    pub fn narrowed(&self, rules: Rules) -> Result<Self, ToolError> {
        let policy = self.policy.narrowed("the call", rules)?;
        let files = Arc::new(files_of(&self.config, &policy, self.roots.as_deref()));
        Ok(Self { policy: Arc::new(policy), files, ..self.clone() })
    }

    /// The same, with files whose bytes are settled already.
    pub fn with_pins(&self, pins: Arc<Pins>) -> Self {
        Self { files: Arc::new(self.files.pinned(pins)), ..self.clone() }
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

    /// The same for a person at a terminal: paths may lead anywhere, unless the command line or the policy names folders.
    pub fn of_person(&self) -> Self {
        let fenced = self.config.origin("project_roots") == Some(&Origin::Flag) || !self.policy.bounds().is_empty();
        match std::env::current_dir() {
            Ok(here) if !fenced => {
                Self { files: Arc::new(self.files.as_ref().clone().anywhere(&here)), ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// Who holds what this call locks: the operation, and the client that asked for it.
    pub fn holder(&self) -> String {
        match &self.client {
            Some(client) => format!("{} (called by {client})", self.operation),
            None => self.operation.into(),
        }
    }
}

/// The files that configuration and policy leave. Where nobody set a root, the policy's are the roots.
fn files_of(config: &Config, policy: &Policy, roots: Option<&[PathBuf]>) -> Files {
    let (mut bounds, largest) = (policy.bounds(), policy.limits().max_file_bytes);
    let roots = roots.map_or_else(|| config.project_roots(), <[PathBuf]>::to_vec);
    let private = private(config);
    let usual = Files::new(roots.into_iter().chain(config.sketch_directories()).collect()).keeping_out(&private);
    let files = usual.within(&bounds, largest);
    if files.roots().is_empty() && !bounds.is_empty() && config.origin("project_roots") == Some(&Origin::Default) {
        let first = bounds.remove(0);
        return Files::new(first).keeping_out(&private).within(&bounds, largest);
    }
    files
}

/// What this program keeps for itself: a project that reaches it could approve its own plans.
fn private(config: &Config) -> Vec<PathBuf> {
    let state = config.state_dir();
    let own = ["policy_file", "http_token_file", "share_token_file", "pkcs11_pin_file"]
        .into_iter()
        .filter_map(|name| config.path(name));
    let files = own.chain(policy::system_file()).chain(config.file().map(PathBuf::from));
    let usual = crate::config::default_file(&|name| std::env::var(name).ok());
    // Named one by one, so that they are known by another name (hard link) too.
    let kept = ["audit.jsonl", "http-token", "ledger.db"].map(|name| state.join(name));
    let ledger = config.ledger_file().into_iter().flat_map(|file| {
        let beside = ["-wal", "-shm", "-journal"].map(|end| {
            let mut name = file.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        });
        beside.into_iter().chain([file])
    });
    [state].into_iter().chain(files).chain(usual).chain(kept).chain(ledger).collect()
}
