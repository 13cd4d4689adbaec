//! Stubs: small loaders for the chip's RAM that do what the ROM does not.
//!
//! The binaries are Espressif's esp-flasher-stub (MIT OR Apache-2.0), built in from the published `espflash`
//! package, or read at run time from a folder of JSON or TOML files in the layout that esptool uses.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use esp_model::chip::{Chip, Stub as StubFor};
use esp_model::job::Job;
use esp_model::port::ESPRESSIF_VID;
use esp_model::wire::{Begin, Command, Request, STUB_GREETING};
use serde::Deserialize;

use crate::error::{LoaderError, Seen};
use crate::loader::{COMMAND_TIME, Loader, Mode};
use crate::options::{ROM_BAUD, StubSource};

static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/stubs.rs"));

/// Which rate a stub speaks when it starts, where the ROM was told another one than 115200 baud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartRate {
    /// The ROM's.
    Kept,
    /// 115200 baud.
    Reset,
    /// Not known: the ROM is to be left at 115200 baud.
    Unknown,
}

/// A stub program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// Where it came from: `built in` or a path.
    pub origin: String,
    /// What it makes of the ROM's rate.
    pub start_rate: StartRate,
    /// First instruction.
    pub entry: u32,
    /// Segments: load address and bytes.
    pub segments: Vec<(u32, Vec<u8>)>,
}

#[derive(Deserialize)]
struct StubFile {
    entry: u32,
    text: String,
    text_start: u32,
    data: Option<String>,
    data_start: Option<u32>,
}

impl Stub {
    /// The stub for a chip of this revision, `None` when there is none in the source.
    pub fn find(chip: &Chip, revision: u16, source: &StubSource) -> Result<Option<Self>, LoaderError> {
        let Some(wanted) = chip.stub_for(revision) else { return Ok(None) };
        match source {
            StubSource::None => Ok(None),
            StubSource::BuiltIn => Self::built_in(wanted),
            StubSource::Folder(folder) => match Self::in_folder(folder, wanted)? {
                Some(stub) => Ok(Some(stub)),
                None => Self::built_in(wanted),
            },
        }
    }

    /// A stub for some revision of this chip is built in.
    pub fn is_built_in(chip: &Chip) -> bool {
        chip.stub.iter().any(|stub| BUILT_IN.iter().any(|(name, _)| *name == stub.name))
    }

    fn built_in(wanted: &StubFor) -> Result<Option<Self>, LoaderError> {
        let Some((_, text)) = BUILT_IN.iter().find(|(name, _)| *name == wanted.name) else { return Ok(None) };
        let start_rate = if wanted.resets_baud { StartRate::Reset } else { StartRate::Kept };
        Self::from_toml(text, "built in").map(|stub| Some(Self { start_rate, ..stub }))
    }

    fn in_folder(folder: &Path, wanted: &StubFor) -> Result<Option<Self>, LoaderError> {
        let json = wanted.json_name.as_deref().unwrap_or(&wanted.name);
        for (path, is_json) in
            [(folder.join(format!("{}.toml", wanted.name)), false), (folder.join(format!("{json}.json")), true)]
        {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let origin = path.display().to_string();
            return match is_json {
                true => {
                    serde_json::from_str(&text).map_err(|e| e.to_string()).and_then(|file| Self::decode(file, &origin))
                }
                false => toml::from_str(&text).map_err(|e| e.to_string()).and_then(|file| Self::decode(file, &origin)),
            }
            .map(Some)
            .map_err(|error| LoaderError::Stub(format!("{origin}: {error}")));
        }
        Ok(None)
    }

    fn from_toml(text: &str, origin: &str) -> Result<Self, LoaderError> {
        let file = toml::from_str(text).map_err(|error| LoaderError::Stub(format!("{origin}: {error}")))?;
        Self::decode(file, origin).map_err(LoaderError::Stub)
    }

    fn decode(file: StubFile, origin: &str) -> Result<Self, String> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(|error| error.to_string());
        let mut segments = vec![(file.text_start, bytes(&file.text)?)];
        if let (Some(data), Some(start)) = (&file.data, file.data_start) {
            segments.push((start, bytes(data)?));
        }
        Ok(Self { origin: origin.into(), start_rate: StartRate::Unknown, entry: file.entry, segments })
    }
}

