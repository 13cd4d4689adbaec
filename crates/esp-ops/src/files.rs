//! Files below the project roots. `..` and links that lead out are refused; outputs appear whole or not at all. What this
//! program keeps for itself (state, policy, configuration, ledger) is no project file, also below a root.

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

/// Largest file that is read into memory, in bytes: more than any chip's flash.
const LARGEST: u64 = 256 << 20;

/// The project roots.
#[derive(Debug, Clone)]
pub struct Files {
    roots: Vec<PathBuf>,
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
        let roots = roots.into_iter().map(|root| fs::canonicalize(&root).unwrap_or(root)).collect();
        Self { roots, largest: u64::MAX, private: Arc::default(), pins: Arc::default() }
    }

    /// The same without these files and folders, which no call may read or write.
    pub fn keeping_out(self, private: &[PathBuf]) -> Self {
        Self { private: private.iter().map(|path| resolved(path)).collect(), ..self }
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
        let real = fs::canonicalize(&full).map_err(|error| read_error(path, &error))?;
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
        let root = self.roots.iter().find(|root| real.starts_with(root));
        let rest = root.and_then(|root| real.strip_prefix(root).ok());
        let (Some(root), Some(rest)) = (root, rest) else { return Err(io::ErrorKind::NotFound.into()) };
        let Some(name) = rest.file_name() else { return Err(io::Error::other(format!("`{path}` is a folder"))) };
        let folder = Folder::below(root, rest.parent().unwrap_or(Path::new("")), make)?;
        Ok((folder, name.to_os_string()))
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
        let root = self.roots.iter().find(|root| whole.starts_with(root)).cloned().unwrap_or_default();
        let rest = whole.strip_prefix(&root).unwrap_or(Path::new(""));
        Folder::below(&root, rest, true).map_err(|error| write_error(path, &error))?;
        Ok(whole)
    }

    /// The real path of a folder that need not be there yet.
    fn real_folder(&self, path: &str, folder: &Path) -> Result<PathBuf, ToolError> {
        let there = folder.ancestors().find(|part| part.exists()).unwrap_or(folder);
        let real = fs::canonicalize(there).map_err(|error| write_error(path, &error))?;
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
            return Err(ToolError::new(Code::PathRefused, "a file name is empty or holds a NUL"));
        }
        let given = Path::new(path);
        if given.components().any(|part| part == Component::ParentDir) {
            return Err(ToolError::new(Code::PathRefused, format!("`{path}` contains `..`")));
        }
        match self.roots.first() {
            _ if given.is_absolute() => Ok(given.to_path_buf()),
            Some(root) => Ok(root.join(given)),
            None => Err(ToolError::new(Code::PathRefused, "there is no project root")),
        }
    }

    fn inside(&self, path: &str, real: PathBuf) -> Result<PathBuf, ToolError> {
        if self.roots.iter().any(|root| real.starts_with(root)) {
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
    let there = path.ancestors().find_map(|part| Some((part, fs::canonicalize(part).ok()?)));
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
        assert_eq!(narrow.read("a").unwrap_err().code, Code::FileTooLarge);
        assert!(narrow.write("b", b"1234").is_ok());
        let error = narrow.write("c", b"12345").unwrap_err();
        assert!(error.code == Code::FileUnwritable && error.message.contains("policy"), "{error}");
        let mut part = narrow.partial("d").unwrap();
        assert!(part.write_all(b"1234").is_ok() && part.write_all(b"5").is_err());
        part.keep(2).unwrap();
        assert!(part.write_all(b"34").is_ok());
        assert_eq!(files.within(&[vec![PathBuf::from("/none")]], None).read("a").unwrap_err().code, Code::PathRefused);
    }

    #[test]
    fn paths_stay_inside() {
        let (dir, files) = files();
        let outside = dir.path().join("outside").display().to_string();
        for path in ["../outside", "a/../../outside", outside.as_str(), "", "/etc/passwd"] {
            assert_eq!(files.read(path).unwrap_err().code, Code::PathRefused, "{path}");
            assert_eq!(files.create(path).unwrap_err().code, Code::PathRefused, "{path}");
        }
        assert_eq!(files.read("none").unwrap_err().code, Code::FileNotFound);
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_are_refused() {
        let (dir, files) = files();
        std::os::unix::fs::symlink(dir.path(), files.roots()[0].join("up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), files.roots()[0].join("link")).unwrap();
        assert_eq!(files.read("up/outside").unwrap_err().code, Code::PathRefused);
        assert_eq!(files.read("link").unwrap_err().code, Code::PathRefused);
        assert_eq!(files.write("up/new", b"x").unwrap_err().code, Code::PathRefused);
        assert_eq!(files.write("up/new/deeper", b"x").unwrap_err().code, Code::PathRefused);
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
        assert_eq!(files.read_elf("empty.elf").unwrap_err().code, Code::FileEmpty);
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

    #[test]
    fn what_the_program_keeps_is_not_a_project_file() {
        let (_dir, files) = files();
        let root = files.roots()[0].clone();
        fs::create_dir(root.join("state")).unwrap();
        fs::write(root.join("state/http-token"), b"secret").unwrap();
        fs::write(root.join("policy.toml"), b"").unwrap();
        let files =
            files.keeping_out(&[root.join("state"), root.join("policy.toml"), PathBuf::from("/none/ledger.db")]);
        for path in ["state/http-token", "policy.toml", "state/plans/a.json", "state"] {
            let code = |result: Result<(), ToolError>| result.unwrap_err().code;
            if !path.contains("plans") {
                assert_eq!(code(files.input(path).map(drop)), Code::PathRefused, "{path}");
            }
            assert_eq!(code(files.write(path, b"mine").map(drop)), Code::PathRefused, "{path}");
        }
        assert_eq!(files.output_dir("state/new").unwrap_err().code, Code::PathRefused);
        assert!(!root.join("state/new").exists() && !root.join("state/plans").exists());
        assert_eq!(files.partial("state/x").unwrap_err().code, Code::PathRefused);
        assert_eq!(files.exposed().len(), 2);
        assert!(files.write("state2", b"mine").is_ok());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.join("state"), root.join("link")).unwrap();
            fs::hard_link(root.join("policy.toml"), root.join("hard.toml")).unwrap();
            assert_eq!(files.read("link/http-token").unwrap_err().code, Code::PathRefused);
            assert_eq!(files.read("hard.toml").unwrap_err().code, Code::PathRefused);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipes_and_devices_are_errors_at_once() {
        let (_dir, files) = files();
        let pipe = files.roots()[0].join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = files.read("pipe").unwrap_err();
        assert!(error.code == Code::FileUnreadable && error.message.contains("not a regular file"), "{error}");
        fs::rename(&pipe, files.roots()[0].join("a.part")).unwrap();
        assert_eq!(files.partial("a").unwrap_err().code, Code::FileUnwritable);
    }

    #[cfg(unix)]
    #[test]
    fn what_came_out_of_a_chip_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, files) = files();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files.keep("dump.bin", b"x").unwrap()), 0o600);
        // As any other program's files are.
        fs::write(files.roots()[0].join("plain"), b"").unwrap();
        assert_eq!(mode(&files.write("image.bin", b"x").unwrap()), mode(&files.roots()[0].join("plain")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_being_written_has_no_name() {
        let (_dir, files) = files();
        let mut file = files.create("key.pem").unwrap();
        file.write_all(b"PRIVATE").unwrap();
        assert_eq!(fs::read_dir(&files.roots()[0]).unwrap().count(), 0, "a kill would leave it behind");
        file.finish_secret().unwrap();
        assert_eq!(files.read("key.pem").unwrap(), b"PRIVATE");
        files.write("key.pem", b"again").unwrap();
        assert_eq!(
            (files.read("key.pem").unwrap(), fs::read_dir(&files.roots()[0]).unwrap().count()),
            (b"again".to_vec(), 1)
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_exchanged_for_a_link_leads_nowhere() {
        let (dir, files) = files();
        let root = files.roots()[0].clone();
        let outside = dir.path().join("elsewhere");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("a"), b"secret").unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/a"), b"inside").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let swap = || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::rename(root.join("sub"), root.join("kept"));
                let _ = fs::rename(root.join("link"), root.join("sub"));
                let _ = fs::rename(root.join("sub"), root.join("link"));
                let _ = fs::rename(root.join("kept"), root.join("sub"));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(swap);
            for _ in 0..3000 {
                if let Ok(bytes) = files.read("sub/a") {
                    assert_ne!(bytes, b"secret");
                }
                let _ = files.write("sub/out", b"x");
                let _ = files.create("sub/half").map(|mut file| file.write_all(b"x"));
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing was written outside");
    }
}
