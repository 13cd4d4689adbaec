//! Reading: the stub streams, the ROM hands out 64 bytes at a time.

use std::time::Duration;

use esp_model::job::Job;
use esp_model::wire::{Command, Request};
use md5::{Digest, Md5};

use super::meter::Meter;
use super::{RESYNC_TIME, SECTOR};
use crate::error::{LoaderError, Seen};
use crate::loader::{COMMAND_TIME, Loader, Mode};

/// Bytes between two checked digests: what has to be read again after an error, and what is held in memory.
const CHUNK: u32 = 0x4_0000;
/// The same for the ROM, which needs an answer for each 64 bytes.
const ROM_CHUNK: u32 = SECTOR;
/// Bytes of one READ_FLASH_SLOW.
const ROM_READ: u32 = 64;

impl Loader {
    /// Reads a region and hands it to `sink` in order, each piece only after its digest was right.
    ///
    /// Where the loader has no MD5, pieces are handed on unchecked and the result is `false`.
    pub fn read_flash(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<bool, LoaderError> {
        if self.mode() == Mode::SecureDownload {
            return Err(self.unsupported("reading flash"));
        }
        self.attach_flash(job, None)?;
        self.check_range(address, length.into())?;
        let largest = if self.mode() == Mode::Stub { CHUNK } else { ROM_CHUNK };
        let (mut chunk, mut done, mut failures, mut lost) = (largest, 0, 0, Duration::ZERO);
        let mut checked = true;
        let mut meter = Meter::new(self.port().now(), length.into());
        while done < length {
            let count = chunk.min(length - done);
            match self.read_chunk(job, address + done, count, (&mut meter, done)) {
                Ok((bytes, is_checked)) => {
                    sink(&bytes).map_err(|error| LoaderError::Data(error.to_string()))?;
                    checked &= is_checked;
                    done += count;
                    (failures, lost) = (0, Duration::ZERO);
                    meter.report(job, self.port().now(), done.into(), "reading");
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    failures += 1;
                    if failures > 40 || lost > RESYNC_TIME {
                        let last = error.to_string();
                        return Err(LoaderError::BadLine { address: address + done, attempts: failures, last });
                    }
                    chunk = (chunk / 2).max(256);
                    let began = self.port().now();
                    failures += if self.get_back(job)? { 9 } else { 0 };
                    lost += self.port().now().saturating_sub(began);
                    self.lower_rate(job, failures)?;
                }
            }
        }
        Ok(checked)
    }

    /// A region in memory. For sectors and tables, not for whole chips.
    pub fn read_flash_bytes(&mut self, job: &Job, address: u32, length: u32) -> Result<Vec<u8>, LoaderError> {
        let mut out = Vec::new();
        self.read_flash(job, address, length, |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    fn read_chunk(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        (meter, done): (&mut Meter, u32),
    ) -> Result<(Vec<u8>, bool), LoaderError> {
        let progress = |now, got: usize| meter.report(job, now, u64::from(done) + got as u64, "reading");
        let bytes = match self.mode() {
            Mode::Stub => self.stream(job, address, length, progress)?,
            _ => self.read_slow(job, address, length, progress)?,
        };
        if !self.can_verify() {
            return Ok((bytes, false));
        }
        // The stream's own digest does not tell whether the stub understood the address: requests carry no checksum.
        let digest: [u8; 16] = Md5::digest(&bytes).into();
        if self.flash_md5(job, address, length)? == digest { Ok((bytes, true)) } else { Err(digest_differs(&bytes)) }
    }

    /// READ_FLASH: frames, each acknowledged with the number of bytes so far; a digest at the end.
    pub(super) fn stream(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        mut progress: impl FnMut(Duration, usize),
    ) -> Result<Vec<u8>, LoaderError> {
        let request = Request::ReadFlash { address, length, packet: SECTOR, in_flight: 64 };
        self.call(job, &request, 0, COMMAND_TIME)?;
        let mut bytes = Vec::with_capacity(length as usize);
        while bytes.len() < length as usize {
            let frame = self.stream_frame(job, &bytes)?;
            bytes.extend_from_slice(&frame);
            self.acknowledge(bytes.len() as u32)?;
            progress(self.port().now(), bytes.len());
        }
        let digest = self.stream_frame(job, &bytes)?;
        let ours: [u8; 16] = Md5::digest(&bytes).into();
        if bytes.len() == length as usize && digest == ours { Ok(bytes) } else { Err(digest_differs(&bytes)) }
    }

    fn stream_frame(&mut self, job: &Job, so_far: &[u8]) -> Result<Vec<u8>, LoaderError> {
        let until = self.port().now() + COMMAND_TIME;
        self.frame_until(job, until)?.ok_or_else(|| LoaderError::NoAnswer {
            command: Command::ReadFlash,
            waited: COMMAND_TIME,
            seen: Seen::of(so_far),
        })
    }

    fn read_slow(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        mut progress: impl FnMut(Duration, usize),
    ) -> Result<Vec<u8>, LoaderError> {
        self.allow(Command::ReadFlashSlow).map_err(|_| self.unsupported("reading flash"))?;
        let mut bytes = Vec::with_capacity(length as usize);
        while bytes.len() < length as usize {
            let at = address + bytes.len() as u32;
            let count = ROM_READ.min(length - bytes.len() as u32);
            let request = Request::ReadFlashSlow { address: at, length: count };
            // The ROM always answers with 64 bytes, whatever was asked for.
            let answer = self.call(job, &request, ROM_READ as usize, COMMAND_TIME)?;
            bytes.extend_from_slice(&answer.data[..(count as usize).min(answer.data.len())]);
            progress(self.port().now(), bytes.len());
        }
        Ok(bytes)
    }
}

fn digest_differs(bytes: &[u8]) -> LoaderError {
    let what = "the data does not match its digest";
    LoaderError::Protocol { command: Command::ReadFlash, what, seen: Seen::of(bytes) }
}
