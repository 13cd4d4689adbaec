//! Documents as resources: what a client may read instead of opening a file of `docs/` or running a command.

use std::borrow::Cow;

use crate::{docs, tools};

/// What begins the address of every document.
pub const SCHEME: &str = "esp://docs/";
/// The list of all documents.
const INDEX: &str = "index";
/// The recipe with every section, explained.
const RECIPE: &str = "recipe-example";
/// The JSON Schema of recipes.
const SCHEMA: &str = "recipe-schema";
/// What begins the name of a tool's document.
const TOOL: &str = "tools/";

/// The files of `docs/`: name and text.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/documents.rs"));

/// A document in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name: `production`.
    pub name: String,
    /// Its heading.
    pub title: String,
}

impl Listed {
    fn new(name: &str, text: &str) -> Self {
        let title = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(name);
        Self { name: name.into(), title: title.trim().into() }
    }

    /// Its address.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}", self.name)
    }
}

/// All documents but those of single tools, by name.
pub fn all() -> Vec<Listed> {
    let files = FILES.iter().map(|(name, text)| Listed::new(name, text));
    let own = [
        (INDEX, "All documents"),
        (RECIPE, "A production recipe, annotated"),
        (SCHEMA, "The JSON Schema of production recipes"),
    ];
    let own = own.map(|(name, title)| Listed { name: name.into(), title: title.into() });
    let mut all: Vec<Listed> = files.chain(own).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// What the document at this address is.
pub fn mime(uri: &str) -> &'static str {
    if uri.strip_prefix(SCHEME) == Some(SCHEMA) { "application/schema+json" } else { "text/markdown" }
}

/// The text at this address, as [`mime`] says; `None` when there is none.
pub fn read(uri: &str) -> Option<Cow<'static, str>> {
    let name = uri.strip_prefix(SCHEME)?;
    if name == INDEX {
        return Some(index().into());
    }
    if name == RECIPE {
        let recipe = esp_factory::recipe::ANNOTATED;
        return Some(format!("# A production recipe, annotated\n\n```toml\n{recipe}```\n").into());
    }
    if name == SCHEMA {
        return serde_json::to_string_pretty(&esp_factory::recipe::schema()).ok().map(Into::into);
    }
    if let Some(tool) = name.strip_prefix(TOOL) {
        return tools::find(tool).map(|entry| docs::tool_page(entry).into());
    }
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).into())
}

fn index() -> String {
    let mut text = String::from("# Documents\n\n");
    for document in all() {
        text += &format!("- `{}`: {}\n", document.uri(), document.title);
    }
    text + "- `esp://docs/tools/NAME`: one tool, with all parameters, examples and the fields of its result\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_document_can_be_read() {
        let all = all();
        for wanted in ["errors", "production", "safety", "tools", "workflows", "index", "recipe-example"] {
            assert!(all.iter().any(|document| document.name == wanted), "{wanted} is not in {all:?}");
        }
        for document in all {
            let text = read(&document.uri()).unwrap();
            assert!(text.len() > 200 && !document.title.is_empty(), "{}", document.name);
        }
        assert_eq!(read("esp://docs/nothing"), None);
        assert_eq!(read("esp://docs/tools/esp_nope"), None);
    }

    #[test]
    fn the_document_of_a_tool_has_rare_parameters_and_examples() {
        let text = read("esp://docs/tools/esp_flash_erase").unwrap();
        for part in ["`before`", "`wait_s`", "`table_offset`", "## Examples", "\"region\": \"nvs\"", "| Result |"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
