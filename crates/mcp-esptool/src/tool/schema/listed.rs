//! The forms in which `tools/list` shows schemas. Models read the whole list: it must not grow without bound, so a
//! long list says less of each tool. The whole schemas are in `docs/tools.md`; calls are checked against those.

use esp_ops::args::PortUrl;
use serde_json::{Map, Value, json};

use super::SHARED;

/// How much a list says, from most to least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Parameters as they are; results two levels deep.
    Full,
    /// What parameters mean, without what only a validator needs; names and types of the results' fields.
    Fields,
    /// Without rarely used parameters; the first clause of what a parameter means; names of inner fields; results are
    /// objects.
    Short,
}

impl Detail {
    /// All forms, from most to least.
    pub const ALL: [Self; 3] = [Self::Full, Self::Fields, Self::Short];
}

/// Marks a parameter that few callers need: `#[schemars(extend("x-rare" = true))]`. A long list leaves it out.
pub const RARE: &str = "x-rare";

fn without_marks(mut full: Map<String, Value>) -> Map<String, Value> {
    let properties = full.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    for schema in properties.filter_map(|(_, schema)| schema.as_object_mut()) {
        [RARE, SHARED].iter().for_each(|mark| drop(schema.remove(*mark)));
    }
    full
}

/// A tool's parameters as they are listed.
pub fn input(full: Map<String, Value>, detail: Detail) -> Map<String, Value> {
    if detail == Detail::Full {
        return into_map(one_type(without_marks(full).into()));
    }
    let mut listed = Map::from_iter([("type".to_string(), json!("object"))]);
    let properties = full.get("properties").and_then(Value::as_object).into_iter().flatten();
    let properties = properties.filter(|(_, schema)| detail != Detail::Short || schema.get(RARE).is_none());
    let properties: Map<_, _> =
        properties.map(|(name, schema)| (name.clone(), Value::Object(parameter(schema, detail)))).collect();
    listed.insert("properties".into(), properties.into());
    listed.extend(full.get("required").map(|names| ("required".to_string(), names.clone())));
    listed
}

/// A tool's result as it is listed.
pub fn output(full: Map<String, Value>, detail: Detail) -> Map<String, Value> {
    let mut listed = Map::from_iter([("type".to_string(), json!("object"))]);
    match detail {
        Detail::Full => {
            let mut short = Value::Object(full);
            shorten(&mut short, 0);
            return into_map(short);
        }
        Detail::Fields => {
            let properties = full.get("properties").and_then(Value::as_object).into_iter().flatten();
            let kind = |schema| values_of(schema).unwrap_or_else(|| kind_of(schema));
            let properties: Map<_, _> = properties.map(|(name, schema)| (name.clone(), kind(schema))).collect();
            listed.insert("properties".into(), properties.into());
        }
        Detail::Short => {
            let properties = full.get("properties").and_then(Value::as_object).into_iter().flatten();
            let told = properties.filter(|(name, _)| VERDICTS.contains(&name.as_str()));
            let known = told.filter_map(|(name, schema)| Some((name.clone(), values_of(schema)?)));
            let known: Map<_, _> = known.collect();
            if !known.is_empty() {
                listed.insert("properties".into(), known.into());
            }
        }
    }
    listed
}

/// Fields of results that say how it went: even the shortest list names their values.
const VERDICTS: [&str; 2] = ["verdict", "outcome"];

/// The values that a field may have, where they are few and known; a field that may be null is left alone.
fn values_of(schema: &Value) -> Option<Value> {
    let text = schema.to_string();
    let listed = simple(schema).remove("enum").filter(|_| !text.contains("\"null\""))?;
    Some(json!({ "enum": listed }))
}

/// The same with one type for each value, which more clients understand than a list of types: a number that may be
/// written as text is listed as text. Calls may still use what the whole schema allows.
fn one_type(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let one = |(name, value): (String, Value)| match (name.as_str(), &value) {
                ("type", Value::Array(names)) => one_of_types(names),
                _ => Some((name, one_type(value))),
            };
            Value::Object(fields.into_iter().filter_map(one).collect())
        }
        Value::Array(items) => items.into_iter().map(one_type).collect(),
        other => other,
    }
}

