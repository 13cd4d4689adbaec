//! The virtual chip as a client on its line sees it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use esp_model::chip;
use esp_model::port::Port;
use esp_model::wire::request::{Begin, RegWrite};
use esp_model::wire::slip::{self, Decoder, Event};
use esp_model::wire::{Command, Reply, Request, Status};
use esp_sim::{Config, Faults, SimDevice, SimPort};
use flate2::{Compress, Compression, FlushCompress};
use md5::{Digest, Md5};

const WAIT: Duration = Duration::from_secs(20);

/// A client as small as can be.
struct Client {
    port: SimPort,
    decoder: Decoder,
    frames: Vec<Vec<u8>>,
    noise: Vec<u8>,
}

impl Client {
    fn new(config: &Config) -> Self {
        let port = SimDevice::new(config, "sim://test").open();
        Self { port, decoder: Decoder::new(1 << 16), frames: Vec::new(), noise: Vec::new() }
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let deadline = self.port.now() + WAIT;
        while self.frames.is_empty() && self.port.now() < deadline {
            self.poll(WAIT);
        }
        (!self.frames.is_empty()).then(|| self.frames.remove(0))
    }

    /// Listens until nothing comes for `wait`.
    fn settle(&mut self, wait: Duration) {
        while self.poll(wait) > 0 {}
    }

    /// Listens for this long.
    fn listen(&mut self, time: Duration) {
        let end = self.port.now() + time;
        while self.port.now() < end {
            self.poll(end - self.port.now());
        }
    }

    fn poll(&mut self, wait: Duration) -> usize {
        let mut buf = [0; 4096];
        let got = self.port.read(&mut buf, wait).unwrap();
        self.decoder.push(&buf[..got], |event| match event {
            Event::Frame(frame) => self.frames.push(frame),
            Event::Noise(bytes) => self.noise.extend(bytes),
            Event::Bad(_) => {}
        });
        got
    }

    fn send(&mut self, payload: &[u8]) {
        let mut line = Vec::new();
        slip::encode(payload, &mut line);
        self.port.write(&line).unwrap();
    }

    fn call(&mut self, request: &Request) -> Reply {
        self.send(&request.encode());
        Reply::decode(&self.frame().expect("a reply")).unwrap()
    }

    fn done(&mut self, request: &Request) {
        let reply = self.call(request);
        assert_eq!(reply.split(0).unwrap().1, Status::OK, "{request:?}");
    }

    /// The classic reset into download mode, one line after the other.
    fn connect(&mut self) -> u32 {
        for (dtr, rts, millis) in [(false, true, 100), (true, true, 0), (true, false, 50), (false, false, 0)] {
            self.port.set_lines(dtr, rts).unwrap();
            self.port.sleep(Duration::from_millis(millis));
        }
        self.settle(Duration::from_millis(50));
        self.decoder.reset();
        self.frames.clear();
        let value = self.call(&Request::Sync).value;
        self.settle(Duration::from_millis(100));
        self.frames.clear();
        value
    }

    /// Uploads something of a stub's size and starts it.
    fn start_stub(&mut self) {
        let begin = Begin { size: 4000, blocks: 1, block_size: 0x1800, address: 0x4038_0000, encrypted: None };
        self.done(&Request::MemBegin(begin));
        self.done(&Request::Data { command: Command::MemData, sequence: 0, data: vec![1; 4000] });
        self.done(&Request::MemEnd { entry: 0x4038_0100 });
        assert_eq!(self.frame().unwrap(), b"OHAI");
    }
}

fn c3() -> Config {
    Config::new(chip::by_name("esp32c3").unwrap(), "test")
}

fn text(client: &Client) -> String {
    String::from_utf8_lossy(&client.noise).into_owned()
}

#[test]
fn a_reset_by_the_lines_leads_to_the_rom_loader() {
    let mut client = Client::new(&c3());
    assert_ne!(client.connect(), 0, "a ROM answers SYNC with a value");
    assert!(text(&client).contains("waiting for download"), "{}", text(&client));
    client.start_stub();
    assert_eq!(client.call(&Request::Sync).value, 0, "a stub answers SYNC with 0");
}

