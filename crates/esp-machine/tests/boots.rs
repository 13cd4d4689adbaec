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

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

/// nvs, phy_init and a factory app at 0x10000.
fn partitions() -> Vec<u8> {
    let entry = |kind: u8, sub: u8, offset: u32, size: u32, name: &str| {
        let mut bytes = vec![0xaa, 0x50, kind, sub];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(name.bytes());
        bytes.resize(32, 0);
        bytes
    };
    let entries = [
        entry(1, 2, 0x9000, 0x6000, "nvs"),
        entry(1, 1, 0xf000, 0x1000, "phy_init"),
        entry(0, 0, 0x1_0000, 0x10_0000, "factory"),
    ];
    entries.concat()
}

fn machine(case: &Case) -> Machine {
    let mut config = match case.revision {
        0 => Config::new(case.chip, 4 << 20),
        revision => Config::with_revision(case.chip, 4 << 20, revision),
    }
    .unwrap();
    config.flash.load(0x8000, &partitions());
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
        sim.flash().load(0x8000, &partitions());
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

fn main() -> ExitCode {
    let mut trials = Vec::new();
    if let Some(case) = CASES.first() {
        let missing = case.files.iter().any(|(_, file)| !corpus(file).is_file());
        let name = "a_simulated_device_sends_the_apps_own_console";
        trials.push(Trial::test(name, || console_over_a_port(case)).with_ignored_flag(missing));
    }
    for case in CASES {
        let missing = case.files.iter().any(|(_, file)| !corpus(file).is_file());
        trials.push(Trial::test(case.name, || boots(case)).with_ignored_flag(missing));
        let name = format!("{}_runs_twice_alike_and_from_a_copy", case.chip);
        trials.push(Trial::test(name, || repeats(case)).with_ignored_flag(missing));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
