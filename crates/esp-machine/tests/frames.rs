//! The imitation of the ROM loaders against the ROMs themselves, frame by frame: the same requests in the same order, right and wrong
//! ones, must be answered with the same bytes.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use esp_model::port::Port as _;
use esp_model::wire::request::{Begin, Request};
use esp_model::wire::{Command, slip, sync_payload};
use esp_sim::{Config, SimDevice, SimPort};

/// Chips, with RAM that the ROM itself does not use while it loads.
const CHIPS: [(&str, u32); 11] = [
    ("esp32", 0x3ffb_8000),
    ("esp32s2", 0x3ffd_8000),
    ("esp32s3", 0x3fca_8000),
    ("esp32c2", 0x3fcb_0000),
    ("esp32c3", 0x3fca_0000),
    ("esp32c5", 0x4082_0000),
    ("esp32c6", 0x4082_0000),
    ("esp32c61", 0x4082_0000),
    ("esp32h2", 0x4082_0000),
    ("esp32p4", 0x4ff2_0000),
    ("esp32s31", 0x2f02_0000),
];

/// One loader in download mode.
fn loader(chip: &str, by_rom: bool) -> SimPort {
    let chip = esp_model::chip::by_name(chip).unwrap();
    let firmware = by_rom.then_some(esp_machine::firmware::firmware as esp_sim::firmware::MakeFirmware);
    let config =
        Config { boot_pin_low: true, firmware, loader_by_rom: by_rom, ..Config::new(chip, "frames").unpaced() };
    let device = SimDevice::new(&config, "sim://frames");
    device.with(|sim, now| {
        sim.power_cycle(now);
        assert_eq!(sim.runs_firmware(), by_rom);
    });
    device.open()
}

/// Frames that come until the line has been quiet for so long.
fn answers(port: &mut SimPort, quiet: Duration) -> Vec<Vec<u8>> {
    let (mut frames, mut decoder, mut buffer) = (Vec::new(), slip::Decoder::new(1 << 16), [0; 4096]);
    loop {
        let count = port.read(&mut buffer, quiet).unwrap();
        if count == 0 {
            return frames;
        }
        decoder.push(&buffer[..count], |event| {
            if let slip::Event::Frame(frame) = event {
                frames.push(frame);
            }
        });
    }
}

fn ask(port: &mut SimPort, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut line = Vec::new();
    slip::encode(packet, &mut line);
    port.write(&line).unwrap();
    // A block of 1 KB takes 90 ms on the line.
    answers(port, Duration::from_millis(40 + packet.len() as u64 / 8))
}

/// SYNC until it is answered, and until nothing more comes.
fn connect(port: &mut SimPort) {
    answers(port, Duration::from_millis(60));
    let packet = raw(Command::Sync as u8, &sync_payload());
    assert!((0..12).any(|_| ask(port, &packet).len() >= 8));
    answers(port, Duration::from_millis(300));
}

/// A request, whatever stands in it.
fn raw(command: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, command];
    packet.extend((data.len() as u16).to_le_bytes());
    packet.extend([0; 4]);
    packet.extend(data);
    packet
}

fn data(command: Command, sequence: u32, data: &[u8]) -> Vec<u8> {
    Request::Data { command, sequence, data: data.to_vec() }.encode()
}

fn spoilt(mut packet: Vec<u8>) -> Vec<u8> {
    packet[4] ^= 0x55;
    packet
}

fn begin(command: Command, known: &esp_model::chip::Chip, size: u32, address: u32) -> Vec<u8> {
    begin_as(command, known, size, address, false)
}

/// `encrypted`: the chip is to encrypt what it writes.
fn begin_as(command: Command, known: &esp_model::chip::Chip, size: u32, address: u32, encrypted: bool) -> Vec<u8> {
    let in_flash = command != Command::MemBegin;
    let encrypted = (in_flash && known.rom.begin_has_encrypted).then_some(encrypted);
    let block_size = 0x400;
    let begin = Begin { size, blocks: size.div_ceil(block_size), block_size, address, encrypted };
    match command {
        Command::FlashBegin => Request::FlashBegin(begin),
        Command::DeflBegin => Request::DeflBegin(begin),
        _ => Request::MemBegin(begin),
    }
    .encode()
}

