//! The loaders of the mask ROMs.

use esp_machine::{Config, Input, Machine, What};
use libtest_mimic::Trial;

use super::{MILLISECOND, run, sent, trial};

pub fn trials() -> Vec<Trial> {
    let answers = |id: &'static str| {
        trial(&format!("the_rom_of_{id}_answers_sync_in_download_mode"), &[], move || answers_sync(id))
    };
    let writes = |id: &'static str| {
        trial(&format!("the_rom_of_{id}_writes_what_it_is_sent_to_flash"), &[], move || writes_flash(id))
    };
    let chips = ["esp32", "esp32s2", "esp32s3"];
    let silent = |id: &'static str, registers| {
        let name = format!("the_flash_of_{id}_answers_when_the_rom_has_attached_it");
        trial(&name, &[], move || answers_when_attached(id, registers))
    };
    let mut trials: Vec<Trial> = chips.iter().map(|id| answers(id)).chain(chips.iter().map(|id| writes(id))).collect();
    trials.push(silent("esp32", [0x3ff4_2000, 0x1c, 0x24, 0x2c, 0x80]));
    trials.push(silent("esp32s3", [0x6000_2000, 0x18, 0x20, 0x28, 0x58]));
    trials.push(trial("the_rom_of_esp32s3_answers_at_the_usb_port_that_the_efuses_leave", &[], answers_by_usb));
    trials.push(trial("loads_from_0x400c0000_are_no_fault_on_esp32s3", &[], answered));
    trials
}

/// A request of the loader protocol, in its frame.
fn request(command: u8, checksum: u8, data: &[u8]) -> Vec<u8> {
    let mut plain = vec![0x00, command];
    plain.extend((data.len() as u16).to_le_bytes());
    plain.extend([checksum, 0, 0, 0]);
    plain.extend(data);
    let mut frame = vec![0xc0];
    for byte in plain {
        match byte {
            0xc0 => frame.extend([0xdb, 0xdc]),
            0xdb => frame.extend([0xdb, 0xdd]),
            other => frame.push(other),
        }
    }
    frame.push(0xc0);
    frame
}