/// One name instead of several; for an object that may be written as text, whose form the description tells, what it
/// is not: some clients take a value without any rule for a mistake.
fn one_of_types(names: &[Value]) -> Option<(String, Value)> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has("string") && has("object") {
        return Some(("not".into(), json!({ "type": "null" })));
    }
    let first = names.iter().find(|name| *name != "null")?;
    Some(("type".into(), if has("string") { "string".into() } else { first.clone() }))
}

/// Only the type of a field; nothing when several are possible.
fn kind_of(schema: &Value) -> Value {
    match simple(schema).get("type") {
        Some(Value::String(name)) => json!({ "type": name }),
        // A number that may be written as text is listed as text.
        Some(Value::Array(names)) if names.iter().any(|name| name == "string") => json!({ "type": "string" }),
        _ => json!({}),
    }
}

fn parameter(schema: &Value, detail: Detail) -> Map<String, Value> {
    let about = schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    let mut listed = inner(schema, detail);
    let about = match detail {
        // Said once, in the server's instructions, and not by sixty tools.
        Detail::Short if about == PortUrl::ABOUT => "Port".into(),
        Detail::Short => in_short(first_clause(&about), &mut listed),
        _ => about,
    };
    listed.insert("description".into(), about.into());
    listed
}

/// The description with the names of an object's fields, which then need no schema: `config` (each {flash_size, …}). A
/// list's items keep theirs: without it no call is right.
fn in_short(about: &str, listed: &mut Map<String, Value>) -> String {
    let own = listed.remove("properties");
    listed.remove("required");
    let names = own.iter().filter_map(Value::as_object).flat_map(|fields| fields.keys().cloned());
    let names = names.collect::<Vec<_>>().join(", ");
    // Where it may be text or an object, the description shows both.
    match listed.contains_key("type") && !names.is_empty() {
        true => format!("{about}: {{{names}}}"),
        false => about.into(),
    }
}

/// Up to the first semicolon or full stop that ends a clause; what stands in brackets stays whole.
fn first_clause(text: &str) -> &str {
    let mut open = 0_i32;
    for (at, letter) in text.char_indices() {
        open += match letter {
            '(' | '[' | '{' => 1,
            ')' | ']' | '}' => -1,
            _ => 0,
        };
        let ends = matches!(letter, ';' | '.') && text[at + 1..].starts_with(' ');
        if ends && open == 0 {
            return &text[..at];
        }
    }
    text.trim_end_matches('.')
}

/// A schema without descriptions and without what only a validator needs.
fn inner(schema: &Value, detail: Detail) -> Map<String, Value> {
    let simple = into_map(one_type(simple(schema).into()));
    let mut listed = Map::new();
    for name in ["type", "enum", "const", "not"] {
        listed.extend(simple.get(name).map(|value| (name.to_string(), value.clone())));
    }
    if listed.contains_key("enum") || listed.contains_key("const") {
        listed.remove("type");
    }
    if let Some(items) = simple.get("items") {
        let mut items = inner(items, detail);
        // What has properties is an object.
        if detail == Detail::Short && items.contains_key("properties") {
            items.remove("type");
        }
        listed.insert("items".into(), items.into());
    }
    if let Some(Value::Array(variants)) = simple.get("anyOf").or_else(|| simple.get("oneOf")) {
        match merged(variants) {
            Some(fields) => listed.extend(fields),
            None => {
                let variants = variants.iter().map(|variant| Value::Object(inner(variant, detail)));
                listed.insert("anyOf".into(), variants.collect::<Vec<_>>().into());
            }
        }
    }
    if let Some(Value::Object(properties)) = simple.get("properties") {
        let listing = |(name, of): (&String, &Value)| match detail {
            Detail::Short if of.get("properties").is_none() && of.get("items").is_none() => (name.clone(), kind_of(of)),
            _ => (name.clone(), Value::Object(inner(of, detail))),
        };
        listed.insert("properties".into(), properties.iter().map(listing).collect::<Map<_, _>>().into());
        listed.extend(simple.get("required").map(|names| ("required".to_string(), names.clone())));
    }
    listed
}

