//! Why a plan is not carried out, and what it would have meant: a refusal comes with the whole plan.

use std::fmt;

use esp_model::efuse::Plan;
use esp_model::efuse::audit::{self, Level};
use esp_model::efuse::lint::Profile;
use esp_model::mac::Mac;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Call;
use crate::efuse::pipeline::Outcome;
use crate::error::{Code, FlashState, ToolError};

/// Why the policy does not allow the burn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BurnRefused {
    /// `burn_not_allowed`.
    pub code: String,
    /// What the policy says.
    pub message: String,
    /// The policy file that a person would change.
    pub policy_file: String,
}

/// The policy's answer: nothing when the burn is allowed.
pub fn by_policy(call: &Call, mac: Mac, is_virtual: bool) -> Option<BurnRefused> {
    let error = call.policy.allows_burn(mac, is_virtual).err()?;
    Some(BurnRefused { code: error.code.to_string(), message: error.message, policy_file: policy_file(call) })
}

impl BurnRefused {
    /// What a person can do about it.
    pub fn next(&self, mac: impl fmt::Display) -> String {
        format!("ask the user: to allow it, a person adds burn_macs = [\"{mac}\"] to {}", self.policy_file)
    }
}

/// The file in which a person allows burning.
pub fn policy_file(call: &Call) -> String {
    if let Some(path) = call.config.path("policy_file") {
        return path.display().to_string();
    }
    let system = crate::guard::policy::system_file().map(|path| path.display().to_string());
    let in_force = system.filter(|path| call.policy.layers().any(|layer| layer.origin == *path));
    let none = "a policy file of their own (TOML), named by --set policy_file=PATH or MCP_ESPTOOL_POLICY";
    in_force.unwrap_or_else(|| none.into())
}

/// What an attacker can still do to the chip after the burn, as the audit of a product says.
pub fn still_possible(plan: &Plan) -> Vec<String> {
    let Some(chip) = esp_model::chip::by_name(plan.chip) else { return Vec::new() };
    let rows = audit::audit(chip, plan.revision, Some(&plan.after), None, Profile::Production);
    let open = rows.iter().filter(|row| row.level >= Level::Warning);
    open.filter_map(|row| Some(format!("{}: {}", row.evidence, row.attack?))).collect()
}

/// A refused plan, with all that the plan would have said.
pub fn error(call: &Call, mac: Mac, plan: &Outcome, text: &str) -> ToolError {
    let file = policy_file(call);
    let error = match &plan.burn_refused {
        // Both say no: the findings show that a change of the policy would not help.
        Some(refused) => {
            let text = format!("{}; it would be refused anyway: {text}", refused.message);
            ToolError::new(Code::BurnNotAllowed, text).next(format!("follow the findings; then {}", refused.next(mac)))
        }
        None => {
            let vouch = "what only a person can know (rules 8, 9, 16) is vouched for by the user in the policy file";
            ToolError::new(Code::BurnRefused, text).next(format!("follow the findings; {vouch}, {file}"))
        }
    };
    with_plan(error.seen("policy_file", file), plan)
}

/// The burn of a plan that was made, where the policy does not allow it.
pub fn not_allowed(mac: impl fmt::Display, refused: &BurnRefused, plan: &Outcome) -> ToolError {
    let error = ToolError::new(Code::BurnNotAllowed, refused.message.as_str());
    with_plan(error.next(refused.next(mac)).seen("policy_file", refused.policy_file.as_str()), plan)
}

fn with_plan(error: ToolError, plan: &Outcome) -> ToolError {
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    error
        .seen("findings", json(serde_json::to_value(&plan.findings)))
        .seen("changes", json(serde_json::to_value(&plan.changes)))
        .seen("becomes_impossible", json(serde_json::to_value(&plan.becomes_impossible)))
        .seen("still_possible", json(serde_json::to_value(&plan.still_possible)))
        .seen("plan", plan.plan.as_str())
        .touched(FlashState::Unchanged)
}
