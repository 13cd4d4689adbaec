//! A list of objects: as a table where rows fit on a line, entry by entry where they do not. Nothing of a value is cut:
//! what a table would hide is what somebody asks for.

use std::fmt::Write as _;

use esp_ops::words::path_end;

use super::node::is_address;
use super::{Node, View, told, write_fields};

/// Characters of a cell in a table, and of one that holds fields or a list of its own.
const MAX_CELL: usize = 90;
const MAX_NESTED: usize = 60;
/// Characters of a cell for which the other rows are padded, whatever they hold.
const MAX_PADDED: usize = 32;
/// Characters of a row.
const MAX_WIDTH: usize = 170;
/// Rows from which on a column of equal values is folded.
const MIN_ROWS_TO_FOLD: usize = 4;
/// Columns with paths of sources and libraries, which nobody gives back to a tool.
const SOURCES: [&str; 3] = ["name", "source", "text"];

/// The list below its name, long lists cut.
pub fn write(text: &mut String, key: &str, list: &[Node], view: View<'_>, depth: usize) {
    let indent = depth * 2;
    let (columns, same) = split_same(list, columns(list));
    let all = if same.is_empty() { String::new() } else { format!(", all with {}", same.join(", ")) };
    let _ = writeln!(text, "{:indent$}{key} ({}{all}):", "", list.len());
    let mut rows = vec![columns.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for entry in list.iter().take(view.limits.rows) {
        rows.push(match entry {
            Node::Fields(fields) => columns.iter().map(|column| cell(fields, column)).collect(),
            other => vec![other.show(key)],
        });
    }
    let usual = usual_widths(&rows[1..], columns.len());
    let fits: Vec<bool> = list.iter().zip(&rows[1..]).map(|(entry, row)| fits(entry, &columns, row, &usual)).collect();
    let few_do_not = rows.len() > MIN_ROWS_TO_FOLD && fits.iter().filter(|fits| !**fits).count() * 5 < fits.len();
    let in_table = |index: usize| index == 0 || fits[index - 1];
    let tabled: Vec<&Vec<String>> =
        rows.iter().enumerate().filter(|(index, _)| in_table(*index)).map(|(_, row)| row).collect();
    let is_table = few_do_not || fits.iter().all(|fits| *fits);
    let widths = widths(&columns, &tabled).filter(|_| is_table);
    let is_table = widths.is_some();
    if let Some(widths) = widths {
        write_rows(text, &tabled, &widths, indent);
    }
    for (entry, fits) in list.iter().zip(&fits) {
        if !(*fits && is_table) {
            write_entry(text, entry, &columns, view, depth);
        }
    }
    if let Some(note) = view.left_out(list.len(), view.limits.rows, "more row") {
        let _ = writeln!(text, "{:indent$}  {note}", "");
    }
}

fn write_rows(text: &mut String, rows: &[&Vec<String>], widths: &[usize], indent: usize) {
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "  {cell:width$}");
        }
        let _ = writeln!(text, "{:indent$}{}", "", line.trim_end());
    }
}

/// One entry with all its fields, marked by a dash.
fn write_entry(text: &mut String, entry: &Node, columns: &[&str], view: View<'_>, depth: usize) {
    let indent = depth * 2;
    let Node::Fields(fields) = entry else {
        let _ = writeln!(text, "{:indent$}- {}", "", entry.show(""));
        return;
    };
    // A sentence of the headline is not repeated; a name is, or nobody knows which entry this is.
    let is_told =
        |value: &Node| matches!(value, Node::Text(text) if text.len() > MAX_CELL / 2) && told(value, view.headline);
    let shown = fields.iter().filter(|(key, value)| columns.contains(&key.as_str()) && !is_told(value));
    let has_address = has_address(fields);
    let shown = shown.map(|(key, value)| match value {
        Node::Integer(_) if has_address => (key.clone(), Node::Text(value.show_at_address(key))),
        Node::Text(path) => (key.clone(), Node::Text(end_of_path(key, path.clone()))),
        _ => (key.clone(), value.clone()),
    });
    let mut own = String::new();
    write_fields(&mut own, &Node::Fields(shown.collect()), view.untold(), depth + 1);
    if let Some(rest) = own.get(indent + 2..) {
        let _ = write!(text, "{:indent$}- {rest}", "");
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
    for entry in list {
        let Node::Fields(fields) = entry else { continue };
        for (key, value) in fields {
            if !value.is_empty() && !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    columns
}

/// The width of each column; none where a row would be too wide.
fn widths(columns: &[&str], rows: &[&Vec<String>]) -> Option<Vec<usize>> {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| width(at).unwrap_or(0)).collect();
    (widths.iter().map(|width| width + 2).sum::<usize>() <= MAX_WIDTH).then_some(widths)
}

/// No cell of this row is too long for a table, nor so much longer than the others that all rows would be padded for it.
fn fits(entry: &Node, columns: &[&str], row: &[String], usual: &[usize]) -> bool {
    let most = |column: &str| if is_nested(entry, column) { MAX_NESTED } else { MAX_CELL };
    columns.iter().zip(row).zip(usual).all(|((column, cell), usual)| {
        let width = cell.chars().count();
        width <= most(column) && (width <= MAX_PADDED || width <= 2 * usual)
    })
}

/// The width that four of five cells of a column do not exceed; of few rows the widest.
fn usual_widths(rows: &[Vec<String>], columns: usize) -> Vec<usize> {
    let usual = |at: usize| {
        let mut widths: Vec<usize> =
            rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).collect();
        widths.sort_unstable();
        let index = if widths.len() > MIN_ROWS_TO_FOLD { widths.len() * 4 / 5 } else { widths.len().saturating_sub(1) };
        widths.get(index).copied().unwrap_or(0)
    };
    (0..columns).map(usual).collect()
}

fn is_nested(entry: &Node, column: &str) -> bool {
    let Node::Fields(fields) = entry else { return false };
    fields.iter().any(|(key, value)| key == column && matches!(value, Node::Fields(_) | Node::List(_)))
}

fn has_address(fields: &[(String, Node)]) -> bool {
    fields.iter().any(|(key, value)| is_address(key) && !value.is_empty())
}

fn cell(fields: &[(String, Node)], column: &str) -> String {
    let value = fields.iter().find(|(key, _)| key == column).map(|(_, value)| value);
    match value {
        Some(value) if value.is_empty() => "-".into(),
        Some(value) if has_address(fields) => end_of_path(column, value.show_at_address(column)),
        Some(value) => end_of_path(column, value.show(column)),
        None => "-".into(),
    }
}

/// Of a long path to a source or library the end tells most; every other path stays whole.
fn end_of_path(column: &str, text: String) -> String {
    if SOURCES.contains(&column) { path_end(&text) } else { text }
}
