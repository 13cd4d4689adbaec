//! What lies some bytes behind a null pointer: members of the structures that pointers of the function point to.

use super::*;

/// Most candidates told.
const MAX_MEMBERS: usize = 4;
/// Deepest nesting of structures that is followed.
const MAX_NESTING: usize = 6;
/// Most entries of a unit looked at for its own variables.
const MAX_GLOBALS: usize = 4096;

/// A member that an access some bytes behind a null pointer may mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NullMember {
    /// Its name, with those of the structures it is nested in: `limits.high`, `items[2].next`.
    pub member: String,
    /// The structure that it is a member of.
    pub structure: String,
    /// The pointer that may be null: a variable, or a member reached through one.
    pub pointer: String,
    /// The pointer's value is known, and it is null.
    pub is_null: bool,
}

impl NullMember {
    /// Several of them in words; empty when there is none.
    pub fn words(members: &[Self]) -> String {
        let one = |member: &Self| format!("`{}` of {} through `{}`", member.member, member.structure, member.pointer);
        let list = members.iter().map(one).collect::<Vec<_>>().join(" or ");
        match members {
            [] => String::new(),
            [only] if only.is_null => format!("{list}, which is null"),
            _ => format!("perhaps {list}"),
        }
    }
}

impl Program<'_> {
    /// Members `offset` bytes into the structures that pointers in the first of these frames point to. Only those whose
    /// pointer is known to be null, if there are any; else all that may be meant.
    pub fn null_members(&self, frames: &[Frame], memory: &dyn Memory, offset: u32) -> Vec<NullMember> {
        let Some(frame) = frames.first() else { return Vec::new() };
        let locations = self.locate(frame.lookup());
        let budget = Cell::new(MAX_LOOKUPS);
        let reader = locations.last().and_then(|function| self.reader(function, frames, memory, &budget));
        let Some(reader) = reader else { return Vec::new() };
        let mut pointers = Vec::new();
        // The innermost inlined function first.
        for entry in locations.iter().filter_map(|location| location.entry) {
            reader.pointers(entry, &mut pointers);
        }
        let mut found = reader.members(&pointers, offset);
        if found.is_empty() {
            let behind: Vec<Pointer> = pointers.iter().flat_map(|pointer| reader.behind(pointer)).collect();
            found = reader.members(&behind, offset);
        }
        if found.is_empty() {
            found = reader.members(&reader.globals(), offset);
        }
        if found.iter().any(|member| member.is_null) {
            found.retain(|member| member.is_null);
        }
        found.truncate(MAX_MEMBERS);
        found
    }
}

/// A pointer to a structure.
struct Pointer {
    name: String,
    target: gimli::UnitOffset,
    value: Option<u32>,
}

