//! Files below the project roots. `..` and links that lead out are refused; outputs appear whole or not at all. What this
//! program keeps for itself (state, policy, configuration, ledger) is no project file, also below a root.
//!
//! A person at a terminal may name any path: [`Files::anywhere`].

#[cfg(unix)]
mod beneath;
#[cfg(not(unix))]
#[path = "files/by_path.rs"]
mod beneath;
mod elf_parts;
mod partial;
pub mod pinned;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use self::beneath::{Folder, NewFile};
pub use self::partial::PartialFile;
use crate::error::{Code, ToolError};
use crate::paths::real as real_path;

/// Largest file that is read into memory, in bytes: more than any chip's flash.
const LARGEST: u64 = 256 << 20;

/// The project roots.
#[derive(Debug, Clone)]
pub struct Files {
    roots: Vec<PathBuf>,
    /// Paths may lead anywhere; relative ones still start at the first root.
    anywhere: bool,
    largest: u64,
    /// Files and folders of this program, links resolved.
    private: Arc<[PathBuf]>,
    /// Files whose bytes are settled.
    pins: Arc<pinned::Pins>,
}

/// Where an output goes.
#[derive(Debug)]
struct Target {
    folder: Folder,
    name: OsString,
    path: PathBuf,
}

/// A file being written: it gets its name when it is whole.
#[derive(Debug)]
pub struct OutputFile {
    new: NewFile,
    target: Target,
    room: Room,
}

/// How much more may be written to a file.
#[derive(Debug, Clone, Copy)]
struct Room {
    left: u64,
    of: u64,
}

impl Room {
    fn new(of: u64) -> Self {
        Self { left: of, of }
    }

    /// Takes this many bytes of it.
    fn take(&mut self, count: usize) -> io::Result<()> {
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| io::Error::other(format!("the policy allows at most {} bytes", self.of)))?;
        Ok(())
    }
}

