//! How a user names a port.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use esp_model::mac::{Mac, NotMac};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The name of a port, as typed in a configuration, on a command line or in a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PortUrl {
    /// A serial device of this machine: `/dev/ttyUSB0`, `COM3`.
    Serial(String),
    /// Bytes over TCP, no modem lines: `socket://host:port`.
    Socket(Endpoint),
    /// A serial port over TCP with baud and modem lines: `rfc2217://host:port`.
    Rfc2217(Endpoint),
    /// A pseudo terminal: `pty:/dev/pts/3`.
    Pty(String),
    /// A simulated chip: `sim://CHIP` (one process's own) or `sim://CHIP-NAME`.
    Sim {
        /// The chip's id, such as `esp32c3`.
        chip: String,
        /// Which of them.
        name: Option<String>,
    },
    /// A running virtual device by its id: `qemu://ID`.
    Qemu(String),
    /// Whatever port the chip with this base MAC is on: `mac:24:0a:c4:00:11:22`.
    Mac(Mac),
    /// A file with the content of a flash, used as a device: `image:dump.bin?chip=esp32c3&write=1`.
    Image(ImageFile),
    /// The USB serial port with this vendor and product id: `usb:303a:1001`, or `usb:303a` for any product.
    Usb {
        /// Vendor id.
        vid: u16,
        /// Product id; none: any.
        pid: Option<u16>,
    },
    /// The USB serial port whose device has this serial number: `serial:A50285BI`.
    SerialNumber(String),
    /// The USB serial port at this place on the bus: `location:1-1.4`.
    Location(String),
}

impl PortUrl {
    /// What a port is, in schemas of parameters.
    pub const ABOUT: &str = "Port (default: only board).";

    /// It names a USB serial port by what its device says, and not by a path.
    pub fn selects_usb(&self) -> bool {
        matches!(self, Self::Usb { .. } | Self::SerialNumber(_) | Self::Location(_))
    }
}

/// A flash image as a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageFile {
    /// The file.
    pub path: String,
    /// The chip's id, where the image does not tell it.
    pub chip: Option<String>,
    /// Changes go into the file itself, not into a copy.
    pub write: bool,
}

/// A TCP address by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host name, IPv4 or IPv6 address (without brackets).
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

/// What is wrong with a port's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Nothing was given.
    #[error("the port is empty")]
    Empty,
    /// A scheme that no transport has.
    #[error("unknown scheme {0}:// (known: socket, rfc2217, sim, qemu, pty:, mac:, usb:, serial:, location:, image:)")]
    Scheme(String),
    /// A TCP address without host or with a bad port number.
    #[error("{0:?} is not host:port")]
    Endpoint(String),
    /// A query parameter that means nothing here.
    #[error("unknown parameter {0:?}")]
    Parameter(String),
    /// Not six bytes in hexadecimal.
    #[error(transparent)]
    Mac(#[from] NotMac),
    /// Not `VID` or `VID:PID` in hexadecimal.
    #[error("{0:?} is not a USB id: write VID:PID in hexadecimal, such as 303a:1001")]
    UsbId(String),
    /// A name with characters that no id has.
    #[error("{0:?} is not a name (letters, digits, '.', '_' and '-')")]
    Name(String),
    /// A path with a NUL or control character.
    #[error("{0:?} is not a path")]
    Path(String),
}

impl JsonSchema for PortUrl {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "PortUrl".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": Self::ABOUT})
    }
}

impl FromStr for PortUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "socket" => Ok(Self::Socket(rest.parse()?)),
                "rfc2217" => Ok(Self::Rfc2217(without_query(rest)?.parse()?)),
                "sim" => sim(rest),
                "qemu" => Ok(Self::Qemu(name(rest)?)),
                "pty" => Ok(Self::Pty(path(rest)?)),
                _ => Err(UrlError::Scheme(scheme.into())),
            };
        }
        match text.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("pty") => Ok(Self::Pty(path(rest)?)),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("mac") => Ok(Self::Mac(rest.parse()?)),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("image") => Ok(Self::Image(rest.parse()?)),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("usb") => usb(rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("serial") => Ok(Self::SerialNumber(path(rest)?)),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("location") => Ok(Self::Location(path(rest)?)),
            _ => Ok(Self::Serial(path(text)?)),
        }
    }
}