fn sync() -> Vec<u8> {
    request(0x08, 0, &[&[0x07, 0x07, 0x12, 0x20][..], &[0x55; 32]].concat())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Sends a request; the ROM must answer it, and say that all is well.
fn ask(machine: &mut Machine, command: u8, checksum: u8, data: &[u8]) {
    let start = machine.now();
    machine.input(start, Input::Uart { port: 0, bytes: request(command, checksum, data) });
    let mut sent = Vec::new();
    while machine.now() < start + 2000 * MILLISECOND {
        let until = machine.now() + 5 * MILLISECOND;
        sent.extend(super::sent(&run(machine, until)));
        let at = sent.windows(3).position(|part| part == [0xc0, 0x01, command]);
        if let Some(frame) = at.and_then(|at| sent.get(at..at + 14)).filter(|frame| frame[13] == 0xc0) {
            assert_eq!(frame[9..11], [0, 0], "command {command:#x}: {frame:x?}");
            return;
        }
    }
    panic!("no answer to command {command:#x}: {sent:x?}");
}

/// FLASH_BEGIN and FLASH_DATA through the ROM's own driver, with bytes that use every bit of the controller's buffer.
fn writes_flash(id: &str) {
    let mut machine = synchronised(id);
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let content: Vec<u8> = (0..2048).map(|_| byte()).collect();
    ask(&mut machine, 0x0d, 0, &words(&[0, 0]));
    let (size, block, place) = (content.len() as u32, 0x400, 0x3000);
    let mut begin = vec![size, size / block, block, place];
    if id != "esp32" {
        // Not encrypted.
        begin.push(0);
    }
    ask(&mut machine, 0x02, 0, &words(&begin));
    for (number, block) in content.chunks(block as usize).enumerate() {
        let checksum = block.iter().fold(0xef, |sum, byte| sum ^ byte);
        let head = words(&[block.len() as u32, number as u32, 0, 0]);
        ask(&mut machine, 0x03, checksum, &[&head, block].concat());
    }
    assert_eq!(machine.soc.shared.flash.sector(3)[..content.len()], content);
}

/// Brings a chip into download mode, up to its first answers.
fn synchronised(id: &str) -> Machine {
    let mut config = Config::new(id, 4 << 20).unwrap();
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    run(&mut machine, 20 * MILLISECOND);
    let answered = (0..10).any(|_| {
        let now = machine.now();
        machine.input(now, Input::Uart { port: 0, bytes: sync() });
        let sent = sent(&run(&mut machine, now + 100 * MILLISECOND));
        sent.windows(3).any(|part| part == [0xc0, 0x01, 0x08])
    });
    assert!(answered);
    machine
}

/// The flash's identification, asked for by the controller's registers as esptool does it: base, USER, USER2, MISO_DLEN and the first
/// word of data.
fn identification(machine: &mut Machine, [base, user, user2, length, data]: [u32; 5]) -> u32 {
    let soc = &mut machine.soc;
    let mut set = |offset: u32, value: u32| soc.store(base + offset, 4, value).unwrap();
    set(user, 1 << 31 | 1 << 28);
    set(user2, 7 << 28 | 0x9f);
    set(length, 23);
    set(data, 0);
    set(0, 1 << 18);
    machine.soc.load(base + data, 4).unwrap()
}

fn answers_when_attached(id: &str, registers: [u32; 5]) {
    let mut machine = synchronised(id);
    assert_eq!(identification(&mut machine, registers), 0xff_ffff, "{id}: nobody is there yet");
    ask(&mut machine, 0x0d, 0, &words(&[0, 0]));
    assert_eq!(identification(&mut machine, registers), 0x16_40c8, "{id}");
}

/// USB-Serial-JTAG is there in download mode unless the eFuses close it, or give the pins to USB-OTG.
fn answers_by_usb() {
    for (fields, there) in [
        (&[][..], true),
        (&["DIS_USB_SERIAL_JTAG_DOWNLOAD_MODE"], false),
        (&["DIS_USB_SERIAL_JTAG"], false),
        (&["USB_PHY_SEL"], false),
        (&["DIS_USB_OTG_DOWNLOAD_MODE"], true),
    ] {
        let mut config = Config::new("esp32s3", 4 << 20).unwrap();
        config.download = true;
        fields.iter().for_each(|field| config.efuse.set(field, &[1]));
        let mut machine = Machine::new(config).unwrap();
        run(&mut machine, 20 * MILLISECOND);
        let mut answer = Vec::new();
        for _ in 0..4 {
            let now = machine.now();
            machine.input(now, Input::Usb(sync()));
            for event in run(&mut machine, now + 50 * MILLISECOND) {
                if let What::Usb(byte) = event.what {
                    answer.push(byte);
                }
            }
        }
        let answers = answer.windows(3).any(|part| part == [0xc0, 0x01, 0x08]);
        assert_eq!(answers, there, "{fields:?}: {answer:x?}");
    }
    // A program gives the pins to USB-OTG: RTC_CNTL_USB_CONF.
    let mut machine = Machine::new(Config::new("esp32s3", 4 << 20).unwrap()).unwrap();
    for (conf, wanted) in [(0, 1), (3 << 19, 0), (1 << 20, 1)] {
        machine.soc.store(0x6000_8120, 4, conf).unwrap();
        machine.soc.store(0x6003_8000, 4, 0x41).unwrap();
        let said = machine.take_events().iter().filter(|event| matches!(event.what, What::Usb(0x41))).count();
        assert_eq!(said, wanted, "{conf:#x}");
    }
}

fn answered() {
    let mut machine = Machine::new(Config::new("esp32s3", 4 << 20).unwrap()).unwrap();
    assert!(machine.soc.store(0x400c_0000, 4, 1).is_ok());
    assert_eq!(machine.soc.load(0x400c_0000, 4).unwrap(), 0);
    assert!(machine.soc.load(0x4010_0000, 4).is_err());
}

/// Ten requests from `first` on, one each `step` milliseconds: the first one or two are what the rate is measured by, whatever the ROM
/// was doing when they came.
fn answers_sync(id: &str) {
    for (first, step) in [(0, 3), (0, 100), (2, 100), (3, 50), (20, 100), (30, 10), (50, 7), (100, 100)] {
        let mut config = Config::new(id, 4 << 20).unwrap();
        config.download = true;
        let mut machine = Machine::new(config).unwrap();
        for attempt in 0..10 {
            let time = (first + step * attempt) * MILLISECOND;
            machine.input(time, Input::Uart { port: 0, bytes: sync() });
        }
        let sent = sent(&run(&mut machine, 1500 * MILLISECOND));
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains("waiting for download"), "{id}: {text}");
        // Each request is answered eight times.
        let answers = sent.windows(3).filter(|part| *part == [0xc0, 0x01, 0x08]).count();
        assert!(answers >= 6 * 8, "{id} from {first} ms on each {step} ms: {answers} {text}");
    }
}
