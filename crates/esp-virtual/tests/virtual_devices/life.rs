use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use esp_link::port::{OpenOptions, PortUrl};
use esp_model::port::Port;
use esp_virtual::control::Ask;
use esp_virtual::discover::{self, Found, Places};
use esp_virtual::instance::{Backend, Forward};
use esp_virtual::manager::Status;
use esp_virtual::{BootMode, Config, Manager, VirtualError, files};
use libtest_mimic::{Failed, Trial};

use super::again;

pub fn trials() -> Vec<Trial> {
    let all: Vec<(&str, fn())> = vec![
        ("starts, speaks and stops", starts_speaks_and_stops),
        ("the console is there from its first byte", console_from_the_first_byte),
        ("modem lines restart it as they do a board", modem_lines_restart),
        ("the plain line carries bytes", plain_line),
        ("a flood of output does not stop it", noisy),
        ("a slow start is waited for", slow),
        ("a death is told with its reason, and mended by a restart", dies),
        ("a death at the start leaves nothing", dies_at_the_start),
        ("ends one that ignores quit and TERM", ignores_everything),
        ("its death by SIGKILL of the starter", starter_killed),
        ("its death by SIGKILL of the host", host_killed),
        ("one that is kept outlives its starter", kept),
        ("ports that are taken are named", port_clashes),
        ("options that the chip lacks are refused", options),
        ("wrong flash sizes are refused", flash_sizes),
        ("two managers and twenty devices", twenty_in_parallel),
        ("no more than the limit", limit),
        ("files persist when asked, snapshots come back", files_and_snapshots),
        ("older names of the eFuse driver", old_efuse_driver),
        ("a path with a comma", comma),
        ("a missing library is named with its package", missing_library),
        ("finds what is installed and asks it", discovery),
        ("ids are names", ids),
        ("a full disk is told, and nothing is left on it", disk_full),
    ];
    all.into_iter()
        .map(|(name, body)| {
            Trial::test(name, move || {
                std::panic::catch_unwind(body).map_err(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    Failed::from(text.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
                })
            })
        })
        .collect()
}

const SOON: Duration = Duration::from_secs(20);

/// A stand-in of its own kind and a manager.
struct World {
    dir: tempfile::TempDir,
    program: PathBuf,
    manager: Manager,
}

fn manager(root: &Path, limit: usize) -> Manager {
    Manager::new(root, limit, |dir| {
        let mut command = again();
        command.arg("host").arg(dir);
        command
    })
}

fn world(behaviour: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("qemu-system-riscv32");
    symlink(std::env::current_exe().unwrap(), &program).unwrap();
    fs::write(bin.join("behaviour"), behaviour).unwrap();
    World { manager: manager(&dir.path().join("devices"), 40), program, dir }
}

impl World {
    fn config(&self) -> Config {
        Config { program: Some(self.program.clone()), ..Config::new("", "esp32c3", Backend::Qemu) }
    }

    fn start(&self) -> Status {
        self.manager.start(self.config(), b"\xe9flash", &[0; 1024]).unwrap()
    }

    fn console(&self, id: &str) -> String {
        let answer = self.manager.ask(id, Ask::Console { from: 0, limit: 1 << 20 }).unwrap();
        assert_eq!(answer.console_from, 0);
        String::from_utf8(answer.console).unwrap()
    }

    fn wait_for(&self, id: &str, text: &str) {
        wait(|| self.console(id).contains(text), text);
    }

