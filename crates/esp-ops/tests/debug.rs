//! GDB's remote protocol on the built-in device: Debian's gdb-multiarch, and our own client for both instruction sets.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use esp_debug::symbols::Program;
use esp_model::chip::{self, Arch, Chip};
use esp_model::job::Job;
use esp_ops::debug::{Session, until};
use esp_ops::firmware::sample::{self, Part};
use esp_virtual::server::single::{Options, Place, serve};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let gdb = there("gdb-multiarch") && there("riscv64-unknown-elf-gcc");
    let corpus = |name: &str| corpus(name).is_dir();
    type Run = fn() -> Result<(), Failed>;
    let qemu = there("qemu-system-riscv32") && there("riscv64-unknown-elf-gcc");
    let trials: [(&str, bool, Run); 5] = [
        ("port_of_a_qemu_is_spoken_to_alike", qemu, qemu_port),
        ("riscv_program_stops_where_gdb_wants", gdb, riscv),
        ("xtensa_rom_is_stepped_and_watched", true, xtensa),
        ("esp_idf_app_on_two_xtensa_cores_shows_frames_and_tasks", corpus("build/blink-esp32"), blink),
        ("esp_idf_app_on_riscv_shows_frames_variables_and_tasks", corpus("build/sht40-c2"), sensor),
    ];
    let trials = trials.map(|(name, there, run)| Trial::test(name, run).with_ignored_flag(!there));
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

