//! A JSON value whose fields stay in the order of the result's struct.

use std::fmt;

use esp_ops::words::short_paths;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value in the order in which it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Fields(Vec<(String, Node)>),
}

/// Names (or their last words) of integers that are addresses: they are shown in hex.
const ADDRESSES: [&str; 10] =
    ["address", "offset", "entry", "base", "pc", "start", "end", "vaddr", "sp", "stack_pointer"];
/// Further ones that are numbers in results and are shown in hex as well.
const SHOWN_IN_HEX: [&str; 2] = ["first_difference", "registers"];

/// The list whose lines name functions and source files.
const CALL_CHAIN: &str = "backtrace";

impl Node {
    /// Nothing that a reader would miss.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Fields(fields) => fields.iter().all(|(_, value)| value.is_empty()),
            _ => false,
        }
    }

    /// On one line. `key` decides how an integer is shown.
    pub fn show(&self, key: &str) -> String {
        match self {
            Self::Null => "-".into(),
            Self::Bool(true) => "yes".into(),
            Self::Bool(false) => "no".into(),
            Self::Integer(number) if is_shown_in_hex(key, *number) && *number >= 0 => {
                format!("{number:#x}")
            }
            Self::Integer(number) if is_date(key, *number) => date(*number),
            Self::Integer(number) if is_pointer(key, *number) => format!("{number:#010x}"),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) if number.fract() == 0.0 => format!("{number:.0}"),
            Self::Float(number) => format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            Self::Text(text) => text.replace('\n', " "),
            Self::List(list) => list.iter().map(|entry| entry.show_in_list(key)).collect::<Vec<_>>().join(", "),
            Self::Fields(_) => self.inline(),
        }
    }

    /// An entry of a list; a name with its value, as registers are listed, stays together.
    pub fn show_in_list(&self, key: &str) -> String {
        match self {
            Self::List(pair) => pair.iter().map(|part| part.show(key)).collect::<Vec<_>>().join(" "),
            Self::Text(line) if key == CALL_CHAIN => short_paths(line),
            other => other.show(key),
        }
    }

    /// As JSON, without spaces.
    pub fn json(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => quoted(text),
            Self::List(list) => format!("[{}]", list.iter().map(Self::json).collect::<Vec<_>>().join(",")),
            Self::Fields(fields) => {
                let fields = fields.iter().map(|(key, value)| format!("{}:{}", quoted(key), value.json()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
        }
    }

    /// The same in an object or row that has an address: sizes then are sizes of regions.
    pub fn show_at_address(&self, key: &str) -> String {
        match self {
            Self::Integer(number) if key.ends_with("size_bytes") && *number >= 0 => format!("{number:#x}"),
            other => other.show(key),
        }
    }

    /// An object's fields on one line.
    pub fn inline(&self) -> String {
        let Self::Fields(fields) = self else { return self.show("") };
        let has_address = fields.iter().any(|(key, value)| is_address(key) && !value.is_empty());
        let show = |key: &str, value: &Self| if has_address { value.show_at_address(key) } else { value.show(key) };
        let shown = fields.iter().filter(|(_, value)| !value.is_empty());
        shown.map(|(key, value)| format!("{key} {}", show(key, value))).collect::<Vec<_>>().join(", ")
    }
}

fn is_shown_in_hex(key: &str, number: i128) -> bool {
    is_address(key) || SHOWN_IN_HEX.contains(&key) || is_region(key, number)
}

pub fn is_address(key: &str) -> bool {
    ADDRESSES.iter().any(|word| key == *word || key.strip_suffix(word).is_some_and(|rest| rest.ends_with('_')))
}

/// Milliseconds since 1970, from 2017 on: nothing else that is measured takes so long.
const DATES: std::ops::Range<i128> = 1_500_000_000_000..4_000_000_000_000;

fn is_date(key: &str, number: i128) -> bool {
    key.ends_with("_ms") && DATES.contains(&number)
}

/// `2026-11-29T14:43:12Z`.
fn date(ms: i128) -> String {
    let seconds = i64::try_from(ms / 1000).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    seconds.map_or_else(|| ms.to_string(), |time| time.to_string())
}

/// Addresses of memory lie above everything that is counted here, whatever the field is called.
const MEMORY: std::ops::Range<i128> = 0x2000_0000..0x1_0000_0000;

fn is_pointer(key: &str, number: i128) -> bool {
    let counts = ["bytes", "ms", "s", "hz", "count", "counts", "baud", "value", "number"];
    MEMORY.contains(&number) && !counts.contains(&key.rsplit('_').next().unwrap_or(key))
}

/// The size of a flash, slot or partition: whole sectors, which people know in hex.
fn is_region(key: &str, number: i128) -> bool {
    key.ends_with("_size_bytes") && number > 0 && number % 0x1000 == 0
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = access.next_element()? {
            list.push(entry);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = access.next_entry()? {
            fields.push(entry);
        }
        Ok(Node::Fields(fields))
    }
}
