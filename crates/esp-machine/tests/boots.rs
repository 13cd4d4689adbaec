//! Real firmware: the chips' own ROM, ESP-IDF's bootloaders and applications of the corpus. A case whose file is not there
//! counts as ignored.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use esp_machine::{Config, Machine, What};
use esp_model::port::Port as _;
use esp_sim::SimDevice;
use libtest_mimic::{Arguments, Failed, Trial};
use sha2::{Digest as _, Sha256};

#[path = "support/bootable.rs"]
#[allow(dead_code)]
mod bootable;

/// What lies in flash, and what the console must show in this order.
struct Case {
    name: &'static str,
    chip: &'static str,
    /// Major × 100 + minor; 0 for the usual one.
    revision: u16,
    files: &'static [(u32, &'static str)],
    milliseconds: u64,
    console: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "a_c3_app_runs_from_the_rom_to_its_main_function",
        chip: "esp32c3",
        revision: 0,
        files: &[(0, "build/hello-c3/bootloader_bootloader.bin"), (0x1_0000, "build/hello-c3/hello_world.bin")],
        milliseconds: 200,
        console: &[
            "ESP-ROM:esp32c3-api1-20210207",
            "rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)",
            "boot: ESP-IDF v4.4-dirty 2nd stage bootloader",
            "Loaded app from partition at offset 0x10000",
            "spi_flash: detected chip: ",
            "cpu_start: Starting scheduler.",
            "uart: queue free spaces: 20",
            "Time: ",
        ],
    },
    Case {
        name: "a_c2_app_meets_no_sensor_panics_and_reboots",
        chip: "esp32c2",
        revision: 0,
        files: &[(0, "build/sht40-c2/bootloader_bootloader.bin"), (0x1_0000, "build/sht40-c2/sht40.bin")],
        milliseconds: 3000,
        console: &["ESP-ROM:esp8684-api2-20220127", "Calling app_main()", "Rebooting...", "rst:0xc (RTC_SW_CPU_RST)"],
    },
    Case {
        name: "an_h2_app_scans_its_empty_bus",
        chip: "esp32h2",
        revision: 1,
        files: &[(0, "build/main-h2/bootloader_bootloader.bin"), (0x1_0000, "build/main-h2/main.bin")],
        milliseconds: 1500,
        console: &["ESP-ROM:esp32h2-20221101", "Loaded app from partition", "Calling app_main()"],
    },
    Case {
        name: "a_c6_bootloader_refuses_an_app_made_for_other_pages",
        chip: "esp32c6",
        revision: 0,
        files: &[
            (0, "wild/esp32c6-zigbee-vital-gateway/bootloader.bin"),
            (0x8000, "wild/esp32c6-zigbee-vital-gateway/partition-table.bin"),
            (0x1_0000, "wild/esp32c6-zigbee-vital-gateway/zigbee-vital-sensor.bin"),
        ],
        milliseconds: 30,
        console: &[
            "ESP-ROM:esp32c6-20220919",
            "Segment 0 load address 0x42128020, doesn't match data 0x00010020",
            "rst:0x3 (LP_SW_HPSYS)",
        ],
    },
];

/// It asks the external RAM what it is, tests all of it and adds it to its heap.
static EXTERNAL_RAM: Case = Case {
    name: "an_esp32_app_tests_its_external_ram_and_comes_to_its_main_function",
    chip: "esp32",
    revision: 0,
    files: &[
        (0x1000, "wild/squeezelite-esp32-install/bootloader.bin"),
        (0x8000, "wild/squeezelite-esp32-install/partition-table.bin"),
        (0xd000, "wild/squeezelite-esp32-install/ota_data_initial.bin"),
        (0x1_0000, "wild/squeezelite-esp32-install/recovery.bin"),
    ],
    milliseconds: 240,
    console: &[
        "ets Jul 29 2019",
        "spiram: Found 64MBit SPI RAM device",
        "spiram: SPI SRAM memory test OK",
        "of external SPI memory to heap allocator",
        "Starting app_main",
    ],
};

