//! What a function was given, as the place that called it knows: `DW_OP_entry_value` and call sites (DWARF 5, sections
//! 2.5.1.7 and 3.4; before that the GNU extensions of the same names).

use gimli::{AttributeValue, Value, ValueType, constants as dw};

use super::{Place, Reader, Slice};
use crate::symbols::types::{name_of, reference};

impl<'a> Reader<'_, '_, 'a> {
    /// The register that an expression of one operation names, and the type it is read as.
    pub(super) fn register_of(&self, mut expression: Slice<'a>) -> Option<(u16, gimli::UnitOffset)> {
        match gimli::Operation::parse(&mut expression, self.unit.encoding()).ok()? {
            gimli::Operation::Register { register } => Some((register.0, gimli::UnitOffset(0))),
            gimli::Operation::RegisterOffset { register, offset: 0, base_type } => Some((register.0, base_type)),
            _ => None,
        }
    }

    /// A base type as expressions calculate with it; offset 0 is the type of addresses.
    pub(super) fn value_type(&self, offset: gimli::UnitOffset) -> Option<ValueType> {
        if offset.0 == 0 {
            return Some(ValueType::Generic);
        }
        let entry = self.unit.entry(offset).ok()?;
        let AttributeValue::Encoding(encoding) = entry.attr_value(dw::DW_AT_encoding)? else { return None };
        ValueType::from_encoding(encoding, entry.attr_value(dw::DW_AT_byte_size)?.udata_value()?)
    }

    pub(super) fn typed(&self, base_type: gimli::UnitOffset, value: u32) -> Option<Value> {
        Value::from_u64(self.value_type(base_type)?, u64::from(value)).ok()
    }

    /// What a register held when the function was entered, told by the place that called it.
    pub(super) fn at_entry(&self, register: u16) -> Option<u32> {
        let caller = self.callers.first()?;
        // What was passed may itself be a value of the caller's entry, and so on.
        self.budget.set(self.budget.get().checked_sub(1)?);
        let locations = self.program.locate(caller.lookup());
        let reader = self.program.reader(locations.last()?, self.callers, self.memory, self.budget)?;
        let callee = name_of(self.unit, &self.unit.entry(self.function).ok()?)?;
        match reader.evaluate(reader.passed(register, &callee)?)? {
            Place::Value(value) => Some(value),
            Place::Register(number) => caller.register(number),
            Place::Memory(address) => Some(address),
        }
    }

    /// The expression for the value that this frame passed to `callee`. What it called may have jumped elsewhere from
    /// there: only a call of that very function tells.
    fn passed(&self, register: u16, callee: &str) -> Option<Slice<'a>> {
        let mut tree = self.unit.entries_tree(Some(self.function)).ok()?;
        let site = self.call_site(tree.root().ok()?, 0)?;
        let entry = self.unit.entry(site).ok()?;
        let called =
            reference(&entry, dw::DW_AT_call_origin).or_else(|| reference(&entry, dw::DW_AT_abstract_origin))?;
        if name_of(self.unit, &self.unit.entry(called).ok()?).as_deref() != Some(callee) {
            return None;
        }
        let mut tree = self.unit.entries_tree(Some(site)).ok()?;
        let mut children = tree.root().ok()?.children();
        while let Ok(Some(child)) = children.next() {
            let entry = child.entry();
            let Some(AttributeValue::Exprloc(at)) = entry.attr_value(dw::DW_AT_location) else { continue };
            if self.register_of(at.0).is_some_and(|(number, _)| number == register) {
                let value = entry.attr_value(dw::DW_AT_call_value);
                let value = value.or_else(|| entry.attr_value(dw::DW_AT_GNU_call_site_value));
                let Some(AttributeValue::Exprloc(value)) = value else { return None };
                return Some(value.0);
            }
        }
        None
    }

    /// The call that returns to this frame's program counter.
    fn call_site(&self, node: gimli::EntriesTreeNode<'_, '_, Slice<'a>>, depth: usize) -> Option<gimli::UnitOffset> {
        let mut children = node.children();
        while let Ok(Some(child)) = children.next() {
            let entry = child.entry();
            let returns = match entry.tag() {
                dw::DW_TAG_call_site => entry.attr_value(dw::DW_AT_call_return_pc),
                dw::DW_TAG_GNU_call_site => entry.attr_value(dw::DW_AT_low_pc),
                _ => None,
            };
            let returns = returns.and_then(|value| self.unit.attr_address(value).ok().flatten());
            if returns == Some(u64::from(self.frame.pc)) {
                return Some(entry.offset());
            }
            if depth < 16
                && let Some(found) = self.call_site(child, depth + 1)
            {
                return Some(found);
            }
        }
        None
    }
}
