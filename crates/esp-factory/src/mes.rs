//! What a recipe's `[mes]` asks for: the check before a unit is worked on, and the report in its record.

use esp_ledger::Unit;
use serde_json::{Value as Json, json};

use crate::report::shown;
use crate::unit::Work;
use esp_ops::error::{Code, ToolError};

impl Work<'_> {
    /// Asks the MES whether this unit may be worked on, before anything is issued to it or written.
    pub(super) fn ask_mes(&mut self, unit: &Unit) -> Result<(), ToolError> {
        let order = self.order;
        let Some(mes) = order.prepared.recipe.mes.as_ref().filter(|_| order.asks_mes) else { return Ok(()) };
        self.record["mes"] = json!({ "check": mes.check, "report": mes.report });
        let url = self.station.call.config.text("mes_url");
        if url.is_empty() {
            let text = "the recipe has a section [mes], and the setting mes_url names no MES";
            return Err(ToolError::new(Code::BadConfiguration, text));
        }
        let Some(path) = &mes.check else { return Ok(()) };
        let question = self.question(unit)?;
        let key = format!("{}-{}", self.desk.station, self.report.run.unwrap_or_default());
        may_work(&self.station.call.config, url, path, &key, &question)?;
        self.record["mes"]["allowed"] = json!(true);
        Ok(())
    }

    /// Who asks, about which unit, to do what.
    fn question(&self, unit: &Unit) -> Result<Json, ToolError> {
        let known = self.desk.with(|ledger| ledger.of_unit(unit))?;
        let identities = known.iter().map(|one| {
            json!({"kind": one.kind, "pool": one.pool, "value": shown(&one.pool, one), "state": one.state.to_string()})
        });
        let recipe = &self.order.prepared;
        Ok(json!({
            "station": self.desk.station, "operator": self.desk.operator, "shift": self.desk.shift,
            "recipe": {"name": recipe.recipe.recipe.name, "version": recipe.recipe.recipe.version, "hash": recipe.hash},
            "run": self.report.run, "port": self.report.port, "virtual": self.report.is_virtual,
            "unit": {"mac": unit.base_mac, "chip": unit.chip, "identities": identities.collect::<Vec<_>>()},
        }))
    }
}

#[cfg(feature = "events")]
fn may_work(
    config: &esp_ops::config::Config,
    url: &str,
    path: &str,
    key: &str,
    question: &Json,
) -> Result<(), ToolError> {
    let bad = |error: String| ToolError::new(Code::BadConfiguration, format!("mes_url: {error}"));
    crate::outbox::Mes::new(config, url).map_err(bad)?.may_work(path, key, question)
}

#[cfg(not(feature = "events"))]
fn may_work(_: &esp_ops::config::Config, _: &str, _: &str, _: &str, _: &Json) -> Result<(), ToolError> {
    Err(ToolError::new(Code::BadConfiguration, "this program was built without requests to an MES (feature `events`)"))
}