/// esptool's programs for `load-ram`: the ROM loads them from the bootloader's place as well.
/// (That of the ESP32-C3 has its text where the ROM's stack is when it starts from flash.)
const RAM_PROGRAMS: [(&str, u32, &str); 8] = [
    ("esp32", 0x1000, "image/esptool/helloworld-esp32.bin"),
    ("esp32s3", 0, "image/esptool/helloworld-esp32s3.bin"),
    ("esp32c2", 0, "image/esptool/helloworld-esp32c2.bin"),
    ("esp32c5", 0x2000, "image/esptool/helloworld-esp32c5.bin"),
    ("esp32c6", 0, "image/esptool/helloworld-esp32c6.bin"),
    ("esp32c61", 0, "image/esptool/helloworld-esp32c61.bin"),
    ("esp32h2", 0, "image/esptool/helloworld-esp32h2.bin"),
    ("esp32p4", 0x2000, "image/esptool/helloworld-esp32p4.bin"),
];

fn runs_ram_program(chip: &str, place: u32, file: &str) -> Result<(), Failed> {
    let mut config = Config::new(chip, 4 << 20).unwrap();
    config.flash.load(place, &std::fs::read(corpus(file)).unwrap());
    let (console, _) = run(&mut Machine::new(config).unwrap(), 30);
    if console.matches("Hello world!").count() < 2 { Err(format!("{chip}: {console}").into()) } else { Ok(()) }
}

/// Chips without an ESP-IDF program in the corpus: file of the published bootloader, and its place.
const BOOTLOADERS: [(&str, &str, u32); 4] = [
    ("esp32c5", "esp32c5-bootloader.bin", 0x2000),
    ("esp32c61", "esp32c61-bootloader.bin", 0),
    ("esp32p4", "esp32p4-v3-bootloader.bin", 0x2000),
    ("esp32s31", "esp32s31-bootloader.bin", 0x2000),
];

fn runs_bootloader(chip: &str, file: &str, place: u32) -> Result<(), Failed> {
    let Some(roms) = option_env!("ESP_ROM_FILES") else { return Err("no folder of ROMs".into()) };
    let mut config = Config::new(chip, 4 << 20).unwrap();
    config.flash.load(place, &std::fs::read(Path::new(roms).join("../bootloaders").join(file)).unwrap());
    config.flash.load(0x8000, &bootable::factory_table());
    let (console, _) = run(&mut Machine::new(config).unwrap(), 30);
    for wanted in ["2nd stage bootloader", "chip revision: v", "factory", "No bootable app partitions"] {
        if !console.contains(wanted) {
            return Err(format!("{chip}: no {wanted:?} in {console}").into());
        }
    }
    if console.contains("SHA-256 comparison failed") { Err(console.into()) } else { Ok(()) }
}

const C6_APP: &str = "wild/esp32c6-zigbee-vital-gateway/zigbee-vital-sensor.bin";
const C6_PARTITIONS: &str = "wild/esp32c6-zigbee-vital-gateway/partition-table.bin";

/// An image with these bytes changed, its checksum and hash made right again.
fn changed(mut image: Vec<u8>, changes: &[(usize, u8)], in_segments: bool) -> Vec<u8> {
    let end = image.len() - 32;
    for (at, value) in changes {
        if in_segments {
            image[end - 1] ^= image[*at] ^ value;
        }
        image[*at] = *value;
    }
    let hash = Sha256::digest(&image[..end]);
    image[end..].copy_from_slice(&hash);
    image
}

