//! What lists show: tools, and a page of anything.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rmcp::model::{ClientCapabilities, ErrorData, MetaObject, PaginatedRequestParams, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::{icons, lazy};
use crate::ctx::Ctx;
use crate::pages::{EXTENSION, PAGE_TYPE};
use crate::tool::Entry;
use crate::tool::schema::listed::{self, Detail};
use crate::{resources, tools};

/// Longest list, in bytes of JSON; it says as much of each tool as fits.
const LONGEST: usize = 59_900;
/// The same for a chosen part of the tools.
const LONGEST_CHOICE: usize = 13_900;

/// How tools are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    detail: Detail,
    /// With an icon for each tool.
    icons: bool,
    /// With the pages that belong to tools, for a host that shows them.
    pages: bool,
    /// With hints for clients that load tools lazily.
    hints: bool,
}

impl Form {
    /// The fullest one, without icons.
    pub(super) const FULL: Self = Self { detail: Detail::Full, icons: false, pages: false, hints: true };

    /// The one that says least.
    fn least(pages: bool) -> Self {
        Self { detail: Detail::Short, icons: false, pages, hints: false }
    }

    /// All forms, from most to least; parameters are worth more than icons, and pages more than hints.
    fn all(pages: bool) -> impl Iterator<Item = Self> {
        let of = move |detail| [true, false].map(|icons| Self { detail, icons, pages, hints: true });
        Detail::ALL.into_iter().flat_map(of)
    }
}

/// The client shows pages (MCP Apps).
pub(super) fn shows_pages(capabilities: Option<&ClientCapabilities>) -> bool {
    let settings = capabilities.and_then(|all| all.extensions.as_ref()?.get(EXTENSION));
    let types = settings.and_then(|settings| settings.get("mimeTypes")?.as_array());
    types.is_some_and(|types| types.iter().any(|one| one == PAGE_TYPE))
}

/// The tools that are offered, in their order; with the pages that belong to them for a client that shows pages.
pub(super) fn list(ctx: &Ctx, pages: bool) -> Vec<Tool> {
    let limit = if ctx.app.surface.is_choice() { LONGEST_CHOICE } else { LONGEST };
    let form = Form::all(pages).find(|form| fits(ctx, *form, limit)).unwrap_or(Form::least(pages));
    tools::offered(ctx).map(|entry| show(entry, form)).collect()
}

/// The list says so much in at most `limit` bytes. One tool at a time is looked at: all schemas at once take megabytes.
fn fits(ctx: &Ctx, form: Form, limit: usize) -> bool {
    let mut left = limit.checked_sub("{\"tools\":[]}".len());
    for entry in tools::offered(ctx) {
        let length = serde_json::to_vec(&show(entry, form)).map_or(usize::MAX, |text| text.len());
        left = left.and_then(|left| left.checked_sub(length.saturating_add(1)));
        if left.is_none() {
            return false;
        }
    }
    true
}

/// One tool as `tools/list` shows it.
pub(super) fn show(entry: &'static Entry, form: Form) -> Tool {
    let hints = entry.hints();
    let annotations = ToolAnnotations::new()
        .read_only(hints.read_only)
        .destructive(hints.destructive)
        .idempotent(hints.idempotent)
        .open_world(hints.open_world);
    let mut tool = Tool::new(entry.name, entry.about, Arc::new(listed::input(entry.input_schema(), form.detail)))
        .with_title(entry.title)
        .with_raw_output_schema(Arc::new(listed::output(entry.output_schema(), form.detail)))
        .with_annotations(annotations);
    if form.icons {
        tool.icons = icons::of_set(entry.set).map(|icon| vec![icon]);
    }
    let mut meta = MetaObject::new();
    if form.hints {
        lazy::add(entry.name, &mut meta);
    }
    if let Some(page) = form.pages.then(|| resources::page_of(entry.name)).flatten() {
        meta.0.insert("ui".into(), json!({ "resourceUri": page.uri }));
    }
    if meta.0.is_empty() { tool } else { tool.with_meta(meta) }
}

/// One tool in the fullest form of `tools/list`, as JSON.
pub fn listed_json(entry: &'static Entry) -> Value {
    serde_json::to_value(show(entry, Form::FULL)).unwrap_or_default()
}

/// The tools that are offered, each in that form, whatever the length of the list.
pub fn list_json(ctx: &Ctx) -> Value {
    tools::offered(ctx).map(listed_json).collect()
}

/// The page that a cursor names (the first one without), and the cursor of the next.
pub(super) fn page<T>(
    ctx: &Ctx,
    items: Vec<T>,
    request: Option<PaginatedRequestParams>,
) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let size = ctx.config.number("page_size").max(1);
    let bad = || ErrorData::invalid_params("the cursor is not one of this list", None);
    let start = match request.and_then(|request| request.cursor) {
        None => 0,
        Some(cursor) => {
            let bytes = BASE64.decode(cursor).map_err(|_| bad())?;
            let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<usize>().ok());
            number.filter(|start| *start < items.len()).ok_or_else(bad)?
        }
    };
    let next = start.saturating_add(size);
    let cursor = (next < items.len()).then(|| BASE64.encode(next.to_string()));
    Ok((items.into_iter().skip(start).take(size).collect(), cursor))
}