impl fmt::Display for PortUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(path) => f.write_str(path),
            Self::Socket(at) => write!(f, "socket://{at}"),
            Self::Rfc2217(at) => write!(f, "rfc2217://{at}"),
            Self::Pty(path) => write!(f, "pty:{path}"),
            Self::Sim { chip, name: None } => write!(f, "sim://{chip}"),
            Self::Sim { chip, name: Some(name) } => write!(f, "sim://{chip}-{name}"),
            Self::Qemu(id) => write!(f, "qemu://{id}"),
            Self::Image(image) => write!(f, "image:{image}"),
            Self::Mac(mac) => write!(f, "mac:{mac}"),
            Self::Usb { vid, pid: Some(pid) } => write!(f, "usb:{vid:04x}:{pid:04x}"),
            Self::Usb { vid, pid: None } => write!(f, "usb:{vid:04x}"),
            Self::SerialNumber(number) => write!(f, "serial:{number}"),
            Self::Location(place) => write!(f, "location:{place}"),
        }
    }
}

impl TryFrom<String> for PortUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl From<PortUrl> for String {
    fn from(url: PortUrl) -> Self {
        url.to_string()
    }
}

impl FromStr for ImageFile {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (file, query) = text.split_once('?').unwrap_or((text, ""));
        let mut image = Self { path: path(file)?, chip: None, write: false };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("chip", chip)) => image.chip = Some(name(chip)?.to_ascii_lowercase()),
                Some(("write", "1" | "true")) => image.write = true,
                Some(("write", "0" | "false")) => image.write = false,
                _ => return Err(UrlError::Parameter(parameter.into())),
            }
        }
        Ok(image)
    }
}

impl fmt::Display for ImageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        let chip = self.chip.as_ref().map(|chip| format!("chip={chip}"));
        let write = self.write.then(|| "write=1".to_owned());
        let query: Vec<String> = chip.into_iter().chain(write).collect();
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}

impl FromStr for Endpoint {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let bad = || UrlError::Endpoint(text.into());
        let (host, port) = text.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        let port: u16 = port.parse().map_err(|_| bad())?;
        if host.is_empty() || port == 0 || !host.chars().all(legal) {
            return Err(bad());
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Drops the query parameters that pyserial's URL has: they tune a client that this one is not.
fn without_query(text: &str) -> Result<&str, UrlError> {
    let Some((address, query)) = text.split_once('?') else { return Ok(text) };
    for parameter in query.split('&') {
        let key = parameter.split('=').next().unwrap_or_default();
        if !["ign_set_control", "logging", "poll_modem", "timeout"].contains(&key) {
            return Err(UrlError::Parameter(key.into()));
        }
    }
    Ok(address)
}

fn sim(text: &str) -> Result<PortUrl, UrlError> {
    let whole = name(text)?;
    Ok(match whole.split_once('-') {
        Some((chip, rest)) if !chip.is_empty() && !rest.is_empty() => {
            PortUrl::Sim { chip: chip.to_ascii_lowercase(), name: Some(rest.into()) }
        }
        Some(_) => return Err(UrlError::Name(text.into())),
        None => PortUrl::Sim { chip: whole.to_ascii_lowercase(), name: None },
    })
}

fn name(text: &str) -> Result<String, UrlError> {
    let text = text.trim_end_matches('/');
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.chars().all(legal) {
        return Err(UrlError::Name(text.into()));
    }
    Ok(text.into())
}

fn path(text: &str) -> Result<String, UrlError> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(UrlError::Path(text.into()));
    }
    Ok(text.into())
}

