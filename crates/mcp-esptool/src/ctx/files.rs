//! Files below the project roots. `..` and links that lead out are refused; outputs appear whole or not at all.

mod elf_parts;
mod partial;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use tempfile::NamedTempFile;

pub use self::partial::PartialFile;
use crate::tools::error::ToolError;

/// Largest file that is read into memory, in bytes: more than any chip's flash.
const LARGEST: u64 = 256 << 20;

/// The project roots.
#[derive(Debug, Clone)]
pub struct Files {
    roots: Vec<PathBuf>,
    largest: u64,
}

/// A file being written: it gets its name when it is whole.
#[derive(Debug)]
pub struct OutputFile {
    temp: NamedTempFile,
    path: PathBuf,
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
        let roots = roots.into_iter().map(|root| fs::canonicalize(&root).unwrap_or(root)).collect();
        Self { roots, largest: u64::MAX }
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
        let real = fs::canonicalize(&full).map_err(|error| read_error(path, &error))?;
        self.inside(path, real)
    }

    /// A file's bytes.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ToolError> {
        let (mut file, _, len) = self.open(path)?;
        let mut bytes = Vec::with_capacity(len as usize);
        file.read_to_end(&mut bytes).map_err(|error| read_error(path, &error))?;
        Ok(bytes)
    }

    /// A file to read from, its real path and its size; an empty file is an error.
    pub fn open_some(&self, path: &str) -> Result<(File, PathBuf, u64), ToolError> {
        let found = self.open(path)?;
        if found.2 == 0 { Err(ToolError::new("file_empty", format!("`{path}` is empty"))) } else { Ok(found) }
    }

    fn open(&self, path: &str) -> Result<(File, PathBuf, u64), ToolError> {
        let real = self.input(path)?;
        let file = File::open(&real).map_err(|error| read_error(path, &error))?;
        let about = file.metadata().map_err(|error| read_error(path, &error))?;
        if about.is_dir() {
            return Err(ToolError::new("file_unreadable", format!("`{path}` is a folder")));
        }
        let (size, most) = (about.len(), LARGEST.min(self.largest));
        if size > most {
            return Err(ToolError::new(
                "file_too_large",
                format!("`{path}` has {size} bytes; at most {most} are read"),
            ));
        }
        Ok((file, real, about.len()))
    }

    /// A file's bytes; an empty file is an error.
    pub fn read_some(&self, path: &str) -> Result<Vec<u8>, ToolError> {
        let bytes = self.read(path)?;
        if bytes.is_empty() { Err(ToolError::new("file_empty", format!("`{path}` is empty"))) } else { Ok(bytes) }
    }

    /// A file's text.
    pub fn read_text(&self, path: &str) -> Result<String, ToolError> {
        let not_text = |_| ToolError::new("file_unreadable", format!("`{path}` is not UTF-8 text"));
        String::from_utf8(self.read(path)?).map_err(not_text)
    }

    /// Begins a file. Its folder is created when it is missing. Nothing appears under this name before
    /// [`OutputFile::finish`].
    pub fn create(&self, path: &str) -> Result<OutputFile, ToolError> {
        let full = self.absolute(path)?;
        let name = full.file_name().ok_or_else(|| ToolError::new("path_refused", format!("`{path}` names no file")))?;
        let folder = self.folder(path, full.parent().unwrap_or(&full))?;
        let target = folder.join(name);
        if target.is_dir() {
            return Err(ToolError::new("file_unwritable", format!("`{path}` is a folder")));
        }
        // A link is replaced by the rename, never followed.
        let temp = tempfile::Builder::new().prefix(".mcp-esptool-").tempfile_in(&folder);
        let temp = temp.map_err(|error| write_error(path, &error))?;
        Ok(OutputFile { temp, path: target, room: Room::new(self.largest) })
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

    /// Writes a whole file that cannot be made again, such as what was read from a device.
    pub fn keep(&self, path: &str, bytes: &[u8]) -> Result<PathBuf, ToolError> {
        let mut file = self.create(path)?;
        file.write_all(bytes).map_err(|error| write_error(path, &error))?;
        file.finish()
    }

    /// A folder for outputs, created when it is missing.
    pub fn output_dir(&self, path: &str) -> Result<PathBuf, ToolError> {
        let full = self.absolute(path)?;
        self.folder(path, &full)
    }

    /// Creates what is missing of a folder, after checking that the part that is there lies inside.
    fn folder(&self, path: &str, folder: &Path) -> Result<PathBuf, ToolError> {
        let there = folder.ancestors().find(|part| part.exists()).unwrap_or(folder);
        let real = fs::canonicalize(there).map_err(|error| write_error(path, &error))?;
        let rest = folder.strip_prefix(there).unwrap_or(Path::new(""));
        let whole = self.inside(path, real)?.join(rest);
        fs::create_dir_all(&whole).map_err(|error| write_error(path, &error))?;
        let whole = fs::canonicalize(&whole).map_err(|error| write_error(path, &error))?;
        self.inside(path, whole)
    }

    fn absolute(&self, path: &str) -> Result<PathBuf, ToolError> {
        if path.is_empty() || path.contains('\0') {
            return Err(ToolError::new("path_refused", "a file name is empty or holds a NUL"));
        }
        let given = Path::new(path);
        if given.components().any(|part| part == Component::ParentDir) {
            return Err(ToolError::new("path_refused", format!("`{path}` contains `..`")));
        }
        match self.roots.first() {
            _ if given.is_absolute() => Ok(given.to_path_buf()),
            Some(root) => Ok(root.join(given)),
            None => Err(ToolError::new("path_refused", "there is no project root")),
        }
    }

    fn inside(&self, path: &str, real: PathBuf) -> Result<PathBuf, ToolError> {
        if self.roots.iter().any(|root| real.starts_with(root)) {
            return Ok(real);
        }
        let roots = self.roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
        Err(ToolError::new("path_refused", format!("`{path}` is outside of the project roots")).seen("roots", roots))
    }
}

