//! Plan, rehearsal, confirmation, burn, read-back: the one way in which a tool burns eFuses.

use esp_link::efuse::{BurnFault, Proof};
use esp_link::options::StubSource;
use esp_link::{ConnectOptions, Loader, Mode};
use esp_model::boot::{self, Config};
use esp_model::efuse::bits;
use esp_model::efuse::lint::{FlashContent, Profile, Severity};
use esp_model::efuse::security::SecurityView;
use esp_model::efuse::{Burn, BurnError, Efuses, Plan, Request};
use esp_model::job::Job;
use esp_model::mac::Mac;
use esp_model::secure::flash_encryption::FlashKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Call;
use crate::boot::check::walk_and_try;
use crate::boot::trial::Trial;
use crate::efuse::facts;
use crate::efuse::marks::{self, Mark};
use crate::efuse::refusal::{self, BurnRefused};
use crate::error::{Code, FlashState, ToolError};
use crate::session::device::Connected;

/// What a chip is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A board on a desk.
    #[default]
    Development,
    /// A product.
    Production,
}

impl From<Purpose> for Profile {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Development => Self::Development,
            Purpose::Production => Self::Production,
        }
    }
}

/// What became of a plan; flattened into results.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcome {
    /// `planned`: confirm it; `burned`: done and read back; `burned_unreadable`: done, and the way to read it back is
    /// closed; `nothing_to_do`: all of it is burned already.
    #[schemars(extend("enum" = ["planned", "burned", "burned_unreadable", "nothing_to_do"]))]
    pub state: String,
    /// Hash of the plan; a confirmation holds for it only.
    pub plan: String,
    /// Fields that change.
    pub changes: Vec<FieldChange>,
    /// What can never be done afterwards; empty only when nothing changes.
    pub becomes_impossible: Vec<String>,
    /// What an attacker can still do afterwards, by field.
    pub still_possible: Vec<String>,
    /// Findings, worst first.
    pub findings: Vec<PlanFinding>,
    /// The plan was carried out on a virtual copy first, and came out as planned.
    pub rehearsed: bool,
    /// What the boot chain would do afterwards, where the plan bears on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_check: Option<String>,
    /// The policy does not allow this burn; planning is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burn_refused: Option<BurnRefused>,
    /// For the second call. Valid for 15 minutes, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_token: Option<String>,
    /// How to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A field that changes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it is for.
    pub about: String,
    /// Value now.
    pub before: String,
    /// Value then; keys are not shown.
    pub after: String,
    /// Its bits now, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_hex: Option<String>,
    /// Its bits then, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_hex: Option<String>,
    /// Fields that the new bits of a protection field freeze or hide.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protects: Vec<String>,
}

impl FieldChange {
    /// Name, old and new value with its bits: what a person approves.
    fn line(&self) -> String {
        match (&self.before_hex, &self.after_hex) {
            (Some(old), Some(new)) => format!("{} {} → {} ({old} → {new})", self.field, self.before, self.after),
            _ => format!("{} {} → {}", self.field, self.before, self.after),
        }
    }
}

/// What a rule found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanFinding {
    /// Number of the rule (docs/safety.md).
    pub rule: u8,
    /// `deny`, `warn` or `info`.
    pub severity: String,
    /// What and why.
    pub text: String,
}

impl Outcome {
    fn of(plan: &Plan, state: &str) -> Self {
        let changes = plan.changes.iter().map(|change| FieldChange {
            field: change.field.clone(),
            about: change.about.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
            before_hex: change.before_hex.clone(),
            after_hex: change.after_hex.clone(),
            protects: change.protects.clone(),
        });
        Self {
            state: state.into(),
            plan: plan.hash_hex(),
            changes: changes.collect(),
            becomes_impossible: plan.becomes_impossible.clone(),
            still_possible: refusal::still_possible(plan),
            findings: findings(plan),
            rehearsed: false,
            boot_check: None,
            burn_refused: None,
            confirm_token: None,
            next: None,
        }
    }

