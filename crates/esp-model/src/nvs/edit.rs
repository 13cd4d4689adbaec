//! Changing images and comparing them.

use super::read::{Contents, Entry, Severity, read};
use super::{Builder, Keys, NvsError, Value, ValueError};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key, adding it and its namespace where needed.
    Set {
        /// Name of the namespace.
        namespace: String,
        /// Key.
        key: String,
        /// New value.
        value: Value,
    },
    /// Removes a key, or a whole namespace.
    Remove {
        /// Name of the namespace.
        namespace: String,
        /// Key; none for all of the namespace.
        key: Option<String>,
    },
}

/// Applies changes to an image that is not encrypted and writes it anew, without erased entries, in the same size and
/// format; encrypted when `keys` are given. Namespaces keep their order.
///
/// Refused when the image has lost data: writing it anew would hide that.
pub fn edit(image: &[u8], changes: &[Change], keys: Option<&Keys>) -> Result<Vec<u8>, NvsError> {
    let contents = read(image);
    if let Some(worst) = contents.worst().filter(|finding| finding.severity() == Severity::Error) {
        return Err(NvsError::Damaged(worst.clone()));
    }
    let mut names: Vec<String> = contents.namespaces.values().map(|name| name.to_string()).collect();
    let mut entries: Vec<(String, String, Value)> =
        contents.entries.iter().map(|e| (e.namespace.to_string(), e.key.clone(), e.value.clone())).collect();
    for change in changes {
        apply(change, &mut names, &mut entries);
    }
    let mut builder = Builder::new(image.len() as u64, contents.version(), keys)?;
    for name in names {
        let at =
            |key: &str, problem: ValueError| NvsError::Entry { namespace: name.clone(), key: key.to_owned(), problem };
        let index = builder.namespace(&name).map_err(|problem| at("", problem))?;
        for (_, key, value) in entries.iter().filter(|(namespace, ..)| *namespace == name) {
            builder.entry(index, key, value).map_err(|problem| at(key, problem))?;
        }
    }
    let mut out = builder.finish();
    out.resize(image.len(), 0xff);
    Ok(out)
}

fn apply(change: &Change, names: &mut Vec<String>, entries: &mut Vec<(String, String, Value)>) {
    match change {
        Change::Set { namespace, key, value } => {
            if !names.contains(namespace) {
                names.push(namespace.clone());
            }
            match entries.iter_mut().find(|(n, k, _)| n == namespace && k == key) {
                Some(entry) => entry.2 = value.clone(),
                None => entries.push((namespace.clone(), key.clone(), value.clone())),
            }
        }
        Change::Remove { namespace, key: Some(key) } => entries.retain(|(n, k, _)| n != namespace || k != key),
        Change::Remove { namespace, key: None } => {
            names.retain(|name| name != namespace);
            entries.retain(|(n, ..)| n != namespace);
        }
    }
}

/// How two images differ in one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Only in the second.
    Added(Entry),
    /// Only in the first.
    Removed(Entry),
    /// In both, with another value (first, second).
    Changed(Entry, Entry),
}

/// Compares what two images hold, not how it lies in flash.
pub fn diff(first: &Contents, second: &Contents) -> Vec<Difference> {
    let key = |entry: &Entry| (entry.namespace.clone(), entry.key.clone());
    let old: std::collections::HashMap<_, _> = first.entries.iter().map(|entry| (key(entry), entry)).collect();
    let new: std::collections::HashMap<_, _> = second.entries.iter().map(|entry| (key(entry), entry)).collect();
    let mut out = Vec::new();
    for entry in &first.entries {
        match new.get(&key(entry)) {
            None => out.push(Difference::Removed(entry.clone())),
            Some(other) if other.value != entry.value => {
                out.push(Difference::Changed(entry.clone(), (*other).clone()));
            }
            Some(_) => {}
        }
    }
    out.extend(second.entries.iter().filter(|e| !old.contains_key(&key(e))).cloned().map(Difference::Added));
    out
}
