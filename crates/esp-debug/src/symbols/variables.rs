//! Values of parameters and variables in a frame, where debug information says where they are.

use std::cell::Cell;

use gimli::{AttributeValue, DebuggingInformationEntry, EvaluationResult, Location, UnitRef, Value, constants as dw};
use serde::Serialize;

mod callers;
mod members;

pub use members::NullMember;

use super::types::{name_of, origin_of, reference};
use super::unwind::{Frame, Memory};
use super::{Program, Slice, SourceLocation};

/// Most variables read in one function.
const MAX_VARIABLES: usize = 64;
/// Most values looked up at call sites for the variables of one function.
const MAX_LOOKUPS: u32 = 256;
/// Longest text shown for a `char *`, in bytes.
const MAX_TEXT: u32 = 200;

/// One parameter or local variable. Its value comes from the device: untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name in the source.
    pub name: String,
    /// It is a parameter of the function.
    pub parameter: bool,
    /// Its type as in the source, where it is simple.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    /// Its value; None when the compiler kept it nowhere or the dump does not hold the place.
    pub value: Option<String>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<&'static str>,
}

type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;
type Unit<'u, 'a> = UnitRef<'u, Slice<'a>>;

impl<'a> Program<'a> {
    /// Parameters and variables of one of the locations that `locate(frame.lookup())` gave, in the first of these frames.
    /// The frames after it are its callers: a value that a function no longer has may still be known where it was called.
    ///
    /// `function` is the last of these locations: the one that was not inlined.
    pub fn variables(
        &self,
        location: &SourceLocation,
        function: &SourceLocation,
        frames: &[Frame],
        memory: &dyn Memory,
    ) -> Vec<Variable> {
        let (mut found, budget) = (Vec::new(), Cell::new(MAX_LOOKUPS));
        if let Some((reader, entry)) = self.reader(function, frames, memory, &budget).zip(location.entry) {
            reader.collect(entry, &mut found);
        }
        found
    }

    /// What reads values in the first of these frames.
    fn reader<'r>(
        &'r self,
        function: &SourceLocation,
        frames: &'r [Frame],
        memory: &'r dyn Memory,
        budget: &'r Cell<u32>,
    ) -> Option<Reader<'r, 'r, 'a>> {
        let (frame, callers) = frames.split_first()?;
        let unit = self.unit(frame.lookup())?;
        let function = function.entry?;
        let base = unit.entry(function).ok()?.attr_value(dw::DW_AT_frame_base);
        let mut reader = Reader { program: self, unit, function, frame, callers, memory, budget, base: None };
        reader.base = base.and_then(|value| reader.locate(value)).and_then(|place| match place {
            Place::Memory(address) | Place::Value(address) => Some(address),
            Place::Register(number) => frame.register(number),
        });
        Some(reader)
    }
}

/// Where a value is.
#[derive(Clone, Copy)]
enum Place {
    Memory(u32),
    Register(usize),
    Value(u32),
}

struct Reader<'r, 'p, 'a> {
    program: &'r Program<'a>,
    unit: Unit<'p, 'a>,
    /// The function that the frame is in.
    function: gimli::UnitOffset,
    frame: &'r Frame,
    callers: &'r [Frame],
    memory: &'r dyn Memory,
    /// Lookups at call sites that are left.
    budget: &'r Cell<u32>,
    base: Option<u32>,
}

impl<'a> Reader<'_, '_, 'a> {
    /// Visits the parameters and variables directly in an entry and in those blocks of it that the frame is in.
    fn each_variable(&self, offset: gimli::UnitOffset, visit: &mut dyn FnMut(&Entry<'a>), depth: usize) {
        let Ok(mut tree) = self.unit.entries_tree(Some(offset)) else { return };
        let Ok(root) = tree.root() else { return };
        let mut blocks = Vec::new();
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            let entry = child.entry();
            match entry.tag() {
                dw::DW_TAG_formal_parameter | dw::DW_TAG_variable => visit(entry),
                dw::DW_TAG_lexical_block if self.in_block(entry) => blocks.push(entry.offset()),
                _ => {}
            }
        }
        if depth < 8 {
            blocks.into_iter().for_each(|block| self.each_variable(block, visit, depth + 1));
        }
    }

