//! Prompts: the usual workflows, as data in `prompts.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A workflow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Its name for people.
    pub title: String,
    /// What it does.
    pub about: String,
    /// Its arguments and what they are; `{name}` in the text stands for them.
    #[serde(default)]
    pub arguments: BTreeMap<String, Argument>,
    /// What the model is asked to do.
    text: String,
}

/// An argument of a prompt.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    /// What it is.
    pub about: String,
    /// Its value when it is left out; an argument without one is required.
    pub default: Option<String>,
}

/// All prompts by name.
pub fn all() -> &'static BTreeMap<String, Prompt> {
    static ALL: OnceLock<BTreeMap<String, Prompt>> = OnceLock::new();
    ALL.get_or_init(|| {
        toml::from_str(include_str!("../prompts.toml")).unwrap_or_else(|error| {
            tracing::error!("prompts.toml: {error}");
            BTreeMap::new()
        })
    })
}

impl Prompt {
    /// The text with its arguments filled in. The error names what is missing.
    pub fn fill(&self, given: &Map<String, Value>) -> Result<String, String> {
        if let Some(unknown) = given.keys().find(|name| !self.arguments.contains_key(*name)) {
            return Err(format!("there is no argument `{unknown}`"));
        }
        let mut values = BTreeMap::new();
        for (name, argument) in &self.arguments {
            let value =
                given.get(name).and_then(Value::as_str).map(str::to_string).or_else(|| argument.default.clone());
            values.insert(name.as_str(), value.ok_or_else(|| format!("the argument `{name}` is missing"))?);
        }
        Ok(filled(self.text.trim(), &values))
    }
}

/// The text with `{name}` replaced, read once from front to back: a value that holds `{other}` stays as it is.
fn filled(text: &str, values: &BTreeMap<&str, String>) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        done += before;
        match after.split_once('}').and_then(|(name, after)| Some((values.get(name)?, after))) {
            Some((value, after)) => {
                done += value;
                rest = after;
            }
            None => {
                done.push('{');
                rest = after;
            }
        }
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_in_values_stay_as_they_are() {
        let values = BTreeMap::from([("a", "{b}".to_string()), ("b", "2".to_string())]);
        assert_eq!(filled("{a} and {b}, {c} {", &values), "{b} and 2, {c} {");
    }

    #[test]
    fn every_prompt_can_be_filled() {
        assert_eq!(all().len(), 5);
        for (name, prompt) in all() {
            let given = prompt.arguments.keys().map(|name| (name.clone(), Value::from("VALUE"))).collect();
            let text = prompt.fill(&given).unwrap();
            assert!(!text.contains('{') && text.contains("esp_"), "{name}: {text}");
            assert!(prompt.arguments.keys().all(|argument| prompt.text.contains(&format!("{{{argument}}}"))), "{name}");
        }
        assert!(all()["test_in_ram"].fill(&Map::new()).unwrap_err().contains("firmware"));
    }
}
