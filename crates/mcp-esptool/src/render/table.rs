//! A list of objects as a table.

use std::fmt::Write as _;

use super::{MAX_ROWS, Node, more};

/// Characters of one cell; longer ones are cut with `…`.
const MAX_CELL: usize = 64;
/// Rows from which on a column of equal values is folded.
const MIN_ROWS_TO_FOLD: usize = 4;

/// The list below its name: a column for each field that any row has, cells aligned, long lists cut.
pub fn write(text: &mut String, key: &str, list: &[Node], depth: usize) {
    let indent = depth * 2;
    let (columns, same) = split_same(list, columns(list));
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
    let all = if same.is_empty() { String::new() } else { format!(", all with {}", same.join(", ")) };
    let _ = writeln!(text, "{:indent$}{key} ({}{all}):", "", list.len());
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

/// Columns whose value is the same in all of many rows are told once, above the table.
fn split_same<'a>(list: &[Node], columns: Vec<&'a str>) -> (Vec<&'a str>, Vec<String>) {
    let mut same = Vec::new();
    if list.len() < MIN_ROWS_TO_FOLD {
        return (columns, same);
    }
    let value = |entry: &Node, column: &str| match entry {
        Node::Fields(fields) => cell(fields, column),
        _ => String::new(),
    };
    let varies = |column: &&str| {
        let first = value(&list[0], column);
        let varies = list.iter().any(|entry| value(entry, column) != first);
        if !varies {
            same.push(format!("{column} {first}"));
        }
        varies
    };
    (columns.into_iter().filter(varies).collect(), same)
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
