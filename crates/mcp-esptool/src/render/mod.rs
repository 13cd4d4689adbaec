//! Turns a tool's result into compact text: fields, tables and console blocks, bounded in size.
//!
//! Clients that show only the text of an answer, and people at a terminal, get the facts that `structuredContent` has.

mod hex;
mod node;
mod table;

use std::fmt::Write as _;

use serde::Serialize;

pub use hex::{address_schemas, addresses_as_text};
pub use node::Node;

use crate::ops::words::{counted, folded};

/// Bytes of text beyond which a result is cut; the headline is never cut.
const MAX_BYTES: usize = 10_000;
/// Entries of a list that are shown.
const MAX_ROWS: usize = 100;
/// Lines of a console or file text that are shown.
const MAX_LINES: usize = 150;
/// Columns of a line of short fields.
const WIDTH: usize = 110;
/// Objects under these names are to be taken as they are, as JSON: what a tool is to be called with, a schema.
const VERBATIM: [&str; 2] = ["parameters", "schema"];

/// The facts of a result that `headline` does not tell already. Empty if there are none.
pub fn facts(result: &impl Serialize, headline: &str) -> String {
    let Ok(json) = serde_json::to_string(result) else { return String::new() };
    let Ok(node) = serde_json::from_str::<Node>(&json) else { return String::new() };
    let mut text = String::new();
    write_fields(&mut text, &node, headline, 0);
    bounded(text)
}

/// Cuts at a line's end and says what was left out.
fn bounded(text: String) -> String {
    if text.len() <= MAX_BYTES {
        return text;
    }
    let end = (0..=MAX_BYTES).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let end = text[..end].rfind('\n').unwrap_or(end);
    let left = text[end..].lines().filter(|line| !line.is_empty()).count();
    format!("{}\n… {} in structuredContent", &text[..end], counted(left, "more line"))
}

fn write_fields(text: &mut String, node: &Node, headline: &str, depth: usize) {
    let Node::Fields(fields) = node else { return };
    let mut short: Vec<String> = Vec::new();
    for (key, value) in fields {
        if value.is_empty() || told(value, headline) {
            continue;
        }
        match value {
            Node::Text(string) if string.contains('\n') => {
                flush(text, &mut short, depth);
                write_block(text, key, string, depth);
            }
            Node::List(list) if list.iter().any(|entry| matches!(entry, Node::Fields(_))) => {
                flush(text, &mut short, depth);
                table::write(text, key, list, headline, depth);
            }
            Node::List(list) if is_long(list) => {
                flush(text, &mut short, depth);
                let lines: Vec<String> = list.iter().map(|entry| entry.show_in_list(key)).collect();
                write_block(text, key, &lines.join("\n"), depth);
            }
            Node::List(list) => short.push(format!("{key}: {}", scalars(key, list))),
            Node::Fields(_) if VERBATIM.contains(&key.as_str()) => {
                flush(text, &mut short, depth);
                let json = value.json();
                if !headline.contains(&json) {
                    let _ = writeln!(text, "{:indent$}{key}: {json}", "", indent = depth * 2);
                }
            }
            Node::Fields(_) => {
                flush(text, &mut short, depth);
                write_object(text, key, value, headline, depth);
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
fn write_object(text: &mut String, key: &str, value: &Node, headline: &str, depth: usize) {
    let line = value.inline();
    if line.chars().count() + key.len() + depth * 2 < WIDTH {
        let _ = writeln!(text, "{:depth$}{key}: {line}", "", depth = depth * 2);
        return;
    }
    let _ = writeln!(text, "{:depth$}{key}:", "", depth = depth * 2);
    write_fields(text, value, headline, depth + 1);
}

/// A value that the headline has word for word.
fn told(value: &Node, headline: &str) -> bool {
    match value {
        Node::Text(string) => string.len() > 3 && headline.contains(string.as_str()),
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

fn scalars(key: &str, list: &[Node]) -> String {
    let mut shown: Vec<String> = list.iter().take(MAX_ROWS).map(|entry| entry.show_in_list(key)).collect();
    if list.len() > MAX_ROWS {
        shown.push(format!("… {}", counted(list.len() - MAX_ROWS, "more value")));
    }
    shown.join(", ")
}

/// Text of several lines; what repeats is shown once with its count.
fn write_block(text: &mut String, key: &str, string: &str, depth: usize) {
    let indent = depth * 2;
    let _ = writeln!(text, "{:indent$}{key}:", "");
    let lines: Vec<&str> = string.lines().collect();
    let lines = folded(&lines);
    for line in lines.iter().take(MAX_LINES) {
        let _ = writeln!(text, "{:indent$}| {line}", "");
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(text, "{:indent$}… {}", "", counted(lines.len() - MAX_LINES, "more line"));
    }
}

#[cfg(test)]
mod tests;
