//! The CSV form.

use super::kind::{self, Subtypes};
use super::{Options, Partition, Place, Problem, Table, TableError};
use crate::literal;

/// A row before offsets are filled in. Numbers are kept wide, so that nonsense is refused and not wrapped.
struct Row {
    partition: Partition,
    offset: Option<i128>,
    size: i128,
}

impl Table {
    /// Reads the CSV form and fills in missing offsets and negative sizes. Entries are not checked any further.
    pub fn from_csv(text: &str, options: &Options) -> Result<Self, TableError> {
        let mut rows = Vec::new();
        for (index, line) in literal::lines(text).into_iter().enumerate() {
            let place = Place::Line(index + 1);
            let line = expand(line, options).map_err(|problem| problem.at(place, line))?;
            let line = literal::trim(&line);
            if !line.is_empty() && !line.starts_with('#') {
                rows.push(parse_row(line, place, options)?);
            }
        }
        place_rows(&mut rows, options)?;
        rows.into_iter().map(Row::finish).collect::<Result<_, _>>().map(|partitions| Self { partitions })
    }

    /// Writes the CSV form. `plain` uses numbers only; otherwise names and sizes in K and M.
    pub fn to_csv(&self, plain: bool, subtypes: &Subtypes) -> String {
        let mut out = String::from("# ESP-IDF Partition Table\n# Name, Type, SubType, Offset, Size, Flags\n");
        for partition in &self.partitions {
            out += &partition.to_csv(plain, subtypes);
            out.push('\n');
        }
        out
    }
}

impl Partition {
    /// One row of the CSV form, without line end.
    pub fn to_csv(&self, plain: bool, subtypes: &Subtypes) -> String {
        let named = |name: Option<&str>, number: u8| match name {
            Some(name) if !plain => name.to_owned(),
            _ => number.to_string(),
        };
        [
            self.name.clone(),
            named(kind::type_name(self.kind), self.kind),
            named(subtypes.name(self.kind, self.subtype), self.subtype),
            format!("{:#x}", self.offset),
            if plain { format!("{:#x}", self.size) } else { size_text(self.size) },
            self.flags().join(":"),
        ]
        .join(",")
    }
}

/// A size in M or K where it is whole, else in hexadecimal digits. Nothing is `0M`.
fn size_text(size: u32) -> String {
    for (unit, letter) in [(0x10_0000, 'M'), (0x400, 'K')] {
        if size.is_multiple_of(unit) {
            return format!("{}{letter}", size / unit);
        }
    }
    format!("{size:#x}")
}

/// Replaces `$NAME` and `${NAME}`. Unknown ones stay as they are, except at the start of a line.
fn expand(line: &str, options: &Options) -> Result<String, Problem> {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        let after = &rest[at + 1..];
        let (name, length) = variable(after);
        match name.and_then(|name| (options.variables)(name)) {
            Some(value) => out += &value,
            None => out += &rest[at..=at + length],
        }
        rest = &after[length..];
    }
    out += rest;
    let unknown = out.strip_prefix('$').map(|text| identifier(text, |c| c.is_ascii_alphanumeric() || c == '_'));
    match unknown {
        Some(name) if name.starts_with(|c: char| !c.is_ascii_digit()) => Err(Problem::Variable(name.to_owned())),
        _ => Ok(out),
    }
}

/// The variable's name behind a `$` and how much text it takes.
fn variable(text: &str) -> (Option<&str>, usize) {
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.find('}') {
            Some(end) => (Some(&inner[..end]), end + 2),
            None => (None, 0),
        };
    }
    let name = identifier(text, |c| c.is_ascii_alphanumeric() || c == '_');
    if name.is_empty() { (None, 0) } else { (Some(name), name.len()) }
}

fn identifier(text: &str, fits: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    &text[..end]
}

fn parse_row(line: &str, place: Place, options: &Options) -> Result<Row, TableError> {
    let mut fields = line.split(',').map(literal::trim);
    let mut next = || fields.next().unwrap_or("");
    let (name, kind, subtype, offset, size, flags) = (next(), next(), next(), next(), next(), next());
    let row = || -> Result<Row, Problem> {
        let kind = byte("type", parse_kind(kind)?)?;
        let subtype = byte("subtype", parse_subtype(kind, subtype, &options.subtypes)?)?;
        let offset = parse_offset(kind, subtype, offset, options)?;
        let size = parse_size(kind, size, options)?;
        let mut partition = Partition {
            name: name.to_owned(),
            kind,
            subtype,
            offset: 0,
            size: 0,
            encrypted: false,
            readonly: false,
            unknown_flags: 0,
            place,
        };
        for flag in flags.split(':').filter(|flag| !flag.is_empty()) {
            match flag {
                "encrypted" => partition.encrypted = true,
                "readonly" => partition.readonly = true,
                other => return Err(Problem::Flag(other.to_owned())),
            }
        }
        Ok(Row { partition, offset, size })
    };
    row().map_err(|problem| problem.at(place, name))
}