impl Files {
    /// Relative paths start at the first root.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        let roots = roots.into_iter().map(|root| real_path(&root).unwrap_or(root)).collect();
        Self { roots, anywhere: false, largest: u64::MAX, private: Arc::default(), pins: Arc::default() }
    }

    /// The same without these files and folders, which no call may read or write.
    pub fn keeping_out(self, private: &[PathBuf]) -> Self {
        Self { private: private.iter().map(|path| resolved(path)).collect(), ..self }
    }

    /// The same for a person at a terminal, who may name any path; relative ones start at `here`.
    pub fn anywhere(mut self, here: &Path) -> Self {
        self.roots.insert(0, real_path(here).unwrap_or_else(|_| here.to_path_buf()));
        Self { anywhere: true, ..self }
    }

    /// Private files and folders that lie below a root.
    pub fn exposed(&self) -> Vec<(&Path, &Path)> {
        let pairs =
            self.roots.iter().flat_map(|root| self.private.iter().map(move |path| (root.as_path(), path.as_path())));
        pairs.filter(|(root, path)| path.starts_with(root)).collect()
    }

    /// What of the roots lies in one of each list of `bounds`, and files of at most `largest` bytes.
    pub fn within(mut self, bounds: &[Vec<PathBuf>], largest: Option<u64>) -> Self {
        for bound in bounds {
            let pairs = self.roots.iter().flat_map(|root| bound.iter().map(move |limit| (root, limit)));
            // The inner one of two folders is what both allow.
            let inner = |(root, limit): (&PathBuf, &PathBuf)| match (root.starts_with(limit), limit.starts_with(root)) {
                (true, _) => Some(root.clone()),
                (_, true) => Some(limit.clone()),
                _ => None,
            };
            self.roots = pairs.filter_map(inner).collect();
        }
        Self { largest: largest.unwrap_or(u64::MAX), ..self }
    }

    /// The roots, links resolved.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The real path of a file or folder that is there.
    pub fn input(&self, path: &str) -> Result<PathBuf, ToolError> {
        let full = self.absolute(path)?;
        let real = real_path(&full).map_err(|error| read_error(path, &error))?;
        let real = self.inside(path, real)?;
        self.not_private(path, &real)?;
        Ok(real)
    }

    /// A file's bytes.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ToolError> {
        if let Some(bytes) = self.settled(path) {
            return Ok(bytes);
        }
        let (file, _, len) = self.open(path)?;
        let mut bytes = Vec::with_capacity(len as usize);
        // A file that grows meanwhile is read as far as it was.
        file.take(len).read_to_end(&mut bytes).map_err(|error| read_error(path, &error))?;
        self.compare(path, &bytes)?;
        Ok(bytes)
    }

    /// A file to read from, its real path and its size; an empty file is an error.
    pub fn open_some(&self, path: &str) -> Result<(File, PathBuf, u64), ToolError> {
        let found = self.open(path)?;
        if found.2 == 0 { Err(ToolError::new(Code::FileEmpty, format!("`{path}` is empty"))) } else { Ok(found) }
    }

    /// A file to read from, its real path and its size.
    pub fn open(&self, path: &str) -> Result<(File, PathBuf, u64), ToolError> {
        let real = self.input(path)?;
        let failed = |error: io::Error| read_error(path, &error);
        let (folder, rest) = self.held(path, &real, false).map_err(failed)?;
        let file = folder.open(rest.as_os_str()).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        self.not_private_by_another_name(path, &about)?;
        let (size, most) = (about.len(), LARGEST.min(self.largest));
        if size > most {
            return Err(ToolError::new(
                Code::FileTooLarge,
                format!("`{path}` has {size} bytes; at most {most} are read"),
            ));
        }
        Ok((file, real, size))
    }

    /// The folder of a real path, opened part by part below its root, and the name in it.
    fn held(&self, path: &str, real: &Path, make: bool) -> io::Result<(Folder, OsString)> {
        let is_folder = || io::Error::other(format!("`{path}` is a folder"));
        let (parent, name) = real.parent().zip(real.file_name()).ok_or_else(is_folder)?;
        Ok((self.held_folder(parent, make)?, name.to_os_string()))
    }

    /// A folder by its real path, opened part by part below its root.
    fn held_folder(&self, real: &Path, make: bool) -> io::Result<Folder> {
        let root = self.roots.iter().find(|root| real.starts_with(root));
        let Some((root, rest)) = root.and_then(|root| Some((root, real.strip_prefix(root).ok()?))) else {
            // Folders above may be closed to reading: none but the file's own is opened.
            return match self.anywhere {
                true if make => fs::create_dir_all(real).and_then(|()| Folder::below(real, Path::new(""), false)),
                true => Folder::below(real, Path::new(""), false),
                false => Err(io::ErrorKind::NotFound.into()),
            };
        };
        Folder::below(root, rest, make)
    }

    /// A file's bytes; an empty file is an error.
    pub fn read_some(&self, path: &str) -> Result<Vec<u8>, ToolError> {
        let bytes = self.read(path)?;
        if bytes.is_empty() { Err(ToolError::new(Code::FileEmpty, format!("`{path}` is empty"))) } else { Ok(bytes) }
    }

    /// A file's text.
    pub fn read_text(&self, path: &str) -> Result<String, ToolError> {
        let not_text = |_| ToolError::new(Code::FileUnreadable, format!("`{path}` is not UTF-8 text"));
        String::from_utf8(self.read(path)?).map_err(not_text)
    }

    /// Begins a file. Its folder is created when it is missing. Nothing appears under this name before
    /// [`OutputFile::finish`].
    pub fn create(&self, path: &str) -> Result<OutputFile, ToolError> {
        let target = self.target(path)?;
        let new = target.folder.create().map_err(|error| write_error(path, &error))?;
        Ok(OutputFile { new, target, room: Room::new(self.largest) })
    }

    /// Where an output goes; missing folders are created. A link of this name is replaced later, never followed.
    fn target(&self, path: &str) -> Result<Target, ToolError> {
        let full = self.absolute(path)?;
        let name =
            full.file_name().ok_or_else(|| ToolError::new(Code::PathRefused, format!("`{path}` names no file")))?;
        let real = self.real_folder(path, full.parent().unwrap_or(&full))?.join(name);
        self.not_private(path, &real)?;
        let (folder, name) = self.held(path, &real, true).map_err(|error| write_error(path, &error))?;
        if folder.is_folder(&name) {
            return Err(ToolError::new(Code::FileUnwritable, format!("`{path}` is a folder")));
        }
        Ok(Target { folder, name, path: real })
    }

    /// Writes a whole file that can be made again at any time: an image, a table, a report.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<PathBuf, ToolError> {
        self.write_parts(path, [bytes])
    }

    /// The same, of a file that is put together from parts.
    pub fn write_parts<'a>(&self, path: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Result<PathBuf, ToolError> {
        let mut file = self.create(path)?;
        for part in parts {
            file.write_all(part).map_err(|error| write_error(path, &error))?;
        }
        file.finish_reproducible()
    }

    /// Writes a whole file that cannot be made again, such as what was read from a device. It may hold secrets: only its
    /// owner may read it.
    pub fn keep(&self, path: &str, bytes: &[u8]) -> Result<PathBuf, ToolError> {
        let mut file = self.create(path)?;
        file.write_all(bytes).map_err(|error| write_error(path, &error))?;
        file.finish_secret()
    }

    /// A folder for outputs, created when it is missing.
    pub fn output_dir(&self, path: &str) -> Result<PathBuf, ToolError> {
        let full = self.absolute(path)?;
        self.folder(path, &full)
    }

    /// Creates what is missing of a folder, after checking that the part that is there lies inside.
    fn folder(&self, path: &str, folder: &Path) -> Result<PathBuf, ToolError> {
        let whole = self.real_folder(path, folder)?;
        self.not_private(path, &whole)?;
        self.held_folder(&whole, true).map_err(|error| write_error(path, &error))?;
        Ok(whole)
    }

    /// The real path of a folder that need not be there yet.
    fn real_folder(&self, path: &str, folder: &Path) -> Result<PathBuf, ToolError> {
        let there = folder.ancestors().find(|part| part.exists()).unwrap_or(folder);
        let real = real_path(there).map_err(|error| write_error(path, &error))?;
        let rest = folder.strip_prefix(there).unwrap_or(Path::new(""));
        Ok(self.inside(path, real)?.join(rest))
    }

    /// Refuses what belongs to this program.
    fn not_private(&self, path: &str, real: &Path) -> Result<(), ToolError> {
        match self.private.iter().find(|private| real.starts_with(private)) {
            Some(_) => Err(belongs_to_us(path)),
            None => Ok(()),
        }
    }

    /// Refuses a file of this program that has a second name (hard link) among the project files.
    #[cfg(unix)]
    fn not_private_by_another_name(&self, path: &str, about: &fs::Metadata) -> Result<(), ToolError> {
        use std::os::unix::fs::MetadataExt;
        let same = |private: &PathBuf| {
            fs::metadata(private).is_ok_and(|private| (private.dev(), private.ino()) == (about.dev(), about.ino()))
        };
        if about.nlink() > 1 && self.private.iter().any(same) { Err(belongs_to_us(path)) } else { Ok(()) }
    }

    #[cfg(not(unix))]
    fn not_private_by_another_name(&self, _: &str, _: &fs::Metadata) -> Result<(), ToolError> {
        Ok(())
    }

    fn absolute(&self, path: &str) -> Result<PathBuf, ToolError> {
        if path.is_empty() || path.contains('\0') {
            let error = ToolError::new(Code::PathRefused, "a file name is empty or holds a NUL");
            return Err(error.next("give the file's name"));
        }
        let given = Path::new(path);
        if given.components().any(|part| part == Component::ParentDir) {
            if self.anywhere {
                return Ok(self.without_parents(given));
            }
            return Err(ToolError::new(Code::PathRefused, format!("`{path}` contains `..`")));
        }
        match self.roots.first() {
            _ if given.is_absolute() => Ok(given.to_path_buf()),
            Some(root) => Ok(root.join(given)),
            None => Err(ToolError::new(Code::PathRefused, "there is no project root")),
        }
    }

    /// The path without `..`; links before a `..` are followed, as the system does.
    fn without_parents(&self, given: &Path) -> PathBuf {
        let start = self.roots.first().cloned().unwrap_or_default();
        given.components().fold(start, |path, part| match part {
            Component::ParentDir => {
                let mut real = real_path(&path).unwrap_or(path);
                real.pop();
                real
            }
            other => path.join(other),
        })
    }

    fn inside(&self, path: &str, real: PathBuf) -> Result<PathBuf, ToolError> {
        if self.anywhere || self.roots.iter().any(|root| real.starts_with(root)) {
            return Ok(real);
        }
        let roots = self.roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
        Err(ToolError::new(Code::PathRefused, format!("`{path}` is outside of the project roots")).seen("roots", roots))
    }
}