    /// In two lines.
    pub fn summary(&self) -> String {
        let fields: Vec<_> = self.changes.iter().map(|change| format!("{} → {}", change.field, change.after)).collect();
        let what = format!(
            "{}: {}",
            self.state,
            if fields.is_empty() { "no field changes".into() } else { fields.join(", ") }
        );
        match &self.next {
            Some(next) => format!("{what}\n{next}"),
            None => what,
        }
    }
}

fn findings(plan: &Plan) -> Vec<PlanFinding> {
    let shown = |severity| match severity {
        Severity::Deny => "deny",
        Severity::Warn => "warn",
        Severity::Info => "info",
    };
    let finding = |one: &esp_model::efuse::lint::Finding| PlanFinding {
        rule: one.rule,
        severity: shown(one.severity).into(),
        text: one.text.clone(),
    };
    plan.findings.iter().map(finding).collect()
}

impl From<BurnError> for ToolError {
    fn from(error: BurnError) -> Self {
        Self::new(Code::BurnImpossible, error.to_string())
    }
}

/// What the caller says about its plan.
#[derive(Debug, Default)]
pub struct Intent<'a> {
    /// What the chip is for.
    pub profile: Purpose,
    /// What is in flash, where the caller has seen to it.
    pub flash: Option<FlashContent>,
    /// Flash encryption is wanted later.
    pub encryption_wanted: bool,
    /// What will be in flash when the bits are burned, before encryption: address and bytes.
    pub images: Vec<(u32, Vec<u8>)>,
    /// The key that the flash is encrypted with, where the caller has it.
    pub flash_key: Option<&'a FlashKey>,
    /// The token of a confirmation.
    pub token: Option<&'a str>,
}

/// Reads the eFuses; an error that says why where they cannot be read.
pub fn read(connected: &mut Connected, job: &Job) -> Result<Efuses, ToolError> {
    if connected.loader.mode() == Mode::SecureDownload {
        return Err(ToolError::new(Code::SecureDownload, "eFuses cannot be read in secure download mode"));
    }
    Ok(connected.loader.read_efuses(job)?)
}

/// The first call plans, rehearses and offers; the second one, with the token, burns and reads back.
pub fn carry_out(
    call: &Call,
    job: &Job,
    connected: &mut Connected,
    requests: &[Request],
    intent: &Intent,
) -> Result<Outcome, ToolError> {
    carry_out_after(call, job, connected, requests, intent, |_| Ok(()))
}

/// The same; once the plan is confirmed, and before the first bit is burned, `prepare` does what must come first.
pub fn carry_out_after(
    call: &Call,
    job: &Job,
    connected: &mut Connected,
    requests: &[Request],
    intent: &Intent,
    prepare: impl FnOnce(&mut Connected) -> Result<(), ToolError>,
) -> Result<Outcome, ToolError> {
    let is_virtual = connected.is_virtual();
    let identity = connected.identify(job)?;
    let identity = identity.ok_or_else(|| {
        ToolError::new(Code::SecureDownload, "the device's identity is unavailable (secure download mode)")
    })?;
    let mac = identity.mac;
    let before = read(connected, job)?;
    let facts = facts::gather(call, job, connected, &before, requests, intent)?;
    let mut burn = Burn::new(before);
    requests.iter().try_for_each(|request| burn.add(request))?;
    let chip = connected.loader.chip();
    let plan = Plan::new(chip, identity.revision_number(), mac, &burn, &facts)?;
    if plan.is_empty() {
        return Ok(Outcome::of(&plan, "nothing_to_do"));
    }
    let mut outcome = Outcome::of(&plan, "planned");
    outcome.burn_refused = refusal::by_policy(call, mac, is_virtual);
    if plan.denied() {
        return Err(refusal::error(call, mac, &outcome, "the plan breaks a rule that no call can override"));
    }
    rehearse(&plan, mac, job)?;
    outcome.rehearsed = true;
    match boot_check(job, connected, &plan, intent)? {
        After::NotConcerned => {}
        After::Fine(text) => outcome.boot_check = Some(text),
        After::Stops(text) => return Err(refusal::error(call, mac, &outcome, &text)),
    }
    match (intent.token, &outcome.burn_refused) {
        // Planning is free, burning is not.
        (None, Some(refused)) => {
            call.audit
                .append(json!({ "event": "planned", "mac": mac, "plan": plan.hash_hex(), "refused": refused.code }))?;
            outcome.next = Some(format!("{}: {}", refused.message, refused.next(mac)));
        }
        (Some(_), Some(refused)) => return Err(refusal::not_allowed(mac, refused, &outcome)),
        (None, None) => offer(call, &plan, mac, is_virtual, &mut outcome)?,
        (Some(token), None) => {
            call.confirmations.redeem(token, &mac.to_string(), &plan.hash_hex())?;
            if !is_virtual {
                marks::record(&call.audit, &Mark::of(requests, &plan.before), mac)?;
            }
            prepare(connected)?;
            outcome.state = burn_now(call, job, connected, &plan, mac)?;
        }
    }
    Ok(outcome)
}

