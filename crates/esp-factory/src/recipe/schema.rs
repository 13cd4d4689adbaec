//! The JSON Schema of recipes, for editors and for whoever writes one without the manual.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{Limits, Measure, Recipe, Test};

/// The schema of the TOML file, as JSON Schema (2020-12).
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = SchemaGenerator::new(settings.for_deserialize()).into_root_schema_for::<Recipe>().to_value();
    numbers_to_burn(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("title".into(), "Production recipe".into());
    }
    schema
}

/// TOML writes the value of a field to burn as a number, too.
fn numbers_to_burn(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let kinds = fields.get_mut("burn").and_then(|burn| burn.pointer_mut("/items/oneOf"));
            for kind in kinds.and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(Value::Array(types)) = kind.pointer_mut("/properties/value/type") {
                    types.push("integer".into());
                }
            }
            fields.values_mut().for_each(numbers_to_burn);
        }
        Value::Array(items) => items.iter_mut().for_each(numbers_to_burn),
        _ => {}
    }
}

impl JsonSchema for Test {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Test".into()
    }

    /// What its kind needs, and beside that what all tests have in common.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let common = Limits::json_schema(generator).to_value();
        let mut schema = Measure::json_schema(generator);
        let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten();
        for kind in kinds {
            for part in ["properties", "required"] {
                match (kind.get_mut(part), &common[part]) {
                    (Some(Value::Object(own)), Value::Object(more)) => own.extend(more.clone()),
                    (Some(Value::Array(own)), Value::Array(more)) => own.extend(more.iter().cloned()),
                    _ => {}
                }
            }
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ANNOTATED;

    /// Every name of the annotated recipe is in the schema, and nothing else is allowed where the reader allows nothing else.
    #[test]
    fn schema_accepts_what_the_reader_accepts() {
        let schema = schema();
        let checker = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            faults(&serde_json::to_value(table).unwrap(), &schema, "")
        };
        assert_eq!(checker(ANNOTATED), Vec::<String>::new());
        let wrong =
            checker("[recipe]\nname = 1\n[chips]\n[[image]]\nfile = \"a\"\n[[test]]\nname = \"x\"\nkind = \"smell\"\n");
        for part in ["chip is missing", "chips is not known", "recipe/name", "image/0: address is missing", "test/0"] {
            assert!(wrong.iter().any(|fault| fault.contains(part)), "{part} is not in {wrong:?}");
        }
    }

    /// A small validator: the keywords that the schema uses.
    fn faults(value: &Value, schema: &Value, place: &str) -> Vec<String> {
        let variants = ["oneOf", "anyOf"].iter().find_map(|name| schema.get(*name)?.as_array());
        if let Some(variants) = variants {
            let fits = variants.iter().any(|variant| faults(value, variant, place).is_empty());
            return if fits { Vec::new() } else { vec![format!("{place}: fits no variant")] };
        }
        let kind = match value {
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() => "integer",
            Value::Number(_) => "number",
            Value::Null => "null",
        };
        let named = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
        let typed = match &schema["type"] {
            Value::Array(names) => names.iter().any(named),
            Value::Null => true,
            name => named(name),
        };
        if !typed || schema.get("const").is_some_and(|wanted| wanted != value) {
            return vec![format!("{place}: {value} is not {}", schema["type"])];
        }
        let mut found = Vec::new();
        if let Value::Object(fields) = value {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    found.push(format!("{place}: {name} is missing"));
                }
            }
            for (name, value) in fields {
                let inner = format!("{place}/{name}").trim_start_matches('/').to_owned();
                match (schema["properties"].get(name), &schema["additionalProperties"]) {
                    (Some(of), _) => found.extend(faults(value, of, &inner)),
                    (None, Value::Bool(false)) => found.push(format!("{inner} is not known")),
                    (None, of @ Value::Object(_)) => found.extend(faults(value, of, &inner)),
                    _ => {}
                }
            }
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(faults(item, &schema["items"], &format!("{place}/{index}")));
        }
        found
    }
}
