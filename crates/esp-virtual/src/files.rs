//! Flash and eFuse files of virtual devices.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::VirtualError;

const MB: u64 = 1 << 20;

/// Flash sizes that Espressif's QEMU takes, in bytes.
pub const FLASH_SIZES: [u64; 4] = [2 * MB, 4 * MB, 8 * MB, 16 * MB];

/// A flash file of exactly `size` bytes: `image` at its beginning, 0xFF behind it.
///
/// Written beside the target and then renamed: a full disk leaves no half file.
pub fn make_flash(path: &Path, size: u64, image: &[u8]) -> Result<(), VirtualError> {
    if image.len() as u64 > size {
        return Err(VirtualError::Image(format!(
            "an image of {} bytes does not fit {size} bytes of flash",
            image.len()
        )));
    }
    replace(path, |file| {
        file.write_all(image)?;
        let blank = vec![0xff; 64 * 1024];
        let mut left = size - image.len() as u64;
        while left > 0 {
            let count = left.min(blank.len() as u64);
            file.write_all(blank.get(..count as usize).unwrap_or(&blank))?;
            left -= count;
        }
        Ok(())
    })
}

/// Writes a whole file or nothing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), VirtualError> {
    replace(path, |file| file.write_all(bytes))
}

/// Writes `bytes` into an existing file at `at`; beyond its end is an error.
pub fn patch(path: &Path, at: u64, bytes: &[u8]) -> Result<(), VirtualError> {
    let fail = |error| VirtualError::file(path)(error);
    let mut file = File::options().write(true).open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if at.checked_add(bytes.len() as u64).is_none_or(|end| end > size) {
        return Err(VirtualError::Image(format!(
            "{} bytes at {at:#x} do not fit {size:#x} bytes of flash",
            bytes.len()
        )));
    }
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(bytes)).map_err(fail)
}

/// Copies a file, whole or not at all.
pub fn copy_whole(from: &Path, to: &Path) -> Result<(), VirtualError> {
    let mut source = File::open(from).map_err(VirtualError::file(from))?;
    replace(to, |file| std::io::copy(&mut source, file).map(drop))
}

fn replace(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), VirtualError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let result = File::create(&part).and_then(|mut file| fill(&mut file));
    let result = result.and_then(|()| fs::rename(&part, path));
    if result.is_err() {
        let _ = fs::remove_file(&part);
    }
    result.map_err(VirtualError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_flash_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flash.bin");
        for size in FLASH_SIZES {
            make_flash(&path, size, b"\xe9image").unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, size);
            assert!(bytes.starts_with(b"\xe9image") && bytes[6..].iter().all(|b| *b == 0xff));
        }
        assert!(matches!(make_flash(&path, 4, b"12345"), Err(VirtualError::Image(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn patches_within_the_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flash.bin");
        fs::write(&path, "abcdef").unwrap();
        patch(&path, 2, b"XY").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abXYef");
        for at in [5, 6, u64::MAX] {
            assert!(matches!(patch(&path, at, b"XY"), Err(VirtualError::Image(_))));
        }
        assert_eq!(fs::read(&path).unwrap(), b"abXYef");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_the_path() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("flash.bin.part")).unwrap();
        let error = make_flash(&dir.path().join("flash.bin"), FLASH_SIZES[0], b"").unwrap_err();
        assert!(error.to_string().contains("flash.bin: No space left"), "{error}");
        assert!(!dir.path().join("flash.bin").exists());
    }
}
