//! Other names of tools: those they had before, and those they are known by elsewhere. A call by such a name works; lists
//! do not show it.

use serde_json::{Map, Value};

/// Another name of a tool.
pub struct Alias {
    /// The other name.
    pub old: &'static str,
    /// The tool's name.
    pub new: &'static str,
    /// Parameters that were named otherwise.
    parameters: &'static [Parameter],
    /// What the name itself says: a parameter and its value.
    says: Option<(&'static str, &'static str)>,
}

struct Parameter {
    old: &'static str,
    new: &'static str,
    /// Values that were written otherwise: old text, new text.
    values: &'static [(&'static str, &'static str)],
}

/// All of them. A renamed tool gets a line here; the line stays.
pub static ALL: &[Alias] = &[
    Alias {
        old: "esp_connect_optimized",
        new: "esp_connect_advanced",
        parameters: &[Parameter { old: "enable_stub", new: "stub", values: &[("true", "auto"), ("false", "none")] }],
        says: None,
    },
    console("esp_console_open", "open"),
    console("esp_console_read", "read"),
    console("esp_console_send", "send"),
    console("esp_console_expect", "expect"),
    console("esp_console_close", "close"),
];

/// One thing that is done with a console, as a tool of its own.
const fn console(old: &'static str, action: &'static str) -> Alias {
    const NAMES: &[Parameter] = &[
        Parameter { old: "text", new: "send", values: &[] },
        Parameter { old: "pattern", new: "wait_for", values: &[] },
    ];
    Alias { old, new: "esp_console", parameters: NAMES, says: Some(("action", action)) }
}

/// The name of the tool that is meant.
pub fn resolve(name: &str) -> &str {
    ALL.iter().find(|alias| alias.old == name).map_or(name, |alias| alias.new)
}

/// The parameters of a call by `name`, under today's names.
pub fn translate(name: &str, mut input: Value) -> Value {
    let known = ALL.iter().find(|alias| alias.old == name);
    if let (Some(alias), Some(fields)) = (known, input.as_object_mut()) {
        alias.parameters.iter().for_each(|parameter| parameter.rename(fields));
        if let Some((name, value)) = alias.says {
            fields.insert(name.into(), value.into());
        }
    }
    input
}

impl Parameter {
    fn rename(&self, fields: &mut Map<String, Value>) {
        let Some(value) = fields.remove(self.old) else { return };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let new = self.values.iter().find(|(old, _)| *old == text).map(|(_, new)| Value::from(*new));
        fields.entry(self.new).or_insert(new.unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_names_lead_to_tools_that_are_there() {
        for alias in ALL {
            let entry = crate::tools::find(alias.old).unwrap();
            assert_eq!(entry.name, alias.new);
            assert!(crate::tools::ALL.iter().all(|entry| entry.name != alias.old), "{}", alias.old);
            let schema = entry.input_schema();
            for parameter in alias.parameters {
                assert!(schema["properties"].get(parameter.new).is_some(), "{} {}", alias.old, parameter.new);
            }
        }
        assert_eq!(resolve("esp_job"), "esp_job");
    }

    #[test]
    fn old_parameters_and_values_are_translated() {
        let given = |input| translate("esp_connect_optimized", input);
        assert_eq!(given(json!({"port": "p", "enable_stub": false})), json!({"port": "p", "stub": "none"}));
        assert_eq!(given(json!({"enable_stub": "true"})), json!({"stub": "auto"}));
        assert_eq!(given(json!({"enable_stub": 7, "stub": "auto"})), json!({"stub": "auto"}));
        let sent = translate("esp_console_send", json!({"text": "help\r\n", "action": "read"}));
        assert_eq!(sent, json!({"send": "help\r\n", "action": "send"}));
        assert_eq!(translate("esp_job", json!({"enable_stub": false})), json!({"enable_stub": false}));
    }
}
