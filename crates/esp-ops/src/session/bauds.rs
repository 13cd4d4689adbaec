//! The rates that lines have turned out to carry, remembered for each bridge beyond the end of the program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use esp_link::port::PortUrl;
use esp_link::port::scan::FoundPort;

/// Rates by bridge.
pub struct Bauds {
    file: PathBuf,
    known: Mutex<Option<BTreeMap<String, u32>>>,
}

impl Bauds {
    /// Kept in this folder; read when first asked.
    pub fn new(state: &std::path::Path) -> Self {
        Self { file: state.join("bauds.json"), known: Mutex::default() }
    }

    /// The rate that this bridge is known to carry.
    pub fn get(&self, bridge: &str) -> Option<u32> {
        self.with(|known| known.get(bridge).copied())
    }

    /// Remembers the rate that this bridge carries.
    pub fn set(&self, bridge: &str, baud: u32) {
        let changed = self.with(|known| known.insert(bridge.to_owned(), baud) != Some(baud));
        if changed && let Err(error) = self.save() {
            tracing::debug!("{}: {error}", self.file.display());
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, u32>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        look(known.get_or_insert_with(|| {
            let text = fs::read(&self.file).unwrap_or_default();
            serde_json::from_slice(&text).unwrap_or_default()
        }))
    }

    fn save(&self) -> io::Result<()> {
        let folder = self.file.parent().ok_or(io::ErrorKind::NotFound)?;
        crate::own_file::private_dir(folder)?;
        let text = self.with(|known| serde_json::to_vec_pretty(known)).map_err(io::Error::other)?;
        let mut temp = tempfile::NamedTempFile::new_in(folder)?;
        temp.write_all(&text)?;
        temp.persist(&self.file).map(|_| ()).map_err(|error| error.error)
    }
}

/// What a line's limit belongs to: the bridge by its vendor, product and serial number, so that it is found again under
/// another name; else the port's URL.
pub fn bridge(url: &PortUrl, present: &[FoundPort]) -> String {
    let shown = url.to_string();
    let found = present.iter().find(|port| port.path == shown || port.links.contains(&shown));
    match found.and_then(|port| port.usb.as_ref()) {
        Some(usb) => {
            let serial = usb.serial_number.as_deref().or(usb.location.as_deref()).unwrap_or("");
            format!("{:04x}:{:04x}:{serial}", usb.vid, usb.pid)
        }
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esp_link::port::scan::UsbDevice;

    #[test]
    fn rates_outlive_the_program_and_follow_the_bridge() {
        let dir = tempfile::tempdir().unwrap();
        let first = Bauds::new(dir.path());
        assert_eq!(first.get("x"), None);
        first.set("x", 230_400);
        assert_eq!(Bauds::new(dir.path()).get("x"), Some(230_400));
        fs::write(dir.path().join("bauds.json"), "damaged").unwrap();
        assert_eq!(Bauds::new(dir.path()).get("x"), None);

        let usb = UsbDevice { vid: 0x10c4, pid: 0xea60, serial_number: Some("0001".into()), ..UsbDevice::default() };
        let port = |path: &str| FoundPort { path: path.into(), usb: Some(usb.clone()), ..FoundPort::default() };
        let key = |path: &str| bridge(&path.parse().unwrap(), &[port(path)]);
        assert_eq!(key("/dev/ttyUSB0"), "10c4:ea60:0001");
        assert_eq!(key("/dev/ttyUSB0"), key("/dev/ttyUSB7"));
        assert_eq!(bridge(&"socket://h:1".parse().unwrap(), &[]), "socket://h:1");
    }
}
