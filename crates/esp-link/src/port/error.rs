//! Why a port cannot be opened.

use std::fmt;
use std::io;

use super::lock::Holder;
use super::url::UrlError;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The name of the port is not one.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// There is no such port on this machine.
    #[error("{url} does not exist")]
    NotFound {
        /// The port.
        url: String,
        /// The ports that are there.
        present: Vec<String>,
    },
    /// Somebody else uses the port.
    #[error("{url} is in use{}", by(holder))]
    Busy {
        /// The port.
        url: String,
        /// Who, where that can be seen.
        holder: Option<Holder>,
    },
    /// This user may not open the device.
    #[error("no permission to open {url}{}", owned(group))]
    Permission {
        /// The port.
        url: String,
        /// The group that may open it.
        group: Option<String>,
    },
    /// The path names something that is no serial line.
    #[error("{url} is not a serial port")]
    NotSerial {
        /// The port.
        url: String,
    },
    /// Nobody answers at the TCP address.
    #[error("cannot connect to {url}: {source}")]
    Unreachable {
        /// The port.
        url: String,
        /// What the network says.
        source: io::Error,
    },
    /// A peer that is not an RFC 2217 server, or refuses what is needed.
    #[error("{url} does not speak RFC 2217: {what}")]
    Rfc2217 {
        /// The port.
        url: String,
        /// What was missing.
        what: String,
    },
    /// No port is known to have the chip with this MAC.
    #[error("no port is known to have the chip {url}")]
    UnknownMac {
        /// The port, `mac:…`.
        url: String,
    },
    /// There is no such chip to simulate.
    #[error("{url}: there is no chip `{chip}` (known: {known})")]
    UnknownChip {
        /// The port.
        url: String,
        /// The name.
        chip: String,
        /// The names that there are.
        known: String,
    },
    /// As many devices are simulated as may be.
    #[error("{url}: {most} devices are simulated already, and at most {most} may be (setting simulated_limit)")]
    TooMany {
        /// The port.
        url: String,
        /// The limit.
        most: usize,
    },
    /// No port of this machine fits the name.
    #[error("no USB serial port fits {url}")]
    NoMatch {
        /// The port, `usb:…`, `serial:…` or `location:…`.
        url: String,
        /// The ports that are there.
        present: Vec<String>,
    },
    /// Several ports of this machine fit the name.
    #[error("{url} fits several ports")]
    Several {
        /// The port, `usb:…`, `serial:…` or `location:…`.
        url: String,
        /// Those that fit.
        matches: Vec<String>,
    },
    /// This kind of port cannot be opened here.
    #[error("{url}: {what}")]
    Unsupported {
        /// The port.
        url: String,
        /// Why not.
        what: String,
    },
    /// The virtual device could not be opened.
    #[error("{url}: {what}")]
    Virtual {
        /// The port.
        url: String,
        /// What its owner says.
        what: String,
    },
    /// The operating system refuses for another reason.
    #[error("cannot open {url}: {source}")]
    Io {
        /// The port.
        url: String,
        /// What it says.
        source: io::Error,
    },
}

fn by(holder: &Option<Holder>) -> String {
    holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
}

fn owned(group: &Option<String>) -> String {
    group.as_ref().map(|group| format!(" (group {group} may)")).unwrap_or_default()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if !self.command.is_empty() {
            write!(f, " ({})", self.command)?;
        }
        if let Some(since) = self.since_unix_s {
            write!(f, " since {since}")?;
        }
        Ok(())
    }
}

/// The line is gone: unplugged, or closed by the peer.
///
/// The kind is `NotConnected` for a device of this machine; sockets report what the network says.
pub(crate) fn gone(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, what.to_string())
}

/// The peer took no byte for as long as a write may take.
pub(crate) fn stuck(written: usize, of: usize) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the line took {written} of {of} bytes, then no more"))
}