impl OutputFile {
    /// Gives the file its name, and returns its full path. An older file of this name is replaced. The bytes are on the
    /// disk when this returns: a power failure right after it loses nothing.
    pub fn finish(self) -> Result<PathBuf, ToolError> {
        let shown = self.path.display().to_string();
        self.temp.as_file().sync_all().map_err(|error| write_error(&shown, &error))?;
        self.finish_reproducible()
    }

    /// The same without waiting for the disk, which takes longer than making most files: for what can be made again.
    pub fn finish_reproducible(self) -> Result<PathBuf, ToolError> {
        let shown = self.path.display().to_string();
        open_up(self.temp.path()).map_err(|error| write_error(&shown, &error))?;
        if exchange(self.temp.path(), &self.path) {
            // What has the temporary name now is the older file, which goes with it.
            return Ok(self.path);
        }
        self.temp.persist(&self.path).map_err(|error| write_error(&shown, &error.error))?;
        Ok(self.path)
    }

    /// Like [`Self::finish`], for keys: only the owner may read the file.
    pub fn finish_secret(self) -> Result<PathBuf, ToolError> {
        let shown = self.path.display().to_string();
        self.temp.as_file().sync_all().map_err(|error| write_error(&shown, &error))?;
        self.temp.persist(&self.path).map_err(|error| write_error(&shown, &error.error))?;
        Ok(self.path)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.temp.write(bytes)?;
        self.room.take(count)?;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.temp.flush()
    }
}

