use esp_ops::args::Number;
use esp_ops::error::Code;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct In {
    /// Where.
    address: Number,
    /// How many.
    count: Option<u32>,
    /// What.
    files: Option<Vec<Inner>>,
    on: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Inner {
    path: String,
}

#[derive(Serialize, JsonSchema)]
struct Out {
    /// Deep.
    a: Vec<Level1>,
    b: u64,
}

#[derive(Serialize, JsonSchema)]
struct Level1 {
    c: Level2,
}

#[derive(Serialize, JsonSchema)]
struct Level2 {
    d: String,
}

fn checked(input: Value) -> Result<Value, ToolError> {
    check(input, of_input::<In>(true, true))
}

#[test]
fn texts_become_what_the_schema_wants() {
    let read =
        checked(json!({"address": "0x10", "count": "64K", "files": "[{\"path\": \"7\"}]", "on": "true"})).unwrap();
    assert_eq!(read, json!({"address": "0x10", "count": 65536, "files": [{"path": "7"}], "on": true}));
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let error = checked(json!({"adress": 1})).unwrap_err();
    assert_eq!(error.code, Code::UnknownParameter);
    assert!(error.to_string().contains("use `address`"), "{error}");
    let error = checked(json!({"address": 1, "files": [{"path": "x", "offset": 1}]})).unwrap_err();
    assert!(error.message.contains("files[0].offset"), "{error}");
}

#[test]
fn missing_names_are_named() {
    assert!(checked(json!({})).unwrap_err().message.contains("`address`"));
    assert_eq!(checked(Value::Null).unwrap_err().code, Code::MissingParameter);
    assert_eq!(checked(json!([1])).unwrap_err().code, Code::BadParameter);
}

#[test]
fn a_long_tool_takes_background_and_may_return_a_job() {
    assert!(checked(json!({"address": 1, "background": true})).is_ok());
    let output = of_output::<Out>(true);
    assert_eq!(output["anyOf"], json!([{"required": ["a", "b"]}, {"required": ["job_id"]}]));
}

#[test]
fn listed_schemas_are_short() {
    let short = Value::Object(listed::output(of_output::<Out>(false), listed::Detail::Full));
    assert!(!short.to_string().contains("description"), "{short}");
    assert_eq!(short["properties"]["a"]["items"]["properties"]["c"], json!({"type": "object"}));
}