#[test]
fn the_app_starts_after_a_reset_without_the_boot_pin() {
    let mut client = Client::new(&c3());
    client.port.set_lines(false, true).unwrap();
    client.port.sleep(Duration::from_millis(100));
    client.port.set_lines(false, false).unwrap();
    client.settle(Duration::from_millis(200));
    client.settle(Duration::from_millis(200));
    assert!(text(&client).contains("invalid header: 0xffffffff"), "{}", text(&client));
    client.send(&Request::Sync.encode());
    client.settle(Duration::from_millis(100));
    assert!(client.frames.is_empty(), "no loader runs");
}

#[test]
fn compressed_writes_through_the_stub_arrive() {
    let mut client = Client::new(&c3());
    client.connect();
    client.start_stub();
    let image: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let packed = deflate(&image);
    let blocks = packed.len().div_ceil(0x4000) as u32;
    let begin =
        Begin { size: image.len() as u32, blocks, block_size: 0x4000, address: 0x1_0000, encrypted: Some(false) };
    client.done(&Request::DeflBegin(begin));
    for (sequence, data) in packed.chunks(0x4000).enumerate() {
        client.done(&Request::Data { command: Command::DeflData, sequence: sequence as u32, data: data.to_vec() });
    }
    let reply = client.call(&Request::FlashMd5 { address: 0x1_0000, length: image.len() as u32 });
    assert_eq!(reply.split(16).unwrap().0, &Md5::digest(&image)[..]);
    client.done(&Request::FlashEnd { stay: true });
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    Compress::new(Compression::default(), true).compress_vec(bytes, &mut out, FlushCompress::Finish).unwrap();
    out
}

#[test]
fn raw_writes_through_the_rom_arrive_and_are_hashed_in_hex() {
    let mut client = Client::new(&c3());
    client.connect();
    client.done(&Request::SpiAttach { pins: 0, legacy: Some(0) });
    let begin = Begin { size: 2048, blocks: 2, block_size: 1024, address: 0x1000, encrypted: Some(false) };
    client.done(&Request::FlashBegin(begin));
    for sequence in 0..2 {
        client.done(&Request::Data { command: Command::FlashData, sequence, data: vec![sequence as u8; 1024] });
    }
    let expected: String =
        Md5::digest([[0; 1024], [1; 1024]].concat()).iter().map(|byte| format!("{byte:02x}")).collect();
    let reply = client.call(&Request::FlashMd5 { address: 0x1000, length: 2048 });
    assert_eq!(reply.split(32).unwrap().0, expected.as_bytes());
    let slow = client.call(&Request::ReadFlashSlow { address: 0x1400, length: 64 });
    assert_eq!(slow.split(64).unwrap().0, [1; 64]);
}

#[test]
fn a_failed_write_is_told_one_command_late_by_the_stub() {
    let mut client = Client::new(&c3());
    client.connect();
    client.start_stub();
    let begin = Begin { size: 4096, blocks: 1, block_size: 0x4000, address: 0x3f_f000, encrypted: Some(false) };
    client.done(&Request::DeflBegin(begin));
    client.done(&Request::Data { command: Command::DeflData, sequence: 0, data: vec![0xaa; 64] });
    let late = client.call(&Request::FlashEnd { stay: true });
    assert_eq!(late.split(0).unwrap().1, Status::STUB_INFLATE);
}

#[test]
fn a_duplicated_block_is_written_twice() {
    let mut client = Client::new(&c3());
    client.connect();
    client.start_stub();
    let begin = Begin { size: 2048, blocks: 2, block_size: 0x4000, address: 0, encrypted: Some(false) };
    client.done(&Request::FlashBegin(begin));
    for _ in 0..2 {
        client.done(&Request::Data { command: Command::FlashData, sequence: 0, data: vec![7; 1024] });
    }
    client.done(&Request::FlashEnd { stay: true });
    let read = client.port.device().with(|chip, _| chip.flash().read(0, 2048).unwrap());
    assert_eq!(read, [7; 2048]);
}

