//! What is wrong with a plan: rules that keep a chip from becoming a brick, or from being less safe than it looks.
//!
//! The rules' numbers are stable; `docs/safety.md` describes them. `Deny` cannot be overridden by a caller.

mod keys;
mod rules;

use super::burn::Burn;
use super::security::SecurityView;
use super::state::Efuses;
use super::{Stage, Step};
use crate::chip::Chip;

/// What the linter must know beyond the eFuses. The default knows nothing, and nothing unknown passes.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What the chip is for.
    pub profile: Profile,
    /// The bootloader that is in flash now, with its signature sector.
    pub bootloader: Option<Vec<u8>>,
    /// What is in flash with respect to encryption.
    pub flash: FlashContent,
    /// No other chip has this flash encryption key.
    pub key_is_unique: Option<bool>,
    /// Flash encryption is wanted on this chip, now or later.
    pub encryption_wanted: bool,
    /// An update over the air was seen to boot on this chip.
    pub ota_proven: bool,
    /// The flash part's voltage is known from its data sheet or part number.
    pub flash_voltage_known: bool,
    /// The chip booted with the wanted voltage set by register, without burning.
    pub voltage_override_ran: bool,
    /// Two reads of the eFuses gave the same.
    pub reads_agree: bool,
    /// The chip's log showed a brown-out in this session.
    pub brownout: bool,
    /// The chip's data covers its revision.
    pub revision_known: bool,
    /// The custom MAC address belongs to another device already.
    pub mac_taken: bool,
    /// How the flash part is wired (lines, pins, pages, supply) is known from the schematic.
    pub flash_wiring_known: bool,
    /// What the flash will hold when the bits are burned, before encryption: address and bytes.
    pub images: Vec<(u32, Vec<u8>)>,
    /// The apps that are in flash now: address and digest.
    pub apps: Vec<(u32, Vec<u8>)>,
}

/// What the chip is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// A board on a desk.
    #[default]
    Development,
    /// A product.
    Production,
}

/// What is in flash with respect to encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlashContent {
    /// Nobody looked.
    #[default]
    Unknown,
    /// Plain, and nothing will encrypt it.
    Plain,
    /// Encrypted with the key of the plan.
    Encrypted,
    /// Plain, with a bootloader that encrypts it at its first start.
    EncryptsAtBoot,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Think about it.
    Warn,
    /// Must not be done.
    Deny,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Number of the rule.
    pub rule: u8,
    /// How bad it is.
    pub severity: Severity,
    /// What and why, without secrets.
    pub text: String,
}

impl Finding {
    fn new(rule: u8, severity: Severity, text: impl Into<String>) -> Self {
        Self { rule, severity, text: text.into() }
    }
}

/// Checks a plan. The worst findings come first.
pub fn lint(chip: &Chip, revision: u16, burn: &Burn, facts: &Facts) -> Vec<Finding> {
    let (after, steps) = match (burn.after(), burn.steps()) {
        (Ok(after), Ok(steps)) => (after, steps),
        (Err(error), _) | (_, Err(error)) => return vec![Finding::new(6, Severity::Deny, error.to_string())],
    };
    let united = burn.before().with(burn.pending());
    let data = chip.at(revision);
    let case = Case {
        facts,
        revision,
        before: SecurityView { chip: data, efuses: burn.before() },
        after: SecurityView { chip: data, efuses: &after },
        united: SecurityView { chip: data, efuses: &united },
    };
    let mut found = case.run();
    found.extend(order(&steps));
    found.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.rule));
    found.dedup();
    found
}

/// A plan seen before and after.
struct Case<'a> {
    facts: &'a Facts,
    revision: u16,
    before: SecurityView<'a>,
    /// As it can be read afterwards: hidden keys are 0.
    after: SecurityView<'a>,
    /// As the hardware sees it afterwards, as far as it is known.
    united: SecurityView<'a>,
}

impl Case<'_> {
    /// The field becomes other than 0.
    fn turns_on(&self, name: &str) -> bool {
        !self.before.efuses.is_set(name) && self.after.efuses.is_set(name)
    }

    /// The field changes.
    fn changes(&self, name: &str) -> bool {
        self.before.efuses.number(name) != self.united.efuses.number(name)
    }

    /// Bits of WR_DIS or RD_DIS that the plan sets.
    fn new_bits(&self, register: &str) -> u32 {
        let number = |efuses: &Efuses| efuses.number(register).unwrap_or(0);
        number(self.after.efuses) & !number(self.before.efuses)
    }
}

/// Rule 7: the last stage comes last, so that a failure before it can be repaired.
pub fn order(steps: &[Step]) -> Option<Finding> {
    let ordered = steps.windows(2).all(|pair| pair[0].stage <= pair[1].stage);
    let last = steps.iter().filter(|step| step.stage == Stage::Last).count();
    let text = "protection and enabling bits must be burned last, after everything else is read back";
    (!ordered || last > 1).then(|| Finding::new(7, Severity::Deny, text))
}

#[cfg(test)]
mod tests;