impl<'a> Reader<'_, '_, 'a> {
    /// Pointers to structures among the parameters and variables of an entry and its blocks.
    fn pointers(&self, offset: gimli::UnitOffset, found: &mut Vec<Pointer>) {
        let mut visit = |entry: &Entry<'a>| {
            if found.len() < MAX_VARIABLES {
                let pointer = self.pointer_to_structure(entry);
                found.extend(pointer.filter(|new| found.iter().all(|known| known.name != new.name)));
            }
        };
        self.each_variable(offset, &mut visit, 0);
    }

    fn pointer_to_structure(&self, entry: &Entry<'a>) -> Option<Pointer> {
        let target = self.target(self.type_of(entry)?)?;
        let place = entry.attr_value(dw::DW_AT_location).and_then(|value| self.locate(value));
        let value = place.and_then(|place| match place {
            Place::Register(number) => self.frame.register(number),
            Place::Value(value) => Some(value),
            // What the ELF file says of a variable is only its value at the start.
            Place::Memory(address) => self.memory.word(address),
        });
        Some(Pointer { name: name_of(self.unit, entry)?, target, value })
    }

    /// Pointers among the members of what a pointer points to.
    fn behind(&self, pointer: &Pointer) -> Vec<Pointer> {
        let mut found = Vec::new();
        if pointer.value == Some(0) {
            return found;
        }
        self.each_member(pointer.target, |entry, at| {
            if let (Some(target), Some(name)) =
                (self.type_of(entry).and_then(|at| self.target(at)), name_of(self.unit, entry))
            {
                let address = pointer.value.map(|value| value.wrapping_add(at));
                let value = address.and_then(|address| self.memory.word(address));
                found.push(Pointer { name: format!("{}->{name}", pointer.name), target, value });
            }
        });
        found
    }

    /// Pointers to structures that are variables of the unit itself.
    fn globals(&self) -> Vec<Pointer> {
        let mut found = Vec::new();
        let Ok(mut tree) = self.unit.entries_tree(None) else { return found };
        let Ok(root) = tree.root() else { return found };
        let (mut children, mut seen) = (root.children(), 0);
        while let Ok(Some(child)) = children.next() {
            seen += 1;
            if seen > MAX_GLOBALS || found.len() >= MAX_VARIABLES {
                break;
            }
            if child.entry().tag() == dw::DW_TAG_variable {
                found.extend(self.pointer_to_structure(child.entry()));
            }
        }
        found
    }

    fn members(&self, pointers: &[Pointer], offset: u32) -> Vec<NullMember> {
        // A pointer that is known to point somewhere is not the null pointer.
        let may_be_null = pointers.iter().filter(|pointer| pointer.value.is_none_or(|value| value == 0));
        let member = |pointer: &Pointer| {
            let member = self.member_at(pointer.target, offset, 0)?;
            let structure = self.shape(pointer.target, 0).name;
            Some(NullMember { member, structure, pointer: pointer.name.clone(), is_null: pointer.value == Some(0) })
        };
        may_be_null.filter_map(member).collect()
    }

    /// The member of a structure that lies at an offset, with the members it is nested in.
    fn member_at(&self, structure: gimli::UnitOffset, offset: u32, depth: usize) -> Option<String> {
        let mut found = None;
        self.each_member(structure, |entry, at| {
            if found.is_some() || depth > MAX_NESTING || offset < at {
                return;
            }
            let Some(kind) = self.type_of(entry) else { return };
            let inner = offset - at;
            if inner >= self.shape(kind, 0).size.max(1) {
                return;
            }
            // A base class and an anonymous structure have no name of their own.
            let name = name_of(self.unit, entry).filter(|_| entry.tag() == dw::DW_TAG_member);
            let deeper = self.inside(kind, inner, depth + 1);
            found = match (name, deeper) {
                (Some(name), Some(deeper)) if deeper.starts_with('[') => Some(format!("{name}{deeper}")),
                (Some(name), Some(deeper)) => Some(format!("{name}.{deeper}")),
                (Some(name), None) => Some(name),
                (None, deeper) => deeper,
            };
        });
        found
    }

    /// What lies at an offset in a value of this type: an element, a member; None for a plain value.
    fn inside(&self, kind: gimli::UnitOffset, offset: u32, depth: usize) -> Option<String> {
        let kind = self.plain_type(kind)?;
        let entry = self.unit.entry(kind).ok()?;
        if entry.tag() != dw::DW_TAG_array_type {
            return self.is_structure(&entry).then(|| self.member_at(kind, offset, depth)).flatten();
        }
        let element = reference(&entry, dw::DW_AT_type)?;
        let size = self.shape(element, 0).size.max(1);
        let deeper = self.inside(element, offset % size, depth);
        let deeper = deeper.map_or_else(String::new, |deeper| format!(".{deeper}"));
        Some(format!("[{}]{deeper}", offset / size))
    }

    fn each_member(&self, structure: gimli::UnitOffset, mut take: impl FnMut(&Entry<'a>, u32)) {
        let Ok(mut tree) = self.unit.entries_tree(Some(structure)) else { return };
        let Ok(root) = tree.root() else { return };
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            let entry = child.entry();
            if matches!(entry.tag(), dw::DW_TAG_member | dw::DW_TAG_inheritance) {
                let at = entry.attr_value(dw::DW_AT_data_member_location).and_then(|value| value.udata_value());
                if let Ok(at) = u32::try_from(at.unwrap_or(0)) {
                    take(entry, at);
                }
            }
        }
    }

    fn type_of(&self, entry: &Entry<'a>) -> Option<gimli::UnitOffset> {
        let origin = || origin_of(entry).and_then(|offset| self.unit.entry(offset).ok());
        reference(entry, dw::DW_AT_type).or_else(|| reference(&origin()?, dw::DW_AT_type))
    }

    /// The structure that a pointer type points to.
    fn target(&self, kind: gimli::UnitOffset) -> Option<gimli::UnitOffset> {
        let pointer = self.unit.entry(self.plain_type(kind)?).ok()?;
        let is_pointer = matches!(pointer.tag(), dw::DW_TAG_pointer_type | dw::DW_TAG_reference_type);
        let target = self.plain_type(reference(&pointer, dw::DW_AT_type).filter(|_| is_pointer)?)?;
        self.is_structure(&self.unit.entry(target).ok()?).then_some(target)
    }

    fn is_structure(&self, entry: &Entry<'a>) -> bool {
        matches!(entry.tag(), dw::DW_TAG_structure_type | dw::DW_TAG_union_type | dw::DW_TAG_class_type)
    }

    /// A type without its other names and qualifiers.
    fn plain_type(&self, mut kind: gimli::UnitOffset) -> Option<gimli::UnitOffset> {
        for _ in 0..16 {
            let entry = self.unit.entry(kind).ok()?;
            match entry.tag() {
                dw::DW_TAG_typedef | dw::DW_TAG_const_type | dw::DW_TAG_volatile_type | dw::DW_TAG_restrict_type => {
                    kind = reference(&entry, dw::DW_AT_type)?;
                }
                _ => return Some(kind),
            }
        }
        None
    }
}