/// Temporary files are private to their owner; finished ones are ordinary files.
#[cfg(unix)]
fn open_up(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn open_up(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Lets two files change names, in one step; false when there is no second file or the system cannot do it. Renaming
/// over a file makes ext4 write the new one to the disk at once, which takes longer than making most files.
#[cfg(target_os = "linux")]
fn exchange(temp: &Path, target: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, temp, CWD, target, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

fn read_error(path: &str, error: &io::Error) -> ToolError {
    match error.kind() {
        io::ErrorKind::NotFound => ToolError::new("file_not_found", format!("there is no file `{path}`")),
        _ => ToolError::new("file_unreadable", format!("`{path}` cannot be read: {error}")),
    }
}

fn write_error(path: &str, error: &io::Error) -> ToolError {
    ToolError::new("file_unwritable", format!("`{path}` cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("outside"), b"secret").unwrap();
        (dir, Files::new(vec![root]))
    }

    #[test]
    fn bounds_only_narrow() {
        let (dir, files) = files();
        let (root, inner) = (files.roots()[0].clone(), files.roots()[0].join("inner"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a"), b"12345").unwrap();
        let outer = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(files.clone().within(&[vec![outer]], None).roots(), [root]);
        let narrow = files.clone().within(&[vec![inner.clone()]], Some(4));
        assert_eq!(narrow.roots(), [inner]);
        assert_eq!(narrow.read("a").unwrap_err().code, "file_too_large");
        assert!(narrow.write("b", b"1234").is_ok());
        let error = narrow.write("c", b"12345").unwrap_err();
        assert!(error.code == "file_unwritable" && error.message.contains("policy"), "{error}");
        let mut part = narrow.partial("d").unwrap();
        assert!(part.write_all(b"1234").is_ok() && part.write_all(b"5").is_err());
        part.keep(2).unwrap();
        assert!(part.write_all(b"34").is_ok());
        assert_eq!(files.within(&[vec![PathBuf::from("/none")]], None).read("a").unwrap_err().code, "path_refused");
    }

    #[test]
    fn paths_stay_inside() {
        let (dir, files) = files();
        let outside = dir.path().join("outside").display().to_string();
        for path in ["../outside", "a/../../outside", outside.as_str(), "", "/etc/passwd"] {
            assert_eq!(files.read(path).unwrap_err().code, "path_refused", "{path}");
            assert_eq!(files.create(path).unwrap_err().code, "path_refused", "{path}");
        }
        assert_eq!(files.read("none").unwrap_err().code, "file_not_found");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_are_refused() {
        let (dir, files) = files();
        std::os::unix::fs::symlink(dir.path(), files.roots()[0].join("up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), files.roots()[0].join("link")).unwrap();
        assert_eq!(files.read("up/outside").unwrap_err().code, "path_refused");
        assert_eq!(files.read("link").unwrap_err().code, "path_refused");
        assert_eq!(files.write("up/new", b"x").unwrap_err().code, "path_refused");
        assert_eq!(files.write("up/new/deeper", b"x").unwrap_err().code, "path_refused");
        files.write("link", b"mine").unwrap();
        assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"secret");
    }

    #[test]
    fn odd_elf_files_are_read_whole() {
        let (_dir, files) = files();
        let odd = b"\x7fELF and no more".to_vec();
        files.write("odd.elf", &odd).unwrap();
        let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&odd).into();
        assert_eq!(files.read_elf("odd.elf").unwrap(), (odd, hash));
        files.write("empty.elf", b"").unwrap();
        assert_eq!(files.read_elf("empty.elf").unwrap_err().code, "file_empty");
    }

    #[test]
    fn outputs_appear_whole_or_not_at_all() {
        let (_dir, files) = files();
        let mut half = files.create("new/deep/file").unwrap();
        half.write_all(b"ha").unwrap();
        assert!(!files.roots()[0].join("new/deep/file").exists());
        drop(half);
        assert_eq!(fs::read_dir(files.roots()[0].join("new/deep")).unwrap().count(), 0);
        files.write("new/deep/file", b"whole").unwrap();
        assert_eq!(files.read("new/deep/file").unwrap(), b"whole");
    }
}
