//! The flasher stub, as its public source behaves (esp-flasher-stub 1.1, MIT OR Apache-2.0).
//!
//! It answers a data block before it writes it; what fails then is told in the answer to the next command, which is
//! not carried out. It does not look at sequence numbers. It keeps one frame of a flash read in flight.

use esp_model::wire::request::{BadRequest, Begin};
use esp_model::wire::{Command, Request, STUB_GREETING, Status};
use md5::{Digest, Md5};

use crate::flash_job::{FlashJob, Trouble};
use crate::machine::Machine;
use crate::nor::SECTOR;
use crate::rom::{Next, write_registers};
use crate::security;
use crate::upload::Upload;

/// Its replies end in two status bytes.
const STATUS_LEN: usize = 2;
/// Rate of the ROM's loader, in baud, until it is told another.
const ROM_BAUD: u32 = 115_200;
/// Largest frame of a flash read.
const MAX_PACKET: u32 = 4096;

/// The stub's memory.
#[derive(Debug, Default)]
pub struct Stub {
    upload: Upload,
    /// Bytes of an upload still to come; None outside of one.
    upload_left: Option<u32>,
    flash: Option<FlashJob>,
    /// What went wrong after the last command was answered.
    late: Option<Status>,
    reading: Option<Reading>,
}

/// A flash read in progress.
#[derive(Debug)]
struct Reading {
    address: u32,
    left: u32,
    packet: u32,
    length: u32,
    md5: Md5,
}

/// What follows the answer to a command.
enum Then {
    Nothing,
    Flash(Vec<u8>),
    Inflate(Vec<u8>),
    Baud(u32),
    Read(Reading),
    Go(Next),
}

impl Stub {
    /// The stub starts: it connects the flash and says so. On some chips it goes back to the rate that the ROM began with.
    pub fn start(machine: &mut Machine) -> Self {
        machine.attached = true;
        if machine.chip.stub.iter().any(|stub| stub.resets_baud) {
            machine.uart.baud = ROM_BAUD;
        }
        machine.send_frame(STUB_GREETING);
        Self::default()
    }

    /// Takes one frame and answers it.
    pub fn handle(&mut self, machine: &mut Machine, frame: &[u8]) -> Next {
        if let Some(reading) = self.reading.take() {
            self.acknowledged(machine, reading, frame);
            return Next::Stay;
        }
        let code = frame.get(1).copied().unwrap_or(0);
        let request = check(frame);
        if let Some(status) = self.late.take().filter(|_| !matches!(request, Err(Refusal::Packet(_)))) {
            machine.reply(code, 0, &[], status, STATUS_LEN);
            return Next::Stay;
        }
        let outcome = match request {
            Ok(Request::RunUserCode) => return Next::Restart,
            Ok(request) => self.carry_out(machine, code, request),
            Err(Refusal::Packet(status) | Refusal::Command(status)) => Err(status),
        };
        match outcome {
            Ok(then) => self.follow_up(machine, then),
            Err(status) => {
                machine.reply(code, 0, &[], status, STATUS_LEN);
                Next::Stay
            }
        }
    }

    fn carry_out(&mut self, machine: &mut Machine, code: u8, request: Request) -> Result<Then, Status> {
        let (mut value, mut data, mut then) = (0, Vec::new(), Then::Nothing);
        match request {
            Request::Sync => (0..7).for_each(|_| machine.reply(code, 0, &[], Status::OK, STATUS_LEN)),
            Request::ReadReg { address } => value = machine.read_register(address),
            Request::WriteReg(writes) => write_registers(machine, &writes),
            Request::SpiAttach { pins, .. } => machine.attach(pins),
            Request::SpiSetParams(_) => {}
            Request::ChangeBaud { new, .. } => then = Then::Baud(new),
            Request::SecurityInfo if machine.chip.rom.security_info_len > 0 => {
                data = security::info(machine);
            }
            Request::SecurityInfo => return Err(Status::NOT_IMPLEMENTED),
            Request::FlashMd5 { address, length } => {
                machine.wait_flash();
                let (sum, time) = machine.nor.md5(address, length as usize).map_err(|_| Status::SPI_FAILED)?;
                machine.time += time;
                data = sum.to_vec();
            }
            Request::EraseFlash => {
                machine.nor.unlock();
                machine.flash_now(|nor| Ok(nor.erase_all())).map_err(|_| Status::SPI_FAILED)?;
            }
            Request::EraseRegion { address, length } => erase_region(machine, address, length)?,
            Request::ReadFlash { address, length, packet, .. } => {
                then = Then::Read(Reading { address, left: length, packet, length, md5: Md5::new() });
            }
            Request::FlashBegin(begin) => self.begin(machine, begin, false)?,
            Request::DeflBegin(begin) => self.begin(machine, begin, true)?,
            Request::FlashEnd { stay } | Request::DeflEnd { stay } => {
                self.end()?;
                then = if stay { Then::Nothing } else { Then::Go(Next::Restart) };
            }
            Request::MemBegin(begin) => {
                self.upload.begin(begin.address);
                self.upload_left = Some(begin.size);
            }
            Request::MemEnd { entry } => {
                self.upload_left.take().ok_or(Status::NOT_IN_FLASH_MODE)?;
                // A client that does not know of this stub puts its own in its place.
                then = Then::Go(self.upload.end(entry));
            }
            Request::Data { command, data, .. } => then = self.block(machine, command, data)?,
            Request::ReadFlashSlow { .. } | Request::RunUserCode => return Err(Status::STUB_INVALID),
        }
        machine.reply(code, value, &data, Status::OK, STATUS_LEN);
        Ok(then)
    }

