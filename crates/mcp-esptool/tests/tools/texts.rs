//! What models read: descriptions begin with a verb, are whole, and say what the field's words are.

use mcp_esptool::tool::schema::listed::{Detail, input, output};
use mcp_esptool::tools::ALL;
use serde_json::Value;

/// Words of a private dialect, and how the field says it.
const DIALECT: [(&str, &str); 9] = [
    ("for ever", "permanently"),
    ("is no", "is not a"),
    ("dies", "is lost"),
    ("holds back", "blocks"),
    ("goes on where", "resumes"),
    ("shall not be", "overrides"),
    ("there, for this device, in order", "intact"),
    ("anew", "again"),
    (" mended", "fixed"),
];

/// All texts of a schema's descriptions, with the name of what they describe.
fn descriptions(schema: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match schema {
        Value::Object(fields) => {
            if let Some(text) = fields.get("description").and_then(Value::as_str) {
                found.push((path.into(), text.into()));
            }
            fields.iter().for_each(|(name, inner)| descriptions(inner, &format!("{path}.{name}"), found));
        }
        Value::Array(items) => items.iter().for_each(|inner| descriptions(inner, path, found)),
        _ => {}
    }
}

fn is_balanced(text: &str) -> bool {
    let count = |letter: char| text.matches(letter).count();
    count('(') == count(')') && count('[') == count(']') && count('{') == count('}') && count('"') % 2 == 0
}

#[test]
fn descriptions_begin_with_a_verb() {
    for entry in ALL {
        let first = entry.about.split([' ', ',']).next().unwrap();
        let third_person = first.ends_with('s') && !first.ends_with("ss");
        let article = ["The", "A", "An", "Everything", "What", "Which", "One", "Usage", "Advice"].contains(&first);
        assert!(!third_person && !article, "{}: {}", entry.name, entry.about);
        assert!(entry.about.ends_with('.') && entry.about.len() < 240, "{}: {}", entry.name, entry.about);
    }
}

#[test]
fn listed_texts_are_whole_in_every_form() {
    for entry in ALL {
        for detail in Detail::ALL {
            let mut found = Vec::new();
            descriptions(&Value::Object(input(entry.input_schema(), detail)), entry.name, &mut found);
            for (path, text) in found {
                assert!(is_balanced(&text) && !text.ends_with([',', '(']), "{path}: {text}");
            }
        }
    }
}

#[test]
fn texts_use_the_words_of_the_field() {
    for entry in ALL {
        let mut found = vec![(entry.name.to_string(), entry.about.to_string())];
        descriptions(&Value::Object(entry.input_schema()), entry.name, &mut found);
        descriptions(&Value::Object(entry.output_schema()), entry.name, &mut found);
        for (path, text) in found {
            let words = format!(" {} ", text.replace([',', '.', ';', ':', ')'], " "));
            for (dialect, better) in DIALECT {
                assert!(
                    !words.contains(&format!(" {} ", dialect.trim())),
                    "{path}: \"{dialect}\" in \"{text}\": say {better}"
                );
            }
        }
    }
}

/// A field of a result that takes one of a few values says which, also in the short lists.
#[test]
fn enumerations_of_results_are_listed() {
    let entry = ALL.iter().find(|entry| entry.name == "esp_boot_check").unwrap();
    for detail in Detail::ALL {
        let schema = Value::Object(output(entry.output_schema(), detail));
        assert!(schema.to_string().contains("\"enum\""), "{detail:?}: {schema}");
    }
}
