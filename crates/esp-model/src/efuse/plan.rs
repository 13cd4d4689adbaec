//! A plan: what a chip's eFuses are, what they will be, what that closes, and a hash that a confirmation is bound to.

mod lost;

use sha2::{Digest, Sha256};

use super::burn::{Burn, Step};
use super::lint::{Facts, Finding, Severity, lint};
use super::request::BurnError;
use super::state::Efuses;
use super::value::{Shown, hex};
use super::{Field, bits};
use crate::chip::Chip;
use crate::mac::Mac;

/// Everything about one burn, before it happens. Secrets are in the steps only, and `Debug` does not show them.
#[derive(Clone)]
pub struct Plan {
    /// The chip's id.
    pub chip: &'static str,
    /// Its revision, major × 100 + minor.
    pub revision: u16,
    /// Its base MAC address: the plan is for this chip and no other.
    pub mac: Mac,
    /// What the chip holds now.
    pub before: Efuses,
    /// What it will hold, as far as it can be read then.
    pub after: Efuses,
    /// Programming commands in order.
    pub steps: Vec<Step>,
    /// Fields that change.
    pub changes: Vec<Change>,
    /// What can never be done again; empty only when nothing changes.
    pub becomes_impossible: Vec<String>,
    /// What the linter says.
    pub findings: Vec<Finding>,
    /// Hash over chip, MAC address, present state, steps and the images that the flash holds or will hold.
    pub hash: [u8; 32],
}

/// A field that changes. A secret's value is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Field name.
    pub field: String,
    /// Block number.
    pub block: u8,
    /// What the field is for.
    pub about: String,
    /// Value now.
    pub before: String,
    /// Value then, or `secret`.
    pub after: String,
    /// All bits of the field now, in hex; `None` for secrets.
    pub before_hex: Option<String>,
    /// All bits of the field then, in hex; `None` for secrets.
    pub after_hex: Option<String>,
    /// What the new bits of a protection field freeze or hide.
    pub protects: Vec<String>,
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
    pub fn new(chip: &'static Chip, revision: u16, mac: Mac, burn: &Burn, facts: &Facts) -> Result<Self, BurnError> {
        let (steps, after) = (burn.steps()?, burn.after()?);
        let before = burn.before().clone();
        let united = before.with(burn.pending());
        let changes = changes(&before, &united, &after);
        let data = chip.at(revision);
        let case = lost::Case { chip: data, before: &before, united: &united, after: &after, changes: &changes };
        let becomes_impossible = case.all();
        let hash = hash(chip.id, revision, mac, &before, &steps, facts);
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
        crate::hex::encode(self.hash)
    }
}

fn hash(chip: &str, revision: u16, mac: Mac, before: &Efuses, steps: &[Step], facts: &Facts) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{chip} {revision} {}\n", mac));
    for (id, words) in &before.words {
        hash.update([*id]);
        hash.update(bits::to_bytes(words));
    }
    for step in steps {
        hash.update([step.block, step.stage as u8]);
        hash.update(bits::to_bytes(&step.data));
    }
    // What was confirmed with these images is not carried out with others.
    for (address, bytes) in &facts.images {
        hash.update(address.to_le_bytes());
        hash.update(Sha256::digest(bytes));
    }
    for (address, digest) in &facts.apps {
        hash.update(address.to_le_bytes());
        hash.update(digest);
    }
    if let Some(bootloader) = &facts.bootloader {
        hash.update(Sha256::digest(bootloader));
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
        let secret = hidden || united.holds_secret(field);
        let mask = MASKS.contains(&field.name.as_str());
        let shown = match value.meaning {
            Some(meaning) => meaning,
            None if mask => bits_hex(field, united),
            None => value.value.to_string(),
        };
        Change {
            field: field.name.clone(),
            block: field.block,
            about: field.about.clone(),
            before_hex: (!secret).then(|| bits_hex(field, before)),
            after_hex: (!secret).then(|| bits_hex(field, united)),
            protects: if mask { protects(field, before, united) } else { Vec::new() },
            before: match before.value(field).value {
                Shown::Text(_) if united.holds_secret(field) && !bits::is_zero(before.block(field.block)) => {
                    SECRET.into()
                }
                _ if mask => bits_hex(field, before),
                other => other.to_string(),
            },
            after: if secret { SECRET.into() } else { shown },
        }
    };
    let fields = united.table.fields.iter().filter(|field| !field.composed);
    fields.filter(changed).map(change).collect()
}

/// Fields whose bits each protect something.
const MASKS: [&str; 2] = ["WR_DIS", "RD_DIS"];

/// All bits of a field as one hex number, highest digit first.
fn bits_hex(field: &Field, efuses: &Efuses) -> String {
    let bytes = field.bytes(efuses.block(field.block));
    let digits: String = crate::hex::reversed(bytes);
    format!("0x{digits}")
}

/// The shown fields that new bits of WR_DIS freeze, or that new bits of RD_DIS hide.
fn protects(mask: &Field, before: &Efuses, united: &Efuses) -> Vec<String> {
    let writes = mask.name == MASKS[0];
    let newly = |field: &&Field| match writes {
        true => before.writeable(field.write_protect) && !united.writeable(field.write_protect),
        false => before.readable(&field.read_protect) && !united.readable(&field.read_protect),
    };
    let fields = united.table.fields.iter().filter(|field| field.shown && !field.composed);
    fields.filter(newly).map(|field| field.name.clone()).collect()
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