/// Several kinds of object, told apart by a constant, as one object: the constant's values and all fields.
fn merged(variants: &[Value]) -> Option<Map<String, Value>> {
    let mut fields: Map<String, Value> = Map::new();
    let mut tag: Option<(&String, Vec<&Value>)> = None;
    for variant in variants {
        let properties = variant.get("properties")?.as_object()?;
        let (name, value) = properties.iter().find_map(|(name, of)| Some((name, of.get("const")?)))?;
        match &mut tag {
            None => tag = Some((name, vec![value])),
            Some((known, values)) if *known == name => values.push(value),
            Some(_) => return None,
        }
        fields.extend(properties.iter().map(|(name, of)| (name.clone(), kind_of(of))));
    }
    let (name, values) = tag?;
    fields.insert(name.clone(), json!({ "enum": values }));
    Some(Map::from_iter([
        ("type".to_string(), json!("object")),
        ("required".to_string(), json!([name])),
        ("properties".to_string(), fields.into()),
    ]))
}

/// A schema without `null`, with a list of constants as an enumeration.
fn simple(schema: &Value) -> Map<String, Value> {
    let mut fields = schema.as_object().cloned().unwrap_or_default();
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [Value::String(only)] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".into(), only.into());
        }
    }
    for name in ["anyOf", "oneOf"] {
        let Some(Value::Array(variants)) = fields.get_mut(name) else { continue };
        variants.retain(|variant| variant.get("type").is_none_or(|of| of != "null"));
        if let [only] = variants.as_slice() {
            let only = simple(only);
            fields.remove(name);
            fields.extend(only.into_iter().filter(|(name, _)| name != "description"));
            return fields;
        }
        if let Some(constants) =
            variants.iter().map(|variant| variant.get("const").cloned()).collect::<Option<Vec<_>>>()
        {
            fields.remove(name);
            fields.insert("enum".into(), constants.into());
            fields.insert("type".into(), "string".into());
        }
    }
    fields
}

/// How deep a listed result goes in the fullest form; deeper objects are listed as `object`.
const DEPTH: usize = 2;

fn shorten(value: &mut Value, depth: usize) {
    if let Some(values) = values_of(value) {
        *value = values;
        return;
    }
    let Value::Object(fields) = value else { return };
    fields.remove("description");
    let inner = ["properties", "items", "anyOf", "oneOf", "additionalProperties"];
    if depth >= DEPTH {
        inner.iter().for_each(|name| drop(fields.remove(*name)));
        fields.remove("required");
        return;
    }
    for name in inner {
        match fields.get_mut(name) {
            Some(Value::Object(properties)) if name == "properties" => {
                properties.values_mut().for_each(|property| shorten(property, depth + 1));
            }
            Some(Value::Array(variants)) => variants.iter_mut().for_each(|variant| shorten_variant(variant, depth)),
            Some(single) => shorten(single, depth),
            None => {}
        }
    }
}

/// A variant's `required` stays at the top, where it tells a result from a job.
fn shorten_variant(variant: &mut Value, depth: usize) {
    let required = variant.get("required").cloned();
    shorten(variant, depth);
    if let (Some(required), Some(fields), 0) = (required, variant.as_object_mut(), depth) {
        fields.insert("required".into(), required);
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_end_where_a_sentence_does() {
        assert_eq!(first_clause("Size (\"4MB\"); needed later."), "Size (\"4MB\")");
        assert_eq!(first_clause("One thing, such as esp32.bin. More."), "One thing, such as esp32.bin");
        assert_eq!(first_clause("File."), "File");
        assert_eq!(first_clause("Rate (default 1; at most 9); more."), "Rate (default 1; at most 9)");
    }

    #[test]
    fn variants_become_one_object_and_constants_an_enumeration() {
        let full = json!({"properties": {
            "mode": {"description": "Which.", "anyOf": [{"oneOf": [{"const": "a", "type": "string"},
                {"const": "b", "type": "string"}]}, {"type": "null"}]},
            "burns": {"description": "What; all of it.", "type": "array", "items": {"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "x"}, "bit": {"type": "integer"}}},
                {"type": "object", "properties": {"kind": {"const": "y"}, "key": {"type": "string"}}},
            ]}},
        }, "required": ["burns"], "additionalProperties": false});
        let short = Value::Object(input(into_map(full), Detail::Short));
        assert_eq!(
            short,
            json!({"type": "object", "properties": {
                "mode": {"enum": ["a", "b"], "description": "Which"},
                "burns": {"type": "array", "description": "What",
                    "items": {"required": ["kind"], "properties": {"kind": {"enum": ["x", "y"]},
                        "bit": {"type": "integer"}, "key": {"type": "string"}}}},
            }, "required": ["burns"]})
        );
    }
}
