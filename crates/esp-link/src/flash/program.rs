//! Programming without erasing: bits go from 1 to 0, as data that grows in place needs it (NVS, otadata). The loaders'
//! own commands erase whole sectors first.

use std::time::Instant;

use esp_model::job::Job;

use super::SpiCommand;
use crate::error::LoaderError;
use crate::loader::Loader;

// Commands of serial NOR flash (JEDEC JESD216).
const WRITE_ENABLE: u8 = 0x06;
const PAGE_PROGRAM: u8 = 0x02;
const READ_STATUS: u8 = 0x05;
/// Write in progress.
const BUSY: u32 = 1;
/// Bytes of a page of the part: a program that crosses its end wraps round.
const PAGE: u32 = 256;
/// Bytes for one command: half of the controller's buffer.
const PIECE: u32 = 32;
/// Addresses of three bytes end here.
const REACH: u32 = 1 << 24;
/// A page takes 3 ms at most on usual parts; each question takes about as long.
const POLLS: u32 = 100;

impl Loader {
    /// Clears the bits that are 0 in `bytes`. What the flash holds afterwards is the old content AND `bytes`.
    pub fn program_flash(&mut self, job: &Job, address: u32, bytes: &[u8]) -> Result<(), LoaderError> {
        let end = u64::from(address) + bytes.len() as u64;
        if end > u64::from(REACH) {
            return Err(LoaderError::Range(format!("programming ends at {end:#x}, beyond three bytes of address")));
        }
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (PAGE - at % PAGE).min(PIECE) as usize;
            let (piece, more) = rest.split_at(room.min(rest.len()));
            self.program_piece(job, at, piece)?;
            at += piece.len() as u32;
            rest = more;
        }
        Ok(())
    }

    fn program_piece(&mut self, job: &Job, address: u32, bytes: &[u8]) -> Result<(), LoaderError> {
        self.spi_command(job, SpiCommand::bare(WRITE_ENABLE))?;
        let program = SpiCommand {
            opcode: PAGE_PROGRAM,
            address: Some((address, 24)),
            data: bytes.to_vec(),
            ..SpiCommand::default()
        };
        self.spi_transfer(job, program)?;
        let started = Instant::now();
        for _ in 0..POLLS {
            if self.spi_command(job, SpiCommand::read(READ_STATUS, 8))? & BUSY == 0 {
                return Ok(());
            }
        }
        Err(LoaderError::FlashBusy { waited: started.elapsed() })
    }
}