    /// Nothing is left: no device, no directory, none of these processes.
    fn is_clean(&self, pids: &[u32]) {
        wait(|| pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}/fd")).exists() || is_zombie(*pid)), "ends");
        assert_eq!(self.manager.list().unwrap(), []);
        let left: Vec<_> = fs::read_dir(self.dir.path().join("devices")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

fn wait(mut done: impl FnMut() -> bool, what: &str) {
    let until = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pids(status: &Status) -> Vec<u32> {
    vec![status.record.as_ref().unwrap().pid, status.about.emulator_pid.unwrap()]
}

fn unlocked() -> OpenOptions {
    OpenOptions { locks: None, ..OpenOptions::default() }
}

fn starts_speaks_and_stops() {
    let world = world("");
    let status = world.start();
    assert_eq!(status.config.id, "esp32c3-1");
    assert!(status.about.running);
    assert_eq!(status.about.boot_mode, Some(BootMode::Download));
    assert_eq!(status.about.version.as_deref(), Some("9.2.2"));
    assert_eq!(fs::read(status.dir.join("flash.bin")).unwrap().len(), 4 << 20);
    assert_eq!(world.manager.list().unwrap().len(), 1);

    let mut port = world.manager.open("esp32c3-1", &unlocked()).unwrap();
    assert!(port.info().is_virtual && port.info().modem_lines);
    assert_eq!(port.info().url, "qemu://esp32c3-1");
    port.write(b"hello \xff").unwrap();
    let (mut got, mut buf) = (Vec::new(), [0; 64]);
    while !got.ends_with(b"HELLO \xff") {
        let count = port.read(&mut buf, SOON).unwrap();
        assert!(count > 0);
        got.extend_from_slice(&buf[..count]);
    }
    world.manager.stop("esp32c3-1").unwrap();
    assert!(port.read(&mut buf, SOON).is_err(), "the line is gone");
    assert!(matches!(world.manager.stop("esp32c3-1"), Err(VirtualError::Unknown(_))));
    world.is_clean(&pids(&status));
}

fn console_from_the_first_byte() {
    let world = world("");
    let status = world.start();
    world.wait_for(&status.config.id, "flash:[e9, 66, 6c, 61, 73, 68, ff");
    assert!(world.console(&status.config.id).starts_with("ESP-ROM:standin\r\nboot:0x02\r\n"));
}

fn modem_lines_restart() {
    let world = world("");
    let before = world.start();
    let id = &before.config.id;
    let mut port = world.manager.open(id, &unlocked()).unwrap();
    // A hard reset: another boot mode, so another process, on the same files and the same port.
    port.set_lines(false, true).unwrap();
    port.sleep(Duration::from_millis(100));
    port.set_lines(false, false).unwrap();
    world.wait_for(id, "boot:0x08");
    let normal = world.manager.status(id).unwrap();
    assert_eq!(normal.about.boot_mode, Some(BootMode::Normal));
    assert_eq!(normal.record.as_ref().unwrap().rfc2217_port, before.record.as_ref().unwrap().rfc2217_port);
    assert_ne!(normal.about.emulator_pid, before.about.emulator_pid);
    // Into the loader, one line at a time as a network sends them.
    port.set_lines(false, true).unwrap();
    port.sleep(Duration::from_millis(100));
    port.set_lines(true, true).unwrap();
    port.sleep(Duration::from_millis(50));
    port.set_lines(true, false).unwrap();
    port.sleep(Duration::from_millis(50));
    port.set_lines(false, false).unwrap();
    wait(|| world.console(id).matches("boot:0x02").count() == 2, "download again");
    let download = world.manager.status(id).unwrap();
    // The same mode again needs no other process.
    world.manager.ask(id, Ask::Boot { mode: BootMode::Download }).unwrap();
    wait(|| world.console(id).matches("boot:0x02").count() == 3, "reset");
    assert_eq!(world.manager.status(id).unwrap().about.emulator_pid, download.about.emulator_pid);
    world.manager.stop(id).unwrap();
    let emulators = [&before, &normal, &download].map(|status| status.about.emulator_pid.unwrap());
    world.is_clean(&emulators);
}

fn plain_line() {
    let world = world("");
    let status = world.start();
    let port = status.record.unwrap().socket_port;
    let mut line = esp_link::port::open(&format!("socket://127.0.0.1:{port}").parse().unwrap(), &unlocked()).unwrap();
    line.write(b"x\xffy").unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"X\xffY") {
        let mut buf = [0; 64];
        let count = line.read(&mut buf, SOON).unwrap();
        assert!(count > 0, "{got:?}");
        got.extend_from_slice(&buf[..count]);
    }
}

fn noisy() {
    let world = world("noisy");
    let status = world.start();
    world.wait_for(&status.config.id, "boot:0x02");
}

fn slow() {
    let world = world("slow");
    let began = Instant::now();
    let status = world.start();
    assert!(began.elapsed() >= Duration::from_millis(1500));
    world.wait_for(&status.config.id, "boot:0x02");
}

fn dies() {
    let world = world("");
    let status = world.start();
    let id = &status.config.id;
    fs::write(world.program.with_file_name("behaviour"), "dies").unwrap();
    let _ = world.manager.ask(id, Ask::Boot { mode: BootMode::Normal });
    wait(|| !world.manager.status(id).unwrap().about.running, "its end");
    let about = world.manager.status(id).unwrap().about;
    let problem = about.problem.unwrap();
    assert!(problem.contains("exit status: 3") && problem.contains("illegal instruction"), "{problem}");
    assert!(world.console(id).contains("boot:0x08"), "what it said before is kept");
    fs::write(world.program.with_file_name("behaviour"), "").unwrap();
    world.manager.ask(id, Ask::Boot { mode: BootMode::Normal }).unwrap();
    assert!(world.manager.status(id).unwrap().about.running);
    world.manager.stop(id).unwrap();
    world.is_clean(&[]);
}

fn dies_at_the_start() {
    let world = world("");
    let script = world.program.with_file_name("broken");
    fs::write(&script, "#!/bin/sh\necho 'Unsupported machine' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = Config { program: Some(script), ..world.config() };
    let error = world.manager.start(config, b"", &[0; 1024]).unwrap_err();
    assert!(error.to_string().contains("Unsupported machine"), "{error}");
    let missing = Config { program: Some("/nowhere/qemu".into()), ..world.config() };
    let error = world.manager.start(missing, b"", &[0; 1024]).unwrap_err();
    assert!(error.to_string().contains("/nowhere/qemu does not run"), "{error}");
    world.is_clean(&[]);
}

fn ignores_everything() {
    let mut world = world("ignores_quit");
    // A signal that is ignored stays ignored in the program that a shell becomes.
    let script = world.program.with_file_name("stubborn");
    fs::write(&script, format!("#!/bin/sh\ntrap '' TERM\nexec {} \"$@\"\n", world.program.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    world.program = script;
    let status = world.start();
    let began = Instant::now();
    world.manager.stop(&status.config.id).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(4), "asked twice first");
    world.is_clean(&pids(&status));
}

/// The starter of the next tests: starts a device, says so, and waits.
pub fn start_and_wait(root: &str, program: &str, keep: bool) -> ExitCode {
    let manager = manager(Path::new(root), 4);
    let mut config = Config::new("", "esp32c3", Backend::Qemu);
    (config.program, config.keep) = (Some(program.into()), keep);
    manager.start(config, b"", &[0; 1024]).unwrap();
    println!("started");
    let _ = std::io::stdin().read(&mut [0; 1]);
    ExitCode::SUCCESS
}

fn starter(world: &World, keep: &str) -> Child {
    let mut child = again()
        .arg("start")
        .arg(world.dir.path().join("devices"))
        .args([world.program.to_str().unwrap(), keep])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    child
}

fn starter_killed() {
    let world = world("");
    let mut starter = starter(&world, "end");
    let status = world.manager.list().unwrap().remove(0);
    starter.kill().unwrap();
    starter.wait().unwrap();
    wait(|| world.manager.list().unwrap().iter().all(|status| status.record.is_none()), "its end");
    wait(|| world.manager.list().unwrap().is_empty(), "its directory");
    world.is_clean(&pids(&status));
}

fn host_killed() {
    let world = world("");
    let status = world.start();
    let host = status.record.as_ref().unwrap().pid;
    assert!(Command::new("kill").args(["-9", &host.to_string()]).status().unwrap().success());
    // Its folder goes with the first look after the system has let go of its lock.
    let left = || fs::read_dir(world.dir.path().join("devices")).unwrap().count();
    wait(|| world.manager.list().unwrap().is_empty() && left() == 0, "its end");
    world.is_clean(&pids(&status));
}

fn kept() {
    let world = world("");
    let mut starter = starter(&world, "keep");
    let status = world.manager.list().unwrap().remove(0);
    drop(starter.stdin.take());
    assert!(starter.wait().unwrap().success());
    let later = world.manager.status(&status.config.id).unwrap();
    assert_eq!(later.record, status.record);
    world.wait_for(&status.config.id, "boot:0x02");
    world.manager.stop(&status.config.id).unwrap();
    world.is_clean(&pids(&status));
}

fn port_clashes() {
    let world = world("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for config in [
        Config { rfc2217_port: Some(port), ..world.config() },
        Config { socket_port: Some(port), ..world.config() },
        Config { gdb_port: Some(port), ..world.config() },
        Config { network: true, forwards: vec![Forward { host: port, guest: 80 }], ..world.config() },
    ] {
        let error = world.manager.start(config, b"", &[0; 1024]).unwrap_err();
        assert!(matches!(error, VirtualError::PortTaken(p) if p == port), "{error}");
    }
    drop(taken);
    let config = Config { rfc2217_port: Some(port), ..world.config() };
    let status = world.manager.start(config, b"", &[0; 1024]).unwrap();
    assert_eq!(status.record.unwrap().rfc2217_port, port);
    world.manager.stop(&status.config.id).unwrap();
    world.is_clean(&[]);
}

fn options() {
    let world = world("");
    for (config, what) in [
        (Config { psram_mb: Some(8), ..world.config() }, "PSRAM"),
        (Config { octal_psram: true, ..world.config() }, "octal"),
        (Config { forwards: vec![Forward { host: 1, guest: 1 }], ..world.config() }, "without a network"),
        (Config { chip: "esp32c2".into(), ..world.config() }, "does not emulate"),
    ] {
        let error = world.manager.start(config, b"", &[0; 1024]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = Config {
        network: true,
        forwards: vec![Forward { host: free, guest: 80 }],
        boot_mode: BootMode::Normal,
        ..world.config()
    };
    let status = world.manager.start(config, b"", &[0; 1024]).unwrap();
    let arguments = fs::read_to_string(status.dir.join("arguments")).unwrap();
    assert!(arguments.contains(&format!("user,model=open_eth,hostfwd=tcp:127.0.0.1:{free}-:80")), "{arguments}");
    assert!(arguments.contains("driver=esp32c3.gpio,property=strap_mode,value=0x08"), "{arguments}");
    assert!(arguments.contains("driver=timer.esp32c3.timg,property=wdt_disable,value=true"), "{arguments}");
    world.manager.stop(&status.config.id).unwrap();
    world.is_clean(&[]);
}

fn flash_sizes() {
    let world = world("");
    let error = world.manager.start(Config { flash_size: 3 << 20, ..world.config() }, b"", &[]).unwrap_err();
    assert!(error.to_string().contains("3145728 bytes (possible: 2, 4, 8 or 16 MB)"), "{error}");
    let too_big = vec![0; (2 << 20) + 1];
    let error = world.manager.start(Config { flash_size: 2 << 20, ..world.config() }, &too_big, &[]).unwrap_err();
    assert!(matches!(error, VirtualError::Image(_)), "{error}");
    // What the emulator itself says is passed on.
    let status = world.start();
    let cut = |dir: &esp_virtual::instance::Directory| files::write_whole(&dir.flash(), b"short");
    let error = world.manager.with_files(&status.config.id, cut).unwrap_err();
    assert!(error.to_string().contains("only 2, 4, 8, and 16MB images are supported"), "{error}");
    world.manager.stop(&status.config.id).unwrap();
    world.is_clean(&[]);
}

/// The starter of the next test, on a disk that is too small: what the failure says and what it leaves.
pub fn start_without_room(root: &str, program: &str) -> ExitCode {
    let config = Config { program: Some(program.into()), ..Config::new("", "esp32c3", Backend::Qemu) };
    let error = manager(Path::new(root), 4).start(config, b"", &[0; 1024]).unwrap_err();
    println!("{error}; left: {}", fs::read_dir(root).unwrap().count());
    ExitCode::SUCCESS
}

fn disk_full() {
    let world = world("");
    let root = world.dir.path().join("small");
    fs::create_dir(&root).unwrap();
    // A disk of one megabyte, seen by this child only; making it takes root.
    let mut child = Command::new("unshare");
    child.args(["--mount", "sh", "-c", r#"mount -t tmpfs -o size=1m none "$0" || exit 77; exec "$@""#]).arg(&root);
    child.arg(again().get_program()).arg("full").arg(&root).arg(&world.program);
    let output = child.output().unwrap();
    if output.status.code() == Some(77) || output.stdout.is_empty() {
        eprintln!("skipped: no mount namespace here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("No space left") && said.ends_with("left: 0\n"), "{said}");
}

fn twenty_in_parallel() {
    let world = world("");
    let other = manager(&world.dir.path().join("devices"), 40);
    let all = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..20 {
            let manager = if number % 2 == 0 { &world.manager } else { &other };
            let (all, world) = (&all, &world);
            scope.spawn(move || {
                let status = manager.start(world.config(), b"", &[0; 1024]).unwrap();
                let id = status.config.id.clone();
                manager.with_files(&id, |dir| files::patch(&dir.flash(), 0, &[number; 16])).unwrap();
                world.wait_for(&id, &format!("flash:{:02x?}", [number; 16]));
                all.lock().unwrap().push(status);
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    assert_eq!(other.list().unwrap().len(), 20);
    let processes: Vec<u32> = all.iter().flat_map(pids).collect();
    std::thread::scope(|scope| {
        for (number, status) in all.drain(..).enumerate() {
            // Anyone may stop any.
            let manager = if number % 2 == 0 { &other } else { &world.manager };
            scope.spawn(move || manager.stop(&status.config.id).unwrap());
        }
    });
    world.is_clean(&processes);
}

fn limit() {
    let world = world("");
    let few = manager(&world.dir.path().join("devices"), 1);
    let status = few.start(world.config(), b"", &[0; 1024]).unwrap();
    assert!(matches!(few.start(world.config(), b"", &[0; 1024]), Err(VirtualError::Limit(1))));
    few.stop(&status.config.id).unwrap();
    world.is_clean(&pids(&status));
}

fn files_and_snapshots() {
    let world = world("");
    let config = Config { id: "bench".into(), persist: true, ..world.config() };
    world.manager.start(config.clone(), b"one", &[7; 1024]).unwrap();
    assert!(matches!(world.manager.start(config, b"", &[]), Err(VirtualError::Exists(_))));
    world.manager.snapshot("bench", "fresh").unwrap();
    world.manager.with_files("bench", |dir| files::patch(&dir.flash(), 0, b"two")).unwrap();
    world.wait_for("bench", "flash:[74, 77, 6f");
    world.manager.stop("bench").unwrap();
    let stopped = world.manager.status("bench").unwrap();
    assert_eq!((stopped.record, stopped.about.running), (None, false));
    assert!(matches!(world.manager.ask("bench", Ask::Status), Err(VirtualError::Stopped(_))));
    world.manager.with_files("bench", |dir| files::patch(&dir.flash(), 3, b"!")).unwrap();
    world.manager.resume("bench", BootMode::Normal).unwrap();
    world.wait_for("bench", "boot:0x08\r\nflash:[74, 77, 6f, 21");
    world.manager.restore("bench", "fresh").unwrap();
    world.wait_for("bench", "flash:[6f, 6e, 65");
    assert!(world.manager.restore("bench", "none").unwrap_err().to_string().contains("no snapshot"));
    assert!(world.manager.snapshot("bench", "../x").is_err());
    world.manager.stop("bench").unwrap();
    assert!(world.dir.path().join("devices/bench/flash.bin").exists());
}

fn old_efuse_driver() {
    for (behaviour, driver) in [("", "nvram.esp32s3.efuse"), ("old_efuse", "nvram.esp32c3.efuse")] {
        let world = world(behaviour);
        let config = Config { chip: "esp32s3".into(), ..world.config() };
        let status = world.manager.start(config, b"", &[0; 1024]).unwrap();
        let arguments = fs::read_to_string(status.dir.join("arguments")).unwrap();
        assert!(arguments.contains(&format!("driver={driver},property=drive,value=efuse")), "{arguments}");
        assert!(arguments.contains("-m\n32M"), "{arguments}");
    }
}

fn comma() {
    let world = world("");
    let manager = manager(&world.dir.path().join("a,b"), 4);
    let status = manager.start(world.config(), b"comma", &[0; 1024]).unwrap();
    manager.stop(&status.config.id).unwrap();
}

fn missing_library() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qemu-system-riscv32");
    let said = "error while loading shared libraries: libslirp.so.0: cannot open shared object file";
    fs::write(&path, format!("#!/bin/sh\necho \"$0: {said}\" >&2\nexit 127\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let found = Found { path, program: "qemu-system-riscv32".into(), version: String::new() };
    match discover::probe(&found) {
        Err(VirtualError::BrokenProgram { package: Some(package), what, .. }) => {
            assert_eq!(package, "libslirp0");
            assert!(what.contains("libslirp.so.0"));
        }
        other => panic!("{other:?}"),
    }
    // It is told rather than "not installed".
    let places = Places { configured: vec![dir.path().into()], ..Places::default() };
    let error = discover::choose(&places, "esp32c3", "qemu-system-riscv32", "esp32c3").unwrap_err();
    assert!(matches!(error, VirtualError::BrokenProgram { .. }), "{error}");
}

fn discovery() {
    let world = world("");
    let bin = world.program.parent().unwrap().to_path_buf();
    let places = Places { path: vec![bin], ..Places::default() };
    let found = discover::choose(&places, "esp32c3", "qemu-system-riscv32", "esp32c3").unwrap();
    assert_eq!(found.path, world.program);
    assert_eq!(discover::probe(&found).unwrap().machines, ["esp32c3", "none"]);
    let error = discover::choose(&places, "esp32c6", "qemu-system-riscv32", "esp32c6").unwrap_err();
    assert!(error.to_string().contains("lacks the machine esp32c6"), "{error}");
}

fn ids() {
    let world = world("");
    for id in ["..", "a/b", ".x", "a b", &"x".repeat(65)] {
        let config = Config { id: id.into(), ..world.config() };
        assert!(world.manager.start(config, b"", &[]).is_err(), "{id}");
    }
    assert!(matches!(world.manager.status("nobody"), Err(VirtualError::Unknown(_))));
    let url: PortUrl = "qemu://nobody".parse().unwrap();
    assert!(matches!(url, PortUrl::Qemu(id) if world.manager.open(&id, &unlocked()).is_err()));
    // A stranger on the control line is not answered.
    let status = world.start();
    let mut line = TcpStream::connect(("127.0.0.1", status.record.unwrap().control_port)).unwrap();
    line.write_all(b"{\"token\": \"guess\", \"do\": \"stop\"}\n").unwrap();
    assert_eq!(line.read(&mut [0; 16]).unwrap(), 0);
    assert!(world.manager.status(&status.config.id).unwrap().about.running);
}
