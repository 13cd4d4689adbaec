//! Agent Skills: the usual work as instructions that an agent loads when it needs them. Served over MCP (SEP-2640) and
//! written to `examples/skills`; the texts are in `skills/`, what they say about tools comes from the list of tools.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use esp_ops::guard::Risk;
use regex::Regex;
use serde_json::Value;

use crate::tool::Entry;
use crate::tools;

/// One skill.
#[derive(Debug)]
pub struct Skill {
    /// Its name; the last part of its path.
    pub name: &'static str,
    /// Its text, with the frontmatter and without what comes from the list of tools.
    template: &'static str,
}

macro_rules! skills {
    ($($name:literal),+) => {
        /// All skills.
        pub static ALL: &[Skill] =
            &[$(Skill { name: $name, template: include_str!(concat!("../skills/", $name, ".md")) }),+];
    };
}

skills!("bring-up", "flash-and-see", "crash", "partitions-and-nvs", "secure-a-device", "factory");

/// Names of tools in a text.
static NAMES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\besp_[a-z0-9_]+\b").ok());

impl Skill {
    /// Its address over MCP.
    pub fn uri(&self) -> String {
        format!("skill://{}/SKILL.md", self.name)
    }

    /// The frontmatter as JSON.
    pub fn frontmatter(&self) -> Value {
        let yaml = self.template.split("---\n").nth(1).unwrap_or_default();
        serde_yaml_ng::from_str(yaml).unwrap_or_default()
    }

    /// What it is for.
    pub fn description(&self) -> String {
        self.frontmatter()["description"].as_str().unwrap_or_default().into()
    }

    /// The tools that it uses, in their order of first use.
    fn tools(&self) -> Vec<&'static Entry> {
        let mut seen = BTreeSet::new();
        let names = NAMES.iter().flat_map(|names| names.find_iter(self.template));
        names.filter_map(|name| tools::find(name.as_str())).filter(|entry| seen.insert(entry.name)).collect()
    }

    /// The whole `SKILL.md`.
    pub fn text(&self) -> String {
        let mut text = self.template.trim_end().to_string();
        text += "\n\n## Tools\n\nAll parameters and examples of a tool: `esp://docs/tools/NAME`.\n\n";
        for entry in self.tools() {
            let risk = match entry.risk {
                Risk::Reads => "",
                Risk::Resets => " Restarts the device.",
                Risk::Writes => " Writes.",
                Risk::Destroys => " May remove data.",
                Risk::Irreversible => " Permanent.",
            };
            let _ = writeln!(text, "- `{}`: {}{risk}", entry.name, entry.about);
        }
        text
    }
}

/// The text at this address; `None` when there is none.
pub fn read(uri: &str) -> Option<String> {
    ALL.iter().find(|skill| skill.uri() == uri).map(Skill::text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::schema;

    /// The calls of a text: `esp_x {…}` in back quotes, over the ends of lines.
    fn calls(text: &str) -> Vec<(String, Value)> {
        let call = Regex::new(r"`(esp_[a-z0-9_]+) (\{(?s:.)*?\})`").unwrap();
        let read = |arguments: &str| {
            let joined = Regex::new(r"\n\s+").unwrap().replace_all(arguments, " ").into_owned();
            serde_json::from_str(&joined).unwrap_or_else(|error| panic!("{joined}: {error}"))
        };
        call.captures_iter(text).map(|found| (found[1].into(), read(&found[2]))).collect()
    }

    #[test]
    fn calls_of_skills_fit_the_tools() {
        for skill in ALL {
            let calls = calls(skill.template);
            assert!(calls.len() >= 6, "{}: {calls:?}", skill.name);
            for (name, arguments) in calls {
                let entry = tools::find(&name).unwrap_or_else(|| panic!("{}: there is no tool {name}", skill.name));
                let fits = schema::check(arguments.clone(), entry.input_schema());
                assert!(fits.is_ok(), "{}: {name} {arguments}: {}", skill.name, fits.unwrap_err());
            }
            for name in NAMES.as_ref().unwrap().find_iter(skill.template) {
                assert!(tools::find(name.as_str()).is_some(), "{}: there is no tool {}", skill.name, name.as_str());
            }
        }
    }

    #[test]
    fn frontmatter_names_the_skill_and_what_it_is_for() {
        for skill in ALL {
            assert_eq!(skill.frontmatter()["name"], skill.name);
            let about = skill.description();
            assert!((100..=1024).contains(&about.len()), "{}: {about}", skill.name);
            let text = skill.text();
            assert!(text.starts_with("---\n") && text.contains("\n## Tools\n"), "{text}");
            assert!(skill.tools().len() >= 5, "{}", skill.name);
        }
    }
}
