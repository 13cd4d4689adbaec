//! `esp_docs`: documents, tools in full and skills for clients that call tools and cannot read resources.

use std::borrow::Cow;

use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::{Ctx, results};
use crate::tool::Tool;
use crate::{doctor, documents, skills};

/// The tool.
pub struct Docs;

/// Characters of a document in one answer.
const PART: usize = 12_000;
/// Lines that a search shows.
const MOST_FOUND: usize = 40;
/// The document that describes all tools: each tool's own is shorter.
const ALL_TOOLS: &str = "tools";
/// The state of this server.
const SERVER: &str = "esp://server";

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Tool name or address (default: list all); such as esp_nvs, esp://docs/production, skill://crash/SKILL.md.
    name: Option<String>,
    /// Instead: words to find.
    search: Option<String>,
    /// Character to continue at, from the answer before.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    offset: usize,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The document's address; left out for a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// The text, or this part of it.
    text: String,
    /// Where to go on; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<usize>,
}

impl Tool for Docs {
    const NAME: &'static str = "esp_docs";
    const TITLE: &'static str = "Read documentation";
    const ABOUT: &'static str = "Read documentation: a tool's full parameters and examples by its name, or an esp:// or \
         skill:// address from a hint. Search finds words in all documents.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        if let Some(words) = &input.search {
            return Ok(Out { uri: None, text: search(words), next_at: None });
        }
        let name = input.name.as_deref().unwrap_or("index").trim();
        let uri = address(name);
        let text = read(ctx, &uri).ok_or_else(|| unknown(name))?;
        let (text, next_at) = part(&text, input.offset);
        Ok(Out { uri: Some(uri), text: text.to_owned(), next_at })
    }

    fn summary(out: &Out) -> String {
        let next = match (&out.uri, out.next_at) {
            (Some(uri), Some(offset)) => format!("\nnext: esp_docs name={uri} offset={offset} shows the rest"),
            _ => String::new(),
        };
        format!("{}{next}", out.text.trim_end())
    }
}

/// What is meant by a name: an address, a tool, a skill or a document.
fn address(name: &str) -> String {
    let skill = skills::ALL.iter().find(|skill| skill.name == name);
    match skill {
        _ if name.contains("://") => name.to_owned(),
        Some(skill) => skill.uri(),
        None if name.starts_with("esp_") => format!("esp://docs/tools/{name}"),
        None => format!("esp://docs/{}", name.trim_start_matches("docs/").trim_end_matches(".md")),
    }
}

fn read(ctx: &Ctx, uri: &str) -> Option<Cow<'static, str>> {
    if uri.starts_with(results::SCHEME) {
        return ctx.app.results.read(uri).map(|text| text.to_string().into());
    }
    // What is told of this computer is for a caller on it.
    if uri == SERVER && !ctx.caller.is_remote {
        return Some(doctor::report(&ctx.config).into());
    }
    documents::read(uri).or_else(|| skills::read(uri).map(Into::into))
}

fn unknown(name: &str) -> ToolError {
    if name.starts_with(results::SCHEME) {
        let error = ToolError::new(Code::FileNotFound, format!("`{name}` is not kept any more"));
        return error.next("make the call again that named it: only the newest results are kept");
    }
    let documents = documents::all();
    let tools = super::ALL.iter().map(|entry| entry.name);
    let known = documents.iter().map(|document| document.name.as_str()).chain(tools);
    let error = ToolError::new(Code::FileNotFound, format!("there is no document `{name}`"));
    match nearest(name, known) {
        Some(near) => error.next(format!("esp_docs name={near}, or esp_docs without a name for the list")),
        None => error.next("esp_docs without a name lists all; esp_docs search=… finds words in them"),
    }
}

/// The part that begins at this character, up to a line's end, and where the next one begins.
fn part(text: &str, offset: usize) -> (&str, Option<usize>) {
    let start = (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let rest = &text[start..];
    if rest.len() <= PART {
        return (rest, None);
    }
    let end = (0..=PART).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(0);
    let end = rest[..end].rfind('\n').map_or(end, |at| at + 1);
    (&rest[..end], Some(start + end))
}

/// Lines that have all of the words, each below its document and heading.
fn search(words: &str) -> String {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut found = Vec::new();
    for document in documents::all().iter().filter(|document| document.name != ALL_TOOLS) {
        let uri = document.uri();
        let Some(text) = documents::read(&uri) else { continue };
        let mut heading = document.title.clone();
        for line in text.lines() {
            if line.starts_with('#') {
                heading = line.trim_start_matches('#').trim().to_owned();
            }
            let lower = format!("{heading} {line}").to_lowercase();
            if !line.trim().is_empty() && words.iter().all(|word| lower.contains(word.as_str())) {
                found.push(format!("{uri} ({heading}): {}", line.trim()));
            }
        }
    }
    let tools = super::ALL.iter().filter(|entry| {
        let text = format!("{} {} {}", entry.name, entry.title, entry.about).to_lowercase();
        words.iter().all(|word| text.contains(word.as_str()))
    });
    let tools: Vec<String> = tools.map(|entry| format!("{}: {}", entry.name, entry.about)).collect();
    let more = found.len().saturating_sub(MOST_FOUND);
    found.truncate(MOST_FOUND);
    if more > 0 {
        found.push(format!("… {more} more: use more words"));
    }
    match (tools.is_empty(), found.is_empty()) {
        (true, true) => "nothing was found; use fewer or other words".into(),
        _ => [tools, found].concat().join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_documents_tools_and_skills() {
        for (name, uri) in [
            ("esp_nvs", "esp://docs/tools/esp_nvs"),
            ("docs/production.md", "esp://docs/production"),
            ("esp://docs/errors", "esp://docs/errors"),
            ("crash", "skill://crash/SKILL.md"),
        ] {
            assert_eq!(address(name), uri);
            assert!(documents::read(uri).is_some() || skills::read(uri).is_some(), "{uri}");
        }
        assert!(unknown("esp_flash_frimware").next_step.contains("esp_flash_firmware"));
    }

    #[test]
    fn a_document_is_read_in_parts_to_its_end() {
        let text = documents::read("esp://docs/tools").unwrap();
        let (mut whole, mut at, mut parts) = (String::new(), 0, 0);
        loop {
            let (part, next) = part(&text, at);
            whole.push_str(part);
            parts += 1;
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        assert!(parts > 5 && whole == text);
    }

    #[test]
    fn words_are_found_with_their_place() {
        let found = search("recipe lock");
        assert!(found.contains("esp_recipe: ") && found.contains("esp://docs/production ("), "{found}");
        assert!(search("no such words anywhere at all").starts_with("nothing was found"));
    }
}
