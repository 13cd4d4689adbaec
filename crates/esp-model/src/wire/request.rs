//! What the client sends.

use super::checksum;

/// Command codes of the loader protocol.
///
/// Source: "Serial Protocol" page of the esptool documentation; esp-flasher-stub `commands.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// Begin a flash download.
    FlashBegin = 0x02,
    /// One block of a flash download.
    FlashData = 0x03,
    /// End a flash download, optionally leave the loader.
    FlashEnd = 0x04,
    /// Begin a memory download.
    MemBegin = 0x05,
    /// End a memory download, optionally jump.
    MemEnd = 0x06,
    /// One block of a memory download.
    MemData = 0x07,
    /// Find the loader and let it measure the line rate.
    Sync = 0x08,
    /// Write 32-bit registers.
    WriteReg = 0x09,
    /// Read a 32-bit register.
    ReadReg = 0x0a,
    /// Tell the loader the flash geometry.
    SpiSetParams = 0x0b,
    /// Connect the flash pins.
    SpiAttach = 0x0d,
    /// Read up to 64 bytes of flash (ROM).
    ReadFlashSlow = 0x0e,
    /// Change the line rate.
    ChangeBaud = 0x0f,
    /// Begin a compressed flash download.
    DeflBegin = 0x10,
    /// One block of a compressed flash download.
    DeflData = 0x11,
    /// End a compressed flash download.
    DeflEnd = 0x12,
    /// MD5 over a flash region.
    FlashMd5 = 0x13,
    /// Security flags, key purposes, chip id.
    SecurityInfo = 0x14,
    /// Erase the whole flash (stub).
    EraseFlash = 0xd0,
    /// Erase a region (stub).
    EraseRegion = 0xd1,
    /// Stream a region (stub).
    ReadFlash = 0xd2,
    /// Leave the stub and boot (stub).
    RunUserCode = 0xd3,
    /// One block to be encrypted by the chip as it is written (stub).
    FlashEncryptData = 0xd4,
}

impl Command {
    /// All commands this codec knows.
    pub const ALL: [Self; 23] = [
        Self::FlashBegin,
        Self::FlashData,
        Self::FlashEnd,
        Self::MemBegin,
        Self::MemEnd,
        Self::MemData,
        Self::Sync,
        Self::WriteReg,
        Self::ReadReg,
        Self::SpiSetParams,
        Self::SpiAttach,
        Self::ReadFlashSlow,
        Self::ChangeBaud,
        Self::DeflBegin,
        Self::DeflData,
        Self::DeflEnd,
        Self::FlashMd5,
        Self::SecurityInfo,
        Self::EraseFlash,
        Self::EraseRegion,
        Self::ReadFlash,
        Self::RunUserCode,
        Self::FlashEncryptData,
    ];

    /// The command with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|command| *command as u8 == code)
    }

    /// The protocol document's name: `FLASH_BEGIN`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlashBegin => "FLASH_BEGIN",
            Self::FlashData => "FLASH_DATA",
            Self::FlashEnd => "FLASH_END",
            Self::MemBegin => "MEM_BEGIN",
            Self::MemEnd => "MEM_END",
            Self::MemData => "MEM_DATA",
            Self::Sync => "SYNC",
            Self::WriteReg => "WRITE_REG",
            Self::ReadReg => "READ_REG",
            Self::SpiSetParams => "SPI_SET_PARAMS",
            Self::SpiAttach => "SPI_ATTACH",
            Self::ReadFlashSlow => "READ_FLASH_SLOW",
            Self::ChangeBaud => "CHANGE_BAUDRATE",
            Self::DeflBegin => "FLASH_DEFL_BEGIN",
            Self::DeflData => "FLASH_DEFL_DATA",
            Self::DeflEnd => "FLASH_DEFL_END",
            Self::FlashMd5 => "SPI_FLASH_MD5",
            Self::SecurityInfo => "GET_SECURITY_INFO",
            Self::EraseFlash => "ERASE_FLASH",
            Self::EraseRegion => "ERASE_REGION",
            Self::ReadFlash => "READ_FLASH",
            Self::RunUserCode => "RUN_USER_CODE",
            Self::FlashEncryptData => "FLASH_ENCRYPT_DATA",
        }
    }
}

/// Head of a flash, compressed or memory download.
///
/// On the wire: size, block count, block size, address (all u32), and for flash downloads on later ROMs and
/// all stubs a fifth word `encrypted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Bytes that will arrive (memory), or bytes to erase (flash), or inflated size (compressed).
    pub size: u32,
    /// Blocks that follow.
    pub blocks: u32,
    /// Bytes in a block, at most.
    pub block_size: u32,
    /// Target address in flash or memory.
    pub address: u32,
    /// The fifth word, where it is sent: the chip encrypts what it writes.
    pub encrypted: Option<bool>,
}

