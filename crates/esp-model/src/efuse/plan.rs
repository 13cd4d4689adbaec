//! A plan: what a chip's eFuses are, what they will be, what that closes, and a hash that a confirmation is bound to.

use sha2::{Digest, Sha256};

use super::burn::{Burn, Step};
use super::lint::{Facts, Finding, Severity, lint};
use super::request::BurnError;
use super::state::Efuses;
use super::value::{Shown, hex};
use super::{Field, bits};
use crate::chip::Chip;

/// Everything about one burn, before it happens. Secrets are in the steps only, and `Debug` does not show them.
#[derive(Clone)]
pub struct Plan {
    /// The chip's id.
    pub chip: &'static str,
    /// Its revision, major × 100 + minor.
    pub revision: u16,
    /// Its base MAC address: the plan is for this chip and no other.
    pub mac: [u8; 6],
    /// What the chip holds now.
    pub before: Efuses,
    /// What it will hold, as far as it can be read then.
    pub after: Efuses,
    /// Programming commands in order.
    pub steps: Vec<Step>,
    /// Fields that change.
    pub changes: Vec<Change>,
    /// Fields that freeze, hide or close without having been asked for.
    pub becomes_impossible: Vec<String>,
    /// What the linter says.
    pub findings: Vec<Finding>,
    /// Hash over chip, MAC address, present state and steps.
    pub hash: [u8; 32],
}

/// A field that changes. A secret's value is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Field name.
    pub field: String,
    /// Block number.
    pub block: u8,
    /// Value now.
    pub before: String,
    /// Value then, or `secret`.
    pub after: String,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan({} {}, {} steps)", self.chip, hex(&self.hash, ' '), self.steps.len())
    }
}

/// What stands in a secret's place.
pub const SECRET: &str = "(secret)";

impl Plan {
    /// Makes a plan. It may be one that must not be carried out: see [`Plan::denied`].
    pub fn new(
        chip: &'static Chip,
        revision: u16,
        mac: [u8; 6],
        burn: &Burn,
        facts: &Facts,
    ) -> Result<Self, BurnError> {
        let (steps, after) = (burn.steps()?, burn.after()?);
        let before = burn.before().clone();
        let united = before.with(burn.pending());
        let changes = changes(&before, &united, &after);
        let becomes_impossible = becomes_impossible(&before, &united, &after, &changes);
        let hash = hash(chip.id, revision, mac, &before, &steps);
        let findings = lint(chip, revision, burn, facts);
        Ok(Self { chip: chip.id, revision, mac, before, after, steps, changes, becomes_impossible, findings, hash })
    }

    /// A rule forbids it.
    pub fn denied(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Deny)
    }

    /// Everything asked for is already burned.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The hash in hex.
    pub fn hash_hex(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn hash(chip: &str, revision: u16, mac: [u8; 6], before: &Efuses, steps: &[Step]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{chip} {revision} {}\n", hex(&mac, ':')));
    for (id, words) in &before.words {
        hash.update([*id]);
        hash.update(bits::to_bytes(words));
    }
    for step in steps {
        hash.update([step.block, step.stage as u8]);
        hash.update(bits::to_bytes(&step.data));
    }
    hash.finalize().into()
}

fn changes(before: &Efuses, united: &Efuses, after: &Efuses) -> Vec<Change> {
    let changed = |field: &&'static Field| {
        let bits = |efuses: &Efuses| field.bytes(efuses.block(field.block));
        bits(before) != bits(united)
    };
    let change = |field: &'static Field| {
        let hidden = !after.readable(&field.read_protect);
        let value = united.value(field);
        let shown = value.meaning.unwrap_or_else(|| value.value.to_string());
        Change {
            field: field.name.clone(),
            block: field.block,
            before: match before.value(field).value {
                Shown::Text(_) if united.holds_secret(field) && !bits::is_zero(before.block(field.block)) => {
                    SECRET.into()
                }
                other => other.to_string(),
            },
            after: if hidden || united.holds_secret(field) { SECRET.into() } else { shown },
        }
    };
    let fields = united.table.fields.iter().filter(|field| !field.composed);
    fields.filter(changed).map(change).collect()
}

impl Efuses {
    /// The field lies in a key block that holds, or may hold, something other than the digest of a public key.
    pub fn holds_secret(&self, field: &Field) -> bool {
        let Some(block) = self.table.block(field.block) else { return true };
        if !block.is_key {
            return false;
        }
        let digest = |name: &str| self.table.key_purposes.iter().any(|purpose| purpose.name == name && purpose.digest);
        match self.purpose(block) {
            Some(purpose) => !digest(&purpose),
            // Without a purpose field only a place that serves digests alone is public.
            None => !self
                .table
                .key_purposes
                .iter()
                .any(|purpose| purpose.digest && purpose.field.as_deref() == Some(field.name.as_str())),
        }
    }
}

/// Fields that could be set before and cannot be set any more, though the plan does not set them.
fn becomes_impossible(before: &Efuses, united: &Efuses, after: &Efuses, changes: &[Change]) -> Vec<String> {
    let lost = |field: &&'static Field| {
        let full = |efuses: &Efuses| field.bytes(efuses.block(field.block)).iter().all(|byte| *byte != 0);
        let asked = changes.iter().any(|change| change.field == field.name);
        let frozen = before.writeable(field.write_protect) && !after.writeable(field.write_protect);
        field.shown && !field.composed && frozen && !asked && !full(united)
    };
    let frozen = after.table.fields.iter().filter(lost).map(|field| format!("setting {}", field.name));
    let hidden = |field: &&'static Field| before.readable(&field.read_protect) && !after.readable(&field.read_protect);
    let unread = after.table.fields.iter().filter(hidden).map(|field| format!("reading {}", field.name));
    let mut out: Vec<_> = frozen.chain(unread).collect();
    for name in super::security::NO_DOWNLOAD {
        if !before.is_set(name) && after.is_set(name) {
            out.push("connecting a loader".into());
        }
    }
    if !before.is_set(super::security::SECURE_DOWNLOAD) && after.is_set(super::security::SECURE_DOWNLOAD) {
        out.push("reading flash, memory and eFuses by the loader".into());
    }
    out
}
