//! The bearer token of an HTTP server that has no authorization server.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use esp_ops::error::{Code, ToolError};
use esp_ops::guard::confirm::random_bytes;

/// Shortest token that is taken from a file.
const SHORTEST: usize = 16;

/// The token of this file, and whether it was made just now.
pub fn read_or_make(file: &Path) -> Result<(String, bool), ToolError> {
    let bad = |text: String| ToolError::new(Code::BadConfiguration, format!("{}: {text}", file.display()));
    let make = || {
        let token = new()?;
        let full = |error: std::io::Error| ToolError::of_io(Code::BadConfiguration, file.display(), &error);
        write(file, &token).map_err(full)?;
        Ok((token, true))
    };
    match fs::read_to_string(file) {
        Ok(text) if text.trim().len() >= SHORTEST => Ok((text.trim().to_string(), false)),
        // What a full disk left of a token that was being made: nobody has it.
        Ok(text) if text.is_empty() => make(),
        Ok(_) => Err(bad(format!("a token has at least {SHORTEST} characters"))),
        Err(error) if error.kind() == ErrorKind::NotFound => make(),
        Err(error) => Err(bad(error.to_string())),
    }
}

fn new() -> Result<String, ToolError> {
    let mut bytes = [0; 32];
    random_bytes(&mut bytes)?;
    Ok(esp_model::hex::encode(bytes))
}

fn write(file: &Path, token: &str) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    // The file appears whole or not at all, for its owner alone.
    let mut temp =
        NamedTempFile::new_in(file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    temp.write_all(format!("{token}\n").as_bytes())?;
    temp.as_file().sync_all()?;
    temp.persist(file).map(drop).map_err(|error| error.error)
}

/// The tokens are the same. Compares digests, so that the time tells nothing of how much of it was right.
pub fn same(given: &str, wanted: &str) -> bool {
    Sha256::digest(given.as_bytes()) == Sha256::digest(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_for_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state/http-token");
        let (token, made) = read_or_make(&file).unwrap();
        assert!(made && token.len() == 64);
        assert_eq!(read_or_make(&file).unwrap(), (token.clone(), false));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(same(&token, &token) && !same(&token, "") && !same(&token, &token[1..]));
        fs::write(&file, "").unwrap();
        assert!(read_or_make(&file).unwrap().1, "what a full disk left is made anew");
        fs::write(&file, "short").unwrap();
        assert_eq!(read_or_make(&file).unwrap_err().code, Code::BadConfiguration);
    }
}
