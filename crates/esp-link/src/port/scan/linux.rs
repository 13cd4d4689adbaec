//! Linux: sysfs tells everything without a library; `/proc` tells who has a port open.

use std::fs;
use std::path::{Path, PathBuf};

use super::{FoundPort, UsbDevice};
use crate::port::lock::{Holder, shorten};

pub(super) fn ports() -> Vec<FoundPort> {
    ports_in(Path::new("/sys"), Path::new("/dev"))
}

/// The ports that a sysfs tree and a device directory show.
pub(super) fn ports_in(sys: &Path, dev: &Path) -> Vec<FoundPort> {
    let links = stable_links(dev);
    let Ok(entries) = fs::read_dir(sys.join("class/tty")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| is_device(&sys.join("class/tty").join(name)) && dev.join(name).exists())
        .map(|name| {
            let node = dev.join(&name);
            FoundPort {
                usb: usb_in(sys, &name),
                driver: driver_in(sys, &name),
                links: links.iter().filter(|(_, to)| *to == node).map(|(link, _)| link.clone()).collect(),
                path: node.to_string_lossy().into_owned(),
                holder: None,
            }
        })
        .collect()
}

pub(super) fn usb_of(path: &Path) -> Option<UsbDevice> {
    usb_in(Path::new("/sys"), path.file_name()?.to_str()?)
}

pub(super) fn driver_of(path: &Path) -> Option<String> {
    driver_in(Path::new("/sys"), path.file_name()?.to_str()?)
}

/// A tty with hardware behind it. Virtual consoles have no `device`; of the 8250 driver's slots, those without a
/// UART have the type 0 (`PORT_UNKNOWN`, linux/serial.h).
fn is_device(tty: &Path) -> bool {
    tty.join("device").exists() && text(&tty.join("type")).is_none_or(|kind| kind != "0")
}

fn usb_in(sys: &Path, name: &str) -> Option<UsbDevice> {
    let device = fs::canonicalize(sys.join("class/tty").join(name).join("device")).ok()?;
    let interface = device.ancestors().find(|dir| dir.join("bInterfaceNumber").exists());
    let unit = device.ancestors().find(|dir| dir.join("idVendor").exists())?;
    let id = |file: &str| u16::from_str_radix(&text(&unit.join(file))?, 16).ok();
    Some(UsbDevice {
        vid: id("idVendor")?,
        pid: id("idProduct")?,
        product: text(&unit.join("product")),
        manufacturer: text(&unit.join("manufacturer")),
        serial_number: text(&unit.join("serial")),
        location: interface.unwrap_or(unit).file_name().map(|name| name.to_string_lossy().into_owned()),
        enumeration: text(&unit.join("devnum")).and_then(|n| n.parse().ok()),
    })
}

fn driver_in(sys: &Path, name: &str) -> Option<String> {
    let driver = fs::read_link(sys.join("class/tty").join(name).join("device/driver")).ok()?;
    driver.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn text(file: &Path) -> Option<String> {
    let text = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text).trim().to_string();
    (!text.is_empty()).then_some(text)
}

/// Each link below `serial/by-id` and `serial/by-path`, and where it leads.
fn stable_links(dev: &Path) -> Vec<(String, PathBuf)> {
    let mut links = Vec::new();
    for kind in ["serial/by-id", "serial/by-path"] {
        for entry in fs::read_dir(dev.join(kind)).into_iter().flatten().flatten() {
            if let Ok(to) = fs::canonicalize(entry.path()) {
                links.push((entry.path().to_string_lossy().into_owned(), to));
            }
        }
    }
    links.sort();
    links
}

/// Looks at the open files of all processes that this user may see.
pub(super) fn holders(paths: &[PathBuf]) -> Vec<Option<Holder>> {
    let mut found = vec![None; paths.len()];
    let me = std::process::id();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == me {
            continue;
        }
        for fd in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            for (path, found) in paths.iter().zip(&mut found) {
                if *path == target && found.is_none() {
                    *found = Some(Holder { pid, command: command(&process.path()), since_unix_s: None });
                }
            }
        }
    }
    found
}

fn command(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|b| *b == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    shorten(&words.join(" "))
}
