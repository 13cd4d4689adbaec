//! Station processes that are killed at random points (SIGKILL), and started again until all units are done.
//!
//! A "device" is a file that holds what was written to it. Afterwards every device holds exactly the value that the
//! ledger says, no value is on two devices, and whatever a station had reported as verified is verified.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use esp_ledger::{Ledger, Outcome, State, Unit, Values};

use crate::server::Server;

/// Units that a station makes at least; it goes on until it is told to stop.
const UNITS: u32 = 24;

fn mac(station: usize, n: u32) -> String {
    format!("240ac4{station:02x}{n:04x}")
}

/// Runs in a process of its own; does nothing when it was not started as a station.
pub fn be_a_station() {
    let Ok(url) = std::env::var("LEDGER_STATION_URL") else { return };
    let dir = PathBuf::from(std::env::var("LEDGER_STATION_DIR").unwrap());
    let station: usize = std::env::var("LEDGER_STATION").unwrap().parse().unwrap();
    let mut ledger = Ledger::open(&url, &format!("station {station}"), "this computer").unwrap();
    // Where the one before it was killed.
    let place = dir.join(format!("at-{station}"));
    let begin = fs::read_to_string(&place).ok().and_then(|text| text.parse().ok()).unwrap_or(0u32);
    for n in begin.. {
        fs::write(dir.join(format!("new-{station}")), n.to_string()).unwrap();
        fs::rename(dir.join(format!("new-{station}")), &place).unwrap();
        produce(&mut ledger, &dir, &mac(station, n));
        // Asked behind the unit, never before it: the one that was in work when the station was killed is not done yet.
        if n + 1 >= UNITS && dir.join("stop").exists() {
            break;
        }
    }
    File::create(dir.join(format!("done-{station}"))).unwrap();
}

fn produce(ledger: &mut Ledger, dir: &Path, mac: &str) {
    let unit = Unit::new(mac);
    let device = dir.join(format!("device-{mac}"));
    let got = ledger.reserve("serials", &unit).unwrap();
    if got.state >= State::Verified {
        return;
    }
    let run = ledger.begin_run(&unit, None).unwrap();
    if got.state < State::Written {
        ledger.advance(got.id, &unit, State::Writing).unwrap();
        // The device keeps the first value permanently, as an eFuse would.
        if !device.exists() {
            let half = dir.join(format!("half-{mac}"));
            fs::write(&half, &got.value).unwrap();
            fs::rename(&half, &device).unwrap();
        }
        ledger.advance(got.id, &unit, State::Written).unwrap();
    }
    assert_eq!(fs::read_to_string(&device).unwrap(), got.value, "the device holds another value");
    ledger.advance(got.id, &unit, State::Verified).unwrap();
    let mut log = OpenOptions::new().append(true).create(true).open(dir.join("verified")).unwrap();
    // In one piece: stations share the file, and may die between two.
    log.write_all(format!("{mac} {}\n", got.value).as_bytes()).unwrap();
    log.sync_all().unwrap();
    ledger.end_run(run, Outcome::Passed).unwrap();
}

fn start(url: &str, dir: &Path, station: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "station_process", "--nocapture"])
        .env("LEDGER_STATION_URL", url)
        .env("LEDGER_STATION_DIR", dir)
        .env("LEDGER_STATION", station.to_string())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join(format!("errors-{station}"))).unwrap())
        .spawn()
        .unwrap()
}

/// Small and repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Starts four stations and kills them again and again. `between` may do worse.
fn torment(urls: &[String], dir: &Path, kills: u32, mut between: impl FnMut(u32)) -> u32 {
    let mut random = Random(0x1ed9e5);
    let mut killed = 0;
    let mut stations: Vec<Child> = (0..4).map(|i| start(&urls[i], dir, i)).collect();
    for round in 0..kills {
        thread::sleep(Duration::from_millis(3 + random.below(40)));
        between(round);
        let i = random.below(4) as usize;
        let _ = stations[i].kill();
        let _ = stations[i].wait();
        killed += 1;
        stations[i] = start(&urls[i], dir, i);
    }
    // All at once, and told to stop before they are up again: each has a unit to finish first.
    for (i, station) in stations.iter_mut().enumerate() {
        let _ = station.kill();
        let _ = station.wait();
        killed += 1;
        *station = start(&urls[i], dir, i);
    }
    File::create(dir.join("stop")).unwrap();
    for (i, station) in stations.iter_mut().enumerate() {
        let status = station.wait().unwrap();
        let mut done = status.success() && dir.join(format!("done-{i}")).exists();
        // A database that was down for long makes a station give up; somebody starts it again.
        for _ in 0..20 {
            if !done {
                done = start(&urls[i], dir, i).wait().unwrap().success();
            }
        }
        let errors = fs::read_to_string(dir.join(format!("errors-{i}"))).unwrap();
        assert!(done, "station {i}: {errors}");
    }
    killed
}

