//! Values that each unit of a batch gets without a recipe: from a pool of the ledger, or from a list that becomes one.

use std::fmt::Write as _;

use esp_factory::recipe::Template;
use esp_factory::recipe::lock::sha256;
use esp_ledger::Values;
use esp_model::partition::Table;

use esp_ops::error::{Code, ToolError};
use esp_ops::partition::nvs_values::{FACTORY_DATA, USUAL};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::ctx::Ctx;

/// A value that each unit gets.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitValue {
    /// NVS namespace.
    namespace: String,
    /// NVS key.
    key: String,
    /// Pool of the ledger that issues it.
    pool: Option<String>,
    /// Or the values themselves, one a unit.
    list: Option<Vec<String>>,
    /// Text with {} for the issued value, {KEY} for that of another key, {base_mac} (default: {}).
    template: Option<String>,
    /// NVS partition, written whole (default: fctry if the table has it, else nvs).
    partition: Option<String>,
    /// NVS type (default string).
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The sections of a recipe that these values stand for.
pub fn sections(ctx: &Ctx, values: &[UnitValue], table: Option<&Table>) -> Result<String, ToolError> {
    let mut text = String::new();
    let mut by_partition: Vec<(String, Vec<&UnitValue>)> = Vec::new();
    let usual = if table.is_some_and(|table| table.find(FACTORY_DATA).is_some()) { FACTORY_DATA } else { USUAL };
    let _ = writeln!(text, "\n[identity]");
    for value in values {
        let name = value.name()?;
        if value.pool.is_some() || value.list.is_some() {
            let _ = writeln!(text, "{name} = {{ pool = {} }}", quoted(&value.pool(ctx)?));
        }
        let partition = value.partition.clone().unwrap_or_else(|| usual.to_owned());
        match by_partition.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, all)) => all.push(value),
            None => by_partition.push((partition, vec![value])),
        }
    }
    for (partition, all) in by_partition {
        let _ = writeln!(text, "\n[[nvs]]\npartition = {}", quoted(&partition));
        let mut namespaces: Vec<&str> = all.iter().map(|value| value.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        for namespace in namespaces {
            let _ = writeln!(text, "[nvs.values.{}]", quoted(namespace));
            for value in all.iter().filter(|value| value.namespace == namespace) {
                let template = value.template()?;
                let kind = value.kind.as_deref().unwrap_or("string");
                let _ = writeln!(
                    text,
                    "{} = {{ type = {}, value = {} }}",
                    quoted(&value.key),
                    quoted(kind),
                    quoted(&template)
                );
            }
        }
    }
    Ok(text)
}

impl UnitValue {
    /// The name under which templates know the issued value: the key.
    fn name(&self) -> Result<String, ToolError> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        if self.key.is_empty() || !self.key.chars().all(plain) {
            let text = format!("values: the key `{}` has other characters than letters, digits, _ and -", self.key);
            return Err(ToolError::new(Code::BadParameter, text));
        }
        Ok(self.key.clone())
    }

    /// The text with holes by name; `{}` is the value itself.
    fn template(&self) -> Result<String, ToolError> {
        let text = self.template.as_deref().unwrap_or("{}").replace("{}", &format!("{{{}}}", self.key));
        Template::parse(&text).map_err(|error| {
            ToolError::new(Code::BadParameter, format!("values: template of `{}`: {error}", self.key)).next(
                "in a template {} stands for the issued value, {base_mac} for the MAC address; a brace itself is written twice",
            )
        })?;
        Ok(text)
    }

    /// The pool; a list becomes one, which the same list finds again.
    fn pool(&self, ctx: &Ctx) -> Result<String, ToolError> {
        match (&self.pool, &self.list) {
            (Some(pool), None) => {
                let pools = ctx.app.desk.with(|ledger| ledger.pools())?;
                if pools.iter().any(|known| known.name == *pool) {
                    return Ok(pool.clone());
                }
                Err(ToolError::new(Code::LedgerUnknown, format!("the ledger knows no pool {pool}")).next(format!(
                    "esp_ledger action=add_pool pool={pool} kind={} prefix=… count=… makes it; or give list instead of pool",
                    self.key
                )))
            }
            (None, Some(list)) if !list.is_empty() => {
                let hash = sha256(list.join("\n").as_bytes());
                let name = format!("list-{}", hash.get(..12).unwrap_or(&hash));
                let is_there = ctx.app.desk.with(|ledger| ledger.pools())?.iter().any(|pool| pool.name == name);
                if !is_there {
                    ctx.app.desk.with(|ledger| ledger.add_pool(&name, &self.key, &Values::List(list.clone())))?;
                }
                Ok(name)
            }
            _ => {
                Err(ToolError::new(Code::BadParameter, format!("values: give either pool or list for `{}`", self.key)))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