/// The program of the corpus is linked for pages of 32 KB and says nothing of it, and the bootloader beside it is for others:
/// its description gets the size, and a bootloader that reads it starts it. Wi-Fi's calibration then waits for the radio.
fn c6_app() -> Result<Machine, Failed> {
    let Some(roms) = option_env!("ESP_ROM_FILES") else { return Err("no folder of ROMs".into()) };
    let bootloader = std::fs::read(Path::new(roms).join("../bootloaders/esp32c6-bootloader.bin")).unwrap();
    let size = bootloader[3] & 0xf | 0x20;
    let mut config = Config::new("esp32c6", 4 << 20).unwrap();
    config.flash.load(0, &changed(bootloader, &[(3, size)], false));
    config.flash.load(0x8000, &std::fs::read(corpus(C6_PARTITIONS)).unwrap());
    config.flash.load(0x1_0000, &changed(std::fs::read(corpus(C6_APP)).unwrap(), &[(0xd4, 15)], true));
    Ok(Machine::new(config).unwrap())
}

/// What a program says, and its waits for the radio: register, place, and whether it was let through.
fn hear(machine: &mut Machine, milliseconds: u64) -> (String, Vec<(u32, u32, bool)>) {
    let end = milliseconds * 1_000_000_000;
    let (mut console, mut radio) = (Vec::new(), Vec::new());
    while machine.now() < end {
        machine.run(end);
        for event in machine.take_events() {
            match event.what {
                What::Uart { port: 0, byte } => console.push(byte),
                What::RadioNotEmulated { address, pc, let_through, .. } => radio.push((address, pc, let_through)),
                _ => {}
            }
        }
    }
    (String::from_utf8_lossy(&console).into_owned(), radio)
}

fn says_all(console: &str, wanted: &[&str]) -> Result<(), Failed> {
    match wanted.iter().find(|text| !console.contains(**text)) {
        Some(text) => Err(format!("no {text:?} in {console}").into()),
        None => Ok(()),
    }
}

fn c6_app_waits_for_the_radio() -> Result<(), Failed> {
    let (console, radio) = hear(&mut c6_app()?, 300);
    says_all(&console, &["ESP-ROM:esp32c6-20220919", "Calling app_main()", "wifi:Init", "phy_init: phy_version"])?;
    if console.contains("wifi:mode") {
        return Err("it went on".into());
    }
    match radio.as_slice() {
        [(address, pc, false)] if address >> 16 == 0x600a && pc >> 24 == 0x42 => Ok(()),
        other => Err(format!("{other:x?}").into()),
    }
}

/// With the setting its calibration ends, it looks for networks, finds none, and tries another one. It is still said.
fn c6_app_goes_on_without_a_network() -> Result<(), Failed> {
    let mut machine = c6_app()?;
    machine.soc.shared.radio.lets_through = true;
    let (console, radio) = hear(&mut machine, 3000);
    let wanted =
        ["Saving new calibration data", "wifi:mode : sta", "main: Scanne nach offenem WiFi", "main: Kein offenes Netz"];
    says_all(&console, &wanted)?;
    match radio.as_slice() {
        [(address, pc, true)] if address >> 16 == 0x600a && pc >> 24 == 0x42 => Ok(()),
        other => Err(format!("{other:x?}").into()),
    }
}

const RECOVERY: &str = "wild/squeezelite-esp32-install";

/// A program of ESP-IDF 4 with Wi-Fi on both cores: it calibrates and becomes an access point that nobody hears.
fn esp32_app_becomes_an_access_point() -> Result<(), Failed> {
    let mut config = Config::new("esp32", 16 << 20).unwrap();
    let files = [
        (0x1000, "bootloader.bin"),
        (0x8000, "partition-table.bin"),
        (0xd000, "ota_data_initial.bin"),
        (0x1_0000, "recovery.bin"),
    ];
    for (offset, file) in files {
        config.flash.load(offset, &std::fs::read(corpus(&format!("{RECOVERY}/{file}"))).unwrap());
    }
    let mut machine = Machine::new(config).unwrap();
    machine.soc.shared.radio.lets_through = true;
    let (console, radio) = hear(&mut machine, 2300);
    says_all(&console, &["phy: phy_version: 4390", "wifi:mode : null", "wifi_manager: AP SSID", "+ softAP"])?;
    if radio.iter().all(|wait| wait.2) && !radio.is_empty() { Ok(()) } else { Err(format!("{radio:x?}").into()) }
}

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

