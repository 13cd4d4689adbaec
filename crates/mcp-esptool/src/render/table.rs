//! A list of objects as a table.

use std::fmt::Write as _;

use super::node::is_address;
use super::{MAX_ROWS, Node, more};

/// Characters of one cell; longer ones are cut with `…`.
const MAX_CELL: usize = 64;
/// Characters of a cell that holds fields or a list of its own.
const MAX_NESTED: usize = 40;
/// Characters of a row; the widest columns give way.
const MAX_WIDTH: usize = 160;
/// Characters that a column keeps.
const MIN_CELL: usize = 12;
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
            other => vec![cut(other.show(key), MAX_CELL)],
        });
    }
    let widths = fitting(&rows, columns.len());
    let all = if same.is_empty() { String::new() } else { format!(", all with {}", same.join(", ")) };
    let _ = writeln!(text, "{:indent$}{key} ({}{all}):", "", list.len());
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let cell = cut(cell.clone(), *width);
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

/// The width of each column; where a row would be too wide, the widest columns are cut.
fn fitting(rows: &[Vec<String>], count: usize) -> Vec<usize> {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let mut widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    while widths.iter().map(|width| width + 2).sum::<usize>() > MAX_WIDTH {
        match widths.iter_mut().max().filter(|widest| **widest > MIN_CELL) {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    widths
}

fn cell(fields: &[(String, Node)], column: &str) -> String {
    let has_address = fields.iter().any(|(key, value)| is_address(key) && !value.is_empty());
    let value = fields.iter().find(|(key, _)| key == column).map(|(_, value)| value);
    match value {
        Some(value) if value.is_empty() => "-".into(),
        Some(value @ (Node::Fields(_) | Node::List(_))) => cut(value.show(column), MAX_NESTED),
        Some(value) if has_address => cut(value.show_at_address(column), MAX_CELL),
        Some(value) => cut(value.show(column), MAX_CELL),
        None => "-".into(),
    }
}

/// The text with at most so many characters. Of a path the end tells most.
fn cut(text: String, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text;
    }
    let keep = most.saturating_sub(1);
    let is_path = !text.contains(' ') && text.contains('/');
    match is_path {
        true => ['…'].into_iter().chain(text.chars().skip(count - keep)).collect(),
        false => text.chars().take(keep).chain(['…']).collect(),
    }
}
