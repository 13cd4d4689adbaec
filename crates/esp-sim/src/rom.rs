//! The ROM loader.

use esp_model::chip::EraseSize;
use esp_model::wire::request::{BadRequest, Begin};
use esp_model::wire::{Command, Request, Status};

use crate::flash_job::{FlashJob, Trouble};
use crate::machine::Machine;
use crate::nor::SECTOR;
use crate::security;
use crate::upload::Upload;

/// What happens after a command was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The loader goes on.
    Stay,
    /// An uploaded stub runs.
    Stub,
    /// Another uploaded program runs from this address on; the loader is gone.
    Program(u32),
    /// The chip restarts and boots from flash.
    Restart,
}

/// What the ROM answers in the value word of SYNC: the payload's first word.
const SYNC_VALUE: u32 = 0x2012_0707;
/// Answers to one SYNC.
const SYNC_REPLIES: usize = 8;
/// The command that a refusal names on chips where that is not the one that was asked. Which one it is on silicon is not
/// known: clients only see that it is another.
const OTHER_COMMAND: u8 = 0;
/// Flash size the ROM assumes until SPI_SET_PARAMS (`g_rom_flashchip`), and the reach of its 24-bit addresses.
const ASSUMED_FLASH: u32 = 4 << 20;
/// Bytes in an answer to READ_FLASH_SLOW, whatever was asked.
const SLOW_READ: usize = 64;

/// Commands that secure download mode leaves.
const SECURE: [Command; 12] = [
    Command::Sync,
    Command::FlashBegin,
    Command::FlashData,
    Command::FlashEnd,
    Command::DeflBegin,
    Command::DeflData,
    Command::DeflEnd,
    Command::SpiAttach,
    Command::SpiSetParams,
    Command::ChangeBaud,
    Command::FlashMd5,
    Command::SecurityInfo,
];

/// Commands that the ESP8266's ROM does not have.
const EXTENDED: [Command; 8] = [
    Command::SpiSetParams,
    Command::SpiAttach,
    Command::ReadFlashSlow,
    Command::ChangeBaud,
    Command::DeflBegin,
    Command::DeflData,
    Command::DeflEnd,
    Command::FlashMd5,
];

/// The loader's memory.
#[derive(Debug)]
pub struct Rom {
    upload: Upload,
    flash: Option<FlashJob>,
    flash_size: u32,
}

impl Default for Rom {
    fn default() -> Self {
        Self { upload: Upload::default(), flash: None, flash_size: ASSUMED_FLASH }
    }
}

impl Rom {
    /// Takes one frame and answers it.
    pub fn handle(&mut self, machine: &mut Machine, frame: &[u8]) -> Next {
        let status_len = machine.chip.rom.status_len;
        let code = frame.get(1).copied().unwrap_or(0);
        let outcome = match Request::decode(frame) {
            Err(BadRequest::NotARequest) => return Next::Stay,
            Err(BadRequest::Checksum(_)) => Err(Status::BAD_CRC),
            Err(_) => Err(Status::INVALID),
            Ok(request) if !allowed(machine, request.command()) => Err(Status::INVALID),
            Ok(request) => self.carry_out(machine, request),
        };
        match outcome {
            Ok(Answer { value, data, next, times, then }) => {
                for _ in 0..times {
                    machine.reply(code, value, &data, Status::OK, status_len);
                }
                if let Some(baud) = then {
                    machine.uart.baud = baud;
                }
                next
            }
            Err(status) => {
                let other = machine.chip.rom.refuses_as_another && machine.secure_download && status == Status::INVALID;
                let (code, times) = if other { (OTHER_COMMAND, SYNC_REPLIES) } else { (code, 1) };
                for _ in 0..times {
                    machine.reply(code, 0, &[], status, status_len);
                }
                Next::Stay
            }
        }
    }

    fn carry_out(&mut self, machine: &mut Machine, request: Request) -> Result<Answer, Status> {
        Ok(match request {
            Request::Sync => {
                machine.uart.auto_baud = false;
                Answer { value: SYNC_VALUE, times: SYNC_REPLIES, ..Answer::OK }
            }
            Request::ReadReg { address } => Answer { value: machine.read_register(address), ..Answer::OK },
            Request::WriteReg(writes) => {
                write_registers(machine, &writes);
                Answer::OK
            }
            Request::MemBegin(begin) => {
                self.upload.begin(begin.address);
                Answer::OK
            }
            Request::Data { command: Command::MemData, data, .. } => self.upload(machine, &data)?,
            Request::MemEnd { entry } => {
                let entry = if pointer(machine).is_some() { 0 } else { entry };
                Answer { next: self.upload.end(entry), ..Answer::OK }
            }
            Request::FlashBegin(begin) => self.begin(machine, begin, false)?,
            Request::DeflBegin(begin) => self.begin(machine, begin, true)?,
            Request::Data { command: Command::FlashData, data, .. } => self.flash(|job| job.raw(machine, &data))?,
            Request::Data { command: Command::DeflData, data, .. } => {
                self.flash(|job| job.compressed(machine, &data))?
            }
            Request::FlashEnd { stay } | Request::DeflEnd { stay } => {
                self.flash = None;
                Answer { next: if stay { Next::Stay } else { Next::Restart }, ..Answer::OK }
            }
            Request::SpiAttach { .. } => {
                machine.attached = true;
                Answer::OK
            }
            Request::SpiSetParams(params) => {
                self.flash_size = params.size;
                Answer::OK
            }
            Request::ChangeBaud { new, .. } => Answer { then: Some(machine.rom_baud(new)), ..Answer::OK },
            Request::FlashMd5 { address, length } => self.md5(machine, address, length)?,
            Request::ReadFlashSlow { address, length } => match self.called(machine) {
                Next::Stay => self.read(machine, address, length)?,
                next => Answer { times: 0, next, ..Answer::OK },
            },
            Request::SecurityInfo => Answer { data: security::info(machine), ..Answer::OK },
            _ => return Err(Status::INVALID),
        })
    }

