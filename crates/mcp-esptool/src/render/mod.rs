//! Turns a tool's result into compact text: fields, tables and console blocks, bounded in size.
//!
//! Clients that show only the text of an answer, and people at a terminal, get the facts that `structuredContent` has.

mod hex;
mod node;
mod table;

use std::cell::Cell;
use std::fmt::Write as _;

use serde::Serialize;

pub use hex::{address_schemas, addresses_as_text};
pub use node::Node;

use esp_ops::words::{counted, folded};

/// How much of a result is shown.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Bytes of text beyond which a result is cut; the headline is never cut.
    bytes: usize,
    /// Entries of a list that are shown.
    rows: usize,
    /// Lines of a console or file text that are shown.
    lines: usize,
}

/// What an answer shows: a model reads all of it.
const SHORT: Limits = Limits { bytes: 10_000, rows: 100, lines: 150 };
/// Everything.
const ALL: Limits = Limits { bytes: usize::MAX, rows: usize::MAX, lines: usize::MAX };

/// What is shown of a result.
#[derive(Clone, Copy)]
struct View<'a> {
    /// What is told already.
    headline: &'a str,
    limits: Limits,
    /// Something was left out.
    cut: &'a Cell<bool>,
}

impl<'a> View<'a> {
    /// The same where nothing is told already.
    fn untold(self) -> View<'a> {
        View { headline: "", ..self }
    }

    /// The line for what a limit leaves out; empty if that is nothing.
    fn left_out(self, count: usize, limit: usize, noun: &str) -> Option<String> {
        let left = count.checked_sub(limit).filter(|left| *left > 0)?;
        self.cut.set(true);
        Some(format!("… {}", counted(left, noun)))
    }
}

/// The facts of a result as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Within the limits of an answer; empty if there are none.
    pub text: String,
    /// Without limits, where the text was cut.
    pub whole: Option<String>,
}
/// Columns of a line of short fields.
const WIDTH: usize = 110;
/// Objects under these names are to be taken as they are, as JSON: what a tool is to be called with, a schema.
const VERBATIM: [&str; 2] = ["parameters", "schema"];

/// The facts of a result that `headline` does not tell already.
pub fn facts(result: &impl Serialize, headline: &str) -> Facts {
    let nothing = Facts { text: String::new(), whole: None };
    let Ok(json) = serde_json::to_string(result) else { return nothing };
    let Ok(node) = serde_json::from_str::<Node>(&json) else { return nothing };
    let (text, cut) = shown(&node, headline, SHORT);
    let whole = cut.then(|| shown(&node, headline, ALL).0);
    Facts { text, whole }
}

