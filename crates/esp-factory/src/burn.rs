//! eFuses of a recipe: the same plan, rehearsal, confirmation and read-back as for a single burn.

use crate::recipe::{EfusePlan, Values};
use esp_ledger::Unit;
use esp_model::efuse::{Efuses, Request};
use serde_json::{Value as Json, json};

use super::content::filled;
use super::desk::Desk;
use super::promise::{self, Promise, Settled};
use super::steps::Step;
use super::unit::Work;
use crate::Station;
use crate::prepared::{Prepared, below};
use esp_ops::efuse::pipeline::{self, Intent, Outcome, Purpose};
use esp_ops::efuse::refusal;
use esp_ops::efuse::request::{self, Item};
use esp_ops::error::{Code, ToolError};
use esp_ops::session::device::Connected;

/// What the recipe asks for, with this unit's values.
pub fn requests(
    station: &Station,
    efuses: &Efuses,
    prepared: &Prepared,
    plan: &EfusePlan,
    values: &Values,
) -> Result<Vec<Request>, ToolError> {
    plan.burn.iter().map(|table| request::of(&station.call, efuses, &item(prepared, table, values)?)).collect()
}

/// An item with its templates filled; its files are below the recipe's folder.
fn item(prepared: &Prepared, table: &toml::Table, values: &Values) -> Result<Item, ToolError> {
    let bad = |error: String| ToolError::new(Code::RecipeInvalid, format!("efuse: {error}"));
    let mut json = serde_json::to_value(table).map_err(|error| bad(error.to_string()))?;
    for (name, value) in json.as_object_mut().into_iter().flatten() {
        if let Json::String(text) = value {
            let full = filled(prepared, text, values)?;
            *text = if name.ends_with("_file") { below(&prepared.folder, &full) } else { full };
        }
    }
    serde_json::from_value(json).map_err(|error| bad(error.to_string()))
}

/// What of the recipe is still to be burned, and what is burned and hidden by the ledger's word.
pub fn settled(
    station: &Station,
    desk: &Desk,
    unit: &Unit,
    efuses: &Efuses,
    prepared: &Prepared,
    plan: &EfusePlan,
    values: &Values,
) -> Result<(Settled, Promise), ToolError> {
    let event = desk.with(|ledger| ledger.last_event(unit, promise::EVENT))?;
    let told: Option<Promise> = event.and_then(|event| serde_json::from_str(&event.body).ok());
    let asked = requests(station, efuses, prepared, plan, values)?;
    let (resolved, counts) = promise::resolve(efuses, asked, told.as_ref(), &prepared.hash)?;
    let promise = Promise::of(&prepared.hash, &resolved, counts);
    Ok((promise::settle(efuses, resolved, told.as_ref()), promise))
}

impl Work<'_> {
    /// The device's real state decides what is left to do: a crash may have come after any bit.
    pub(super) fn burn(&mut self, connected: &mut Connected) -> Result<(), ToolError> {
        let (Some(plan), Some(unit)) = (&self.order.prepared.recipe.efuse, &self.unit) else { return Ok(()) };
        let (station, desk, prepared) = (self.station, self.desk, &self.order.prepared);
        let efuses = pipeline::read(connected, self.job)?;
        let (settled, promise) = settled(station, desk, unit, &efuses, prepared, plan, &self.values)?;
        let (run, note) = (self.report.run, settled.note());
        let burned = self.carry_out(connected, plan, &settled.open, &promise)?;
        let about =
            json!({"plan": burned.plan, "state": burned.state, "recipe": prepared.hash, "hidden": settled.hidden});
        if burned.state != "nothing_to_do" {
            self.desk.with(|ledger| ledger.record(run, "efuse", &about))?;
        }
        self.record["efuse"] = about;
        let step = match burned.state.as_str() {
            "burned" => Step::of("eFuses", true, burned.state),
            "nothing_to_do" => Step::of("eFuses", true, "burned already"),
            other => Step::unknown("eFuses", other),
        };
        self.report.steps.push(match note {
            Some(note) => step.because(note),
            None => step,
        });
        Ok(())
    }

    /// The same plan, rehearsal, confirmation and read-back as for a single burn. On a real unit a person has confirmed
    /// it by naming the recipe in the policy file.
    fn carry_out(
        &self,
        connected: &mut Connected,
        plan: &EfusePlan,
        requests: &[Request],
        promise: &Promise,
    ) -> Result<Outcome, ToolError> {
        let (station, job, prepared) = (self.station, self.job, &self.order.prepared);
        let profile = if plan.profile == "development" { Purpose::Development } else { Purpose::Production };
        let planned =
            pipeline::carry_out(&station.call, job, connected, requests, &Intent { profile, ..Intent::default() })?;
        if let Some(refused) = &planned.burn_refused {
            let mac = self.values.get("base_mac").map_or("", String::as_str);
            return Err(refusal::not_allowed(mac, refused, &planned));
        }
        let Some(token) = planned.confirm_token.as_deref() else { return Ok(planned) };
        if !connected.is_virtual() {
            let text = "the policy does not name this recipe in burn_recipes";
            if !station.call.policy.allows_recipe(&prepared.hash) {
                return Err(ToolError::new(Code::BurnNotAllowed, text).seen("recipe", prepared.hash.as_str()));
            }
            station
                .call
                .confirmations
                .approve(&planned.plan, self.values.get("base_mac").map_or("", String::as_str))?;
        }
        let body = serde_json::to_value(promise).unwrap_or_default();
        self.desk.with(|ledger| ledger.record(self.report.run, promise::EVENT, &body))?;
        pipeline::carry_out(
            &station.call,
            job,
            connected,
            requests,
            &Intent { profile, token: Some(token), ..Intent::default() },
        )
    }
}