/// Does something with the debug port of a chip that boots from this flash.
fn served<T>(chip: &'static Chip, flash: &[(u32, Vec<u8>)], work: impl FnOnce(u16) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flash.bin");
    let mut content = vec![0xff; 4 << 20];
    for (address, bytes) in flash {
        content[*address as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(&file, content).unwrap();
    let config = esp_sim::Config {
        firmware: Some(esp_machine::firmware::firmware),
        flash_size: 4 << 20,
        ..esp_sim::Config::new(chip, "gdb").unpaced()
    };
    let options = Options {
        chip: config,
        place: Place::Socket("127.0.0.1:0".into()),
        flash: Some(file),
        efuse: None,
        reset_on_disconnect: false,
        gdb_port: Some(0),
    };
    let (sender, ready) = channel();
    let server =
        std::thread::spawn(move || serve(options, |place, stopper| sender.send((place.to_owned(), stopper)).unwrap()));
    let (place, stopper) = ready.recv_timeout(Duration::from_secs(30)).unwrap();
    let done = work(place.rsplit(':').next().unwrap().parse().unwrap());
    stopper.stop();
    server.join().unwrap().unwrap();
    done
}

fn flash_of(parts: &[Part]) -> Vec<(u32, Vec<u8>)> {
    parts.iter().map(|part| (part.address, part.bytes.clone())).collect()
}

/// The program's source with symbols and lines, at the address that its image has.
fn elf(dir: &Path, parts: &[Part]) -> PathBuf {
    let app = &parts.iter().find(|part| part.name == "app.bin").unwrap().bytes;
    let entry = u32::from_le_bytes(app[4..8].try_into().unwrap());
    let elf = dir.join("program.elf");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/firmware/program.S");
    let built = Command::new("riscv64-unknown-elf-gcc")
        .args(["-march=rv32im_zicsr", "-mabi=ilp32", "-nostdlib", "-g", "-Wl,--no-relax,-e,0"])
        .arg(format!("-Wl,-Ttext={entry:#x}"))
        .arg("-o")
        .args([&elf, &source])
        .status();
    assert!(built.unwrap().success());
    elf
}

fn has(said: &str, wanted: &[&str]) -> Result<(), Failed> {
    let mut rest = said;
    for text in wanted {
        let at = rest.find(text).ok_or_else(|| format!("no {text:?} (in this order) in\n{said}"))?;
        rest = &rest[at + text.len()..];
    }
    Ok(())
}

fn riscv() -> Result<(), Failed> {
    const COMMANDS: &[&str] = &[
        "monitor reset",
        "break print",
        "continue",
        "print/x $pc == &print",
        "x/s $a0",
        "info threads",
        "stepi",
        "print/x $a1",
        "print/x $mcause == $mcause",
        "compare-sections .text",
        "delete",
        "rwatch *(unsigned *)0x6000001c",
        "continue",
        "delete",
        "monitor until console beat 1",
        "continue",
        "monitor why",
        "print $s1",
        "monitor snapshot here",
        "set var $s1 = 40",
        "break beat",
        "continue",
        "continue",
        "print $s1",
        "monitor restore here",
        "maintenance flush register-cache",
        "print $s1",
        "continue",
        "continue",
        "print $s1",
        "detach",
    ];
    let dir = tempfile::tempdir()?;
    let (chip, parts) = sample::program()?;
    let elf = elf(dir.path(), &parts);
    let said = served(chip, &flash_of(&parts), |port| {
        let mut gdb = Command::new("timeout");
        gdb.args(["120", "gdb-multiarch", "-nx", "-batch", "-ex", "set pagination off", "-ex", "set remotetimeout 20"]);
        gdb.arg("-ex").arg(format!("target remote 127.0.0.1:{port}"));
        gdb.args(COMMANDS.iter().flat_map(|command| ["-ex", command])).arg(&elf);
        let output = gdb.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    });
    has(
        &said,
        &[
            "Breakpoint 1, print ()",
            "$1 = 0x1",
            "demo: hello from a program that runs",
            "(core 0)",
            "$2 = 0x64", // the d of demo
            "$3 = 0x1",
            "matched.",
            "Hardware read watchpoint 2",
            "$4 = 1",
            "Breakpoint 3, beat ()",
            "Breakpoint 3, beat ()",
            "$5 = 41",
            "$6 = 1",
            "Breakpoint 3, beat ()",
            "$7 = 2",
            "detached",
        ],
    )?;
    has(&said, &["the console's \"beat 1\"", "kept \"here\" at", "back at"])
}

/// What QEMU runs: the address in `spot` is stopped at.
const PROGRAM: &str = "
.globl _start, spot
_start: li a0, 1
    li a1, 2
spot: add a2, a0, a1
rest: j rest
";

/// A QEMU of another machine with the same instruction set: its stub is the one that Espressif's has.
fn qemu_port() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (source, elf) = (dir.path().join("spot.S"), dir.path().join("spot.elf"));
    std::fs::write(&source, PROGRAM)?;
    let built = Command::new("riscv64-unknown-elf-gcc")
        .args(["-march=rv32im", "-mabi=ilp32", "-nostdlib", "-g", "-Wl,-Ttext=0x80000000", "-o"])
        .args([&elf, &source])
        .status();
    assert!(built?.success());
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut qemu = Command::new("qemu-system-riscv32")
        .args(["-M", "virt", "-display", "none", "-serial", "none", "-monitor", "none", "-bios", "none", "-S"])
        .args(["-gdb", &format!("tcp:127.0.0.1:{port}"), "-kernel"])
        .arg(&elf)
        .spawn()?;
    let bytes = std::fs::read(&elf)?;
    let checked = std::panic::catch_unwind(|| spoken_to(port, &Program::parse(&bytes).unwrap()));
    let _ = qemu.kill();
    let _ = qemu.wait();
    checked.map_err(|_| "see above".into())
}

fn spoken_to(port: u16, program: &Program<'_>) {
    let until = std::time::Instant::now() + LIMIT;
    let mut session = loop {
        match Session::new(port, chip_with(Arch::Riscv), Some(program), None) {
            Ok(session) => break session,
            Err(error) => assert!(std::time::Instant::now() < until, "{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (job, spot) = (Job::new(), program.address_of("spot").unwrap().0);
    let why = session.run(&ends(&[&format!("{spot:#x}")], Some(program)), &job, LIMIT).unwrap();
    assert_eq!((why, session.registers().unwrap().general[10]), (format!("breakpoint at {spot:#010x}"), 1));
    session.step(1, &job).unwrap();
    assert_eq!(session.registers().unwrap().general[12], 3);
    assert_eq!(session.remote.memory(spot, 4).unwrap(), program.read(spot, 4).unwrap());
    let why = session.run(&[], &job, Duration::from_millis(300)).unwrap();
    assert!(why.starts_with("0.3 s have passed"), "{why}");
    assert!(session.monitor("snapshot here").is_err(), "only the built-in device has that");
    session.remote.detach().unwrap();
}

/// A chip of this instruction set that has a machine.
fn chip_with(arch: Arch) -> &'static Chip {
    chip::all().iter().find(|chip| chip.arch == arch && esp_machine::firmware::runs(chip)).unwrap()
}

fn ends(texts: &[&str], program: Option<&Program<'_>>) -> Vec<until::End> {
    texts.iter().map(|text| until::parse(text, program).unwrap()).collect()
}

const LIMIT: Duration = Duration::from_secs(60);

fn xtensa() -> Result<(), Failed> {
    let chip = chip_with(Arch::Xtensa);
    served(chip, &flash_of(&sample::make(chip)?), |port| {
        let job = Job::new();
        let mut session = Session::new(port, chip, None, None).unwrap();
        session.monitor("reset").unwrap();
        let start = session.registers().unwrap().pc;
        session.step(3, &job).unwrap();
        let after = session.registers().unwrap().pc;
        assert_ne!(start, after);
        // Back to the beginning, and on to the same place by a breakpoint.
        session.monitor("reset").unwrap();
        let place = format!("{after:#x}");
        let why = session.run(&ends(&[&place], None), &job, LIMIT).unwrap();
        assert_eq!((why, session.registers().unwrap().pc), (format!("breakpoint at {after:#010x}"), after));
        // The ROM's first words on its console.
        session.monitor("reset").unwrap();
        let why = session.run(&ends(&["console:rst:0x"], None), &job, LIMIT).unwrap();
        assert_eq!(why, "the console's \"rst:0x\"");
        let sp = session.registers().unwrap().sp();
        let why = session.run(&ends(&[&format!("write:{:#x}", sp - 16)], None), &job, LIMIT).unwrap();
        assert_eq!(why, format!("what is watched at {:#010x} was accessed", sp - 16));
        session.remote.detach().unwrap();
    });
    Ok(())
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(corpus(name)).unwrap()
}

fn names(frames: &[esp_debug::coredump::FrameReport]) -> Vec<String> {
    frames.iter().filter_map(|frame| frame.location.as_ref()?.function.clone()).collect()
}

fn blink() -> Result<(), Failed> {
    let elf = read("build/blink-esp32/blink.elf");
    let program = Program::parse(&elf)?;
    let chip = chip_with(Arch::Xtensa);
    served(chip, &[(0, read("build/blink-esp32/flash_image.bin"))], |port| {
        let job = Job::new();
        let mut session = Session::new(port, chip, Some(&program), None).unwrap();
        session.monitor("reset").unwrap();
        let why = session.run(&ends(&["app_main"], Some(&program)), &job, LIMIT).unwrap();
        assert!(why.starts_with("breakpoint at"), "{why}");
        let frames = session.backtrace().unwrap();
        assert_eq!(names(&frames)[..2], ["app_main", "main_task"], "{frames:#?}");
        let why = session.run(&ends(&["vTaskDelay"], Some(&program)), &job, LIMIT).unwrap();
        assert!(why.starts_with("breakpoint at"), "{why}");
        let frames = session.backtrace().unwrap();
        assert_eq!(names(&frames)[..3], ["vTaskDelay", "app_main", "main_task"], "{frames:#?}");
        let tasks = session.tasks().unwrap().unwrap();
        let named = |name: &str| tasks.iter().find(|task| task.report.info.name.as_deref() == Some(name));
        assert_eq!(named("main").map(|task| (task.state, task.core)), Some(("running", Some(session.core))));
        for name in ["IDLE0", "IDLE1", "ipc0", "ipc1"] {
            assert!(named(name).is_some(), "{name} in {tasks:#?}");
        }
        session.step_line(&job).unwrap();
        // Each core has a call chain of its own: while one runs the app the other one idles.
        let running = session.core;
        drop(session);
        let mut other = Session::new(port, chip, Some(&program), Some(1 - running)).unwrap();
        let frames = names(&other.backtrace().unwrap());
        assert_eq!(frames.last().map(String::as_str), Some("vPortTaskWrapper"), "{frames:?}");
        assert!(frames.iter().any(|name| name == "prvIdleTask"), "{frames:?}");
    });
    Ok(())
}

fn sensor() -> Result<(), Failed> {
    let elf = read("build/sht40-c2/sht40.elf");
    let program = Program::parse(&elf)?;
    let chip = chip::by_name("esp32c2").unwrap();
    let flash = [(0, read("build/sht40-c2/bootloader_bootloader.bin")), (0x1_0000, read("build/sht40-c2/sht40.bin"))];
    let table = esp_model::partition::Table::from_csv(
        "nvs,data,nvs,0x9000,0x6000\nphy_init,data,phy,0xf000,0x1000\nfactory,app,factory,0x10000,1M\n",
        &esp_model::partition::Options { flash_size: 4 << 20, ..Default::default() },
    )?;
    let flash = [&flash[..], &[(0x8000, table.to_binary(true)?)]].concat();
    served(chip, &flash, |port| {
        let job = Job::new();
        let mut session = Session::new(port, chip, Some(&program), None).unwrap();
        session.monitor("reset").unwrap();
        let why = session.run(&ends(&["app_main"], Some(&program)), &job, LIMIT).unwrap();
        assert!(why.starts_with("breakpoint at"), "{why}");
        let why = session.run(&ends(&["abort"], Some(&program)), &job, LIMIT).unwrap();
        assert!(why.starts_with("breakpoint at"), "{why}");
        let frames = session.backtrace().unwrap();
        assert!(names(&frames).iter().any(|name| name == "app_main"), "{frames:#?}");
        assert!(frames.iter().any(|frame| !frame.variables.is_empty()), "{frames:#?}");
        let tasks = session.tasks().unwrap().unwrap();
        let idle = tasks.iter().find(|task| task.report.info.name.as_deref() == Some("IDLE")).unwrap();
        assert_eq!(idle.state, "ready");
        assert!(!idle.report.backtrace.is_empty());
    });
    Ok(())
}
