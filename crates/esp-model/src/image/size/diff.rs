//! Two builds side by side.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Level, Sizes};

/// One thing in two builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Bytes before; 0: it was not there.
    pub before_bytes: u64,
    /// Bytes now; 0: it is gone.
    pub after_bytes: u64,
}

impl Change {
    /// Bytes that were added (or, below 0, saved).
    pub fn delta(&self) -> i64 {
        self.after_bytes as i64 - self.before_bytes as i64
    }
}

/// What changed on a level, the largest change first. What stayed the same is left out.
pub fn changes(before: &Sizes, after: &Sizes, level: Level) -> Vec<Change> {
    compare(&before.totals(level), &after.totals(level))
}

/// What changed in the memories' use.
pub fn memory_changes(before: &Sizes, after: &Sizes) -> Vec<Change> {
    let used = |sizes: &Sizes| sizes.memory.iter().map(|(name, memory)| (name.clone(), memory.used_bytes)).collect();
    compare(&used(before), &used(after))
}

fn compare(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<Change> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let bytes = |of: &BTreeMap<String, u64>, name: &String| of.get(name).copied().unwrap_or(0);
    let mut changes: Vec<Change> = names
        .map(|name| Change { name: name.clone(), before_bytes: bytes(before, name), after_bytes: bytes(after, name) })
        .filter(|change| change.delta() != 0)
        .collect();
    changes.sort_by(|a, b| b.delta().abs().cmp(&a.delta().abs()).then_with(|| a.name.cmp(&b.name)));
    changes
}