/// One register write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegWrite {
    /// Register address.
    pub address: u32,
    /// New value of the bits in `mask`.
    pub value: u32,
    /// Bits to change.
    pub mask: u32,
    /// Pause before the write, in microseconds.
    pub delay_us: u32,
}

/// Flash geometry for SPI_SET_PARAMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpiParams {
    /// Flash id; 0 is accepted.
    pub id: u32,
    /// Total size in bytes.
    pub size: u32,
    /// Erase block size in bytes (64 KiB).
    pub block_size: u32,
    /// Sector size in bytes (4 KiB).
    pub sector_size: u32,
    /// Page size in bytes (256).
    pub page_size: u32,
    /// Mask of status register bits (0xffff).
    pub status_mask: u32,
}

impl SpiParams {
    /// The usual geometry for a flash of `size` bytes.
    pub fn for_size(size: u32) -> Self {
        Self { id: 0, size, block_size: 0x1_0000, sector_size: 0x1000, page_size: 0x100, status_mask: 0xffff }
    }
}

/// A request with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// SYNC with its payload.
    Sync,
    /// FLASH_BEGIN.
    FlashBegin(Begin),
    /// FLASH_DEFL_BEGIN.
    DeflBegin(Begin),
    /// MEM_BEGIN.
    MemBegin(Begin),
    /// A data block for `command`, one of FLASH_DATA, FLASH_DEFL_DATA, MEM_DATA, FLASH_ENCRYPT_DATA.
    Data {
        /// Which download it belongs to.
        command: Command,
        /// Number of the block, from 0.
        sequence: u32,
        /// The bytes.
        data: Vec<u8>,
    },
    /// FLASH_END; `stay` keeps the loader running.
    FlashEnd {
        /// Do not leave the loader.
        stay: bool,
    },
    /// FLASH_DEFL_END; `stay` keeps the loader running.
    DeflEnd {
        /// Do not leave the loader.
        stay: bool,
    },
    /// MEM_END: jump to `entry`, or stay in the loader when it is 0.
    MemEnd {
        /// Address to jump to; 0 stays.
        entry: u32,
    },
    /// READ_REG.
    ReadReg {
        /// Register address.
        address: u32,
    },
    /// WRITE_REG with one or more writes.
    WriteReg(Vec<RegWrite>),
    /// SPI_SET_PARAMS.
    SpiSetParams(SpiParams),
    /// SPI_ATTACH. The ROM takes a second word (`legacy`), the stub does not.
    SpiAttach {
        /// Pin configuration; 0 for the default pins.
        pins: u32,
        /// The ROM's second word.
        legacy: Option<u32>,
    },
    /// READ_FLASH_SLOW: at most 64 bytes.
    ReadFlashSlow {
        /// Flash address.
        address: u32,
        /// Bytes to read, at most 64.
        length: u32,
    },
    /// CHANGE_BAUDRATE; the stub wants the old rate too, the ROM wants 0.
    ChangeBaud {
        /// New rate in baud.
        new: u32,
        /// Present rate in baud for the stub, 0 for the ROM.
        old: u32,
    },
    /// SPI_FLASH_MD5.
    FlashMd5 {
        /// Flash address.
        address: u32,
        /// Bytes to hash.
        length: u32,
    },
    /// GET_SECURITY_INFO.
    SecurityInfo,
    /// ERASE_FLASH.
    EraseFlash,
    /// ERASE_REGION.
    EraseRegion {
        /// Flash address, a multiple of 4096.
        address: u32,
        /// Bytes, a multiple of 4096.
        length: u32,
    },
    /// READ_FLASH: stream of frames, each acknowledged by a frame with the bytes received so far.
    ReadFlash {
        /// Flash address.
        address: u32,
        /// Bytes to read.
        length: u32,
        /// Bytes in a frame.
        packet: u32,
        /// Frames in flight, at most.
        in_flight: u32,
    },
    /// RUN_USER_CODE.
    RunUserCode,
}

/// A request packet that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not a request packet at all: no answer is due.
    #[error("not a request packet")]
    NotARequest,
    /// The command is not known.
    #[error("unknown command {0:#04x}")]
    Unknown(u8),
    /// The parameters are missing or too short.
    #[error("command {0:#04x}: parameters are too short")]
    Short(u8),
    /// The block's checksum does not match the packet's.
    #[error("command {0:#04x}: checksum mismatch")]
    Checksum(u8),
}

impl Request {
    /// Direction byte of a request.
    pub const DIRECTION: u8 = 0x00;

