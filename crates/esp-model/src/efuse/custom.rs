//! Fields of a project's own: the table `esp_efuse_custom_table.csv` that ESP-IDF's projects keep.
//!
//! A row is `name, block, first bit, bits, comment`. A row without a name goes on with the field before it, a row without
//! a first bit begins where the row before it ended, and names in square brackets in front of a comment are other names.

use super::{BitRange, EfuseTable, Field, FieldKind};
use crate::literal;

/// Bits of the largest block.
const BLOCK_BITS: u16 = 256;

/// A row that cannot be a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomError {
    /// A row is not right.
    #[error("line {line}: {what}")]
    Row {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Two fields have one name.
    #[error("field names must be unique: {0}")]
    Twice(String),
}

/// A row of the table.
struct Row {
    line: usize,
    name: String,
    block: u8,
    start: u16,
    count: u16,
    comment: String,
    others: Vec<String>,
}

/// The chip's table with the fields of a custom one behind it.
pub fn extend(table: &EfuseTable, csv: &str) -> Result<EfuseTable, CustomError> {
    let mut rows = rows(csv)?;
    number_groups(&mut rows);
    let mut extended = table.clone();
    for row in rows {
        let field = field(table, row)?;
        let names = std::iter::once(&field.name).chain(&field.aliases);
        if let Some(twice) = names.into_iter().find(|name| extended.field(name).is_some()) {
            return Err(CustomError::Twice(twice.clone()));
        }
        extended.fields.push(field);
    }
    Ok(extended)
}

fn rows(csv: &str) -> Result<Vec<Row>, CustomError> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, text) in csv.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let row = row(text, index + 1, rows.last())?;
        rows.push(row);
    }
    Ok(rows)
}

fn row(text: &str, line: usize, before: Option<&Row>) -> Result<Row, CustomError> {
    let wrong = |what: String| CustomError::Row { line, what };
    let mut cells = text.splitn(5, ',').map(str::trim);
    let mut cell = || cells.next().unwrap_or_default();
    let (name, block, start, count, comment) = (cell(), cell(), cell(), cell(), cell());
    let number = |text: &str, what: &str| {
        let number = literal::integer(text, 0).and_then(|number| u16::try_from(number).ok());
        number.ok_or_else(|| wrong(format!("{what} {text:?} is not a number")))
    };
    let id = number(block.trim_start_matches("EFUSE_BLK"), "the block")?;
    let id = u8::try_from(id).map_err(|_| wrong(format!("there is no block {id}")))?;
    let before = before.filter(|before| before.block == id || name.is_empty());
    let start = match (start, before.filter(|before| before.block == id)) {
        ("", Some(before)) => before.start + before.count,
        ("", None) => 0,
        (start, _) => number(start, "the first bit")?,
    };
    let count = if count == "MAX_BLK_LEN" { BLOCK_BITS } else { number(count, "the count of bits")? };
    if count == 0 || start.checked_add(count).is_none_or(|end| end > BLOCK_BITS) {
        return Err(wrong(format!("{count} bits from bit {start} on are not in a block of {BLOCK_BITS}")));
    }
    let name = match (name, before) {
        ("", Some(before)) => before.name.clone(),
        ("", None) => return Err(wrong("the field has no name".into())),
        (name, _) => name.replace('.', "_"),
    };
    let comment = comment.split(',').next().unwrap_or_default().trim_end_matches('\\').trim_end();
    let others = comment.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or("", |(others, _)| others);
    let others = others.split_whitespace().map(|name| name.replace('.', "_")).collect();
    Ok(Row { line, name, block: id, start, count, comment: comment.to_string(), others })
}

/// The parts of a field in several rows are fields of their own: `NAME_0`, `NAME_1`.
fn number_groups(rows: &mut [Row]) {
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let count = |name: &String, of: &[String]| of.iter().filter(|other| *other == name).count();
    for (index, row) in rows.iter_mut().enumerate() {
        if count(&names[index], &names) < 2 {
            continue;
        }
        let number = count(&names[index], names.get(..index).unwrap_or_default());
        row.name = format!("{}_{number}", row.name);
        row.others.iter_mut().for_each(|name| *name = format!("{name}_{number}"));
    }
}