fn byte(field: &'static str, value: i128) -> Result<u8, Problem> {
    u8::try_from(value).map_err(|_| Problem::Range { field, value })
}

fn parse_kind(text: &str) -> Result<i128, Problem> {
    if text.is_empty() {
        return Err(Problem::Empty("type"));
    }
    number(text, |name| kind::type_number(name).map(i128::from)).ok_or_else(|| Problem::Unknown {
        field: "type",
        value: text.to_owned(),
        known: kind::type_names().collect::<Vec<_>>().join(", "),
    })
}

fn parse_subtype(kind: u8, text: &str, subtypes: &Subtypes) -> Result<i128, Problem> {
    if text.is_empty() {
        let none = Ok(subtypes.number(kind::DATA, "undefined").unwrap_or(i128::from(kind::DATA_UNDEFINED)));
        return if kind == kind::APP { Err(Problem::Empty("subtype of an app")) } else { none };
    }
    number(text, |name| subtypes.number(kind, name)).ok_or_else(|| match subtypes.names(kind).join(", ") {
        known if known.is_empty() => Problem::NotANumber { field: "subtype", value: text.to_owned() },
        known => Problem::Unknown { field: "subtype", value: text.to_owned(), known },
    })
}

fn parse_offset(kind: u8, subtype: u8, text: &str, options: &Options) -> Result<Option<i128>, Problem> {
    let given = |offset: Option<u32>, which| match offset {
        Some(offset) => Ok(Some(i128::from(offset))),
        None => Err(Problem::NoBootloaderOffset(which)),
    };
    let is = |name| options.subtypes.is(kind, subtype, name);
    match kind {
        kind::BOOTLOADER if is("primary") => given(options.primary_bootloader, "primary"),
        kind::BOOTLOADER if is("recovery") => given(options.recovery_bootloader, "recovery"),
        kind::PARTITION_TABLE if is("primary") => Ok(Some(i128::from(options.table_offset))),
        _ if text.is_empty() => Ok(None),
        _ => plain_number("offset", text).map(Some),
    }
}

fn parse_size(kind: u8, text: &str, options: &Options) -> Result<i128, Problem> {
    match kind {
        kind::BOOTLOADER => match options.primary_bootloader {
            Some(start) => Ok(i128::from(options.table_offset) - i128::from(start)),
            None => Err(Problem::NoBootloaderOffset("primary")),
        },
        kind::PARTITION_TABLE => Ok(i128::from(super::TABLE_SECTOR)),
        _ if text.is_empty() => Err(Problem::Empty("size")),
        _ => plain_number("size", text),
    }
}

fn plain_number(field: &'static str, text: &str) -> Result<i128, Problem> {
    number(text, |_| None).ok_or_else(|| Problem::NotANumber { field, value: text.to_owned() })
}

/// A number or a name, with any count of the suffixes K and M.
fn number(text: &str, named: impl Fn(&str) -> Option<i128>) -> Option<i128> {
    let (mut text, mut factor) = (text, 1i128);
    while let Some(last) = text.chars().next_back() {
        let unit = match last {
            'k' | 'K' | '\u{212a}' => 1024,
            'm' | 'M' => 1024 * 1024,
            _ => break,
        };
        factor = factor.checked_mul(unit)?;
        text = &text[..text.len() - last.len_utf8()];
    }
    literal::integer(text, 0).or_else(|| named(&text.to_lowercase()))?.checked_mul(factor)
}

/// Fills in missing offsets and negative sizes (which mean "up to this address").
fn place_rows(rows: &mut [Row], options: &Options) -> Result<(), TableError> {
    let mut end = options.first_free();
    let mut previous = String::from("the partition table");
    for row in rows.iter_mut().filter(|row| !options.subtypes.is_primary(&row.partition)) {
        let offset = match row.offset {
            Some(offset) if offset < end => {
                let problem = Problem::Order { offset, end, previous };
                return Err(problem.at(row.partition.place, &row.partition.name));
            }
            Some(offset) => offset,
            None => {
                let align = i128::from(super::verify::offset_alignment(row.partition.kind));
                (end + align - 1).div_euclid(align) * align
            }
        };
        row.offset = Some(offset);
        if row.size < 0 {
            row.size = -row.size - offset;
        }
        end = offset + row.size;
        previous = format!("{:?}", row.partition.name);
    }
    Ok(())
}

impl Row {
    fn finish(self) -> Result<Partition, TableError> {
        let Self { mut partition, offset, size } = self;
        let word = |field, value: i128| {
            u32::try_from(value).map_err(|_| Problem::Range { field, value }.at(partition.place, &partition.name))
        };
        let (offset, size) = (word("offset", offset.unwrap_or(0))?, word("size", size)?);
        partition.offset = offset;
        partition.size = size;
        Ok(partition)
    }
}
