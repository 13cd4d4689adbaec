//! What an operation can do at worst, and what the policy has to know of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The worst that a tool can do to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Nothing stays changed. Reading may restart the running application.
    Reads,
    /// Restarts the device or changes its RAM.
    Resets,
    /// Writes what is kept or can be made again.
    Writes,
    /// May remove data that cannot be rebuilt.
    Destroys,
    /// Cannot be undone: burns eFuses, takes identities out of use.
    Irreversible,
}

/// What the policy has to know of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// What it is called by those who ask for it.
    pub name: &'static str,
    /// The least that it does.
    pub least: Risk,
    /// It writes files on this computer.
    pub files: bool,
    /// What of it a line in production may do.
    pub production: Production,
}

/// What a policy in production mode leaves of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Production {
    /// What changes no device for good.
    Closed,
    /// It does what a recipe says and nothing else.
    FollowsRecipe,
    /// It keeps the books. What it takes out of use permanently is not the line's to decide.
    KeepsBooks,
}
