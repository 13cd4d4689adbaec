//! Folders below a root where the system has no handles of folders to work from: by path.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A folder.
#[derive(Debug)]
pub struct Folder(PathBuf);

/// A new file; it goes with this value unless it is published.
#[derive(Debug)]
pub struct NewFile {
    /// The file.
    pub file: File,
    temp: Option<NamedTempFile>,
}

impl Folder {
    /// The folder at `rest` below `root`; with `make`, parts that are missing are created.
    pub fn below(root: &Path, rest: &Path, make: bool) -> io::Result<Self> {
        let path = root.join(rest);
        if make {
            fs::create_dir_all(&path)?;
        }
        if path.is_dir() { Ok(Self(path)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// A file to read.
    pub fn open(&self, name: &OsStr) -> io::Result<File> {
        let about = fs::symlink_metadata(self.0.join(name))?;
        if about.is_dir() {
            return Err(io::Error::other("it is a folder"));
        }
        if !about.is_file() {
            return Err(io::Error::other("it is not a regular file (a link, pipe or device)"));
        }
        File::open(self.0.join(name))
    }

    /// A file that several calls write to.
    pub fn open_part(&self, name: &OsStr) -> io::Result<File> {
        let path = self.0.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|about| !about.is_file()) {
            return Err(io::Error::other("it is not a regular file (a link, pipe or device)"));
        }
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    /// The name is taken by a folder.
    pub fn is_folder(&self, name: &OsStr) -> bool {
        self.0.join(name).is_dir()
    }

    /// A new file that has no lasting name yet.
    pub fn create(&self) -> io::Result<NewFile> {
        let temp = tempfile::Builder::new().prefix(".mcp-esptool-").tempfile_in(&self.0)?;
        Ok(NewFile { file: temp.as_file().try_clone()?, temp: Some(temp) })
    }

    /// Gives a new file its name, in place of an older file.
    pub fn publish(&self, new: &mut NewFile, name: &OsStr, _for_all: bool) -> io::Result<()> {
        match new.temp.take() {
            Some(temp) => temp.persist(self.0.join(name)).map(|_| ()).map_err(|error| error.error),
            None => Ok(()),
        }
    }

    /// Renames a file within this folder, over an older one.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    /// Removes a file.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    /// Removes what is left of a file that was not published.
    pub fn discard(&self, new: &mut NewFile) {
        new.temp = None;
    }
}
