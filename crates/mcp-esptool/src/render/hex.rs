//! Addresses in results are hex text everywhere: nobody compares `327680` with a map or a data sheet.

use serde_json::{Map, Value};

use super::node::is_address;

/// Integers under the names of addresses become text such as `"0x10000"`.
pub fn addresses_as_text(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_u64().filter(|_| is_address(name)) {
                    Some(number) => *value = format!("{number:#x}").into(),
                    None => addresses_as_text(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(addresses_as_text),
        _ => {}
    }
}

/// The schema of a result after [`addresses_as_text`].
pub fn address_schemas(mut schema: Map<String, Value>) -> Map<String, Value> {
    schema.values_mut().for_each(|value| text_in(value, false));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        of_properties(properties);
    }
    schema
}

fn text_in(schema: &mut Value, is_properties: bool) {
    match schema {
        Value::Object(fields) => {
            if is_properties {
                of_properties(fields);
            }
            for (name, value) in fields {
                text_in(value, !is_properties && name == "properties");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| text_in(item, false)),
        _ => {}
    }
}

fn of_properties(properties: &mut Map<String, Value>) {
    let integer = Value::from("integer");
    for (_, of) in properties.iter_mut().filter(|(name, _)| is_address(name)) {
        match of.get_mut("type") {
            Some(kind) if *kind == integer => *kind = "string".into(),
            Some(Value::Array(kinds)) => {
                kinds.iter_mut().filter(|kind| **kind == integer).for_each(|kind| *kind = "string".into());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_become_hex_text_and_counts_stay_numbers() {
        let mut value = json!({"address": 65536, "size_bytes": 65536, "rows": [{"table_offset": 0x8000, "at_ms": 5}]});
        addresses_as_text(&mut value);
        assert_eq!(
            value,
            json!({"address": "0x10000", "size_bytes": 65536, "rows": [{"table_offset": "0x8000", "at_ms": 5}]})
        );
    }

    #[test]
    fn schemas_follow() {
        let schema = json!({"properties": {
            "offset": {"type": ["integer", "null"]},
            "rows": {"items": {"properties": {"address": {"type": "integer"}, "count": {"type": "integer"}}}},
        }});
        let Value::Object(schema) = schema else { unreachable!() };
        let wanted = json!({"properties": {
            "offset": {"type": ["string", "null"]},
            "rows": {"items": {"properties": {"address": {"type": "string"}, "count": {"type": "integer"}}}},
        }});
        assert_eq!(Value::Object(address_schemas(schema)), wanted);
    }
}