impl OutputFile {
    /// Gives the file its name, and returns its full path. An older file of this name is replaced. The bytes are on the
    /// disk when this returns: a power failure right after it loses nothing.
    pub fn finish(self) -> Result<PathBuf, ToolError> {
        self.synced()?.published(true)
    }

    /// The same without waiting for the disk, which takes longer than making most files: for what can be made again.
    pub fn finish_reproducible(self) -> Result<PathBuf, ToolError> {
        self.published(true)
    }

    /// Like [`Self::finish`], for keys and for what came out of a chip: only the owner may read the file.
    pub fn finish_secret(self) -> Result<PathBuf, ToolError> {
        self.synced()?.published(false)
    }

    fn synced(self) -> Result<Self, ToolError> {
        self.new.file.sync_all().map_err(|error| write_error(&self.target.path.display().to_string(), &error))?;
        Ok(self)
    }

    fn published(mut self, for_all: bool) -> Result<PathBuf, ToolError> {
        let Target { folder, name, path } = &self.target;
        let done = folder.publish(&mut self.new, name, for_all);
        done.map_err(|error| write_error(&path.display().to_string(), &error))?;
        Ok(path.clone())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        self.target.folder.discard(&mut self.new);
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.new.file.write(bytes)?;
        self.room.take(count)?;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.new.file.flush()
    }
}

/// A path with its links resolved as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let there = path.ancestors().find_map(|part| Some((part, real_path(part).ok()?)));
    match there {
        // Joined with nothing, a file would become a folder.
        Some((part, real)) => path
            .strip_prefix(part)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty())
            .map_or_else(|| real.clone(), |rest| real.join(rest)),
        None => path,
    }
}

fn belongs_to_us(path: &str) -> ToolError {
    let text =
        format!("`{path}` belongs to this program (state, policy, configuration or ledger) and is not a project file");
    ToolError::new(Code::PathRefused, text)
        .next("name another file; what the program keeps is reached through its tools")
}

fn read_error(path: &str, error: &io::Error) -> ToolError {
    match error.kind() {
        io::ErrorKind::NotFound => ToolError::new(Code::FileNotFound, format!("there is no file `{path}`")),
        _ => ToolError::new(Code::FileUnreadable, format!("`{path}` cannot be read: {error}")),
    }
}

fn write_error(path: &str, error: &io::Error) -> ToolError {
    ToolError::of_io(Code::FileUnwritable, format!("`{path}` cannot be written"), error)
}

#[cfg(test)]
mod tests;
