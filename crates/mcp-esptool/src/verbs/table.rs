//! The table of verbs: `verbs.toml`, read once.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::tool::Entry;
use crate::tools;

/// The whole table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Groups of the program's help, in their order.
    pub group: Vec<Group>,
    /// Letters of parameters.
    pub short: BTreeMap<String, char>,
    /// Further names of parameters.
    pub also: BTreeMap<String, Vec<String>>,
    /// Lists whose entries are given as two words: the two fields.
    pub pairs: BTreeMap<String, [String; 2]>,
    /// Environment variables that set a parameter.
    pub environment: BTreeMap<String, Vec<String>>,
    /// Parameters that variables set only where the verb has another one, too.
    pub environment_beside: BTreeMap<String, String>,
    /// Keys of `esptool.cfg` that set a parameter.
    pub esptool_cfg: BTreeMap<String, String>,
    /// Keys of `esptool.cfg` that count attempts, for parameters in seconds.
    pub esptool_cfg_attempts: BTreeMap<String, Attempts>,
    /// The verbs.
    pub verb: Vec<Verb>,
}

/// A key that counts attempts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// The key.
    pub key: String,
    /// Seconds from one attempt to the next.
    pub each: f64,
    /// Seconds that stand for "without end".
    pub endless: f64,
}

impl Attempts {
    /// The seconds that so many attempts take. One attempt is no wait.
    pub fn seconds(&self, count: u32) -> Option<f64> {
        match count {
            0 => Some(self.endless),
            1 => None,
            count => Some((f64::from(count) * self.each).min(self.endless)),
        }
    }
}

/// A group of commands in the program's help.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its heading.
    pub title: String,
    /// Its commands, in their order.
    pub commands: Vec<String>,
}

/// A verb: a tool under a short name, or several verbs below one name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verb {
    /// Its name.
    pub name: String,
    /// What it does, where that is not just what the tool says.
    about: Option<String>,
    /// The tool's name.
    tool: Option<String>,
    /// Of several verbs below it, the one that is meant when none is named.
    default: Option<String>,
    /// The verbs below it.
    #[serde(default)]
    pub verb: Vec<Verb>,
    /// Positional words: names of parameters between blanks.
    #[serde(default)]
    pub forms: Vec<String>,
    /// Parameters that it sets.
    #[serde(default)]
    pub fixed: Map<String, Value>,
    /// Parameters that it sets when no positional one is given.
    #[serde(default)]
    pub otherwise: Map<String, Value>,
    /// Parameters that are no options of it.
    #[serde(default)]
    hide: Vec<String>,
    /// Parameters whose word may be a number, truth value or object.
    #[serde(default)]
    pub literal: Vec<String>,
    /// Parameters that stand for a device.
    #[serde(default)]
    pub without_device: Vec<String>,
    /// The console is shown afterwards.
    pub watch: Option<Watch>,
    /// Lines that people type, without the program's name.
    #[serde(default)]
    pub examples: Vec<String>,
}

/// When the device's console is shown after the call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The tool that is called then, where it is another one.
    pub tool: Option<String>,
    /// Not when one of these parameters is given; none: only with `--monitor`.
    #[serde(default)]
    pub unless: Vec<String>,
}

/// The table.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        toml::from_str(include_str!("verbs.toml")).unwrap_or_else(|error| {
            tracing::error!("verbs.toml: {error}");
            Table::default()
        })
    })
}

/// The verb of this name.
pub fn find(name: &str) -> Option<&'static Verb> {
    table().verb.iter().find(|verb| verb.name == name)
}

impl Verb {
    /// The verb below it of this name.
    pub fn below(&self, name: &str) -> Option<&Verb> {
        self.verb.iter().find(|verb| verb.name == name)
    }

    /// The verb that does the work when none below it is named.
    pub fn own(&self) -> Option<&Verb> {
        match &self.default {
            Some(name) => self.below(name),
            None => self.tool.as_ref().map(|_| self),
        }
    }

    /// Its tool; of a verb that has verbs below it, that of the default one.
    pub fn entry(&self) -> Option<&'static Entry> {
        tools::find(self.own()?.tool.as_deref()?)
    }

    /// It calls this tool itself.
    pub fn names_tool(&self, tool: &str) -> bool {
        self.tool.as_deref() == Some(tool)
    }

    /// What it does, in one sentence.
    pub fn about(&self) -> String {
        let text = self.about.as_deref().or(self.entry().map(|entry| entry.about)).unwrap_or_default();
        let end = text.find(". ").unwrap_or(text.len());
        text[..end].trim_end_matches('.').to_string()
    }

    /// The parameters that are options of it: name and schema.
    pub fn parameters(&self) -> Map<String, Value> {
        let Some(Value::Object(mut all)) =
            self.entry().and_then(|entry| entry.input_schema().get("properties").cloned())
        else {
            return Map::new();
        };
        // A person's call waits for its end.
        all.retain(|name, _| name != "background" && !self.fixed.contains_key(name) && !self.hide.contains(name));
        all
    }
}

#[cfg(test)]
impl Verb {
    /// All parameters that it names outside of its forms.
    pub fn named_parameters(&self) -> impl Iterator<Item = &str> {
        let names = self.hide.iter().chain(&self.literal).chain(&self.without_device);
        names.chain(self.fixed.keys()).chain(self.otherwise.keys()).map(String::as_str)
    }
}