/// Text without the colours and control characters that a device's console or a file brought along: no client and no
/// terminal shall obey them.
pub fn plain(text: &str) -> String {
    let line = |line: &str| match line.contains(|letter: char| letter.is_control() && letter != '\t') {
        true => esp_model::console::clean(line.as_bytes()),
        false => line.into(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The text within these limits, and whether something is missing.
fn shown(node: &Node, headline: &str, limits: Limits) -> (String, bool) {
    let cut = Cell::new(false);
    let view = View { headline, limits, cut: &cut };
    let mut text = String::new();
    write_fields(&mut text, node, view, 0);
    let text = bounded(text, view);
    (text, cut.get())
}

/// Cuts at a line's end and says what was left out.
fn bounded(text: String, view: View<'_>) -> String {
    if text.len() <= view.limits.bytes {
        return text;
    }
    let end = (0..=view.limits.bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let end = text[..end].rfind('\n').unwrap_or(end);
    let left = text[end..].lines().filter(|line| !line.is_empty()).count();
    view.left_out(left, 0, "more line").map_or_else(|| text.clone(), |note| format!("{}\n{note}", &text[..end]))
}

fn write_fields(text: &mut String, node: &Node, view: View<'_>, depth: usize) {
    let Node::Fields(fields) = node else { return };
    let mut short: Vec<String> = Vec::new();
    for (key, value) in fields {
        if value.is_empty() || told(value, view.headline) {
            continue;
        }
        match value {
            Node::Text(string) if string.contains('\n') => {
                flush(text, &mut short, depth);
                write_block(text, key, string, view, depth);
            }
            Node::List(list) if list.iter().any(|entry| matches!(entry, Node::Fields(_))) => {
                flush(text, &mut short, depth);
                table::write(text, key, list, view, depth);
            }
            Node::List(list) if is_long(list) => {
                flush(text, &mut short, depth);
                let lines: Vec<String> = list.iter().map(|entry| entry.show_in_list(key)).collect();
                write_block(text, key, &lines.join("\n"), view, depth);
            }
            Node::List(list) => short.push(format!("{key}: {}", scalars(key, list, view))),
            Node::Fields(_) if VERBATIM.contains(&key.as_str()) => {
                flush(text, &mut short, depth);
                let json = value.json();
                if !view.headline.contains(&json) {
                    let _ = writeln!(text, "{:indent$}{key}: {json}", "", indent = depth * 2);
                }
            }
            Node::Fields(_) => {
                flush(text, &mut short, depth);
                write_object(text, key, value, view, depth);
            }
            scalar => short.push(format!("{key}: {}", scalar.show(key))),
        }
    }
    flush(text, &mut short, depth);
}

/// Sentences rather than names: each gets a line of its own.
fn is_long(list: &[Node]) -> bool {
    let length = |entry: &Node| if let Node::Text(text) = entry { text.len() } else { 0 };
    list.len() > 1 && list.iter().map(length).sum::<usize>() > WIDTH
}

/// A nested object: on one line where it fits, else indented below its name.
fn write_object(text: &mut String, key: &str, value: &Node, view: View<'_>, depth: usize) {
    let line = value.inline();
    if line.chars().count() + key.len() + depth * 2 < WIDTH {
        let _ = writeln!(text, "{:depth$}{key}: {line}", "", depth = depth * 2);
        return;
    }
    let _ = writeln!(text, "{:depth$}{key}:", "", depth = depth * 2);
    write_fields(text, value, view, depth + 1);
}

/// A value that the headline has word for word.
fn told(value: &Node, headline: &str) -> bool {
    match value {
        Node::Text(string) => string.len() > 3 && headline.contains(string.trim_end()),
        Node::List(list) => list.iter().all(|entry| told(entry, headline)),
        _ => false,
    }
}

/// Short fields, several on a line.
fn flush(text: &mut String, short: &mut Vec<String>, depth: usize) {
    let indent = depth * 2;
    let mut column = 0;
    for field in short.drain(..) {
        let width = field.chars().count();
        if column > 0 && column + width + 2 > WIDTH {
            text.push('\n');
            column = 0;
        }
        if column == 0 {
            let _ = write!(text, "{:indent$}{field}", "");
            column = indent + width;
        } else {
            let _ = write!(text, "; {field}");
            column += width + 2;
        }
    }
    if column > 0 {
        text.push('\n');
    }
}

fn scalars(key: &str, list: &[Node], view: View<'_>) -> String {
    let shown = list.iter().take(view.limits.rows).map(|entry| entry.show_in_list(key));
    let shown = shown.chain(view.left_out(list.len(), view.limits.rows, "more value"));
    shown.collect::<Vec<_>>().join(", ")
}

/// Text of several lines; what repeats is shown once with its count.
fn write_block(text: &mut String, key: &str, string: &str, view: View<'_>, depth: usize) {
    let indent = depth * 2;
    let _ = writeln!(text, "{:indent$}{key}:", "");
    let lines: Vec<&str> = string.lines().collect();
    let lines = folded(&lines);
    for line in lines.iter().take(view.limits.lines) {
        let _ = writeln!(text, "{:indent$}| {line}", "");
    }
    if let Some(note) = view.left_out(lines.len(), view.limits.lines, "more line") {
        let _ = writeln!(text, "{:indent$}{note}", "");
    }
}

#[cfg(test)]
mod tests;