fn usb(text: &str) -> Result<PortUrl, UrlError> {
    let id = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16);
    let read = match text.split_once(':') {
        Some((vid, pid)) => id(vid).and_then(|vid| Ok(PortUrl::Usb { vid, pid: Some(id(pid)?) })),
        None => id(text).map(|vid| PortUrl::Usb { vid, pid: None }),
    };
    read.map_err(|_| UrlError::UsbId(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PortUrl, UrlError> {
        text.parse()
    }

    #[test]
    fn prints_what_it_read() {
        for text in [
            "/dev/ttyUSB0",
            "COM3",
            r"\\.\COM10",
            "socket://localhost:5555",
            "socket://[::1]:5555",
            "rfc2217://10.0.0.7:2217",
            "pty:/dev/pts/3",
            "sim://esp32",
            "sim://esp32c6-left-seat.2",
            "qemu://esp32-1",
            "mac:24:0a:c4:00:11:22",
            "image:dumps/a board.bin",
            "image:dump.bin?chip=esp32c3&write=1",
            "usb:303a:1001",
            "usb:10c4",
            "serial:A50285BI",
            "location:1-1.4",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn reads_other_spellings() {
        assert_eq!(parse("MAC:240AC4001122").unwrap().to_string(), "mac:24:0a:c4:00:11:22");
        assert_eq!(parse("mac:24-0A-C4-00-11-22").unwrap().to_string(), "mac:24:0a:c4:00:11:22");
        assert_eq!(parse("RFC2217://h:1?ign_set_control&timeout=3").unwrap().to_string(), "rfc2217://h:1");
        assert_eq!(parse(" socket://h:1/ ").unwrap().to_string(), "socket://h:1");
        assert_eq!(parse("sim://ESP32-A").unwrap(), PortUrl::Sim { chip: "esp32".into(), name: Some("A".into()) });
    }

    #[test]
    fn refuses_with_a_reason() {
        assert_eq!(parse("  "), Err(UrlError::Empty));
        assert_eq!(parse("tcp://h:1"), Err(UrlError::Scheme("tcp".into())));
        for text in ["h", "h:", "h:0", "h:65536", ":5", "::1:5", "[::1:5", "h h:5"] {
            assert_eq!(parse(&format!("socket://{text}")), Err(UrlError::Endpoint(text.into())), "{text}");
        }
        assert_eq!(parse("rfc2217://h:1?speed=9"), Err(UrlError::Parameter("speed".into())));
        for text in ["24:0a:c4", "24:0a:c4:00:11:2g", "24:0a-c4:00:11:22", "+40ac4001122", "24:0a:c4:00:11:2é"] {
            assert_eq!(parse(&format!("mac:{text}")), Err(UrlError::Mac(NotMac(text.into()))), "{text}");
        }
        for text in ["", "x", "303a:", "303a:10011", "303a:1001:1"] {
            assert_eq!(parse(&format!("usb:{text}")), Err(UrlError::UsbId(text.into())), "{text}");
        }
        for text in ["", "..", "a/b", "-x", "esp32-"] {
            assert!(matches!(parse(&format!("sim://{text}")), Err(UrlError::Name(_))), "{text}");
        }
        for (text, wrong) in [("image:a.bin?write=maybe", "write=maybe"), ("image:a.bin?size=4MB", "size=4MB")] {
            assert_eq!(parse(text), Err(UrlError::Parameter(wrong.into())), "{text}");
        }
        assert_eq!(parse("image:"), Err(UrlError::Path(String::new())));
        assert_eq!(parse("/dev/tty\0"), Err(UrlError::Path("/dev/tty\0".into())));
    }

    #[test]
    fn is_text_in_json() {
        let url: PortUrl = serde_json::from_str("\"socket://h:5\"").unwrap();
        assert_eq!(serde_json::to_string(&url).unwrap(), "\"socket://h:5\"");
        assert!(serde_json::from_str::<PortUrl>("\"x://h:5\"").is_err());
    }
}
