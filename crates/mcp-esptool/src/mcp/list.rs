//! What lists show: tools, and a page of anything.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rmcp::model::{ErrorData, MetaObject, PaginatedRequestParams, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::tool::Entry;
use crate::tool::schema::listed::{self, Detail};
use crate::{resources, tools};

/// Longest list, in bytes of JSON; it says as much of each tool as fits.
const LONGEST: usize = 60 * 1024;
/// The same for a chosen part of the tools.
const LONGEST_CHOICE: usize = 15 * 1024;

/// The tools that are offered, in their order.
pub(super) fn list(ctx: &Ctx) -> Vec<Tool> {
    let limit = if ctx.app.surface.is_choice() { LONGEST_CHOICE } else { LONGEST };
    let [.., least] = Detail::ALL;
    let detail = Detail::ALL.into_iter().find(|detail| fits(ctx, *detail, limit)).unwrap_or(least);
    tools::offered(ctx).map(|entry| show(entry, detail)).collect()
}

/// The list says so much in at most `limit` bytes. One tool at a time is looked at: all schemas at once take megabytes.
fn fits(ctx: &Ctx, detail: Detail, limit: usize) -> bool {
    let mut left = limit.checked_sub("[]".len());
    for entry in tools::offered(ctx) {
        let length = serde_json::to_vec(&show(entry, detail)).map_or(usize::MAX, |text| text.len());
        left = left.and_then(|left| left.checked_sub(length.saturating_add(1)));
        if left.is_none() {
            return false;
        }
    }
    true
}

/// One tool as `tools/list` shows it.
pub(super) fn show(entry: &'static Entry, detail: Detail) -> Tool {
    let hints = entry.hints();
    let annotations = ToolAnnotations::new()
        .read_only(hints.read_only)
        .destructive(hints.destructive)
        .idempotent(hints.idempotent)
        .open_world(hints.open_world);
    let tool = Tool::new(entry.name, entry.about, Arc::new(listed::input(entry.input_schema(), detail)))
        .with_title(entry.title)
        .with_raw_output_schema(Arc::new(listed::output(entry.output_schema(), detail)))
        .with_annotations(annotations);
    match resources::page_of(entry.name) {
        Some(page) => {
            let mut meta = MetaObject::new();
            meta.0.insert("ui".into(), json!({ "resourceUri": page.uri }));
            tool.with_meta(meta)
        }
        None => tool,
    }
}

/// One tool in the fullest form of `tools/list`, as JSON.
pub fn listed_json(entry: &'static Entry) -> Value {
    serde_json::to_value(show(entry, Detail::Full)).unwrap_or_default()
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