fn machine(case: &Case) -> Machine {
    let mut config = match case.revision {
        0 => Config::new(case.chip, 4 << 20),
        revision => Config::with_revision(case.chip, 4 << 20, revision),
    }
    .unwrap();
    config.flash.load(0x8000, &bootable::factory_table());
    for (offset, file) in case.files {
        config.flash.load(*offset, &std::fs::read(corpus(file)).unwrap());
    }
    Machine::new(config).unwrap()
}

/// The console's text, and a hash of all events with their times.
fn run(machine: &mut Machine, milliseconds: u64) -> (String, u64) {
    let mut console = Vec::new();
    let mut hasher = DefaultHasher::new();
    let end = milliseconds * 1_000_000_000;
    while machine.now() < end {
        machine.run(end);
        for event in machine.take_events() {
            event.hash(&mut hasher);
            if let What::Uart { port: 0, byte } = event.what {
                console.push(byte);
            }
        }
    }
    (String::from_utf8_lossy(&console).into_owned(), hasher.finish())
}

/// The console has what the case wants, in its order.
fn boots(case: &Case) -> Result<(), Failed> {
    let (console, _) = run(&mut machine(case), case.milliseconds);
    let mut rest = console.as_str();
    for wanted in case.console {
        let Some(at) = rest.find(wanted) else { return Err(format!("no {wanted:?} in {console}").into()) };
        rest = &rest[at + wanted.len()..];
    }
    Ok(())
}

fn repeats(case: &Case) -> Result<(), Failed> {
    let mut first = machine(case);
    run(&mut first, 10);
    let mut copy = first.clone();
    let (one, other) = (run(&mut first, 30), run(&mut copy, 30));
    let whole = run(&mut machine(case), 30).0;
    if one != other {
        return Err("a copy goes on differently".into());
    }
    if !whole.ends_with(&one.0) || one.0.is_empty() {
        return Err(format!("a second run differs: {whole} and {}", one.0).into());
    }
    Ok(())
}

/// A `sim://` device: the line resets the chip, and the app's own lines come over it.
fn console_over_a_port(case: &Case) -> Result<(), Failed> {
    let chip = esp_model::chip::by_name(case.chip).unwrap();
    let firmware = Some(esp_machine::firmware::firmware as esp_sim::firmware::MakeFirmware);
    let device = SimDevice::new(&esp_sim::Config { firmware, ..esp_sim::Config::new(chip, "boots") }, "sim://boots");
    device.with(|sim, now| {
        sim.flash().load(0x8000, &bootable::factory_table());
        for (offset, file) in case.files {
            sim.flash().load(*offset, &std::fs::read(corpus(file)).unwrap());
        }
        sim.power_cycle(now);
        assert!(sim.runs_firmware());
    });
    let mut port = device.open();
    let (mut console, mut buffer) = (Vec::new(), [0; 4096]);
    let end = port.now() + Duration::from_secs(2);
    while port.now() < end {
        let count = port.read(&mut buffer, Duration::from_millis(50)).unwrap_or(0);
        console.extend_from_slice(&buffer[..count]);
    }
    let console = String::from_utf8_lossy(&console);
    let mut rest = &*console;
    for wanted in case.console {
        let Some(at) = rest.find(wanted) else { return Err(format!("no {wanted:?} in {console}").into()) };
        rest = &rest[at + wanted.len()..];
    }
    Ok(())
}

/// The case whose program reads an SHT40 at address 0x44 by the command 0xfd: six bytes with checksums.
const SENSOR: usize = 1;
const SENSOR_THERE: &str = "[[i2c]]\naddress = 0x44\nregisters = { 0xfd = [0x66, 0x66, 0x93, 0x80, 0x00, 0xa2] }";

