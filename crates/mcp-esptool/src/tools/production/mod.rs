//! Production tools: recipes, batches, identities, acceptance.

pub mod batch_program;
pub mod batch_values;
pub mod factory_program;
pub mod factory_reset;
pub mod ledger;
pub mod production_test;
pub mod provision;
pub mod quality_control;
pub mod recipe;
pub mod values;

use std::sync::Arc;

use esp_ops::error::ToolError;

use crate::ctx::Ctx;
use esp_factory::Scope;
use esp_factory::prepared::Prepared;
use esp_factory::report::Report;
use esp_factory::unit::Order;

/// Reconnections when the call does not say.
const RETRIES: u32 = 3;

/// A recipe that is known to the ledger and ready for any number of units.
fn order(ctx: &Ctx, recipe: &str, scope: Scope, retries: Option<u32>) -> Result<Arc<Order>, ToolError> {
    accepted(ctx, Prepared::load(&ctx.station(), recipe)?.checked()?, scope, retries)
}

/// The same for a recipe that was read.
fn accepted(ctx: &Ctx, prepared: Prepared, scope: Scope, retries: Option<u32>) -> Result<Arc<Order>, ToolError> {
    ctx.policy.allows_production(&prepared.hash, prepared.is_locked)?;
    let order = Order::new(prepared, scope, retries.unwrap_or(RETRIES));
    order.register(&ctx.app.desk)?;
    Ok(Arc::new(order))
}

/// A unit in two lines.
pub fn summary(unit: &Report) -> String {
    let label = unit.label.as_ref().map_or_else(String::new, |label| format!("\nlabel: {label}"));
    format!("{}; {} bytes written, {} already right{label}", unit.line(), unit.written_bytes, unit.skipped_bytes)
}