fn offer(call: &Call, plan: &Plan, mac: Mac, is_virtual: bool, outcome: &mut Outcome) -> Result<(), ToolError> {
    let fields: Vec<_> = plan.changes.iter().map(|change| change.field.as_str()).collect();
    // Names and values: this is what the person approves.
    let lines: Vec<_> = outcome.changes.iter().map(FieldChange::line).collect();
    let token = call.confirmations.offer(mac, &plan.hash_hex(), &lines.join(", "), is_virtual)?;
    call.audit.append(json!({ "event": "planned", "mac": mac, "plan": plan.hash_hex(), "fields": fields }))?;
    let call = "call again with the same parameters and this confirm_token";
    outcome.next = Some(if is_virtual {
        format!("{call}.")
    } else {
        let hash = plan.hash_hex();
        format!("show the plan to the user; after they ran `mcp-esptool approve {hash}` in a terminal, {call}.")
    });
    outcome.confirm_token = Some(token);
    Ok(())
}

/// Burns, with the intent of each step in the audit log before it happens.
fn burn_now(call: &Call, job: &Job, connected: &mut Connected, plan: &Plan, mac: Mac) -> Result<String, ToolError> {
    let event = |what: &str, more: serde_json::Value| {
        call.audit.append(json!({ "event": what, "mac": mac, "plan": plan.hash_hex(), "detail": more }))
    };
    event("confirmed", json!({ "steps": plan.steps.len() }))?;
    let burned = connected.loader.burn_efuses(&job.shielded(), &plan.before, &plan.steps, |number, step| {
        let noted = event("burning", json!({ "step": number, "block": step.block }));
        if let Err(error) = noted {
            tracing::error!("the audit log cannot be written: {error}");
        }
    });
    match burned {
        Ok(Proof::ReadBack) => {
            event("burned", json!("read back"))?;
            Ok("burned".into())
        }
        Ok(Proof::Unreadable) => {
            event("burned", json!("cannot be read back"))?;
            Ok("burned_unreadable".into())
        }
        Err(fault) => {
            event("failed", json!(fault.to_string()))?;
            let changed = matches!(fault, BurnFault::Changed);
            let code = if changed { Code::BurnStale } else { Code::BurnFailed };
            Err(ToolError::new(code, fault.to_string()).touched(FlashState::Unchanged))
        }
    }
}

