//! Reading into a file that a call which was cut off may have begun.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use esp_link::flash::Block;
use esp_model::image::hex::hex;
use esp_model::job::Job;
use md5::Digest;

use crate::error::{Code, ToolError};
use crate::files::PartialFile;
use crate::session::device::Connected;

/// What a read took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that an earlier call had read already; compared with the flash by digest.
    pub resumed: u64,
    /// Bytes that came over the line.
    pub read: u64,
    /// Bytes that were known to be blank by their digest.
    pub blank: u64,
    /// Everything was compared with a digest from the chip.
    pub checked: bool,
}

/// Fills `file` with `length` bytes of flash from `address` on. Goes on behind the blocks of 64 KiB that are there and
/// right; each further block is in the file before the next one is asked for.
pub fn read(
    connected: &mut Connected,
    job: &Job,
    file: &mut PartialFile,
    address: u32,
    length: u32,
) -> Result<Taken, ToolError> {
    let failed = |error: io::Error| unwritable(&error);
    let loader = &mut connected.loader;
    let known = loader.known_prefix(job, address, file.file().map_err(failed)?)?;
    let resumed = if known <= u64::from(length) { known } else { 0 };
    file.keep(resumed).map_err(failed)?;
    let mut taken = Taken { resumed, ..Taken::default() };
    let (start, left) = (address + resumed as u32, length - resumed as u32);
    let mut broken = None;
    let checked = loader.read_blocks(job, start, left, |block| {
        let bytes = match block {
            Block::Blank(count) => {
                taken.blank += u64::from(count);
                vec![0xff; count as usize]
            }
            Block::Bytes(bytes) => {
                taken.read += bytes.len() as u64;
                bytes
            }
        };
        file.write_all(&bytes).inspect_err(|error| {
            broken = Some(unwritable(error));
        })
    });
    // What the loader says of its sink names neither the file nor a full disk.
    taken.checked = checked.map_err(|error| broken.unwrap_or_else(|| error.into()))?;
    Ok(taken)
}

fn unwritable(error: &io::Error) -> ToolError {
    ToolError::of_io(Code::FileUnwritable, "the output file cannot be written", error)
}

/// A file's digest in hex.
pub fn digest<D: Digest>(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut buffer) = (D::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
