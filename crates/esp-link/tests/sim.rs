//! The client against the simulator, in virtual time: every chip, ROM and stub, and a bad line.

#![allow(clippy::unwrap_used)]

use esp_link::flash::{Compress, Part, WriteOptions};
use esp_link::options::StubSource;
use esp_link::options::{Before, ConnectOptions};
use esp_link::{Loader, LoaderError, Mode};
use esp_model::chip::{self, Chip};
use esp_model::job::Job;
use esp_sim::{Config, Faults, SimDevice};

/// Bytes that neither compress to nothing nor repeat, with a blank stretch in them.
fn firmware(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let mut bytes: Vec<u8> = (0..length).map(|_| (next() % 23) as u8 * 11).collect();
    if length > 0x8000 {
        bytes[0x3000..0x5000].fill(0xff);
    }
    bytes
}

fn device(chip: &'static Chip, faults: Faults) -> SimDevice {
    let mut config = Config::new(chip, "test");
    config.faults = faults;
    SimDevice::new(&config, format!("sim://{}-test", chip.id))
}

fn connect(device: &SimDevice, stub: StubSource) -> Loader {
    let options = ConnectOptions { stub, ..ConnectOptions::default() };
    let connected = Loader::connect(Box::new(device.open()), &options, &Job::new());
    connected.unwrap_or_else(|error| panic!("{}: {error:?}", device.url())).0
}

fn write(loader: &mut Loader, address: u32, bytes: &[u8]) -> esp_link::flash::WriteReport {
    let mut parts = [Part::bytes(address, bytes)];
    loader.write_flash(&Job::new(), &mut parts, &WriteOptions::default()).unwrap()
}

/// What really is in the simulated flash.
fn flash_of(device: &SimDevice, address: u32, length: usize) -> Vec<u8> {
    device.with(|chip, _| chip.flash().read(address, length).unwrap())
}

#[test]
fn every_chip_is_recognised_written_read_and_erased_by_rom_and_stub() {
    for chip in chip::all() {
        for stub in [StubSource::None, StubSource::BuiltIn] {
            let device = device(chip, Faults::default());
            let mut loader = connect(&device, stub.clone());
            assert_eq!(loader.chip().id, chip.id);
            let has_stub = stub != StubSource::None && esp_link::stub::Stub::is_built_in(chip);
            assert_eq!(loader.mode() == Mode::Stub, has_stub, "{}", chip.id);

            let bytes = firmware(0x1_2345, 7);
            let report = write(&mut loader, 0x1_0000, &bytes);
            assert_eq!(flash_of(&device, 0x1_0000, bytes.len()), bytes, "{} {stub:?}", chip.id);
            if !loader.can_verify() {
                assert!(!report.verified);
                continue;
            }
            assert!(report.verified, "{}", chip.id);
            assert_eq!(loader.read_flash_bytes(&Job::new(), 0x1_0000, 0x5000).unwrap(), bytes[..0x5000]);
            assert_eq!(loader.verify(&Job::new(), &mut Part::bytes(0x1_0000, bytes.clone())).unwrap(), None);
            loader.erase_region(&Job::new(), 0x1_1000, 0x2000).unwrap();
            let differs = loader.verify(&Job::new(), &mut Part::bytes(0x1_0000, bytes.clone())).unwrap().unwrap();
            assert_eq!((differs.address, differs.kind), (0x1_1000, esp_link::flash::Kind::Blank));
        }
    }
}

/// On a line without modem lines the stub of the call before still runs.
#[test]
fn a_stub_that_runs_already_is_used() {
    for chip in chip::all().iter().filter(|chip| esp_link::stub::Stub::is_built_in(chip)) {
        let device = device(chip, Faults::default());
        connect(&device, StubSource::BuiltIn);
        let options = ConnectOptions { before: Before::NoReset, ..ConnectOptions::default() };
        let connected = Loader::connect(Box::new(device.open()), &options, &Job::new());
        let (loader, report) = connected.unwrap_or_else(|error| panic!("{}: {error:?}", chip.id));
        assert_eq!((loader.mode(), loader.chip().id), (Mode::Stub, chip.id));
        assert!(report.attempts.len() <= 2, "{}: {:?}", chip.id, report.attempts);
    }
}

