//! Folders below a root, held by handle: what is checked is what is used, whatever somebody renames or links meanwhile.
//!
//! Every part of a path is opened by itself, below the handle of the one before, and no link is followed. (Linux's
//! `openat2` would do the same in one call; this needs no other way where that is missing.)

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{self as unix, AtFlags, FileType, Mode, OFlags};

/// Names that are tried for a temporary file.
const TRIES: u32 = 16;

/// A folder, held open.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// A new file and the name that it has until it is whole; none where the system keeps files without a name, so that
/// nothing is left behind when the process is killed.
#[derive(Debug)]
pub struct NewFile {
    /// The file.
    pub file: File,
    name: Option<String>,
    /// The mode that the user's umask gives ordinary files.
    mode: Mode,
}

impl Folder {
    /// The folder at `rest` below `root`; with `make`, parts that are missing are created.
    pub fn below(root: &Path, rest: &Path, make: bool) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = unix::open(root, flags, Mode::empty())?;
        for part in rest.components() {
            let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
            if make && let Err(error) = unix::mkdirat(&folder, name, Mode::from_raw_mode(0o777)) {
                // Any other error shows when it is opened.
                tracing::trace!("{}: {error}", rest.display());
            }
            folder = unix::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(Self(folder))
    }

    /// A file to read. A pipe or a device is an error at once, and is not even opened.
    pub fn open(&self, name: &OsStr) -> io::Result<File> {
        self.must_be_regular(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(unix::openat(&self.0, name, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
    }

    /// A file that several calls write to, for its owner only. A file that has a second name somewhere is refused.
    pub fn open_part(&self, name: &OsStr) -> io::Result<File> {
        match self.must_be_regular(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(unix::openat(&self.0, name, flags, private())?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(not_regular());
        }
        if about.nlink() > 1 {
            return Err(io::Error::other("the file has another name too (hard link), which would be written as well"));
        }
        unix::fchmod(&file, private())?;
        Ok(file)
    }

    /// The name is taken by a folder.
    pub fn is_folder(&self, name: &OsStr) -> bool {
        unix::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Directory)
    }

    /// A new file that has no lasting name yet.
    pub fn create(&self) -> io::Result<NewFile> {
        if let Some(file) = self.unnamed() {
            return NewFile::new(file, None);
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let name = temporary_name()?;
            match unix::openat(&self.0, name.as_str(), flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => return NewFile::new(file.into(), Some(name)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    #[cfg(target_os = "linux")]
    fn unnamed(&self) -> Option<File> {
        // Giving it a name later needs this folder.
        Path::new("/proc/self/fd").exists().then_some(())?;
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        unix::openat(&self.0, ".", flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
    }

    #[cfg(not(target_os = "linux"))]
    fn unnamed(&self) -> Option<File> {
        None
    }

    /// Gives a new file its name, in place of an older file.
    pub fn publish(&self, new: &mut NewFile, name: &OsStr, for_all: bool) -> io::Result<()> {
        if for_all {
            unix::fchmod(&new.file, new.mode)?;
        }
        if new.name.is_none() {
            let this = format!("/proc/self/fd/{}", new.file.as_fd().as_raw_fd());
            match unix::linkat(unix::CWD, &this, &self.0, name, AtFlags::SYMLINK_FOLLOW) {
                Err(rustix::io::Errno::EXIST) => {}
                done => return Ok(done?),
            }
            let between = temporary_name()?;
            unix::linkat(unix::CWD, &this, &self.0, between.as_str(), AtFlags::SYMLINK_FOLLOW)?;
            new.name = Some(between);
        }
        let Some(between) = &new.name else { return Ok(()) };
        self.replace(between.as_ref(), name)?;
        new.name = None;
        Ok(())
    }

    /// Renames a file within this folder, over an older one.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(unix::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a file.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unix::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Removes what is left of a file that was not published.
    pub fn discard(&self, new: &mut NewFile) {
        if let Some(name) = new.name.take()
            && let Err(error) = self.remove(name.as_ref())
        {
            tracing::debug!("{name}: {error}");
        }
    }

    /// Lets two files change names where the system can, and removes the older one. Renaming over a file makes ext4
    /// write the new one to the disk at once, which takes longer than making most files.
    fn replace(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if unix::renameat_with(&self.0, from, &self.0, to, unix::RenameFlags::EXCHANGE).is_ok() {
            return self.remove(from);
        }
        self.rename(from, to)
    }

    fn must_be_regular(&self, name: &OsStr) -> io::Result<()> {
        let about = unix::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::RegularFile => Ok(()),
            FileType::Directory => Err(io::Error::other("it is a folder")),
            _ => Err(not_regular()),
        }
    }
}

impl NewFile {
    /// Until it is whole only its owner may open it.
    fn new(file: File, name: Option<String>) -> io::Result<Self> {
        let mode = Mode::from_raw_mode(unix::fstat(&file)?.st_mode & 0o777);
        unix::fchmod(&file, private())?;
        Ok(Self { file, name, mode })
    }
}

fn private() -> Mode {
    Mode::from_raw_mode(0o600)
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file (a link, pipe or device)")
}

fn temporary_name() -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!(".mcp-esptool-{:016x}", u64::from_le_bytes(random)))
}
