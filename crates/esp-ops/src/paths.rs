//! Paths as people write them. On Windows `canonicalize` answers with `\\?\C:\…`, which few programs take and nobody types.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The longest path that Windows takes in the short form.
const LONGEST: usize = 259;
/// Devices of Windows: no file has such a name, whatever follows a dot, except in the long form.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "COM", "LPT"];

/// The path with all links followed, in the form that people use where both forms mean the same.
pub fn real(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let real = fs::canonicalize(path)?;
    if cfg!(windows) {
        return Ok(real.to_str().and_then(short).map_or(real.clone(), PathBuf::from));
    }
    Ok(real)
}

/// The path with the separators of this system only.
pub fn native(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `C:\a` for `\\?\C:\a`; `None` where the short form means another file, or none.
fn short(path: &str) -> Option<&str> {
    let short = path.strip_prefix(r"\\?\")?;
    let (drive, rest) = short.split_once(r":\")?;
    let is_drive = drive.len() == 1 && drive.bytes().all(|letter| letter.is_ascii_alphabetic());
    let is_plain = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default().trim_end();
        let device = DEVICES.iter().any(|name| {
            let number = stem.get(name.len()..).unwrap_or("no");
            stem.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name))
                && (number.is_empty() || number.chars().count() == 1)
        });
        !device && !part.ends_with(['.', ' ']) && !part.contains('/')
    };
    (is_drive && short.encode_utf16().count() <= LONGEST && rest.split('\\').all(is_plain)).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_form_is_taken_only_where_it_names_the_same_file() {
        assert_eq!(short(r"\\?\C:\Users\me\fw\app.bin"), Some(r"C:\Users\me\fw\app.bin"));
        assert_eq!(short(r"\\?\Z:\"), Some(r"Z:\"));
        assert_eq!(short(r"\\?\C:\console\common\nullable.txt"), Some(r"C:\console\common\nullable.txt"));
        for other in [
            r"C:\already",
            r"\\?\UNC\server\share\a",
            r"\\?\Volume{0}\a",
            r"\\?\C:\a\con",
            r"\\?\C:\a\COM7.txt",
            r"\\?\C:\a\lpt¹",
            r"\\?\C:\ends.\a",
            r"\\?\C:\ends \a",
            r"\\?\C:\a/b",
        ] {
            assert_eq!(short(other), None, "{other}");
        }
        assert_eq!(short(&format!(r"\\?\C:\{}", "a".repeat(300))), None);
    }

    #[test]
    fn links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real_dir = real(dir.path()).unwrap();
        assert_eq!(real(dir.path().join(".")).unwrap(), real_dir);
        assert!(real(dir.path().join("none")).is_err());
        assert_eq!(native(Path::new("a/b")), Path::new("a").join("b"));
    }
}