#[test]
fn only_sectors_that_differ_are_sent() {
    let device = device(chip::by_name("esp32").unwrap(), Faults::default());
    let mut loader = connect(&device, StubSource::BuiltIn);
    let mut bytes = firmware(0x10_0000, 3);
    write(&mut loader, 0x1_0000, &bytes);
    assert_eq!(write(&mut loader, 0x1_0000, &bytes).written_bytes, 0);
    bytes[0x8_1234] ^= 1;
    let report = write(&mut loader, 0x1_0000, &bytes);
    assert_eq!(report.written_bytes, 0x1000);
    assert_eq!(flash_of(&device, 0x1_0000, bytes.len()), bytes);
}

#[test]
fn an_unaligned_part_keeps_what_stands_before_it() {
    let device = device(chip::by_name("esp32c3").unwrap(), Faults::default());
    let mut loader = connect(&device, StubSource::BuiltIn);
    write(&mut loader, 0x2000, &[0x11; 0x1000]);
    write(&mut loader, 0x2010, &[0x22; 0x20]);
    assert_eq!(flash_of(&device, 0x2000, 0x10), [0x11; 0x10]);
    assert_eq!(flash_of(&device, 0x2010, 0x20), [0x22; 0x20]);
}

#[test]
fn nothing_is_written_beyond_the_end() {
    let device = device(chip::by_name("esp32c3").unwrap(), Faults::default());
    let mut loader = connect(&device, StubSource::BuiltIn);
    let mut parts = [Part::bytes(0, [1; 16]), Part::bytes((4 << 20) - 8, [1; 16])];
    let error = loader.write_flash(&Job::new(), &mut parts, &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, LoaderError::Range(_)), "{error}");
    assert_eq!(flash_of(&device, 0, 16), [0xff; 16]);
}

#[test]
fn secure_download_mode_is_recognised_and_its_limits_are_named() {
    let device = device(chip::by_name("esp32c3").unwrap(), Faults::default());
    device.with(|chip, _| chip.efuse().set("ENABLE_SECURITY_DOWNLOAD", &[1]));
    let mut loader = connect(&device, StubSource::BuiltIn);
    assert_eq!(loader.mode(), Mode::SecureDownload);
    assert!(loader.identity().is_none());
    let bytes = firmware(0x8000, 5);
    let mut parts = [Part::bytes(0x1_0000, bytes.clone())];
    // The flash cannot be asked for its size here.
    let error = loader.write_flash(&Job::new(), &mut parts, &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, LoaderError::FlashSize { .. } | LoaderError::Unsupported { .. }), "{error}");
    let options = WriteOptions { flash_size: Some(4 << 20), ..WriteOptions::default() };
    assert!(loader.write_flash(&Job::new(), &mut parts, &options).unwrap().verified);
    assert_eq!(flash_of(&device, 0x1_0000, bytes.len()), bytes);
    let error = loader.read_flash_bytes(&Job::new(), 0x1_0000, 16).unwrap_err();
    assert!(matches!(error, LoaderError::Unsupported { .. }), "{error}");
}

#[test]
fn the_stub_starts_on_every_chip_with_secure_boot() {
    for chip in chip::all().iter().filter(|chip| esp_link::stub::Stub::is_built_in(chip)) {
        let device = device(chip, Faults::default());
        for scheme in &chip.security.secure_boot {
            device.with(|chip, _| chip.efuse().set(&scheme.enable, &[1]));
        }
        let mut loader = connect(&device, StubSource::BuiltIn);
        assert_eq!(loader.mode(), Mode::Stub, "{}", chip.id);
        if let Some(pointer) = chip.rom.secure_boot_pointer {
            assert_eq!(loader.read_reg(&Job::new(), pointer).unwrap(), 0, "the ROM's pointer was not put back");
        }
    }
}

#[test]
fn a_loader_that_crashes_is_started_again_and_the_work_goes_on() {
    let bytes = firmware(0x4_0000, 11);
    for (chip, stub) in
        [("esp32", StubSource::BuiltIn), ("esp32s3", StubSource::BuiltIn), ("esp32c3", StubSource::None)]
    {
        let crashing = |after| {
            let device = device(chip::by_name(chip).unwrap(), Faults { crash_after: Some(after), ..Faults::default() });
            device.with(|chip, _| chip.flash().load(0x8_0000, &bytes));
            device
        };
        let mut loader = connect(&crashing(u64::MAX), stub.clone());
        loader.attach_flash(&Job::new(), None).unwrap();
        let connected = loader.stats().commands;
        for after in [1, 8, 20] {
            let device = crashing(connected + after);
            let report = write(&mut connect(&device, stub.clone()), 0x1_0000, &bytes);
            assert!(report.verified, "{chip} {after}: {report:?}");
            assert_eq!(flash_of(&device, 0x1_0000, bytes.len()), bytes, "{chip} {after}");
        }
        let mut loader = connect(&crashing(connected + 3), stub.clone());
        assert_eq!(loader.read_flash_bytes(&Job::new(), 0x8_0000, 0x4_0000).unwrap(), bytes, "{chip}");
    }
}

