//! Files that a command line names. Paths are the user's own: nothing is fenced here.

use std::fs;
use std::io;
use std::path::Path;

use crate::fault::Fault;

/// Reads a file that `option` names; a missing file is wrong usage.
pub fn read(path: &str, option: &str) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|error| Fault::value(option, format_args!("'{path}': {}", reason(&error))))
}

/// Writes a file whole.
pub fn write(path: &str, bytes: &[u8]) -> Result<(), Fault> {
    fs::write(path, bytes).map_err(|error| Fault::Fatal(format!("'{path}': {}", reason(&error))))
}

/// Writes a secret: only its owner may read the file.
pub fn write_secret(path: &str, bytes: &[u8]) -> Result<(), Fault> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| Fault::Fatal(format!("'{path}': {}", reason(&error))))?;
    Ok(io::Write::write_all(&mut file, bytes)?)
}

/// Refuses an output that would overwrite its own input.
pub fn distinct(input: &str, output: &str) -> Result<(), Fault> {
    let same = Path::new(input) == Path::new(output)
        || fs::canonicalize(input)
            .ok()
            .is_some_and(|input| fs::canonicalize(output).is_ok_and(|output| input == output));
    if same {
        return Err(Fault::Fatal(format!("The input \"{input}\" and output \"{output}\" should not be the same!")));
    }
    Ok(())
}

/// What the system says, without Rust's number of the error.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}
