//! Scripts of what happens to a virtual device from outside.

use crate::error::{Code, ToolError};
use crate::files::Files;

/// Bytes that the debug port takes at most.
const LONGEST: usize = 7 << 10;

/// The script in TOML: given as text (TOML or JSON), or in a file of these.
pub fn script(files: &Files, given: &str) -> Result<String, ToolError> {
    let is_text = given.contains(['[', '{', '\n']);
    let text = if is_text { given.to_owned() } else { String::from_utf8_lossy(&files.read_some(given)?).into_owned() };
    let bad = |error: String| ToolError::new(Code::BadParameter, format!("stimuli: {error}"));
    let text = match text.trim_start().starts_with('{') {
        true => {
            let value: toml::Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
            toml::to_string(&value).map_err(|error| bad(error.to_string()))?
        }
        false => text,
    };
    if text.len() > LONGEST {
        return Err(bad(format!("{} bytes are more than {LONGEST}", text.len())));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn json_becomes_toml() {
        let value: toml::Value = serde_json::from_str(r#"{"pin": [{"at": 0.5, "number": 9, "level": 0}]}"#).unwrap();
        assert_eq!(toml::to_string(&value).unwrap(), "[[pin]]\nat = 0.5\nlevel = 0\nnumber = 9\n");
    }
}