    fn begin(&mut self, machine: &mut Machine, begin: Begin, compressed: bool) -> Result<(), Status> {
        machine.nor.unlock();
        let key = if begin.encrypted == Some(true) { security::flash_key(machine) } else { None };
        let job = self.flash.insert(FlashJob::new(begin.address, begin.size, compressed).encrypted(key));
        job.erase_next(machine).map_err(|_| Status::SPI_FAILED)
    }

    fn end(&mut self) -> Result<(), Status> {
        let job = self.flash.as_ref().ok_or(Status::NOT_IN_FLASH_MODE)?;
        if job.remaining() != 0 {
            return Err(Status::BAD_LENGTH);
        }
        self.flash = None;
        Ok(())
    }

    fn block(&mut self, machine: &mut Machine, command: Command, data: Vec<u8>) -> Result<Then, Status> {
        match command {
            Command::MemData => {
                let left = self.upload_left.ok_or(Status::NOT_IN_FLASH_MODE)?;
                let left = left.checked_sub(data.len() as u32).ok_or(Status::TOO_MUCH_DATA)?;
                self.upload.block(machine, &data);
                self.upload_left = Some(left);
                Ok(Then::Nothing)
            }
            _ if self.flash.is_none() => Err(Status::NOT_IN_FLASH_MODE),
            Command::DeflData => Ok(Then::Inflate(data)),
            Command::FlashData => Ok(Then::Flash(data)),
            _ => Err(Status::STUB_INVALID),
        }
    }

    /// What the stub does once its answer is out.
    fn follow_up(&mut self, machine: &mut Machine, then: Then) -> Next {
        let result = match then {
            Then::Nothing => Ok(()),
            Then::Go(next) => return next,
            Then::Baud(baud) => {
                machine.uart.baud = baud;
                Ok(())
            }
            Then::Flash(data) => self.flash.as_mut().map_or(Ok(()), |job| job.raw(machine, &data)),
            Then::Inflate(data) => self.flash.as_mut().map_or(Ok(()), |job| job.compressed(machine, &data)),
            Then::Read(reading) if reading.packet > MAX_PACKET => {
                self.late = Some(Status::BAD_LENGTH);
                return Next::Stay;
            }
            Then::Read(reading) => {
                self.send_packet(machine, reading);
                return Next::Stay;
            }
        };
        self.late = result.err().map(|trouble| match trouble {
            Trouble::Flash | Trouble::Verify => Status::SPI_FAILED,
            Trouble::Inflate => Status::STUB_INFLATE,
        });
        Next::Stay
    }

    /// A frame came in mid-read: four bytes acknowledge what was received so far, anything else ends the read.
    fn acknowledged(&mut self, machine: &mut Machine, reading: Reading, frame: &[u8]) {
        match <[u8; 4]>::try_from(frame).map(u32::from_le_bytes) {
            Ok(_) if reading.left > 0 => self.send_packet(machine, reading),
            Ok(received) if received < reading.length => self.reading = Some(reading),
            _ => machine.send_frame(&reading.md5.finalize()),
        }
    }

    fn send_packet(&mut self, machine: &mut Machine, mut reading: Reading) {
        machine.wait_flash();
        let length = reading.left.min(reading.packet) as usize;
        let Ok(data) = machine.nor.read(reading.address, length) else {
            self.late = Some(Status::SPI_FAILED);
            return;
        };
        machine.time += machine.nor.timing().read(length);
        if length == 0 {
            machine.send_frame(&reading.md5.finalize());
            return;
        }
        reading.md5.update(&data);
        machine.send_frame(&data);
        reading.address += length as u32;
        reading.left -= length as u32;
        self.reading = Some(reading);
    }
}

/// Why a frame was not carried out.
enum Refusal {
    /// It is no proper packet.
    Packet(Status),
    /// The command or its parameters are wrong.
    Command(Status),
}

/// Reads a frame as the stub's dispatcher does: direction and length first, then the command.
fn check(frame: &[u8]) -> Result<Request, Refusal> {
    let [direction, _, low, high, ..] = *frame else { return Err(Refusal::Packet(Status::BAD_LENGTH)) };
    if direction != Request::DIRECTION {
        return Err(Refusal::Packet(Status::STUB_INVALID));
    }
    if frame.len() != usize::from(u16::from_le_bytes([low, high])) + 8 {
        return Err(Refusal::Packet(Status::BAD_LENGTH));
    }
    Request::decode(frame).map_err(|bad| {
        Refusal::Command(match bad {
            BadRequest::Checksum(_) => Status::BAD_CHECKSUM,
            BadRequest::Short(_) => Status::BAD_LENGTH,
            BadRequest::Unknown(_) | BadRequest::NotARequest => Status::STUB_INVALID,
        })
    })
}

fn erase_region(machine: &mut Machine, address: u32, length: u32) -> Result<(), Status> {
    let sector = SECTOR as u32;
    if !address.is_multiple_of(sector) || !length.is_multiple_of(sector) {
        return Err(Status::BAD_LENGTH);
    }
    machine.nor.unlock();
    machine.flash_now(|nor| nor.erase(address, length)).map_err(|_| Status::SPI_FAILED)
}