    /// The command this request carries.
    pub fn command(&self) -> Command {
        match self {
            Self::Sync => Command::Sync,
            Self::FlashBegin(_) => Command::FlashBegin,
            Self::DeflBegin(_) => Command::DeflBegin,
            Self::MemBegin(_) => Command::MemBegin,
            Self::Data { command, .. } => *command,
            Self::FlashEnd { .. } => Command::FlashEnd,
            Self::DeflEnd { .. } => Command::DeflEnd,
            Self::MemEnd { .. } => Command::MemEnd,
            Self::ReadReg { .. } => Command::ReadReg,
            Self::WriteReg(_) => Command::WriteReg,
            Self::SpiSetParams(_) => Command::SpiSetParams,
            Self::SpiAttach { .. } => Command::SpiAttach,
            Self::ReadFlashSlow { .. } => Command::ReadFlashSlow,
            Self::ChangeBaud { .. } => Command::ChangeBaud,
            Self::FlashMd5 { .. } => Command::FlashMd5,
            Self::SecurityInfo => Command::SecurityInfo,
            Self::EraseFlash => Command::EraseFlash,
            Self::EraseRegion { .. } => Command::EraseRegion,
            Self::ReadFlash { .. } => Command::ReadFlash,
            Self::RunUserCode => Command::RunUserCode,
        }
    }

