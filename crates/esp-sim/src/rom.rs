//! The ROM loader, as the ROMs of ESP32 and ESP32-C3 behave (their code run by an emulator and asked frame by frame).
//!
//! It keeps things between commands that show in later answers: see [`Residue`].

use esp_model::chip::EraseSize;
use esp_model::wire::request::{BadRequest, Begin};
use esp_model::wire::{Command, Reply, Request, Status};

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
    /// The loader is gone, and nothing runs in its place.
    Gone,
    /// The chip restarts and boots from flash.
    Restart,
}

/// What the ROM answers in the value word of SYNC: the payload's first word.
const SYNC_VALUE: u32 = 0x2012_0707;
/// Answers to one SYNC.
const SYNC_REPLIES: usize = 8;
/// Flash size the ROM assumes until SPI_SET_PARAMS (`g_rom_flashchip`), and the reach of its 24-bit addresses.
const ASSUMED_FLASH: u32 = 4 << 20;
/// Bytes in an answer to READ_FLASH_SLOW, whatever was asked.
const SLOW_READ: usize = 64;

/// Commands of a download: success leaves the reason of an earlier failure in the second status byte.
const DOWNLOAD: [Command; 10] = [
    Command::FlashBegin,
    Command::FlashData,
    Command::FlashEnd,
    Command::MemBegin,
    Command::MemData,
    Command::MemEnd,
    Command::DeflBegin,
    Command::DeflData,
    Command::DeflEnd,
    Command::SecurityInfo,
];

/// The loader's memory.
#[derive(Debug)]
pub struct Rom {
    upload: Upload,
    flash: Option<FlashJob>,
    flash_size: u32,
    residue: Residue,
}

/// What earlier commands left behind.
#[derive(Debug)]
struct Residue {
    /// Value word of all answers: what READ_REG read last, or the first word of SYNC.
    value: u32,
    /// The last command that was known, and how often it was answered: an unknown one is refused in its name.
    command: (u8, usize),
    /// Reason of the last failure.
    reason: u8,
    /// Number of the next block. One that is not in turn is refused; one with a wrong checksum counts.
    sequence: u32,
    /// Bytes of the last READ_FLASH_SLOW: a shorter one overwrites only its part.
    read: [u8; SLOW_READ],
    /// The body of the last answers. The ROM sets two status bytes and sends what stands behind them.
    body: [u8; SLOW_READ + 4],
}

impl Residue {
    /// Puts an answer in the buffer; what is sent of it.
    fn answer(&mut self, data: &[u8], status: Status, status_len: usize) -> Vec<u8> {
        let written = data.iter().copied().chain([status.failed, status.code]);
        self.body.iter_mut().zip(written).for_each(|(slot, byte)| *slot = byte);
        self.body.iter().take(data.len() + status_len).copied().collect()
    }
}

impl Default for Rom {
    fn default() -> Self {
        let residue = Residue {
            value: 0,
            command: (0, 1),
            reason: 0,
            sequence: 0,
            read: [0; SLOW_READ],
            body: [0; SLOW_READ + 4],
        };
        Self { upload: Upload::default(), flash: None, flash_size: ASSUMED_FLASH, residue }
    }
}

impl Rom {
    /// Takes one frame and answers it.
    pub fn handle(&mut self, machine: &mut Machine, frame: &[u8]) -> Next {
        let code = frame.get(1).copied().unwrap_or(0);
        let command = Command::from_code(code).filter(|command| is_known(machine, *command));
        let request = Request::decode(frame);
        if matches!(request, Err(BadRequest::NotARequest)) {
            return Next::Stay;
        }
        let Some(command) = command else {
            let (code, times) = self.residue.command;
            return self.reply(machine, code, times, Err(Status::INVALID.into()));
        };
        self.residue.command = (code, if command == Command::Sync { SYNC_REPLIES } else { 1 });
        let outcome = match request {
            _ if !is_allowed(machine, command) => Err(Status::INVALID.into()),
            _ if !self.in_turn(machine, command, frame) => Err(Status::INVALID.into()),
            Err(BadRequest::Checksum(_)) => Err(Status::BAD_CRC.into()),
            Err(_) => Err(Status::INVALID.into()),
            Ok(request) => self.carry_out(machine, request),
        };
        if !DOWNLOAD.contains(&command) {
            self.residue.reason = 0;
        }
        self.reply(machine, code, self.residue.command.1, outcome)
    }

    fn reply(&mut self, machine: &mut Machine, code: u8, times: usize, outcome: Result<Answer, Refusal>) -> Next {
        let status_len = machine.chip.rom.status_len;
        let (answer, status) = match outcome {
            Ok(answer) => (answer, Status { failed: 0, code: self.residue.reason }),
            Err(Refusal { status, answer }) => {
                self.residue.reason = status.code;
                (answer, status)
            }
        };
        let times = if answer.silent { 0 } else { times };
        let body = self.residue.answer(&answer.data, status, status_len);
        for _ in 0..times {
            let reply = Reply { command: code, value: self.residue.value, body: body.clone() };
            machine.send_frame(&reply.encode());
        }
        if let Some(baud) = answer.then {
            machine.uart.baud = baud;
        }
        answer.next
    }

    /// Counts the blocks of a download. The ESP8266's ROM is not known to.
    fn in_turn(&mut self, machine: &Machine, command: Command, frame: &[u8]) -> bool {
        use Command::{DeflBegin, DeflData, FlashBegin, FlashData, MemBegin, MemData};
        match command {
            FlashBegin | DeflBegin | MemBegin => self.residue.sequence = 0,
            FlashData | DeflData | MemData if machine.chip.rom.extended => {
                let number = frame.get(12..16).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                if number != Some(self.residue.sequence) {
                    return false;
                }
                self.residue.sequence += 1;
            }
            _ => {}
        }
        true
    }

