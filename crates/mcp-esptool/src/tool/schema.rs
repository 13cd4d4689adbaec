//! Schemas of the tools' parameters and results, and what follows from them: unknown names are refused, texts
//! become the numbers, lists and objects that they stand for.

pub mod listed;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use esp_ops::args::parse_number;
use esp_ops::error::{Code, ToolError};
use esp_ops::nearest;
use esp_ops::session::overrides;

/// Marks a parameter that tools share and that is read before them: how to connect.
pub const SHARED: &str = "x-shared";

/// The schema of a tool's parameters; a long tool takes `background` too, one with a device how to connect to it.
pub fn of_input<T: JsonSchema>(long: bool, connects: bool) -> Map<String, Value> {
    let mut schema = tidy(generator().for_deserialize_root::<T>());
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        if long {
            let about = "Run as a job (esp_job).";
            let of = json!({"type": "boolean", "description": about, (listed::RARE): true});
            properties.insert("background".into(), of);
        }
        if ["port", "ports"].iter().any(|name| properties.contains_key(*name)) {
            add_connection(properties, connects);
        }
    }
    schema.insert("type".into(), "object".into());
    schema.insert("additionalProperties".into(), false.into());
    schema
}

/// A tool that only listens to the line can wait for it, too.
fn add_connection(properties: &mut Map<String, Value>, connects: bool) {
    for (name, mut of) in overrides::schemas().filter(|(name, _)| connects || *name == "wait_s") {
        if let Some(of) = of.as_object_mut() {
            of.extend([(listed::RARE.to_string(), true.into()), (SHARED.to_string(), true.into())]);
        }
        properties.entry(name).or_insert(of);
    }
}

/// The schema of a tool's result; a long tool may return a job instead.
pub fn of_output<T: JsonSchema>(long: bool) -> Map<String, Value> {
    let mut schema = tidy(generator().for_serialize_root::<T>());
    schema.insert("type".into(), "object".into());
    if long {
        let required = schema.remove("required").unwrap_or_else(|| json!([]));
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("job_id".into(), json!({"type": "string", "description": "The job that was started."}));
        }
        schema.insert("anyOf".into(), json!([{"required": required}, {"required": ["job_id"]}]));
    }
    schema
}

struct Generator(SchemaSettings);

fn generator() -> Generator {
    Generator(SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true))
}

impl Generator {
    fn for_deserialize_root<T: JsonSchema>(self) -> Value {
        SchemaGenerator::new(self.0.for_deserialize()).into_root_schema_for::<T>().to_value()
    }

    fn for_serialize_root<T: JsonSchema>(self) -> Value {
        SchemaGenerator::new(self.0.for_serialize()).into_root_schema_for::<T>().to_value()
    }
}

/// Leaves out what tells a caller nothing: titles made of type names, number formats, the schema's own address.
fn tidy(mut schema: Value) -> Map<String, Value> {
    drop_noise(&mut schema, false);
    match schema {
        Value::Object(mut fields) => {
            fields.remove("description");
            fields
        }
        _ => Map::new(),
    }
}