#[test]
fn a_cancelled_write_can_be_resumed() {
    let device = device(chip::by_name("esp32s3").unwrap(), Faults::default());
    let mut loader = connect(&device, StubSource::BuiltIn);
    let bytes = firmware(0x30_0000, 9);
    let stop = std::sync::Arc::new(std::sync::OnceLock::<Job>::new());
    let seen = stop.clone();
    let job = Job::with_progress(move |progress| {
        if progress.message.starts_with("writing") && progress.done > 0x10_0000 {
            seen.get().unwrap().cancel();
        }
    });
    stop.set(job.clone()).unwrap();
    let mut parts = [Part::bytes(0, bytes.clone())];
    let error = loader.write_flash(&job, &mut parts, &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, LoaderError::Cancelled), "{error}");
    let report = write(&mut loader, 0, &bytes);
    assert!(report.skipped_bytes >= 0x10_0000, "{report:?}");
    assert_eq!(flash_of(&device, 0, bytes.len()), bytes);
}

/// Drops, duplicates and flips bytes on both ways, each with a chance of 1e-4: the flash is right or an error says so.
#[test]
fn a_bad_line_never_gives_a_false_success() {
    let runs: u64 = if std::env::var_os("MCP_ESPTOOL_LONG").is_some() { 10_000 } else { 1_000 };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let seeds = (first..runs).step_by(threads as usize);
                scope.spawn(move || seeds.filter_map(|seed| fault_run(seed).err()).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    // A client that always gives up would pass the checks of each run.
    assert!(failures.len() as u64 * 10 <= runs, "{} of {runs} runs gave up: {failures:#?}", failures.len());
}

/// One write and read over a damaging line. `Err` when the client gave up, which it may.
fn fault_run(seed: u64) -> Result<(), String> {
    let chips = chip::all();
    let chip = &chips[seed as usize % chips.len()];
    let mut config = Config::new(chip, "fault");
    config.faults = "line=0.0001".parse().unwrap();
    config.seed = seed;
    let device = SimDevice::new(&config, "sim://fault");
    let stub = if seed.is_multiple_of(3) { StubSource::None } else { StubSource::BuiltIn };
    let bytes = firmware(0x6000, seed as u32);
    let outcome = try_write(&device, stub, &bytes);
    let now = esp_model::port::Port::now(&device.open());
    assert!(now < std::time::Duration::from_secs(3600), "{} seed {seed}: hung for {now:?}", chip.id);
    let (read, verified) = outcome.map_err(|error| format!("{} seed {seed}: {error}", chip.id))?;
    let really = flash_of(&device, 0x1_0000, bytes.len());
    assert!(!verified || really == bytes, "{} seed {seed}: false success", chip.id);
    assert!(read.is_none_or(|read| read == really), "{} seed {seed}: read other data", chip.id);
    Ok(())
}

type Outcome = Result<(Option<Vec<u8>>, bool), Box<dyn std::error::Error>>;

fn try_write(device: &SimDevice, stub: StubSource, bytes: &[u8]) -> Outcome {
    let options = ConnectOptions { stub, ..ConnectOptions::default() };
    let job = Job::new();
    let (mut loader, _) = Loader::connect(Box::new(device.open()), &options, &job)?;
    let mut parts = [Part::bytes(0x1_0000, bytes)];
    let options = WriteOptions { compress: Compress::Auto, ..WriteOptions::default() };
    let report = loader.write_flash(&job, &mut parts, &options)?;
    let read = match loader.can_verify() {
        true => Some(loader.read_flash_bytes(&job, 0x1_0000, bytes.len() as u32)?),
        false => None,
    };
    Ok((read, report.verified))
}

#[test]
fn flash_in_the_package_is_found_where_efuses_say() {
    for chip in chip::all().iter().filter(|chip| !chip.spi.pin_efuses.is_empty()) {
        for stub in [StubSource::None, StubSource::BuiltIn] {
            let device = device(chip, Faults::default());
            for (value, name) in (6..).zip(&chip.spi.pin_efuses) {
                device.with(|chip, _| chip.efuse().set(name, &[value]));
            }
            let mut loader = connect(&device, stub);
            assert!(loader.attach_flash(&Job::new(), None).is_ok(), "{}", chip.id);
        }
    }
}
