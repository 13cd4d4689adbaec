//! Calls of the tools as people make them, as data in `examples.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

/// One call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What it does.
    pub about: String,
    /// Its parameters, as JSON.
    pub arguments: String,
}

/// The calls of a tool.
pub fn of(tool: &str) -> &'static [Example] {
    all().get(tool).map_or(&[], Vec::as_slice)
}

fn all() -> &'static BTreeMap<String, Vec<Example>> {
    static ALL: OnceLock<BTreeMap<String, Vec<Example>>> = OnceLock::new();
    ALL.get_or_init(|| {
        toml::from_str(include_str!("../../examples.toml")).unwrap_or_else(|error| {
            tracing::error!("examples.toml: {error}");
            BTreeMap::new()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::schema;
    use crate::tools;

    #[test]
    fn every_tool_has_examples_that_fit_its_schema() {
        let read: BTreeMap<String, Vec<Example>> = toml::from_str(include_str!("../../examples.toml")).unwrap();
        for name in read.keys() {
            assert!(tools::ALL.iter().any(|entry| entry.name == name), "examples.toml: there is no tool {name}");
        }
        for entry in tools::ALL {
            let calls = of(entry.name);
            assert!(!calls.is_empty(), "{} has no example in examples.toml", entry.name);
            for call in calls {
                let arguments = serde_json::from_str(&call.arguments).unwrap();
                let fits = schema::check(arguments, entry.input_schema());
                assert!(fits.is_ok(), "{} {}: {}", entry.name, call.arguments, fits.unwrap_err());
            }
        }
    }
}