fn drop_noise(value: &mut Value, names_are_data: bool) {
    match value {
        Value::Object(fields) => {
            if !names_are_data {
                fields.retain(|name, value| {
                    !(matches!(name.as_str(), "title" | "$schema" | "format")
                        || (name == "minimum" && value.as_i64() == Some(0))
                        || (name == "default" && value.is_null()))
                });
            }
            for (name, value) in fields {
                drop_noise(value, !names_are_data && name == "properties");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| drop_noise(item, false)),
        _ => {}
    }
}

/// Checks parameters against a tool's input schema and turns texts into what the schema wants.
pub fn check(input: Value, schema: Map<String, Value>) -> Result<Value, ToolError> {
    let input = if input.is_null() { json!({}) } else { input };
    if !input.is_object() {
        return Err(ToolError::new(Code::BadParameter, "the parameters are not a JSON object"));
    }
    fit(input, &Value::Object(schema), "")
}

fn fit(value: Value, schema: &Value, path: &str) -> Result<Value, ToolError> {
    let value = coerce(value, schema);
    match value {
        Value::Object(fields) => fit_object(fields, schema, path),
        Value::Array(items) => {
            let Some(item_schema) = branch(schema, "array").and_then(|array| array.get("items")) else {
                return Ok(Value::Array(items));
            };
            let fitted = items.into_iter().enumerate().map(|(i, item)| fit(item, item_schema, &format!("{path}[{i}]")));
            fitted.collect::<Result<_, _>>().map(Value::Array)
        }
        other if fits_type(&other, schema) => Ok(other),
        other => Err(wrong_type(&other, schema, path)),
    }
}

/// A simple value is of one of the types that the schema names. Schemas without types take anything.
fn fits_type(value: &Value, schema: &Value) -> bool {
    let name = match value {
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        _ => return true,
    };
    let simple = schema.get("anyOf").or(schema.get("oneOf")).is_none() && schema.get("enum").is_none();
    !simple || types(schema).next().is_none() || types(schema).any(|known| known == name)
}

fn wrong_type(value: &Value, schema: &Value, path: &str) -> ToolError {
    let wanted: Vec<&str> = types(schema).filter(|name| *name != "null").collect();
    ToolError::new(Code::BadParameter, format!("`{path}` is {value}, not of type {}", wanted.join(" or ")))
}

fn fit_object(fields: Map<String, Value>, schema: &Value, path: &str) -> Result<Value, ToolError> {
    let tagged = tagged_variant(&fields, schema);
    let Some(schema) = tagged.or_else(|| branch(schema, "object")) else { return Ok(Value::Object(fields)) };
    let Some(known) = schema.get("properties").and_then(Value::as_object) else { return Ok(Value::Object(fields)) };
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let mut fitted = Map::new();
    for (name, value) in fields {
        let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.get(&name) {
            Some(of_field) => drop(fitted.insert(name, fit(value, of_field, &full)?)),
            None if closed => return Err(unknown(&name, &full, known)),
            None => drop(fitted.insert(name, value)),
        }
    }
    let wanted = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    match wanted.into_iter().find(|name| !fitted.contains_key(*name)) {
        Some(missing) => {
            let full = if path.is_empty() { missing.to_string() } else { format!("{path}.{missing}") };
            let about = known.get(missing).and_then(|of| of.get("description")).and_then(Value::as_str);
            let about = about.map_or_else(String::new, |about| format!(": {}", about.trim_end_matches('.')));
            Err(ToolError::new(Code::MissingParameter, format!("the parameter `{full}` is missing{about}")))
        }
        None => Ok(Value::Object(fitted)),
    }
}

fn unknown(name: &str, full: &str, known: &Map<String, Value>) -> ToolError {
    let names = known.keys().map(String::as_str);
    let error = ToolError::new(Code::UnknownParameter, format!("there is no parameter `{full}`"))
        .seen("known", known.keys().cloned().collect::<Vec<_>>().join(", "));
    match nearest(name, names) {
        Some(near) => error.next(format!("use `{near}`")),
        None => error,
    }
}

/// Of several kinds of object, the one whose constant properties (`kind`) are those given.
fn tagged_variant<'a>(fields: &Map<String, Value>, schema: &'a Value) -> Option<&'a Value> {
    let fits = |variant: &&Value| {
        let properties = variant.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut tags = properties.filter_map(|(name, of)| Some((name, of.get("const")?))).peekable();
        tags.peek().is_some() && tags.all(|(name, wanted)| fields.get(name) == Some(wanted))
    };
    schema.get("oneOf")?.as_array()?.iter().find(fits)
}

/// The part of a schema that describes values of this type: the schema itself or one of its variants.
fn branch<'a>(schema: &'a Value, wanted: &str) -> Option<&'a Value> {
    if types(schema).any(|name| name == wanted) {
        return Some(schema);
    }
    let variants = ["anyOf", "oneOf"].iter().filter_map(|name| schema.get(*name)?.as_array()).flatten();
    variants.into_iter().find_map(|variant| branch(variant, wanted))
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let listed = schema.get("type").into_iter().flat_map(|of| match of {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::String(name) => vec![name.as_str()],
        _ => Vec::new(),
    });
    listed.collect::<Vec<_>>().into_iter()
}

/// A text becomes a number, truth value, list or object where the schema wants one and no text.
fn coerce(value: Value, schema: &Value) -> Value {
    let Value::String(text) = &value else { return value };
    let wants = |name| branch(schema, name).is_some();
    if wants("string") {
        return value;
    }
    let read = if wants("integer") {
        parse_number(text).map(Value::from)
    } else if wants("number") {
        text.trim().parse::<f64>().ok().map(Value::from)
    } else if wants("boolean") {
        text.trim().parse::<bool>().ok().map(Value::from)
    } else {
        serde_json::from_str(text).ok().filter(|read: &Value| read.is_array() || read.is_object())
    };
    read.unwrap_or(value)
}

#[cfg(test)]
mod tests;
