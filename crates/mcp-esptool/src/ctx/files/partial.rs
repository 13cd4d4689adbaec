//! A file that grows over several calls: what a call that was cut off left behind is there for the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Files, Room, open_up, write_error};
use crate::tools::error::ToolError;

/// `NAME.part` beside the file that it will become. It stays when it is dropped, unless it is empty.
#[derive(Debug)]
pub struct PartialFile {
    file: Option<File>,
    part: PathBuf,
    path: PathBuf,
    room: Room,
}

impl Files {
    /// Opens what an earlier call left of this file, or begins it. Only its owner may read it until it is finished.
    pub fn partial(&self, path: &str) -> Result<PartialFile, ToolError> {
        // The checks of an output: inside the roots, not a folder.
        let output = self.create(path)?;
        let target = output.path.clone();
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(".part");
        let part = target.with_file_name(name);
        let file = open(&part).map_err(|error| write_error(path, &error))?;
        let there = file.metadata().map_or(0, |about| about.len());
        let room = Room { left: output.room.of.saturating_sub(there), of: output.room.of };
        Ok(PartialFile { file: Some(file), part, path: target, room })
    }
}

fn open(part: &Path) -> io::Result<File> {
    // A link would lead elsewhere.
    if fs::symlink_metadata(part).is_ok_and(|about| !about.is_file()) {
        return Err(io::Error::other(format!("{} is there and is no file", part.display())));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(part)
}

impl PartialFile {
    /// The bytes that are there.
    pub fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the file is finished"))
    }

    /// Keeps the first `length` bytes; what is written next comes behind them.
    pub fn keep(&mut self, length: u64) -> io::Result<()> {
        self.room.left = self.room.of.saturating_sub(length);
        let file = self.file()?;
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length)).map(|_| ())
    }

    /// Gives the file its name. An older file of this name is replaced.
    pub fn finish(self) -> Result<PathBuf, ToolError> {
        self.named(None, false)
    }

    /// The same under another name in the same folder, readable for the owner only.
    pub fn finish_secret_as(self, name: &str) -> Result<PathBuf, ToolError> {
        self.named(Some(name), true)
    }

    fn named(mut self, name: Option<&str>, secret: bool) -> Result<PathBuf, ToolError> {
        let target = name.map_or_else(|| self.path.clone(), |name| self.path.with_file_name(name));
        let shown = target.display().to_string();
        let failed = |error: io::Error| write_error(&shown, &error);
        self.file().and_then(|file| file.sync_all()).map_err(failed)?;
        if !secret {
            open_up(&self.part).map_err(failed)?;
        }
        fs::rename(&self.part, &target).map_err(failed)?;
        self.file = None;
        Ok(target)
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file()?.write(bytes)?;
        self.room.take(count)?;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        let empty = self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|about| about.len() == 0));
        if empty && let Err(error) = fs::remove_file(&self.part) {
            tracing::debug!("{}: {error}", self.part.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_again_and_finished() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(vec![dir.path().to_path_buf()]);
        files.partial("new/a.bin").unwrap().write_all(b"hello").unwrap();
        assert!(!dir.path().join("new/a.bin").exists());
        let mut again = files.partial("new/a.bin").unwrap();
        again.keep(4).unwrap();
        again.write_all(b"!").unwrap();
        again.finish().unwrap();
        assert_eq!(fs::read(dir.path().join("new/a.bin")).unwrap(), b"hell!");
        drop(files.partial("new/b.bin").unwrap());
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
        assert_eq!(files.partial("../x").unwrap_err().code, "path_refused");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::write(&outside, b"mine").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a.part")).unwrap();
        assert_eq!(Files::new(vec![root]).partial("a").unwrap_err().code, "file_unwritable");
        assert_eq!(fs::read(outside).unwrap(), b"mine");
    }
}
