//! A file that grows over several calls: what a call that was cut off left behind is there for the next one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::{Files, Room, Target, write_error};
use crate::error::ToolError;

/// `NAME.part` beside the file that it will become. It stays when it is dropped, unless it is empty. It holds what came
/// out of a chip: only its owner may read it, also when it is finished.
#[derive(Debug)]
pub struct PartialFile {
    file: Option<File>,
    part: OsString,
    target: Target,
    room: Room,
}

impl Files {
    /// Opens what an earlier call left of this file, or begins it.
    pub fn partial(&self, path: &str) -> Result<PartialFile, ToolError> {
        let target = self.target(path)?;
        let mut part = target.name.clone();
        part.push(".part");
        let file = target.folder.open_part(&part).map_err(|error| write_error(&format!("{path}.part"), &error))?;
        let there = file.metadata().map_or(0, |about| about.len());
        let room = Room { left: self.largest.saturating_sub(there), of: self.largest };
        Ok(PartialFile { file: Some(file), part, target, room })
    }
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
        let name = self.target.name.clone();
        self.named(name)
    }

    /// The same under another name in the same folder.
    pub fn finish_as(self, name: &str) -> Result<PathBuf, ToolError> {
        self.named(name.into())
    }

    fn named(mut self, name: OsString) -> Result<PathBuf, ToolError> {
        let path = self.target.path.with_file_name(&name);
        let shown = path.display().to_string();
        let failed = |error: io::Error| write_error(&shown, &error);
        self.file().and_then(|file| file.sync_all()).map_err(failed)?;
        self.target.folder.rename(&self.part, &name).map_err(failed)?;
        self.file = None;
        Ok(path)
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
        if empty && let Err(error) = self.target.folder.remove(&self.part) {
            tracing::debug!("{}: {error}", self.target.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Code;
    use std::fs;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_part_with_a_second_name_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::write(&outside, b"mine").unwrap();
        fs::hard_link(&outside, root.join("a.part")).unwrap();
        let error = Files::new(vec![root]).partial("a").unwrap_err();
        assert!(error.code == Code::FileUnwritable && error.message.contains("hard link"), "{error}");
        assert_eq!(fs::read(outside).unwrap(), b"mine");
    }

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
        assert_eq!(files.partial("../x").unwrap_err().code, Code::PathRefused);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::write(&outside, b"mine").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a.part")).unwrap();
        assert_eq!(Files::new(vec![root]).partial("a").unwrap_err().code, Code::FileUnwritable);
        assert_eq!(fs::read(outside).unwrap(), b"mine");
    }
}