/// What a host might ask, in this order.
fn requests(chip: &str, ram: u32) -> Vec<(&'static str, Vec<u8>)> {
    use Command::{DeflBegin, DeflData, FlashBegin, FlashData, MemBegin, MemData};
    let known = esp_model::chip::by_name(chip).unwrap();
    let block: Vec<u8> = (0..1024u32).map(|index| (index * 7) as u8).collect();
    // "mcp" and zeros, deflated.
    let small = &[0x78, 0xda, 0xcb, 0x4d, 0x2e, 0x60, 0x60, 0, 0, 5, 2, 1, 0x41][..];
    let slow = |address, length| Request::ReadFlashSlow { address, length }.encode();
    let md5 = |address, length| Request::FlashMd5 { address, length }.encode();
    let params = esp_model::wire::request::SpiParams::for_size(4 << 20);
    vec![
        ("SYNC", raw(Command::Sync as u8, &sync_payload())),
        ("an unknown command", raw(0x55, &[1, 2, 3, 4])),
        ("GET_SECURITY_INFO", Request::SecurityInfo.encode()),
        ("SPI_ATTACH", Request::SpiAttach { pins: 0, legacy: Some(0) }.encode()),
        ("SPI_SET_PARAMS", Request::SpiSetParams(params).encode()),
        ("FLASH_BEGIN", begin(FlashBegin, known, 2048, 0x1000)),
        ("FLASH_DATA out of turn", data(FlashData, 1, &block)),
        ("FLASH_DATA spoilt", spoilt(data(FlashData, 0, &block))),
        ("FLASH_DATA after a spoilt one", data(FlashData, 1, &block)),
        ("FLASH_BEGIN again", begin(FlashBegin, known, 2048, 0x1000)),
        ("FLASH_DATA 0", data(FlashData, 0, &block)),
        ("FLASH_DATA 1", data(FlashData, 1, &block)),
        ("SPI_FLASH_MD5", md5(0x1000, 2048)),
        ("SPI_FLASH_MD5 of what is blank", md5(0x2_0000, 100)),
        ("READ_FLASH_SLOW", slow(0x1000, 64)),
        ("READ_FLASH_SLOW of less", slow(0x1400, 16)),
        ("READ_FLASH_SLOW of too much", slow(0x1000, 65)),
        ("FLASH_BEGIN behind the flash's end", begin(FlashBegin, known, 4096, 0x80_0000)),
        ("FLASH_DEFL_BEGIN", begin(DeflBegin, known, 5, 0x3000)),
        ("FLASH_DEFL_DATA", data(DeflData, 0, small)),
        ("FLASH_DEFL_END to stay", Request::DeflEnd { stay: true }.encode()),
        ("SPI_FLASH_MD5 of what was deflated", md5(0x3000, 5)),
        ("FLASH_DEFL_BEGIN again", begin(DeflBegin, known, 4096, 0x3000)),
        ("FLASH_DEFL_DATA that is none", data(DeflData, 0, &[0xff; 32])),
        ("FLASH_BEGIN to encrypt", begin_as(FlashBegin, known, 1024, 0x5000, true)),
        ("FLASH_DATA to be encrypted", data(FlashData, 0, &block)),
        ("READ_FLASH_SLOW of what was encrypted", slow(0x5040, 64)),
        ("SPI_FLASH_MD5 of what was encrypted", md5(0x5000, 1024)),
        ("MEM_BEGIN", begin(MemBegin, known, 64, ram)),
        ("MEM_DATA out of turn", data(MemData, 3, &block[..64])),
        ("MEM_DATA spoilt", spoilt(data(MemData, 0, &block[..64]))),
        ("MEM_BEGIN again", begin(MemBegin, known, 64, ram)),
        ("MEM_DATA", data(MemData, 0, &block[..64])),
        ("MEM_DATA too much", data(MemData, 1, &block[..64])),
        ("READ_REG of what was uploaded", Request::ReadReg { address: ram + 4 }.encode()),
        ("MEM_END to stay", Request::MemEnd { entry: 0 }.encode()),
        ("a command of the stub", raw(0xd0, &[])),
        ("SYNC again", raw(Command::Sync as u8, &sync_payload())),
    ]
}

#[test]
fn imitated_loaders_answer_as_the_chips_own_roms_do() {
    let mut differences = Vec::new();
    for (chip, ram) in CHIPS {
        let (mut real, mut imitated) = (loader(chip, true), loader(chip, false));
        connect(&mut real);
        connect(&mut imitated);
        for (name, packet) in requests(chip, ram) {
            let (there, here) = (ask(&mut real, &packet), ask(&mut imitated, &packet));
            if there != here {
                differences.push(format!("{chip} {name}: ROM {there:02x?}, imitation {here:02x?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