impl Loader {
    /// Uploads a stub and waits for its greeting.
    pub fn run_stub(&mut self, job: &Job, stub: &Stub) -> Result<(), LoaderError> {
        for (address, bytes) in &stub.segments {
            self.load_memory(job, *address, bytes)?;
        }
        let replaced = self.start(job, stub.entry)?;
        if stub.start_rate == StartRate::Reset && self.port().baud() != ROM_BAUD {
            self.greeted_anew(job)?;
        } else {
            self.greeted(job, Duration::from_secs(1))?;
        }
        self.set_mode(Mode::Stub);
        replaced.map_or(Ok(()), |(pointer, value)| self.write_reg(job, pointer, value, u32::MAX))
    }

    /// Waits for the stub's greeting. The ROM's answer to the start may be cut off by the jump; only the greeting counts.
    fn greeted(&mut self, job: &Job, waited: Duration) -> Result<(), LoaderError> {
        let until = self.port().now() + waited;
        while let Some(frame) = self.frame_until(job, until)? {
            if frame == STUB_GREETING {
                return Ok(());
            }
        }
        Err(LoaderError::NoAnswer { command: Command::MemEnd, waited, seen: Seen::default() })
    }

    /// The same for a stub that goes back to 115200 baud, some 10 ms after the ROM's answer at the rate before. A slow bridge
    /// may bring that answer later than the greeting, which is then lost: the stub also answers SYNC.
    fn greeted_anew(&mut self, job: &Job) -> Result<(), LoaderError> {
        let answered = self.port().now() + Duration::from_millis(100);
        self.frame_until(job, answered)?;
        self.port().set_baud(ROM_BAUD)?;
        match self.greeted(job, Duration::from_millis(200)) {
            Err(error) if !error.is_final() => {}
            result => return result,
        }
        self.drain(Duration::from_millis(1), Duration::from_millis(50))?;
        match self.sync(job, 5)? {
            true => Ok(()),
            false => Err(LoaderError::Stub("the ROM answers in its place".into())),
        }
    }

    /// Has the loader jump to what was loaded; its answer is not awaited. A pointer of the ROM that was replaced for that is
    /// returned with its value, to be put back.
    pub(crate) fn start(&mut self, job: &Job, entry: u32) -> Result<Option<(u32, u32)>, LoaderError> {
        let in_rom = self.mode() == Mode::Rom;
        let pointer = match self.chip().rom.secure_boot_pointer {
            Some(pointer) if in_rom && self.security_info(job)?.is_secure_boot() => pointer,
            _ => return self.post(job, &Request::MemEnd { entry }).map(|()| None),
        };
        self.command(job, &Request::MemEnd { entry: 0 })?;
        let value = self.read_reg(job, pointer)?;
        self.write_reg(job, pointer, entry, u32::MAX)?;
        self.post(job, &Request::ReadFlashSlow { address: 0, length: 0 })?;
        Ok(Some((pointer, value)))
    }

    /// Loads bytes into memory. Nothing runs before MEM_END, so a failed load is begun again, in smaller blocks.
    pub fn load_memory(&mut self, job: &Job, address: u32, bytes: &[u8]) -> Result<(), LoaderError> {
        let mut block = self.ram_block();
        self.retrying(job, |loader| {
            let present = block;
            block = (block / 2).max(0x100);
            loader.try_load(job, address, bytes, present)
        })
    }

    fn try_load(&mut self, job: &Job, address: u32, bytes: &[u8], block: u32) -> Result<(), LoaderError> {
        let blocks = (bytes.len() as u32).div_ceil(block);
        let begin = Begin { size: bytes.len() as u32, blocks, block_size: block, address, encrypted: None };
        self.command(job, &Request::MemBegin(begin))?;
        for (sequence, data) in bytes.chunks(block as usize).enumerate() {
            let data = Request::Data { command: Command::MemData, sequence: sequence as u32, data: data.to_vec() };
            self.call(job, &data, 0, COMMAND_TIME)?;
        }
        Ok(())
    }

    /// Largest memory block in bytes. Over USB-OTG the ROM takes less, and a line without USB ids may lead there.
    fn ram_block(&mut self) -> u32 {
        let info = self.port().info();
        let chip = self.chip();
        let through_otg = |pid: u16| info.usb.is_none_or(|ids| ids == (ESPRESSIF_VID, pid));
        let otg = chip.usb.otg.filter(|unit| through_otg(unit.pid)).and_then(|unit| unit.ram_block);
        otg.unwrap_or(chip.rom.ram_block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_stub_can_be_decoded() {
        assert!(!BUILT_IN.is_empty());
        for (name, text) in BUILT_IN {
            let stub = Stub::from_toml(text, "built in").unwrap();
            assert!(stub.segments[0].1.len() > 1000, "{name}");
        }
    }
}
