//! A list of objects as a table.

use std::fmt::Write as _;

use super::{MAX_ROWS, Node, more};

/// Characters of one cell; longer ones are cut with `…`.
const MAX_CELL: usize = 64;

/// The list below its name: a column for each field that any row has, cells aligned, long lists cut.
pub fn write(text: &mut String, key: &str, list: &[Node], depth: usize) {
    let indent = depth * 2;
    let columns = columns(list);
    let mut rows = vec![columns.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for entry in list.iter().take(MAX_ROWS) {
        rows.push(match entry {
            Node::Fields(fields) => columns.iter().map(|column| cell(fields, column)).collect(),
            other => vec![cut(other.show(key))],
        });
    }
    let count = columns.len();
    let widths: Vec<usize> = (0..count)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let _ = writeln!(text, "{:indent$}{key} ({}):", "", list.len());
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "  {cell:width$}");
        }
        let _ = writeln!(text, "{:indent$}{}", "", line.trim_end());
    }
    if list.len() > MAX_ROWS {
        let _ = writeln!(text, "{:indent$}  … {} in structuredContent", "", more(list.len() - MAX_ROWS, "row"));
    }
}

/// The fields that at least one row fills, in the order of first appearance.
fn columns(list: &[Node]) -> Vec<&str> {
    let mut columns: Vec<&str> = Vec::new();
    for entry in list.iter().take(MAX_ROWS) {
        let Node::Fields(fields) = entry else { continue };
        for (key, value) in fields {
            if !value.is_empty() && !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    columns
}

fn cell(fields: &[(String, Node)], column: &str) -> String {
    let value = fields.iter().find(|(key, _)| key == column).map(|(_, value)| value);
    match value {
        Some(value) if !value.is_empty() => cut(value.show(column)),
        _ => "-".into(),
    }
}

fn cut(text: String) -> String {
    if text.chars().count() <= MAX_CELL {
        return text;
    }
    text.chars().take(MAX_CELL - 1).chain(['…']).collect()
}
