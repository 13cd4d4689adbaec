//! This program's own small text files: configuration, policy, PIN.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Largest of them, in bytes.
const LARGEST: u64 = 1 << 20;

/// Something has this path, be it a file that cannot be read. Only what is surely not there counts as missing: a folder
/// that hides its content, or a link that leads nowhere, must not switch the policy off.
pub fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("whether the file is there cannot be known: {error}"))),
    }
}

/// A file's text. A pipe or a device is an error at once: reading it could block forever.
pub fn read_text(path: &Path) -> io::Result<String> {
    let file = open(path)?;
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("the file is larger than {LARGEST} bytes")));
    }
    Ok(text)
}

/// Makes a folder that only its owner may look into; one that is there already is left as it is.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Makes a file and its folder, if they are missing, and closes the file to everybody but its owner.
pub fn private(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        private_dir(dir)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let _file = options.open(path)?;
    #[cfg(unix)]
    _file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_or_device_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/zero"), dir.path()] {
            assert!(read_text(path).unwrap_err().to_string().contains("not a regular file"), "{}", path.display());
        }
        std::fs::write(dir.path().join("a"), "text").unwrap();
        assert_eq!(read_text(&dir.path().join("a")).unwrap(), "text");
    }
}
