//! Resources that are texts: documents, skills, and what this server is set to.

use std::borrow::Cow;

use rmcp::model::{ErrorData, GetSkillResult, Resource, ResourceTemplate, SkillFrontmatter, SkillResource};
use rmcp::model::{Skill as Entry, SkillResources};

use super::Server;
use crate::skills::{self, Skill};
use crate::{doctor, documents};

/// What documents and skills are.
const MARKDOWN: &str = "text/markdown";
/// The server's own state.
const SERVER: &str = "esp://server";
/// One tool in full.
pub(super) const TOOL_TEMPLATE: &str = "esp://docs/tools/{name}";

impl Server {
    /// What is told of the computer is for a client on it.
    fn is_local(&self) -> bool {
        self.roots.is_some()
    }

    /// All of them, as they are listed.
    pub(super) fn texts(&self) -> Vec<Resource> {
        let documents = documents::all().into_iter().map(|document| {
            let mime = documents::mime(&document.uri());
            let resource = Resource::new(document.uri(), document.name).with_title(document.title);
            resource.with_mime_type(mime)
        });
        let skills = skills::ALL.iter().map(|skill| {
            let resource = Resource::new(skill.uri(), skill.name).with_description(skill.description());
            resource.with_mime_type(MARKDOWN)
        });
        let server = self.is_local().then(|| {
            let about = "Settings and where they come from; what was found on this computer.";
            let resource = Resource::new(SERVER, "server").with_title("This server");
            resource.with_description(about).with_mime_type("text/plain")
        });
        documents.chain(skills).chain(server).collect()
    }

    /// The text at an address, and what it is.
    pub(super) fn text(&self, uri: &str) -> Option<(Cow<'static, str>, &'static str)> {
        if uri == SERVER && self.is_local() {
            return Some((doctor::report(&self.ctx.config).into(), "text/plain"));
        }
        if let Some(text) = self.ctx.app.results.read(uri) {
            return Some((text.to_string().into(), "text/plain"));
        }
        let text = documents::read(uri).or_else(|| skills::read(uri).map(Into::into))?;
        Some((text, documents::mime(uri)))
    }
}

/// The template of the tools' documents.
pub(super) fn template() -> ResourceTemplate {
    let template = ResourceTemplate::new(TOOL_TEMPLATE, "Tool").with_title("One tool in full");
    let about = "All parameters, examples and result fields of a tool.";
    template.with_description(about).with_mime_type(MARKDOWN)
}

/// A skill as `skills/list` shows it.
pub(super) fn entry(skill: &Skill) -> Result<Entry, ErrorData> {
    let frontmatter: SkillFrontmatter = serde_json::from_value(skill.frontmatter())
        .map_err(|error| ErrorData::internal_error(format!("{}: {error}", skill.name), None))?;
    let file = SkillResource::from_bytes(skill.uri(), skill.text().as_bytes());
    Ok(Entry::new(skill.uri(), frontmatter, SkillResources::Files(vec![file])))
}

/// The skill at this address.
pub(super) fn skill(uri: &str) -> Result<GetSkillResult, ErrorData> {
    let found = skills::ALL.iter().find(|skill| skill.uri() == uri);
    let found = found.ok_or_else(|| ErrorData::invalid_params(format!("there is no skill {uri}"), None))?;
    entry(found).map(GetSkillResult::new)
}
