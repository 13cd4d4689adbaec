//! Positional words: which parameters they are.

use serde_json::{Map, Value, json};

use super::table::{Verb, table};

/// Takes the words of a call as parameters; `given` are those that options have set. An error says what is taken.
pub fn take(
    verb: &Verb,
    path: &str,
    words: &[String],
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let forms = verb.forms.iter().map(|form| form.split_whitespace());
    let left = forms.map(|form| form.filter(|name| !given.contains_key(plain(name))).collect::<Vec<_>>());
    let mut left: Vec<Vec<&str>> = left.collect();
    if words.is_empty() && left.is_empty() {
        return Ok(Map::new());
    }
    left.retain(|form| takes(form, words.len()));
    let form = left.first().ok_or_else(|| refusal(verb, path, words.len()))?;
    let mut found = Map::new();
    for (place, name) in form.iter().enumerate() {
        let rest = &words[place..];
        match (name.strip_suffix("..."), rest.first()) {
            (Some(name), _) => drop(found.insert(name.into(), list(name, rest))),
            (None, Some(word)) => add(verb, &mut found, name, word),
            (None, None) => {}
        }
    }
    Ok(found)
}

/// The name without the mark of a list.
fn plain(name: &str) -> &str {
    name.strip_suffix("...").unwrap_or(name)
}

/// The form has room for this many words.
fn takes(form: &[&str], count: usize) -> bool {
    let Some(list) = form.last().and_then(|name| name.strip_suffix("...")) else { return form.len() == count };
    let step = if table().pairs.contains_key(list) { 2 } else { 1 };
    let rest = (count + 1).saturating_sub(form.len());
    rest >= step && rest.is_multiple_of(step)
}

fn list(name: &str, words: &[String]) -> Value {
    match table().pairs.get(name) {
        Some([first, second]) => {
            words.chunks_exact(2).map(|pair| json!({ first.as_str(): pair[0], second.as_str(): pair[1] })).collect()
        }
        None => words.iter().map(String::as_str).collect(),
    }
}

fn add(verb: &Verb, found: &mut Map<String, Value>, name: &str, word: &str) {
    let value = match found.get(name).and_then(Value::as_str) {
        Some(first) => format!("{first}+{word}").into(),
        None if verb.literal.iter().any(|literal| literal == name) => literal(word),
        None => word.into(),
    };
    found.insert(name.into(), value);
}

/// A whole number, truth value, quoted text or object; anything else is a text as it stands.
pub fn literal(word: &str) -> Value {
    match serde_json::from_str(word) {
        Ok(value @ (Value::Bool(_) | Value::String(_) | Value::Object(_))) => value,
        Ok(Value::Number(number)) if number.is_i64() || number.is_u64() => Value::Number(number),
        _ => word.into(),
    }
}

/// The forms as the usage shows them: `REGION OUTPUT_FILE`.
pub fn shown(verb: &Verb) -> Vec<String> {
    let word = |name: &str| match name.strip_suffix("...") {
        Some(list) => match table().pairs.get(list) {
            Some([first, second]) => {
                let [first, second] = [first, second].map(|name| name.to_uppercase());
                // People know the file by this name.
                format!("{first} {}...", if second == "PATH" { "FILE".into() } else { second })
            }
            None => format!("{}...", list.to_uppercase()),
        },
        None => name.to_uppercase(),
    };
    let form = |form: &str| match form.split_whitespace().collect::<Vec<_>>().as_slice() {
        [one, two] if one == two => "ADDRESS SIZE".to_string(),
        names => names.iter().map(|name| word(name)).collect::<Vec<_>>().join(" "),
    };
    verb.forms.iter().map(|text| form(text)).collect()
}

fn refusal(verb: &Verb, path: &str, count: usize) -> String {
    let shown: Vec<String> = shown(verb).into_iter().filter(|form| !form.is_empty()).collect();
    let many = match count {
        1 => "1 word",
        _ => &format!("{count} words"),
    };
    match shown.as_slice() {
        [] => format!("`{path}` takes options only, not {many}"),
        forms if count == 0 => format!("`{path}` needs {}", forms.join(" or ")),
        forms => {
            let does = if count == 1 { "does" } else { "do" };
            format!("`{path}` takes {}, which {many} {does} not fit", forms.join(" or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::find;
    use super::*;

    fn read(verb: &str, words: &[&str], given: Value) -> Result<Value, String> {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        let mut names = verb.split(' ');
        let mut found = find(names.next().unwrap()).unwrap();
        names.for_each(|name| found = found.below(name).unwrap());
        take(found, verb, &words, given.as_object().unwrap()).map(Value::Object)
    }

    #[test]
    fn the_form_follows_the_number_of_words() {
        let none = || json!({});
        assert_eq!(read("read", &["nvs", "a"], none()).unwrap(), json!({"region": "nvs", "output_file": "a"}));
        let bytes = read("read", &["0x0", "4K", "a"], none()).unwrap();
        assert_eq!(bytes, json!({"address": "0x0", "size": "4K", "output_file": "a"}));
        assert_eq!(read("read", &["nvs"], json!({"output_file": "a"})).unwrap(), json!({"region": "nvs"}));
        assert_eq!(read("erase", &["0x9000", "0x1000"], none()).unwrap(), json!({"region": "0x9000+0x1000"}));
        let files = json!([{"address": "0x0", "path": "a"}, {"address": "nvs", "path": "b"}]);
        assert_eq!(read("flash", &["0x0", "a", "nvs", "b"], none()).unwrap(), json!({"files": files}));
        assert_eq!(read("flash", &["build"], none()).unwrap(), json!({"project": "build"}));
        let signed = read("security sign", &["a.bin", "k1", "k2"], none()).unwrap();
        assert_eq!(signed, json!({"input_file": "a.bin", "key_files": ["k1", "k2"]}));
        let burns = json!([{"efuse": "A", "value": "1"}, {"efuse": "B", "value": "2"}]);
        assert_eq!(read("efuse burn", &["A", "1", "B", "2"], none()).unwrap(), json!({"burns": burns}));
    }

    #[test]
    fn too_many_or_few_words_name_the_forms() {
        let error = read("write", &["0x0"], json!({})).unwrap_err();
        assert_eq!(error, "`write` takes ADDRESS FILE..., which 1 word does not fit");
        assert_eq!(read("erase", &[], json!({})).unwrap_err(), "`erase` needs REGION or ADDRESS SIZE");
        assert_eq!(read("read", &[], json!({"region": "nvs", "output_file": "a"})).unwrap(), json!({}));
        assert!(read("ports", &["x"], json!({})).unwrap_err().contains("options only"));
    }

    #[test]
    fn literals_keep_what_only_looks_like_a_number() {
        assert_eq!(literal("6"), json!(6));
        assert_eq!(literal("\"6\""), json!("6"));
        assert_eq!(literal("true"), json!(true));
        for text in ["007", "1.5", "Home", "[1]", "null"] {
            assert_eq!(literal(text), json!(text));
        }
    }
}
