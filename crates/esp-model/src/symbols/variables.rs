//! Values of parameters and variables in a frame, where debug information says where they are.

use gimli::{AttributeValue, DebuggingInformationEntry, EvaluationResult, Location, UnitRef, Value, constants as dw};
use serde::Serialize;

use super::types::{name_of, origin_of, reference};
use super::unwind::{Frame, Memory};
use super::{Program, Slice, SourceLocation};

/// Most variables read in one function.
const MAX_VARIABLES: usize = 64;
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

impl Program<'_> {
    /// Parameters and variables of one of the locations that `locate(frame.lookup())` gave, in that frame.
    ///
    /// `function` is the last of these locations: the one that was not inlined.
    pub fn variables(
        &self,
        location: &SourceLocation,
        function: &SourceLocation,
        frame: &Frame,
        memory: &dyn Memory,
    ) -> Vec<Variable> {
        self.read_variables(location, function, frame, memory).unwrap_or_default()
    }

    fn read_variables(
        &self,
        location: &SourceLocation,
        function: &SourceLocation,
        frame: &Frame,
        memory: &dyn Memory,
    ) -> Option<Vec<Variable>> {
        let unit = self.unit(frame.lookup())?;
        let base = unit.entry(function.entry?).ok()?.attr_value(dw::DW_AT_frame_base);
        let mut reader = Reader { program: self, unit, frame, memory, base: None };
        reader.base = base.and_then(|value| reader.locate(value)).and_then(|place| match place {
            Place::Memory(address) | Place::Value(address) => Some(address),
            Place::Register(number) => frame.register(number),
        });
        let mut found = Vec::new();
        reader.collect(location.entry?, &mut found, 0);
        Some(found)
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
    frame: &'r Frame,
    memory: &'r dyn Memory,
    base: Option<u32>,
}

impl<'a> Reader<'_, '_, 'a> {
    /// Variables directly in an entry and in those blocks of it that the frame is in.
    fn collect(&self, offset: gimli::UnitOffset, found: &mut Vec<Variable>, depth: usize) {
        let Ok(mut tree) = self.unit.entries_tree(Some(offset)) else { return };
        let Ok(root) = tree.root() else { return };
        let mut blocks = Vec::new();
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            let entry = child.entry();
            match entry.tag() {
                dw::DW_TAG_formal_parameter | dw::DW_TAG_variable if found.len() < MAX_VARIABLES => {
                    found.extend(self.variable(entry));
                }
                dw::DW_TAG_lexical_block if self.in_block(entry) => blocks.push(entry.offset()),
                _ => {}
            }
        }
        if depth < 8 {
            blocks.into_iter().for_each(|block| self.collect(block, found, depth + 1));
        }
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
            variable.value = constant.sdata_value().map(|value| value.to_string());
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
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.frame.register(usize::from(register.0))?;
                    evaluation.resume_with_register(Value::Generic(u64::from(value))).ok()?
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let value = self.number(u32::try_from(address).ok()?, u32::from(size))?;
                    evaluation.resume_with_memory(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresFrameBase => evaluation.resume_with_frame_base(u64::from(self.base?)).ok()?,
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(u64::from(self.frame.cfa?)).ok()?
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
            Place::Register(number) => u64::from(self.frame.register(number)?) & mask(shape.size),
            Place::Value(value) => u64::from(value) & mask(shape.size),
        };
        Some(match &shape.kind {
            Kind::Signed => signed(raw, shape.size).to_string(),
            Kind::Char => character(raw),
            Kind::Bool => (raw != 0).to_string(),
            Kind::Enum(names) => {
                names.iter().find(|(value, _)| *value == raw).map_or_else(|| raw.to_string(), |(_, name)| name.clone())
            }
            Kind::Pointer { text } => self.pointer(low(raw), *text),
            Kind::Unsigned | Kind::Aggregate | Kind::Text => raw.to_string(),
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
                let text = target.as_ref().is_some_and(|shape| matches!(shape.kind, Kind::Char));
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
                    dw::DW_ATE_signed_char | dw::DW_ATE_unsigned_char => Kind::Char,
                    dw::DW_ATE_boolean => Kind::Bool,
                    dw::DW_ATE_float => Kind::Float,
                    _ => Kind::Unsigned,
                };
                Shape { name: name?, size: size?, kind }
            }
            dw::DW_TAG_array_type => {
                let element = inner()?;
                let count = self.array_len(offset);
                let kind = if matches!(element.kind, Kind::Char) { Kind::Text } else { Kind::Aggregate };
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
    Char,
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

fn character(raw: u64) -> String {
    let printable = u8::try_from(raw).ok().filter(|byte| (0x20..0x7f).contains(byte)).map(char::from);
    printable.map_or_else(|| raw.to_string(), |c| format!("{raw} '{c}'"))
}
