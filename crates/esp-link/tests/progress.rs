//! Progress moves while bytes flow: measured on the simulated line's clock.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use esp_link::Loader;
use esp_link::flash::{Part, WriteOptions};
use esp_link::options::{ConnectOptions, StubSource};
use esp_model::chip;
use esp_model::job::{Job, Progress};
use esp_sim::{Config, SimDevice};

/// What was reported, and when on the line's clock.
type Seen = Arc<Mutex<Vec<(Duration, Progress)>>>;

fn device(chip: &str) -> SimDevice {
    SimDevice::new(&Config::new(chip::by_name(chip).unwrap(), "progress"), format!("sim://{chip}-progress"))
}

fn connect(device: &SimDevice, baud: u32, stub: StubSource) -> Loader {
    let options = ConnectOptions { baud, stub, ..ConnectOptions::default() };
    Loader::connect(Box::new(device.open()), &options, &Job::new()).unwrap().0
}

/// A job that notes each report with the device's time.
fn watched(device: &SimDevice) -> (Job, Seen) {
    let seen = Seen::default();
    let (sink, clock) = (seen.clone(), device.clone());
    let job = Job::with_progress(move |progress| {
        let now = clock.with(|_, now| now);
        sink.lock().unwrap().push((now, progress));
    });
    (job, seen)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Longest time between two reports, and the reports.
fn longest_gap(seen: &Seen, end: Duration) -> (Duration, Vec<Progress>) {
    let seen = seen.lock().unwrap();
    let times: Vec<Duration> = seen.iter().map(|(at, _)| *at).chain([end]).collect();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    (gap, seen.iter().map(|(_, progress)| progress.clone()).collect())
}

fn now(device: &SimDevice) -> Duration {
    device.with(|_, now| now)
}

#[test]
fn writing_and_reading_report_at_least_every_second_at_115200_baud() {
    for (chip, stub) in [("esp32", StubSource::BuiltIn), ("esp32c3", StubSource::BuiltIn), ("esp32", StubSource::None)]
    {
        let device = device(chip);
        let mut loader = connect(&device, 115_200, stub.clone());
        let bytes = noise(600 * 1024);
        let (job, seen) = watched(&device);
        loader.write_flash(&job, &mut [Part::bytes(0x1_0000, bytes)], &WriteOptions::default()).unwrap();
        let (gap, reports) = longest_gap(&seen, now(&device));
        assert!(gap <= Duration::from_secs(2), "{chip} {stub:?}: no report for {gap:?} while writing");
        let flow: Vec<&Progress> = reports.iter().filter(|report| report.message.contains("KiB/s")).collect();
        assert!(flow.len() > 40, "{chip}: {reports:#?}");
        assert!(flow.iter().all(|report| report.message.contains(" s left") && report.message.contains(" of 600 KiB")));
        let done: Vec<u64> = flow.iter().map(|report| report.done).collect();
        assert!(done.is_sorted() && done[done.len() / 2] < 500 * 1024, "{done:?}");

        let (job, seen) = watched(&device);
        loader.read_flash_bytes(&job, 0x1_0000, 0x2_0000).unwrap();
        let (gap, _) = longest_gap(&seen, now(&device));
        assert!(gap <= Duration::from_secs(2), "{chip} {stub:?}: no report for {gap:?} while reading");
    }
}

/// Data that packs to almost nothing: few bytes on the line become much in flash.
#[test]
fn erasing_blank_stretches_reports_while_it_goes_on() {
    let device = device("esp32");
    let mut loader = connect(&device, 460_800, StubSource::BuiltIn);
    let mut bytes = noise(0x1000);
    bytes.resize(0x10_0000, 0xff);
    bytes.extend(noise(0x1000));
    loader.write_flash(&Job::new(), &mut [Part::bytes(0, noise(bytes.len()))], &WriteOptions::default()).unwrap();
    let (job, seen) = watched(&device);
    loader.write_flash(&job, &mut [Part::bytes(0, bytes)], &WriteOptions::default()).unwrap();
    let (gap, _) = longest_gap(&seen, now(&device));
    assert!(gap <= Duration::from_secs(2), "no report for {gap:?}");
}

/// What the tools do beside writing and reading: the whole flash is erased, files are verified, a region is compared block by
/// block, and what is there already is recognised.
#[test]
fn erasing_verifying_and_comparing_report_at_least_every_two_seconds_at_115200_baud() {
    for (chip, stub) in
        [("esp32", StubSource::BuiltIn), ("esp32c3", StubSource::BuiltIn), ("esp32c3", StubSource::None)]
    {
        let device = device(chip);
        let mut loader = connect(&device, 115_200, stub.clone());
        let bytes = noise(512 * 1024);
        let part = || [Part::bytes(0x1_0000, bytes.clone())];
        loader.write_flash(&Job::new(), &mut part(), &WriteOptions::default()).unwrap();
        let mut steadily = |what: &str, work: &mut dyn FnMut(&mut Loader, &Job)| {
            let (job, seen) = watched(&device);
            let began = now(&device);
            work(&mut loader, &job);
            let took = now(&device) - began;
            let (gap, reports) = longest_gap(&seen, now(&device));
            assert!(gap <= Duration::from_secs(2), "{chip} {stub:?}: no report for {gap:?} while {what} ({took:?})");
            assert!(reports.len() as u64 >= took.as_secs(), "{chip} {stub:?}: {} reports in {took:?}", reports.len());
        };
        steadily("verifying", &mut |loader, job| {
            assert_eq!(loader.verify(job, &mut part()[0]).unwrap(), None);
        });
        steadily("comparing", &mut |loader, job| {
            let written = loader.write_flash(job, &mut part(), &WriteOptions::default()).unwrap();
            assert_eq!(written.written_bytes, 0, "all of it is there already");
        });
        steadily("reading blocks", &mut |loader, job| {
            loader.read_blocks(job, 0, 0x10_0000, |_| Ok(())).unwrap();
        });
        steadily("erasing", &mut |loader, job| {
            loader.erase_all(job).unwrap();
        });
    }
}