    fn carry_out(&mut self, machine: &mut Machine, request: Request) -> Result<Answer, Refusal> {
        Ok(match request {
            Request::Sync => {
                machine.uart.auto_baud = false;
                self.residue.value = SYNC_VALUE;
                Answer::OK
            }
            Request::ReadReg { address } => {
                self.residue.value = machine.read_register(address);
                Answer::OK
            }
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
            // Only behind compressed data does "stay" mean that the loader stays.
            Request::FlashEnd { stay } => {
                // The last block may be longer than what was left of the size.
                let whole = self.flash.take().is_some_and(|job| job.remaining() as i32 <= 0);
                let answer = Answer { next: if stay { Next::Gone } else { Next::Restart }, ..Answer::OK };
                return if whole { Ok(answer) } else { Err(Refusal { status: Status::FAILED, answer }) };
            }
            Request::DeflEnd { stay } => {
                self.flash = None;
                Answer { next: if stay { Next::Stay } else { Next::Restart }, ..Answer::OK }
            }
            Request::SpiAttach { pins, .. } => {
                machine.attach_by_rom(pins);
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
                next => Answer { silent: true, next, ..Answer::OK },
            },
            Request::SecurityInfo => Answer { data: security::info(machine), ..Answer::OK },
            _ => return Err(Status::INVALID.into()),
        })
    }

    /// What READ_FLASH_SLOW calls: the ROM's own routine, or an uploaded program that its pointer was made to point at.
    fn called(&mut self, machine: &mut Machine) -> Next {
        let target = pointer(machine).map(|at| machine.read_register(at));
        target.filter(|entry| self.upload.holds(*entry)).map_or(Next::Stay, |entry| self.upload.end(entry))
    }

    fn upload(&mut self, machine: &mut Machine, data: &[u8]) -> Result<Answer, Refusal> {
        if machine.refuses_ram {
            return Err(Status::BAD_CRC.into());
        }
        if self.upload.block(machine, data) { Ok(Answer::OK) } else { Err(Status::INVALID.into()) }
    }

    fn begin(&mut self, machine: &mut Machine, begin: Begin, compressed: bool) -> Result<Answer, Refusal> {
        if !machine.chip.rom.extended {
            // There is no SPI_ATTACH: the first FLASH_BEGIN connects the flash.
            machine.attached = true;
        }
        let length = erase_length(machine.chip.rom.erase_size, &begin);
        if u64::from(begin.address) + u64::from(length) > u64::from(self.flash_size) {
            return Err(Status::FAILED.into());
        }
        if !machine.attached && length > 0 {
            return Err(Status::FAILED.into());
        }
        machine.nor.unlock();
        machine.flash_now(|nor| nor.erase(begin.address, length)).map_err(|_| Status::FAILED)?;
        let key = if begin.encrypted == Some(true) { security::flash_key(machine) } else { None };
        self.flash = Some(FlashJob::new(begin.address, begin.size, compressed).erased().encrypted(key));
        Ok(Answer::OK)
    }

    fn flash(&mut self, work: impl FnOnce(&mut FlashJob) -> Result<(), Trouble>) -> Result<Answer, Refusal> {
        let job = self.flash.as_mut().ok_or(Status::INVALID)?;
        work(job).map(|()| Answer::OK).map_err(|trouble| match trouble {
            Trouble::Flash | Trouble::Verify => Status::FLASH_WRITE.into(),
            Trouble::Inflate => Status::DEFLATE.into(),
        })
    }

    fn md5(&self, machine: &mut Machine, address: u32, length: u32) -> Result<Answer, Refusal> {
        let (sum, time) = machine.nor.md5(address, length as usize).map_err(|_| Status::FAILED)?;
        machine.time += time;
        let hex: String = esp_model::hex::encode(sum);
        Ok(Answer { data: hex.into_bytes(), ..Answer::OK })
    }

    fn read(&mut self, machine: &mut Machine, address: u32, length: u32) -> Result<Answer, Refusal> {
        let Some(part) = self.residue.read.get_mut(..length as usize) else {
            let answer = Answer { data: self.residue.read.to_vec(), ..Answer::OK };
            return Err(Refusal { status: Status::FLASH_READ_LENGTH, answer });
        };
        if machine.attached {
            let read = machine.nor.read(address, part.len()).map_err(|_| Status::FLASH_READ)?;
            part.copy_from_slice(&read);
        } else {
            part.fill(0xff);
        }
        Ok(Answer { data: self.residue.read.to_vec(), ..Answer::OK })
    }
}

/// A status that says no, and what is sent and done all the same.
struct Refusal {
    status: Status,
    answer: Answer,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { status, answer: Answer::OK }
    }
}

/// What to send, and what follows.
struct Answer {
    data: Vec<u8>,
    silent: bool,
    next: Next,
    /// The line rate from here on.
    then: Option<u32>,
}

impl Answer {
    const OK: Self = Self { data: Vec::new(), silent: false, next: Next::Stay, then: None };
}

/// Where the address of the routine for READ_FLASH_SLOW stands, on a chip whose secure boot keeps MEM_END from starting anything.
fn pointer(machine: &Machine) -> Option<u32> {
    machine.chip.rom.secure_boot_pointer.filter(|_| machine.efuse.number("SECURE_BOOT_EN") != 0)
}

/// The ROM has this command. On some chips one that secure download mode does not leave counts as unknown.
fn is_known(machine: &Machine, command: Command) -> bool {
    let rom = &machine.chip.rom;
    command.in_rom(rom, false) && (!rom.refuses_as_another || is_allowed(machine, command))
}

fn is_allowed(machine: &Machine, command: Command) -> bool {
    command.in_rom(&machine.chip.rom, machine.secure_download)
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