/// Carries the plan out on a virtual chip with the same eFuses, through the same code.
fn rehearse(plan: &Plan, mac: Mac, job: &Job) -> Result<(), ToolError> {
    let failed = |what: String| ToolError::new(Code::RehearsalFailed, what).seen("plan", plan.hash_hex());
    let Some(chip) = esp_model::chip::by_name(plan.chip) else { return Err(failed("unknown chip".into())) };
    let mut config = esp_sim::Config::new(chip, "rehearsal").unpaced();
    config.mac = mac;
    config.revision = Some(plan.revision);
    let blocks = plan.before.table.blocks.iter();
    config.efuse = Some(blocks.flat_map(|block| bits::to_bytes(plan.before.block(block.id))).collect());
    // It starts in download mode without modem lines.
    config.boot_pin_low = true;
    let twin = esp_sim::SimDevice::new(&config, "sim://rehearsal");
    let options = ConnectOptions { stub: StubSource::None, baud: 115_200, ..ConnectOptions::default() };
    let (mut loader, _) =
        Loader::connect(Box::new(twin.open()), &options, job).map_err(|error| failed(error.to_string()))?;
    loader.burn_efuses(job, &plan.before, &plan.steps, |_, _| ()).map_err(|fault| failed(fault.to_string()))?;
    let words = twin.with(|chip, _| {
        let mut burned = chip.efuse().decoded().clone();
        burned.hide();
        burned.words
    });
    if words == plan.after.words { Ok(()) } else { Err(failed("the rehearsal result differs from the plan".into())) }
}

/// What the boot chain does after the burn.
enum After {
    /// The plan does not bear on it.
    NotConcerned,
    /// It starts, or from some stage on nothing can be told.
    Fine(String),
    /// It does not start.
    Stops(String),
}

/// Walks the boot chain with the eFuses as they will be. A device that would not start is spared, whether or not it starts
/// now: nothing that is burned could be taken back.
fn boot_check(job: &Job, connected: &mut Connected, plan: &Plan, intent: &Intent) -> Result<After, ToolError> {
    let chip = connected.loader.chip().at(plan.revision);
    let device = |efuses: &Efuses| SecurityView { chip, efuses }.boot_device(plan.revision);
    let (before, mut after) = (device(&plan.before), device(&plan.after));
    if (before.encrypted, &before.secure_boot) == (after.encrypted, &after.secure_boot) {
        return Ok(After::NotConcerned);
    }
    if intent.flash == Some(FlashContent::EncryptsAtBoot) && after.encrypted != before.encrypted {
        let text = "the ROM decrypts what it reads from the next reset on, and the bootloader in flash is still plain: the \
                    device would not start. A bootloader that was built with flash encryption makes its key, encrypts the flash \
                    and burns these eFuses at its first start: flash it (esp_flash_firmware run=true) and burn nothing. To \
                    encrypt with a key of your own, use esp_encryption_enable";
        return Ok(After::Stops(text.into()));
    }
    // The bytes at hand are those before encryption.
    let plain = intent.flash == Some(FlashContent::Encrypted) || intent.flash_key.is_some();
    after.ciphertext = after.ciphertext && !plain;
    let images = intent.images.clone();
    let efuses = Some(&plan.after.words);
    let (then, trial) = walk_and_try(connected, job, &after, &Config::default(), images, intent.flash_key, efuses)?;
    if let (Some(Trial::Refused(why)), true) = (&trial, then.starts()) {
        return Ok(After::Stops(format!(
            "the device would not start after this burn: on a virtual copy with these eFuses the chip's own ROM and bootloader \
             refuse it: {why}"
        )));
    }
    let by_itself =
        if trial == Some(Trial::Starts) { " (a virtual copy did, by its own ROM and bootloader)" } else { "" };
    Ok(match (&then.outcome, then.failure()) {
        (boot::Outcome::Starts { partition, .. }, _) => {
            After::Fine(format!("starts {}{by_itself}", partition.as_deref().unwrap_or("the program")))
        }
        (boot::Outcome::Unknown(stage), _) => After::Fine(format!("unknown from {} on", stage.name())),
        (boot::Outcome::Stops(stage), failure) => {
            let why = failure.map_or("", |step| step.text.as_str());
            After::Stops(format!("the device would not start after this burn: it stops at {}: {why}", stage.name()))
        }
    })
}