    fn collect(&self, offset: gimli::UnitOffset, found: &mut Vec<Variable>) {
        let mut visit = |entry: &Entry<'a>| {
            if found.len() < MAX_VARIABLES {
                found.extend(self.variable(entry));
            }
        };
        self.each_variable(offset, &mut visit, 0);
    }

    fn in_block(&self, entry: &Entry<'a>) -> bool {
        let at = u64::from(self.frame.lookup());
        let low = entry.attr_value(dw::DW_AT_low_pc).and_then(|value| self.unit.attr_address(value).ok().flatten());
        if let (Some(low), Some(high)) = (low, entry.attr_value(dw::DW_AT_high_pc)) {
            let high = match high {
                AttributeValue::Addr(high) => high,
                other => low.saturating_add(other.udata_value().unwrap_or(0)),
            };
            return (low..high).contains(&at);
        }
        let ranges = entry.attr_value(dw::DW_AT_ranges).and_then(|value| self.unit.attr_ranges(value).ok().flatten());
        let Some(mut ranges) = ranges else { return false };
        while let Ok(Some(range)) = ranges.next() {
            if (range.begin..range.end).contains(&at) {
                return true;
            }
        }
        false
    }

    fn variable(&self, entry: &Entry<'a>) -> Option<Variable> {
        let name = name_of(self.unit, entry)?;
        let origin = origin_of(entry).and_then(|offset| self.unit.entry(offset).ok());
        let type_at = reference(entry, dw::DW_AT_type)
            .or_else(|| origin.as_ref().and_then(|origin| reference(origin, dw::DW_AT_type)));
        let shape = type_at.map(|offset| self.shape(offset, 0));
        let mut variable = Variable {
            name,
            parameter: entry.tag() == dw::DW_TAG_formal_parameter,
            type_name: shape.as_ref().map(|shape| shape.name.clone()),
            value: None,
            missing: None,
        };
        if let Some(constant) = entry.attr_value(dw::DW_AT_const_value) {
            let bits = constant.sdata_value().map(i64::cast_unsigned).or_else(|| constant.udata_value());
            variable.value = shape.as_ref().zip(bits).and_then(|(shape, bits)| self.plain(shape, bits));
        } else if let Some(place) = entry.attr_value(dw::DW_AT_location).and_then(|value| self.locate(value)) {
            variable.value = shape.as_ref().and_then(|shape| self.show(shape, place));
            variable.missing = variable.value.is_none().then_some("not in the saved memory or registers");
        } else {
            variable.missing = Some("optimized out");
        }
        Some(variable)
    }

    /// Where a location attribute points at the frame's address.
    fn locate(&self, value: AttributeValue<Slice<'a>>) -> Option<Place> {
        if let AttributeValue::Exprloc(expression) = value {
            return self.evaluate(expression.0);
        }
        let at = u64::from(self.frame.lookup());
        let mut list = self.unit.attr_locations(value).ok()??;
        while let Ok(Some(entry)) = list.next() {
            if (entry.range.begin..entry.range.end).contains(&at) {
                return self.evaluate(entry.data.0);
            }
        }
        None
    }

    fn evaluate(&self, code: Slice<'a>) -> Option<Place> {
        let mut evaluation = gimli::Expression(code).evaluation(self.unit.encoding());
        evaluation.set_max_iterations(1000);
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, base_type } => {
                    let value = self.frame.register(usize::from(register.0))?;
                    evaluation.resume_with_register(self.typed(base_type, value)?).ok()?
                }
                EvaluationResult::RequiresBaseType(base_type) => {
                    evaluation.resume_with_base_type(self.value_type(base_type)?).ok()?
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let value = self.number(u32::try_from(address).ok()?, u32::from(size))?;
                    evaluation.resume_with_memory(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresFrameBase => evaluation.resume_with_frame_base(u64::from(self.base?)).ok()?,
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(u64::from(self.frame.cfa?)).ok()?
                }
                EvaluationResult::RequiresEntryValue(expression) => {
                    let (register, base_type) = self.register_of(expression.0)?;
                    let value = self.typed(base_type, self.at_entry(register)?)?;
                    evaluation.resume_with_entry_value(value).ok()?
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address).ok()?
                }
                _ => return None,
            };
        }
        // Values in several pieces are not shown.
        let [piece] = evaluation.as_result() else { return None };
        match piece.location {
            Location::Register { register } => Some(Place::Register(usize::from(register.0))),
            Location::Address { address } => Some(Place::Memory(u32::try_from(address).ok()?)),
            Location::Value { value } => Some(Place::Value(low(value.to_u64(u64::from(u32::MAX)).ok()?))),
            _ => None,
        }
    }

    /// A little-endian number of up to 8 bytes in memory, or in the ELF file's own data.
    fn number(&self, address: u32, size: u32) -> Option<u64> {
        let len = usize::try_from(size).ok().filter(|len| *len <= 8)?;
        let bytes = self.bytes(address, len)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn bytes(&self, address: u32, len: usize) -> Option<&[u8]> {
        self.memory.read(address, len).or_else(|| self.program.read(address, len))
    }

    fn show(&self, shape: &Shape, place: Place) -> Option<String> {
        if let Kind::Aggregate | Kind::Text = shape.kind {
            let Place::Memory(address) = place else { return None };
            let text = matches!(shape.kind, Kind::Text).then(|| self.text(address)).flatten();
            return Some(
                text.map_or_else(|| format!("{} bytes at {address:#010x}", shape.size), |text| format!("{text:?}")),
            );
        }
        let raw = match place {
            Place::Memory(address) => self.number(address, shape.size)?,
            // One register, or a number on the stack of a 32-bit target, is not the whole of a wider value.
            _ if shape.size > 4 => return None,
            Place::Register(number) => u64::from(self.frame.register(number)?),
            Place::Value(value) => u64::from(value),
        };
        self.plain(shape, raw)
    }

    /// A value of one piece, whose bits are these.
    fn plain(&self, shape: &Shape, bits: u64) -> Option<String> {
        let raw = bits & mask(shape.size);
        Some(match &shape.kind {
            Kind::Signed => signed(raw, shape.size).to_string(),
            Kind::Char { is_signed } => character(raw, *is_signed),
            Kind::Bool => (raw != 0).to_string(),
            Kind::Enum(names) => {
                names.iter().find(|(value, _)| *value == raw).map_or_else(|| raw.to_string(), |(_, name)| name.clone())
            }
            Kind::Pointer { text } => self.pointer(low(raw), *text),
            Kind::Unsigned => raw.to_string(),
            Kind::Aggregate | Kind::Text => return None,
            Kind::Float if shape.size == 4 => f32::from_bits(low(raw)).to_string(),
            Kind::Float => f64::from_bits(raw).to_string(),
        })
    }

    /// An address with what it points to: text, or the name of a function or object.
    fn pointer(&self, address: u32, text: bool) -> String {
        let plain = format!("{address:#x}");
        if text && let Some(content) = self.text(address) {
            return format!("{plain} {content:?}");
        }
        match self.program.object(address) {
            Some((name, 0)) => format!("{plain} <{name}>"),
            Some((name, offset)) => format!("{plain} <{name}+{offset}>"),
            None => plain,
        }
    }

    fn text(&self, address: u32) -> Option<String> {
        let byte = |i: u32| self.bytes(address.wrapping_add(i), 1).and_then(|bytes| bytes.first().copied());
        let bytes: Vec<u8> = (0..MAX_TEXT).map_while(byte).take_while(|byte| *byte != 0).collect();
        byte(0)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Follows a type to what decides how its values look.
    fn shape(&self, offset: gimli::UnitOffset, depth: usize) -> Shape {
        self.try_shape(offset, depth).unwrap_or(Shape { name: "?".into(), size: 4, kind: Kind::Unsigned })
    }

    fn try_shape(&self, offset: gimli::UnitOffset, depth: usize) -> Option<Shape> {
        if depth > 16 {
            return None;
        }
        let entry = self.unit.entry(offset).ok()?;
        let name = name_of(self.unit, &entry);
        let size = entry.attr_value(dw::DW_AT_byte_size).and_then(|value| value.udata_value());
        let size = size.and_then(|size| u32::try_from(size).ok());
        let inner = || reference(&entry, dw::DW_AT_type).map(|offset| self.shape(offset, depth + 1));
        Some(match entry.tag() {
            dw::DW_TAG_typedef => Shape { name: name?, ..inner()? },
            dw::DW_TAG_const_type => inner()
                .map(|shape| Shape { name: format!("const {}", shape.name), ..shape })
                .unwrap_or(Shape { name: "const void".into(), size: 1, kind: Kind::Aggregate }),
            dw::DW_TAG_volatile_type | dw::DW_TAG_restrict_type => inner()?,
            dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type => {
                let target = inner();
                let text = target.as_ref().is_some_and(|shape| matches!(shape.kind, Kind::Char { .. }));
                let name = target.map_or_else(|| "void *".into(), |shape| format!("{} *", shape.name));
                Shape { name, size: size.unwrap_or(4), kind: Kind::Pointer { text } }
            }
            dw::DW_TAG_enumeration_type => {
                let name = name.map_or_else(|| "enum".into(), |name| format!("enum {name}"));
                Shape { name, size: size?, kind: Kind::Enum(self.enumerators(offset)) }
            }
            dw::DW_TAG_base_type => {
                let encoding = match entry.attr_value(dw::DW_AT_encoding)? {
                    AttributeValue::Encoding(encoding) => encoding,
                    _ => return None,
                };
                let kind = match encoding {
                    dw::DW_ATE_signed => Kind::Signed,
                    dw::DW_ATE_signed_char => Kind::Char { is_signed: true },
                    dw::DW_ATE_unsigned_char => Kind::Char { is_signed: false },
                    dw::DW_ATE_boolean => Kind::Bool,
                    dw::DW_ATE_float => Kind::Float,
                    _ => Kind::Unsigned,
                };
                Shape { name: name?, size: size?, kind }
            }
            dw::DW_TAG_array_type => {
                let element = inner()?;
                let count = self.array_len(offset);
                let kind = if matches!(element.kind, Kind::Char { .. }) { Kind::Text } else { Kind::Aggregate };
                let name = format!("{} [{count}]", element.name);
                Shape { name, size: element.size.saturating_mul(count), kind }
            }
            dw::DW_TAG_subroutine_type => Shape { name: "function".into(), size: 4, kind: Kind::Aggregate },
            _ => {
                Shape { name: name.unwrap_or_else(|| "struct".into()), size: size.unwrap_or(0), kind: Kind::Aggregate }
            }
        })
    }

    /// Elements of an array of one dimension; 0 when unknown.
    fn array_len(&self, offset: gimli::UnitOffset) -> u32 {
        let Ok(mut tree) = self.unit.entries_tree(Some(offset)) else { return 0 };
        let Ok(root) = tree.root() else { return 0 };
        let mut children = root.children();
        let Ok(Some(range)) = children.next() else { return 0 };
        let last = range.entry().attr_value(dw::DW_AT_upper_bound).and_then(|value| value.udata_value());
        last.and_then(|last| u32::try_from(last).ok()).map_or(0, |last| last.saturating_add(1))
    }

    fn enumerators(&self, offset: gimli::UnitOffset) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let Ok(mut tree) = self.unit.entries_tree(Some(offset)) else { return found };
        let Ok(root) = tree.root() else { return found };
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            let value = child.entry().attr_value(dw::DW_AT_const_value).and_then(|value| value.udata_value());
            found.extend(value.zip(name_of(self.unit, child.entry())));
        }
        found
    }
}

struct Shape {
    name: String,
    size: u32,
    kind: Kind,
}

enum Kind {
    Signed,
    Unsigned,
    Char {
        is_signed: bool,
    },
    Bool,
    Float,
    Pointer {
        text: bool,
    },
    Enum(Vec<(u64, String)>),
    /// An array of characters.
    Text,
    Aggregate,
}

fn mask(size: u32) -> u64 {
    if size >= 8 { u64::MAX } else { (1u64 << (size * 8)) - 1 }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

fn signed(raw: u64, size: u32) -> i64 {
    let shift = 64 - size.clamp(1, 8) * 8;
    (raw.cast_signed() << shift) >> shift
}

fn character(raw: u64, is_signed: bool) -> String {
    let printable = u8::try_from(raw).ok().filter(|byte| (0x20..0x7f).contains(byte)).map(char::from);
    let number = if is_signed { signed(raw, 1).to_string() } else { raw.to_string() };
    printable.map_or(number, |c| format!("{raw} '{c}'"))
}
