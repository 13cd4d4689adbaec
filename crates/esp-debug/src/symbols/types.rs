//! Layouts of C structures from debug information.

use std::collections::BTreeMap;

use gimli::{AttributeValue, DebuggingInformationEntry, UnitRef, constants as dw};

use super::{Program, Slice};

/// Where the members of a structure lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StructLayout {
    /// Size in bytes.
    pub size: u32,
    /// Offset in bytes of each member.
    pub members: BTreeMap<String, u32>,
}

type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

impl Program<'_> {
    /// The layout of `struct name`, looked for in the unit that defines the function `near`.
    pub fn struct_layout(&self, name: &str, near: &str) -> Option<StructLayout> {
        let (address, _) = self.address_of(near)?;
        let unit = self.unit(address)?;
        let mut entries = unit.entries();
        while let Ok(Some(entry)) = entries.next_dfs() {
            let named = entry.tag() == dw::DW_TAG_structure_type
                && entry.has_attr(dw::DW_AT_byte_size)
                && name_of(unit, entry).as_deref() == Some(name);
            if named {
                let offset = entry.offset();
                return members(unit, offset);
            }
        }
        None
    }
}

fn members(unit: UnitRef<'_, Slice<'_>>, offset: gimli::UnitOffset) -> Option<StructLayout> {
    let mut tree = unit.entries_tree(Some(offset)).ok()?;
    let root = tree.root().ok()?;
    let size = root.entry().attr_value(dw::DW_AT_byte_size)?.udata_value()?;
    let mut layout = StructLayout { size: u32::try_from(size).ok()?, members: BTreeMap::new() };
    let mut children = root.children();
    while let Ok(Some(child)) = children.next() {
        let entry = child.entry();
        let at = entry.attr_value(dw::DW_AT_data_member_location).and_then(|value| value.udata_value()).unwrap_or(0);
        if let (Some(name), Ok(at)) = (name_of(unit, entry), u32::try_from(at)) {
            layout.members.insert(name, at);
        }
    }
    Some(layout)
}

/// The name of an entry, its own or that of what it is an instance of.
pub(super) fn name_of<'a>(unit: UnitRef<'_, Slice<'a>>, entry: &Entry<'a>) -> Option<String> {
    if let Some(value) = entry.attr_value(dw::DW_AT_name) {
        return unit.attr_string(value).ok().map(|text| text.to_string_lossy().into_owned());
    }
    let origin = unit.entry(origin_of(entry)?).ok()?;
    let value = origin.attr_value(dw::DW_AT_name)?;
    unit.attr_string(value).ok().map(|text| text.to_string_lossy().into_owned())
}

/// What an inlined or concrete entry is an instance of.
pub(super) fn origin_of(entry: &Entry<'_>) -> Option<gimli::UnitOffset> {
    reference(entry, dw::DW_AT_abstract_origin).or_else(|| reference(entry, dw::DW_AT_specification))
}

/// A reference to another entry of the same unit.
pub(super) fn reference(entry: &Entry<'_>, attribute: gimli::DwAt) -> Option<gimli::UnitOffset> {
    match entry.attr_value(attribute)? {
        AttributeValue::UnitRef(offset) => Some(offset),
        _ => None,
    }
}
