//! A folder of single files, as releases and chats have them: what each one is, is told by its content.

use std::path::Path;

use esp_model::image;
use esp_model::image::content::{self, Content};
use esp_model::partition::Table;

use crate::Call;

/// Files of a folder that are looked into.
const MOST: usize = 32;

/// What the folder's `.bin` files are.
#[derive(Default)]
pub struct Loose {
    bootloaders: Vec<String>,
    tables: Vec<String>,
    apps: Vec<String>,
    others: Vec<String>,
}

/// Looks into the folder's `.bin` files; blank ones (an otadata of a new build) count for nothing.
pub fn read(call: &Call, folder: &Path) -> Loose {
    let mut loose = Loose::default();
    for name in super::names(folder).into_iter().filter(|name| name.to_ascii_lowercase().ends_with(".bin")).take(MOST) {
        let path = folder.join(&name);
        if !path.is_file() {
            continue;
        }
        // An empty one, or one that may not be read, is nothing known.
        let Ok(bytes) = call.files.read_some(&path.display().to_string()) else {
            loose.others.push(name);
            continue;
        };
        let boots = name.to_ascii_lowercase().contains("boot");
        let kind = match content::of(&bytes, image::parse(&bytes).as_ref()) {
            Content::Bootloader(_) => &mut loose.bootloaders,
            // Older bootloaders do not say what they are.
            Content::Ram(_) if boots => &mut loose.bootloaders,
            Content::App(_) => &mut loose.apps,
            _ if Table::from_binary(&bytes, true).is_ok_and(|table| !table.partitions.is_empty()) => &mut loose.tables,
            _ if bytes.iter().all(|byte| *byte == 0xff) => continue,
            _ => &mut loose.others,
        };
        kind.push(name);
    }
    loose
}

impl Loose {
    /// Bootloader, table and app, where the folder holds one of each and nothing else.
    pub fn set(&self) -> Option<[String; 3]> {
        match (self.bootloaders.as_slice(), self.tables.as_slice(), self.apps.as_slice(), self.others.as_slice()) {
            ([bootloader], [table], [app], []) => Some([bootloader.clone(), table.clone(), app.clone()]),
            _ => None,
        }
    }

    /// What was found, in words. None: no file of a build.
    pub fn told(&self) -> Option<String> {
        let kinds = [("bootloader", &self.bootloaders), ("partition table", &self.tables), ("app", &self.apps)];
        let mut parts: Vec<String> = kinds
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(kind, names)| format!("{kind} {}", names.join(", ")))
            .collect();
        if parts.is_empty() {
            return None;
        }
        parts.extend((!self.others.is_empty()).then(|| format!("not known {}", self.others.join(", "))));
        Some(parts.join("; "))
    }
}