fn field(table: &EfuseTable, row: Row) -> Result<Field, CustomError> {
    let wrong = |what: String| CustomError::Row { line: row.line, what };
    let block = table.block(row.block).ok_or_else(|| wrong(format!("the chip has no block {}", row.block)))?;
    let end = row.start + row.count;
    if end > u16::from(block.words) * 32 {
        return Err(wrong(format!("bit {} is behind the end of {}", end - 1, block.name)));
    }
    let kind = match row.count {
        1 => FieldKind::Flag,
        count if count > 32 && count % 8 == 0 => FieldKind::Bytes,
        _ => FieldKind::Number,
    };
    let closed = row.block != 0;
    Ok(Field {
        name: row.name,
        block: row.block,
        bits: vec![BitRange(row.start, row.count)],
        kind,
        write_protect: block.write_protect.filter(|_| closed),
        read_protect: if closed { block.read_protect.clone() } else { Vec::new() },
        aliases: row.others,
        about: format!("{} ({}-{})", row.comment, row.start, end - 1),
        scale: None,
        values: Default::default(),
        shown: true,
        composed: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip;

    fn table() -> &'static EfuseTable {
        chip::all().iter().find(|chip| chip.efuse().block(3).is_some()).unwrap().efuse()
    }

    #[test]
    fn rows_become_fields_with_the_protection_of_their_block() {
        let csv = "# name, block, start, count, comment\n\
                   ROLE, EFUSE_BLK3, 64, 3, [ROLE_OLD] Role\nNEXT, EFUSE_BLK3, , 5, Next\n\
                   ID, EFUSE_BLK3, 140, 8, [MY_ID] part\n, EFUSE_BLK3, 132, 8, [MY_ID] part\n\
                   DATA.ONE, EFUSE_BLK3, 190, 1, One\nLONG, EFUSE_BLK3, 192, 40, Long\n";
        let extended = extend(table(), csv).unwrap();
        let field = |name: &str| extended.field(name).unwrap();
        assert_eq!(field("ROLE_OLD").name, "ROLE");
        assert_eq!(field("NEXT").bits, [BitRange(67, 5)]);
        assert_eq!(field("ID_1").bits, [BitRange(132, 8)]);
        assert_eq!(field("MY_ID_0").bits, [BitRange(140, 8)]);
        assert_eq!((field("DATA_ONE").kind, field("LONG").kind), (FieldKind::Flag, FieldKind::Bytes));
        let block = extended.block(3).unwrap();
        assert_eq!(field("ROLE").write_protect, block.write_protect);
        assert_eq!(field("ROLE").read_protect, block.read_protect);
    }

    #[test]
    fn rows_that_are_no_fields_are_named() {
        let known = &table().fields[0].name;
        for (csv, what) in [
            ("A, EFUSE_BLK3, x, 3, A".to_string(), "line 1: the first bit"),
            ("A, , 0, 3, A".to_string(), "the block"),
            ("A, EFUSE_BLK3, 250, 8, A".to_string(), "not in a block"),
            ("A, EFUSE_BLK3, 0, 0, A".to_string(), "not in a block"),
            (", EFUSE_BLK3, 0, 1, A".to_string(), "no name"),
            ("A, EFUSE_BLK99, 0, 1, A".to_string(), "has no block 99"),
            (format!("{known}, EFUSE_BLK3, 0, 1, A"), "unique"),
            ("A, EFUSE_BLK3, 0, 1, A\nB, EFUSE_BLK3, 1, 1, [A] B".to_string(), "unique"),
        ] {
            let refused = extend(table(), &csv).unwrap_err().to_string();
            assert!(refused.contains(what), "{csv}: {refused}");
        }
    }
}