#[test]
fn reads_keep_one_frame_in_flight() {
    let mut client = Client::new(&c3());
    client.port.device().with(|chip, _| chip.flash().load(0, &[0x5a; 10_000]));
    client.connect();
    client.start_stub();
    client.done(&Request::ReadFlash { address: 0, length: 10_000, packet: 4096, in_flight: 64 });
    let mut read = Vec::new();
    while read.len() < 10_000 {
        read.extend(client.frame().unwrap());
        client.settle(Duration::from_secs(1));
        assert!(client.frames.is_empty(), "nothing comes before the acknowledgement");
        client.send(&(read.len() as u32).to_le_bytes());
    }
    assert_eq!(read, [0x5a; 10_000]);
    assert_eq!(client.frame().unwrap(), Md5::digest(&read)[..]);
}

#[test]
fn rates_that_differ_give_noise() {
    let mut client = Client::new(&c3());
    client.connect();
    client.start_stub();
    client.done(&Request::ChangeBaud { new: 921_600, old: 115_200 });
    client.send(&Request::Sync.encode());
    client.settle(Duration::from_millis(100));
    assert!(client.frames.is_empty());
    client.port.set_baud(921_600).unwrap();
    client.settle(Duration::from_millis(100));
    client.decoder.reset();
    client.frames.clear();
    assert_eq!(client.call(&Request::Sync).value, 0);
}