    /// What READ_FLASH_SLOW calls: the ROM's own routine, or an uploaded program that its pointer was made to point at.
    fn called(&mut self, machine: &mut Machine) -> Next {
        let target = pointer(machine).map(|at| machine.read_register(at));
        target.filter(|entry| self.upload.holds(*entry)).map_or(Next::Stay, |entry| self.upload.end(entry))
    }

    fn upload(&mut self, machine: &mut Machine, data: &[u8]) -> Result<Answer, Status> {
        if machine.refuses_ram {
            return Err(Status::BAD_CRC);
        }
        if self.upload.block(machine, data) { Ok(Answer::OK) } else { Err(Status::FAILED) }
    }

    fn begin(&mut self, machine: &mut Machine, begin: Begin, compressed: bool) -> Result<Answer, Status> {
        if !machine.chip.rom.extended {
            // There is no SPI_ATTACH: the first FLASH_BEGIN connects the flash.
            machine.attached = true;
        }
        let length = erase_length(machine.chip.rom.erase_size, &begin);
        if u64::from(begin.address) + u64::from(length) > u64::from(self.flash_size) {
            return Err(Status::FAILED);
        }
        if !machine.attached && length > 0 {
            return Err(Status::FAILED);
        }
        machine.nor.unlock();
        machine.flash_now(|nor| nor.erase(begin.address, length)).map_err(|_| Status::FAILED)?;
        let key = if begin.encrypted == Some(true) { security::flash_key(machine) } else { None };
        self.flash = Some(FlashJob::new(begin.address, begin.size, compressed).erased().encrypted(key));
        Ok(Answer::OK)
    }

    fn flash(&mut self, work: impl FnOnce(&mut FlashJob) -> Result<(), Trouble>) -> Result<Answer, Status> {
        let job = self.flash.as_mut().ok_or(Status::FAILED)?;
        work(job).map(|()| Answer::OK).map_err(|trouble| match trouble {
            Trouble::Flash | Trouble::Verify => Status::FLASH_WRITE,
            Trouble::Inflate => Status::DEFLATE,
        })
    }

    fn md5(&self, machine: &mut Machine, address: u32, length: u32) -> Result<Answer, Status> {
        let (sum, time) = machine.nor.md5(address, length as usize).map_err(|_| Status::FAILED)?;
        machine.time += time;
        let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Answer { data: hex.into_bytes(), ..Answer::OK })
    }

    fn read(&self, machine: &mut Machine, address: u32, length: u32) -> Result<Answer, Status> {
        let length = length as usize;
        if length > SLOW_READ {
            return Err(Status::FLASH_READ_LENGTH);
        }
        let mut data = match machine.attached {
            true => machine.nor.read(address, length).map_err(|_| Status::FLASH_READ)?,
            false => vec![0xff; length],
        };
        data.resize(SLOW_READ, 0);
        Ok(Answer { data, ..Answer::OK })
    }
}

/// What to send, how often, and what follows.
struct Answer {
    value: u32,
    data: Vec<u8>,
    times: usize,
    next: Next,
    /// The line rate from here on.
    then: Option<u32>,
}

impl Answer {
    const OK: Self = Self { value: 0, data: Vec::new(), times: 1, next: Next::Stay, then: None };
}

/// Where the address of the routine for READ_FLASH_SLOW stands, on a chip whose secure boot keeps MEM_END from starting anything.
fn pointer(machine: &Machine) -> Option<u32> {
    machine.chip.rom.secure_boot_pointer.filter(|_| machine.efuse.number("SECURE_BOOT_EN") != 0)
}

fn allowed(machine: &Machine, command: Command) -> bool {
    let rom = &machine.chip.rom;
    let known = (rom.extended || !EXTENDED.contains(&command))
        && (rom.security_info_len > 0 || command != Command::SecurityInfo);
    let secure = !machine.secure_download
        || SECURE.contains(&command) && (rom.baud_in_secure_mode || command != Command::ChangeBaud);
    known && secure
}

/// Writes registers one after the other, with their pauses.
pub fn write_registers(machine: &mut Machine, writes: &[esp_model::wire::request::RegWrite]) {
    for write in writes {
        machine.time += std::time::Duration::from_micros(write.delay_us.into());
        let kept = if write.mask == u32::MAX { 0 } else { machine.read_register(write.address) & !write.mask };
        machine.write_register(write.address, kept | write.value & write.mask);
    }
}

/// Bytes that the ROM erases for a FLASH_BEGIN.
///
/// The ESP8266's ROM erases the sectors up to the next 64 KiB boundary twice over: once as the head, once more
/// in the count of what remains (SPIEraseArea; the reference client asks for less because of it).
fn erase_length(rule: EraseSize, begin: &Begin) -> u32 {
    let sector = SECTOR as u32;
    match rule {
        EraseSize::Plain => begin.size,
        EraseSize::Esp8266Rom => {
            let count = begin.size.div_ceil(sector);
            let head = 16 - begin.address / sector % 16;
            (count + count.min(head)).saturating_mul(sector)
        }
    }
}