/// What must hold after any number of crashes.
fn check(ledgers: &mut [Ledger], dir: &Path) {
    let mut of_device = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(mac) = name.strip_prefix("device-") {
            of_device.insert(mac.to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
    assert!(of_device.len() >= 4 * UNITS as usize);
    let distinct: BTreeSet<&String> = of_device.values().collect();
    assert_eq!(distinct.len(), of_device.len(), "a value is on two devices");
    let mut live = BTreeMap::new();
    for ledger in ledgers.iter_mut() {
        assert_eq!(ledger.verify().unwrap(), []);
        for mac in of_device.keys() {
            let own = ledger.of_unit(&Unit::new(mac)).unwrap();
            for identity in own.into_iter().filter(|identity| identity.state != State::Void) {
                let state = identity.state;
                assert_eq!(state, State::Verified, "{mac} {}: {:?}", identity.value, told_of(ledger, &identity.value));
                assert!(live.insert(mac.clone(), identity.value).is_none(), "{mac} has two identities");
            }
        }
    }
    assert_eq!(live, of_device);
    let reported = fs::read_to_string(dir.join("verified")).unwrap();
    for line in reported.lines().filter(|line| line.contains(' ')) {
        let (mac, value) = line.split_once(' ').unwrap();
        assert_eq!(live.get(mac).map(String::as_str), Some(value), "a verified unit was lost");
    }
}

/// What the chain of events says of a value.
fn told_of(ledger: &mut Ledger, value: &str) -> Vec<String> {
    let events = ledger.events(None).unwrap().into_iter().filter(|event| event.body.contains(value));
    events.map(|event| format!("{} {} {} {}", event.station, event.seq, event.kind, event.body)).collect()
}

/// The long form has 1,000 points, as `MCP_ESPTOOL_LONG=1` asks for.
fn kills() -> u32 {
    let usual = if crate::is_long() { 1000 } else { 40 };
    std::env::var("LEDGER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Four SQLite ledgers in a folder, each with a block of its own, as a centre would have lent it.
fn four_files(dir: &Path, count: u64) -> Vec<String> {
    let urls: Vec<String> = (0..4).map(|i| dir.join(format!("{i}.db")).display().to_string()).collect();
    for (i, url) in urls.iter().enumerate() {
        let block = Values::Serial { prefix: "SN-".into(), first: i as u64 * 10_000, width: 6, count };
        let mut ledger = Ledger::open(url, &format!("station {i}"), "this computer").unwrap();
        ledger.add_pool("serials", "serial", &block).unwrap();
    }
    urls
}

/// Values for a short test.
const SMALL: u64 = 500;

fn pool() -> u64 {
    if crate::is_long() { 9_000 } else { SMALL }
}

fn check_files(urls: &[String], dir: &Path) {
    let open = |(i, url): (usize, &String)| Ledger::open(url, &format!("station {i}"), "this computer").unwrap();
    let mut ledgers: Vec<Ledger> = urls.iter().enumerate().map(open).collect();
    check(&mut ledgers, dir);
}

pub fn sqlite_stations_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let urls = four_files(dir.path(), pool());
    let killed = torment(&urls, dir.path(), kills(), |_| {});
    check_files(&urls, dir.path());
    eprintln!("SQLite: {killed} kills, every unit has one identity");
}

pub fn postgres_stations_survive_kills(server: &mut Server) {
    let dir = tempfile::tempdir().unwrap();
    let url = server.database("stations");
    let mut ledger = Ledger::open(&url, "centre", "").unwrap();
    let all = Values::Serial { prefix: "SN-".into(), first: 0, width: 6, count: 4 * pool() };
    ledger.add_pool("serials", "serial", &all).unwrap();
    let urls = vec![url.clone(); 4];
    let rounds = kills();
    let crashes = if crate::is_long() { 10 } else { 2 };
    let killed = torment(&urls, dir.path(), rounds, |round| {
        if round > 0 && round % (rounds / (crashes + 1)) == 0 {
            server.crash_and_restart();
        }
    });
    check(&mut [Ledger::open(&url, "centre", "").unwrap()], dir.path());
    eprintln!("PostgreSQL: {killed} kills and {crashes} crashes of the server, every unit has one identity");
}

/// Four SQLite ledgers on a disk that is full for a while.
pub fn sqlite_stations_survive_a_full_disk() {
    let Some(disk) = Disk::mount(64) else { return };
    let dir = tempfile::tempdir().unwrap();
    let urls = four_files(disk.path(), SMALL);
    let killed = torment(&urls, dir.path(), 30, |round| disk.weather(round, 30));
    check_files(&urls, dir.path());
    eprintln!("SQLite: {killed} kills and a full disk, every unit has one identity");
}

/// A PostgreSQL server whose disk is full for a while.
pub fn postgres_stations_survive_a_full_disk() {
    let Some(disk) = Disk::mount(160) else { return };
    let Some(mut server) = Server::start_in(disk.path()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = server.database("stations");
    let mut ledger = Ledger::open(&url, "centre", "").unwrap();
    let all = Values::Serial { prefix: "SN-".into(), first: 0, width: 6, count: 4 * SMALL };
    ledger.add_pool("serials", "serial", &all).unwrap();
    let urls = vec![url.clone(); 4];
    let killed = torment(&urls, dir.path(), 30, |round| {
        disk.weather(round, 30);
        if round == 15 {
            // It may have given up without room for its log.
            server.run_again();
        }
    });
    check(&mut [Ledger::open(&url, "centre", "").unwrap()], dir.path());
    eprintln!("PostgreSQL: {killed} kills and a full disk, every unit has one identity");
}

/// A small disk of the test's own.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// None, said aloud: this user may not mount.
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("ledger-disk").tempdir_in("/tmp").unwrap();
        let size = format!("size={megabytes}m,mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { dir });
        }
        eprintln!("skipped: 1 test with a full disk: this user may not mount one");
        None
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Full after a third of the rounds, free again at half of them.
    fn weather(&self, round: u32, rounds: u32) {
        let ballast = self.path().join("ballast");
        if round == rounds / 3 {
            let mut file = File::create(&ballast).unwrap();
            while file.write_all(&[0; 4096]).is_ok() {}
        }
        if round == rounds / 2 {
            fs::remove_file(&ballast).unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