/// A device on the bus answers, and its messages are events; a reset and a power cut happen when the script says.
fn stimuli(case: &Case) -> Result<(), Failed> {
    let mut machine = machine(case);
    let script = format!("{SENSOR_THERE}\n[[reset]]\nat = 1.5\n[[power_cut]]\nat = 2.25");
    for (time, input) in esp_machine::stimuli::parse(&script, false)? {
        machine.input(time, input);
    }
    let (mut console, mut resets, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    while machine.now() < 3_000_000_000_000 {
        machine.run(3_000_000_000_000);
        for event in machine.take_events() {
            match event.what {
                What::Uart { port: 0, byte } => console.push(byte),
                What::Reset { .. } => resets.push(event.time / 1_000_000),
                What::I2c { message, .. } => messages.push(message),
                _ => {}
            }
        }
    }
    let console = String::from_utf8_lossy(&console);
    if !console.contains("Temperature: 25.00") || console.contains("abort()") {
        return Err(format!("no temperature, or a crash: {console}\n{messages:x?}").into());
    }
    if resets != [1_500_000, 2_250_000] {
        return Err(format!("resets at {resets:?} us").into());
    }
    let read = messages.iter().find(|message| message.read).ok_or("nothing was read")?;
    if !read.acknowledged || read.address != 0x44 || read.bytes != [0x66, 0x66, 0x93, 0x80, 0x00, 0xa2] {
        return Err(format!("{read:x?}").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut trials = Vec::new();
    if let Some(case) = CASES.get(SENSOR) {
        let missing = case.files.iter().any(|(_, file)| !corpus(file).is_file());
        let name = "a_c2_app_reads_its_sensor_from_a_script_and_restarts_when_it_says";
        trials.push(Trial::test(name, || stimuli(case)).with_ignored_flag(missing));
    }
    if let Some(case) = CASES.first() {
        let missing = case.files.iter().any(|(_, file)| !corpus(file).is_file());
        let name = "a_simulated_device_sends_the_apps_own_console";
        trials.push(Trial::test(name, || console_over_a_port(case)).with_ignored_flag(missing));
    }
    let missing = EXTERNAL_RAM.files.iter().any(|(_, file)| !corpus(file).is_file());
    trials.push(Trial::test(EXTERNAL_RAM.name, || boots(&EXTERNAL_RAM)).with_ignored_flag(missing));
    for (chip, place, file) in RAM_PROGRAMS {
        let missing = !corpus(file).is_file();
        let name = format!("the_rom_of_{chip}_runs_a_program_for_ram");
        trials.push(Trial::test(name, move || runs_ram_program(chip, place, file)).with_ignored_flag(missing));
    }
    for (chip, file, place) in BOOTLOADERS {
        let name = format!("the_bootloader_of_{chip}_reads_its_partitions_and_finds_no_app");
        trials.push(Trial::test(name, move || runs_bootloader(chip, file, place)));
    }
    let missing = !corpus(C6_APP).is_file() || !corpus(C6_PARTITIONS).is_file();
    let name = "a_c6_app_with_wifi_comes_to_its_main_function_and_waits_for_the_radio";
    trials.push(Trial::test(name, c6_app_waits_for_the_radio).with_ignored_flag(missing));
    let name = "a_c6_app_whose_calibration_may_end_goes_on_without_a_network";
    trials.push(Trial::test(name, c6_app_goes_on_without_a_network).with_ignored_flag(missing));
    let name = "an_esp32_app_whose_calibration_may_end_becomes_an_access_point";
    let missing = !corpus(RECOVERY).exists();
    trials.push(Trial::test(name, esp32_app_becomes_an_access_point).with_ignored_flag(missing));
    for case in CASES {
        let missing = case.files.iter().any(|(_, file)| !corpus(file).is_file());
        trials.push(Trial::test(case.name, || boots(case)).with_ignored_flag(missing));
        let name = format!("{}_runs_twice_alike_and_from_a_copy", case.chip);
        trials.push(Trial::test(name, || repeats(case)).with_ignored_flag(missing));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