    /// The packet: direction, command, payload length, checksum word, payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut check = 0;
        match self {
            Self::Sync => payload = super::sync_payload(),
            Self::FlashBegin(begin) | Self::DeflBegin(begin) | Self::MemBegin(begin) => {
                words(&mut payload, &[begin.size, begin.blocks, begin.block_size, begin.address]);
                if let Some(encrypted) = begin.encrypted {
                    words(&mut payload, &[encrypted.into()]);
                }
            }
            Self::Data { sequence, data, .. } => {
                payload.reserve(16 + data.len());
                words(&mut payload, &[data.len() as u32, *sequence, 0, 0]);
                payload.extend_from_slice(data);
                check = checksum(data).into();
            }
            Self::FlashEnd { stay } | Self::DeflEnd { stay } => words(&mut payload, &[(*stay).into()]),
            Self::MemEnd { entry } => words(&mut payload, &[(*entry == 0).into(), *entry]),
            Self::ReadReg { address } => words(&mut payload, &[*address]),
            Self::WriteReg(writes) => {
                for w in writes {
                    words(&mut payload, &[w.address, w.value, w.mask, w.delay_us]);
                }
            }
            Self::SpiSetParams(p) => {
                words(&mut payload, &[p.id, p.size, p.block_size, p.sector_size, p.page_size, p.status_mask]);
            }
            Self::SpiAttach { pins, legacy } => {
                words(&mut payload, &[*pins]);
                words(&mut payload, legacy.as_slice());
            }
            Self::ReadFlashSlow { address, length } | Self::EraseRegion { address, length } => {
                words(&mut payload, &[*address, *length]);
            }
            Self::ChangeBaud { new, old } => words(&mut payload, &[*new, *old]),
            Self::FlashMd5 { address, length } => words(&mut payload, &[*address, *length, 0, 0]),
            Self::ReadFlash { address, length, packet, in_flight } => {
                words(&mut payload, &[*address, *length, *packet, *in_flight]);
            }
            Self::SecurityInfo | Self::EraseFlash | Self::RunUserCode => {}
        }
        let mut out = Vec::with_capacity(8 + payload.len());
        out.extend_from_slice(&[Self::DIRECTION, self.command() as u8]);
        out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        words(&mut out, &[check]);
        out.extend_from_slice(&payload);
        out
    }

    /// Reads a packet as a loader does: data blocks must carry the right checksum, missing words are an error,
    /// surplus words are ignored.
    pub fn decode(packet: &[u8]) -> Result<Self, BadRequest> {
        let (head, payload) = packet.split_first_chunk::<8>().ok_or(BadRequest::NotARequest)?;
        if head[0] != Self::DIRECTION {
            return Err(BadRequest::NotARequest);
        }
        let code = head[1];
        let command = Command::from_code(code).ok_or(BadRequest::Unknown(code))?;
        let word = |index: usize| {
            let bytes = payload.get(index * 4..index * 4 + 4).ok_or(BadRequest::Short(code))?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let begin = || {
            Ok(Begin {
                size: word(0)?,
                blocks: word(1)?,
                block_size: word(2)?,
                address: word(3)?,
                encrypted: word(4).ok().map(|w| w != 0),
            })
        };
        Ok(match command {
            Command::Sync => Self::Sync,
            Command::FlashBegin => Self::FlashBegin(begin()?),
            Command::DeflBegin => Self::DeflBegin(begin()?),
            Command::MemBegin => Self::MemBegin(begin()?),
            Command::FlashData | Command::DeflData | Command::MemData | Command::FlashEncryptData => {
                let data = payload.get(16..).ok_or(BadRequest::Short(code))?;
                let length = word(0)? as usize;
                let data = data.get(..length).ok_or(BadRequest::Short(code))?;
                if checksum(data) != head[4] {
                    return Err(BadRequest::Checksum(code));
                }
                Self::Data { command, sequence: word(1)?, data: data.to_vec() }
            }
            Command::FlashEnd => Self::FlashEnd { stay: word(0)? != 0 },
            Command::DeflEnd => Self::DeflEnd { stay: word(0)? != 0 },
            Command::MemEnd => Self::MemEnd { entry: if word(0)? == 0 { word(1)? } else { 0 } },
            Command::ReadReg => Self::ReadReg { address: word(0)? },
            Command::WriteReg => {
                let count = (payload.len() / 16).max(1);
                let write = |i: usize| {
                    Ok(RegWrite {
                        address: word(i * 4)?,
                        value: word(i * 4 + 1)?,
                        mask: word(i * 4 + 2)?,
                        delay_us: word(i * 4 + 3)?,
                    })
                };
                Self::WriteReg((0..count).map(write).collect::<Result<_, _>>()?)
            }
            Command::SpiSetParams => Self::SpiSetParams(SpiParams {
                id: word(0)?,
                size: word(1)?,
                block_size: word(2)?,
                sector_size: word(3)?,
                page_size: word(4)?,
                status_mask: word(5)?,
            }),
            Command::SpiAttach => Self::SpiAttach { pins: word(0)?, legacy: word(1).ok() },
            Command::ReadFlashSlow => Self::ReadFlashSlow { address: word(0)?, length: word(1)? },
            Command::ChangeBaud => Self::ChangeBaud { new: word(0)?, old: word(1)? },
            Command::FlashMd5 => Self::FlashMd5 { address: word(0)?, length: word(1)? },
            Command::SecurityInfo => Self::SecurityInfo,
            Command::EraseFlash => Self::EraseFlash,
            Command::EraseRegion => Self::EraseRegion { address: word(0)?, length: word(1)? },
            Command::ReadFlash => {
                Self::ReadFlash { address: word(0)?, length: word(1)?, packet: word(2)?, in_flight: word(3)? }
            }
            Command::RunUserCode => Self::RunUserCode,
        })
    }
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_survives_a_round_trip() {
        let begin = Begin { size: 1, blocks: 2, block_size: 3, address: 4, encrypted: None };
        let requests = [
            Request::Sync,
            Request::FlashBegin(begin),
            Request::DeflBegin(Begin { encrypted: Some(true), ..begin }),
            Request::MemBegin(begin),
            Request::Data { command: Command::DeflData, sequence: 9, data: vec![0xc0, 0xdb, 1] },
            Request::FlashEnd { stay: true },
            Request::DeflEnd { stay: false },
            Request::MemEnd { entry: 0x4000_0400 },
            Request::MemEnd { entry: 0 },
            Request::ReadReg { address: 0x4000_1000 },
            Request::WriteReg(vec![RegWrite { address: 1, value: 2, mask: 3, delay_us: 4 }; 2]),
            Request::SpiSetParams(SpiParams::for_size(4 << 20)),
            Request::SpiAttach { pins: 0, legacy: Some(0) },
            Request::SpiAttach { pins: 0, legacy: None },
            Request::ReadFlashSlow { address: 1, length: 64 },
            Request::ChangeBaud { new: 921_600, old: 115_200 },
            Request::FlashMd5 { address: 0, length: 4096 },
            Request::SecurityInfo,
            Request::EraseFlash,
            Request::EraseRegion { address: 0, length: 4096 },
            Request::ReadFlash { address: 0, length: 4096, packet: 4096, in_flight: 64 },
            Request::RunUserCode,
        ];
        for request in requests {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
    }

    #[test]
    fn a_sync_packet_looks_as_documented() {
        let packet = Request::Sync.encode();
        assert_eq!(packet[..12], [0, 8, 36, 0, 0, 0, 0, 0, 7, 7, 0x12, 0x20]);
        assert_eq!(packet.len(), 44);
    }

    #[test]
    fn damaged_packets_are_refused() {
        let block = Request::Data { command: Command::FlashData, sequence: 0, data: vec![1, 2, 3] };
        let mut packet = block.encode();
        *packet.last_mut().unwrap() ^= 1;
        assert_eq!(Request::decode(&packet), Err(BadRequest::Checksum(3)));
        assert_eq!(Request::decode(&packet[..20]), Err(BadRequest::Short(3)));
        assert_eq!(Request::decode(&[0, 0x77, 0, 0, 0, 0, 0, 0]), Err(BadRequest::Unknown(0x77)));
        assert_eq!(Request::decode(&[1, 8]), Err(BadRequest::NotARequest));
    }
}
