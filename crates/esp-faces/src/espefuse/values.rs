//! Values of fields that are refused, in the texts that scripts look for.

use esp_model::efuse::{Efuses, Field, FieldKind};

use crate::fault::Fault;
use crate::text;

/// Refuses a value that the field does not take. What is left is judged by the burn itself.
pub fn check(efuses: &Efuses, field: &Field, value: Option<&str>) -> Result<(), Fault> {
    let (name, length) = (&field.name, u32::from(field.len()));
    if name == "MAC" {
        return Err(Fault::fatal("Writing Factory MAC address is not supported"));
    }
    let flag = length == 1 && matches!(field.kind, FieldKind::Flag | FieldKind::Number);
    let Some(value) = value else {
        return match field.kind {
            FieldKind::BitCount => next_bit(efuses, field),
            _ if flag => Ok(()),
            _ => Err(Fault::Fatal(format!("New value required for eFuse '{name}' (given None)"))),
        };
    };
    if matches!(field.kind, FieldKind::Bytes | FieldKind::Key) {
        let digits = value.strip_prefix("0x").map(str::len);
        return match digits.map(|digits| digits * 4).filter(|bits| *bits as u32 != length) {
            Some(bits) => Err(Fault::Fatal(format!(
                "The length of eFuse '{name}' ({length} bits) (given len of the new value= {bits} bits)"
            ))),
            None => Ok(()),
        };
    }
    let Some(number) = text::integer(value).filter(|_| field.kind != FieldKind::Mac) else { return Ok(()) };
    match number {
        1 if flag => Ok(()),
        number if flag => Err(Fault::Fatal(format!(
            "New value is not accepted for eFuse '{name}' (will always burn 0->1), given value={number}"
        ))),
        0 if !efuses.is_purpose(name) => {
            Err(Fault::Fatal(format!("New value should not be 0 for '{name}' (given value= 0)")))
        }
        _ if field.kind == FieldKind::SpiPin => Ok(()),
        number => fits(number, length),
    }
}

/// The bit after those that are set.
fn next_bit(efuses: &Efuses, field: &Field) -> Result<(), Fault> {
    let set = field.number(efuses.block(field.block)).count_ones();
    fits((1u64 << (set + 1)) - 1, field.len().into())
}

fn fits(number: u64, length: u32) -> Result<(), Fault> {
    let most = 1u64.checked_shl(length).map_or(u64::MAX, |limit| limit - 1);
    if number <= most {
        return Ok(());
    }
    Err(Fault::Fatal(format!(
        "{number} is too large an unsigned integer for a bitstring of length {length}. The allowed range is [0, {most}]."
    )))
}