#[test]
fn time_follows_the_rate_and_the_flash() {
    let mut client = Client::new(&c3());
    client.port.device().with(|chip, _| chip.flash().load(0, &[0; 0x1_0000]));
    client.connect();
    client.start_stub();
    let start = client.port.now();
    client.done(&Request::EraseRegion { address: 0, length: 0x1_0000 });
    let took = client.port.now() - start;
    assert!((150..160).contains(&took.as_millis()), "{took:?}");
    let start = client.port.now();
    client.call(&Request::FlashMd5 { address: 0, length: 4096 });
    let took = client.port.now() - start;
    // 26 bytes there, 28 back at 115200 baud.
    assert!((4..6).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn secure_download_mode_refuses_what_it_must() {
    let mut client = Client::new(&c3());
    client.port.device().with(|chip, _| chip.efuse().set("ENABLE_SECURITY_DOWNLOAD", &[1]));
    if client.port.device().with(|chip, _| chip.efuse().number("ENABLE_SECURITY_DOWNLOAD")) == 0 {
        return;
    }
    client.connect();
    let refused = client.call(&Request::ReadReg { address: 0x4000_1000 });
    assert_eq!(refused.split(0).unwrap().1, Status::INVALID);
    let info = client.call(&Request::SecurityInfo);
    assert_eq!(info.split(20).unwrap().0[0] & 4, 4);
}

/// What ESP32's and ESP32-C3's own ROM code answered to the same frames.
#[test]
fn answers_hold_what_earlier_commands_left() {
    let mut client = Client::new(&c3());
    client.connect();
    let mut ask = |payload: &[u8]| {
        client.send(payload);
        client.settle(Duration::from_millis(50));
        let hex = |frame: Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        client.frames.drain(..).map(hex).collect::<Vec<_>>()
    };
    let (unknown, ram) = ([0, 0x55, 0, 0, 0, 0, 0, 0], 0x3fc9_0000);
    assert_eq!(
        ask(&unknown),
        vec!["010804000707122001050000"; 8],
        "an unknown command is refused as the last known one"
    );
    ask(&Request::WriteReg(vec![RegWrite { address: ram, value: 0x1234_5678, mask: u32::MAX, delay_us: 0 }]).encode());
    assert_eq!(ask(&Request::ReadReg { address: ram }.encode()), ["010a04007856341200000000"]);
    assert_eq!(ask(&unknown), ["010a04007856341201050000"]);
    let begin = Begin { size: 48, blocks: 3, block_size: 16, address: ram, encrypted: None };
    assert_eq!(ask(&Request::MemBegin(begin).encode()), ["010504007856341200050000"]);
    let mut block = |sequence, bad: bool| {
        let mut frame = Request::Data { command: Command::MemData, sequence, data: vec![sequence as u8; 16] }.encode();
        frame[4] ^= u8::from(bad);
        ask(&frame).concat()
    };
    assert_eq!(block(0, false), "010704007856341200050000");
    assert_eq!(block(5, false), "010704007856341201050000", "not in turn");
    assert_eq!(block(1, true), "010704007856341201070000");
    assert_eq!(block(1, false), "010704007856341201050000", "the damaged one counts");
    assert_eq!(block(2, false), "010704007856341200050000");
    assert_eq!(ask(&Request::FlashEnd { stay: true }.encode()), ["010404007856341201060000"]);
    assert_eq!(ask(&Request::Sync.encode()), Vec::<String>::new(), "the loader is left");
}

#[test]
fn faults_show_as_on_a_bench() {
    let start = |fault: &str| {
        let mut config = c3();
        config.faults = fault.parse::<Faults>().unwrap();
        let mut client = Client::new(&config);
        client.port.set_lines(false, true).unwrap();
        client.port.set_lines(true, false).unwrap();
        client.listen(Duration::from_millis(250));
        client.send(&Request::Sync.encode());
        client.listen(Duration::from_millis(400));
        client
    };
    let deaf = start("tx-dead");
    assert!(text(&deaf).contains("waiting for download") && deaf.frames.is_empty());
    let silent = start("silent");
    assert!(silent.noise.is_empty() && silent.frames.is_empty());
    let unstrapped = start("no-boot-pin,app-log=100");
    assert!(text(&unstrapped).contains("app: working") && unstrapped.frames.is_empty());
    let brown = start("brown-out=1");
    assert!(text(&brown).contains("BROWNOUT"), "{}", text(&brown));
    let hung = start("hang=0");
    assert!(hung.frames.is_empty());
}

#[test]
fn random_bytes_never_break_it() {
    let mut config = c3();
    config.pacing = false;
    let mut client = Client::new(&config);
    let mut state = 0x1234_5678_9abc_def0u64;
    for round in 0..3000 {
        if round % 200 == 0 {
            client.connect();
            if round % 400 == 0 {
                client.start_stub();
            }
        }
        let mut bytes: Vec<u8> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as u8
            })
            .collect();
        let code = Command::ALL[round % Command::ALL.len()] as u8;
        bytes[..4].copy_from_slice(&[0, code, 32, 0]);
        client.send(&bytes);
        client.settle(Duration::from_millis(1));
        client.frames.clear();
        client.noise.clear();
    }
}

/// esptool before 3.0 tells the chips apart by this register, on the bus that the ESP8266 has and the ESP32 mirrors.
#[test]
fn uart_date_is_read_on_either_bus() {
    for (chip, wanted) in [("esp32", 0x1512_2500), ("esp8266", 0x0006_2000)] {
        let mut client = Client::new(&Config::new(esp_model::chip::by_name(chip).unwrap(), "x"));
        client.connect();
        assert_eq!(client.call(&Request::ReadReg { address: 0x6000_0078 }).value, wanted, "{chip}");
    }
    let mut client = Client::new(&Config::new(esp_model::chip::by_name("esp32").unwrap(), "x"));
    client.connect();
    // The MAC address, where old clients look for it.
    let mut word = |address| client.call(&Request::ReadReg { address }).value;
    assert_eq!(word(0x6001_a004), word(0x3ff5_a004));
    assert_ne!(word(0x6001_a004), 0);
}

#[test]
fn stub_answers_the_security_info_that_its_chip_has() {
    for (chip, len) in [("esp32s2", 12), ("esp32s3", 20), ("esp32c3", 20)] {
        let mut client = Client::new(&Config::new(esp_model::chip::by_name(chip).unwrap(), "x"));
        client.connect();
        client.start_stub();
        let answer = client.call(&Request::SecurityInfo);
        assert_eq!(answer.split(len).unwrap().0.len(), len, "{chip}");
    }
}
