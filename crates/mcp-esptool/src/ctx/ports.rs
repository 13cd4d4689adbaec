//! The one place where port URLs become ports.

use crate::config::Config;
use crate::tools::error::ToolError;

/// Where ports are found and opened.
pub struct Ports {
    remote: Vec<String>,
}

/// A port that may be meant when none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its URL.
    pub url: String,
    /// What is known of it without opening it.
    pub about: String,
}

impl Ports {
    /// Remembers the configured remote ports; looks at nothing yet.
    pub fn new(config: &Config) -> Self {
        Self { remote: config.list("remote_ports") }
    }

    /// The ports that may be meant when none is named. Opens nothing.
    pub fn candidates(&self) -> Vec<Candidate> {
        let remote = self.remote.iter();
        remote.map(|url| Candidate { url: url.clone(), about: "configured".into() }).collect()
    }

    /// The port that is meant: the named one, or the only one there is.
    pub fn choose(&self, named: Option<&str>) -> Result<String, ToolError> {
        if let Some(url) = named {
            return Ok(url.trim().to_string());
        }
        let found = self.candidates();
        match found.as_slice() {
            [only] => Ok(only.url.clone()),
            [] => Err(ToolError::new("no_port", "no port was named and none was found")),
            many => {
                let list: Vec<String> = many.iter().map(|found| format!("{} ({})", found.url, found.about)).collect();
                Err(ToolError::new("which_port", "no port was named and there are several")
                    .seen("ports", list.join(", ")))
            }
        }
    }
}
