//! eFuses of a recipe: the same plan, rehearsal, confirmation and read-back as for a single burn.

use esp_model::efuse::{Efuses, Request};
use esp_model::job::Job;
use esp_model::recipe::{EfusePlan, Values};
use serde_json::Value as Json;

use super::content::filled;
use super::recipe::{Prepared, below};
use crate::ctx::Ctx;
use crate::ctx::device::Connected;
use crate::tools::error::ToolError;
use crate::tools::security::burn::{self, Item};
use crate::tools::security::engine::{self, Intent, Outcome, Purpose};

/// Burns what the recipe says. On a real unit a person has confirmed it by naming the recipe in the policy file.
pub fn carry_out(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    prepared: &Prepared,
    plan: &EfusePlan,
    values: &Values,
) -> Result<Outcome, ToolError> {
    let efuses = engine::read(connected, job)?;
    let requests = requests(ctx, &efuses, prepared, plan, values)?;
    let profile = if plan.profile == "development" { Purpose::Development } else { Purpose::Production };
    let planned = engine::carry_out(ctx, job, connected, &requests, &Intent { profile, ..Intent::default() })?;
    let Some(token) = planned.confirm_token.as_deref() else { return Ok(planned) };
    if !connected.is_virtual() {
        let text = "the policy does not name this recipe in burn_recipes";
        if !ctx.policy.burn_recipes.contains(&prepared.hash) {
            return Err(ToolError::new("burn_not_allowed", text).seen("recipe", prepared.hash.as_str()));
        }
        ctx.confirmations.approve(&planned.plan, values.get("base_mac").map_or("", String::as_str))?;
    }
    engine::carry_out(ctx, job, connected, &requests, &Intent { profile, token: Some(token), ..Intent::default() })
}

/// What the recipe asks for, with this unit's values.
pub fn requests(
    ctx: &Ctx,
    efuses: &Efuses,
    prepared: &Prepared,
    plan: &EfusePlan,
    values: &Values,
) -> Result<Vec<Request>, ToolError> {
    plan.burn.iter().map(|table| burn::request(ctx, efuses, &item(prepared, table, values)?)).collect()
}

/// An item with its templates filled; its files are below the recipe's folder.
fn item(prepared: &Prepared, table: &toml::Table, values: &Values) -> Result<Item, ToolError> {
    let bad = |error: String| ToolError::new("recipe_invalid", format!("efuse: {error}"));
    let mut json = serde_json::to_value(table).map_err(|error| bad(error.to_string()))?;
    for (name, value) in json.as_object_mut().into_iter().flatten() {
        if let Json::String(text) = value {
            let full = filled(prepared, text, values)?;
            *text = if name.ends_with("_file") { below(&prepared.folder, &full) } else { full };
        }
    }
    serde_json::from_value(json).map_err(|error| bad(error.to_string()))
}
