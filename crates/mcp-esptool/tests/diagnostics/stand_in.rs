//! Devices that are not what they should be, at the far end of a pseudo terminal.

use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use esp_link::port::pty::PtyMaster;

use super::*;

/// Prints this again and again for three seconds.
fn printing(text: &'static str) -> (String, JoinHandle<()>) {
    let mut master = PtyMaster::new().unwrap();
    let path = master.path().display().to_string();
    let printer = spawn(move || {
        for _ in 0..30 {
            if master.write(text.as_bytes(), Duration::from_millis(500)).is_err() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    });
    (path, printer)
}

const PANIC: &str = "\r\nGuru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.\r\n\r\n\
    Core  0 register dump:\r\nMEPC    : 0x42000010  RA      : 0x42000014  SP      : 0x3fc91000  GP      : 0x3fc8b000\r\n\
    MCAUSE  : 0x00000005  MTVAL   : 0x00000000\r\n\r\nStack memory:\r\n3fc91000: 0x00000000 0x00000000 0x00000000 0x00000000\r\n\
    \r\n\r\nELF file SHA256: deadbeefdeadbeef\r\n\r\nRebooting...\r\n";

#[test]
fn a_crash_is_named_and_its_names_are_withheld_from_a_foreign_elf_file() {
    let mut bench = Bench::new();
    let (port, printer) = printing(PANIC);
    bench.port = port;
    bench.write("other.elf", &program(0x4200_0000).0);
    let capture = json!({"duration_s": 5, "until": ["Rebooting"], "elf_file": "other.elf"});
    let out = bench.good("esp_console_capture", capture);
    let crash = &out["crashes"][0];
    assert_eq!((crash["sort"].clone(), crash["elf_match"].clone()), (json!("exception"), json!("foreign")), "{out}");
    assert!(crash["reason"].as_str().unwrap().contains("Load access fault"));
    assert!(crash["backtrace"][0].as_str().unwrap().contains("0x42000010"), "{crash}");
    printer.join().unwrap();
}

#[test]
fn a_megabyte_at_two_megabaud_is_whole() {
    let mut bench = Bench::new();
    let mut master = PtyMaster::new().unwrap();
    bench.port = master.path().display().to_string();
    let mut state = 1u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A terminal's own characters go through too.
        (state >> 24) as u8
    })
    .take(1 << 20)
    .collect();
    let sent = bytes.clone();
    let device = spawn(move || {
        // The capture has to be there first: what came before it is not its own.
        let mut go = [0; 8];
        while master.read(&mut go, Duration::from_secs(10)).unwrap_or(0) == 0 {}
        sent.chunks(4096).for_each(|piece| master.write(piece, Duration::from_secs(10)).unwrap());
        master
    });
    let capture =
        json!({"duration_s": 60, "max_bytes": 1 << 20, "baud": 2_000_000, "send": "go", "log_file": "all.bin"});
    let out = bench.good("esp_console_capture", capture);
    assert_eq!((out["ended_by"].clone(), out["lost_bytes"].clone()), (json!("bytes"), json!(0)), "{out}");
    assert!(bench.file("all.bin") == bytes);
    device.join().unwrap();
}

#[test]
fn a_pattern_ends_the_capture_within_fifty_milliseconds() {
    let mut bench = Bench::new();
    let mut master = PtyMaster::new().unwrap();
    bench.port = master.path().display().to_string();
    let mut best = Duration::MAX;
    for round in 0..8 {
        let (tell, told) = std::sync::mpsc::channel();
        let device = spawn(move || {
            let mut go = [0; 8];
            while master.read(&mut go, Duration::from_secs(10)).unwrap_or(0) == 0 {}
            sleep(Duration::from_millis(100));
            let at = std::time::Instant::now();
            master.write(b"x MARK y", Duration::from_secs(1)).unwrap();
            tell.send(at).unwrap();
            master
        });
        let out = bench.good("esp_console_capture", json!({"duration_s": 20, "until": ["MARK"], "send": "go"}));
        let took = told.recv().unwrap().elapsed();
        assert!(out["ended_by"].as_str().unwrap().starts_with("pattern"), "round {round}: {out}");
        best = best.min(took);
        master = device.join().unwrap();
    }
    // The best of eight, the whole way over MCP: a busy machine is not the program's slowness.
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn the_monitor_shows_prompts_explains_crashes_and_sends_what_is_typed() {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let (elf, hash) = program(0x4200_0000);
    fs::write(dir.path().join("app.elf"), &elf).unwrap();
    let mut master = PtyMaster::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.arg("monitor").arg(master.path()).args(["--seconds", "60"]).current_dir(dir.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut monitor = command.spawn().unwrap();
    let mut shown = monitor.stdout.take().unwrap();
    // The prompt is repeated until it is listened to.
    let mut seen = String::new();
    let mut until = |text: &str, seen: &mut String| {
        let mut buffer = [0; 4096];
        while !seen.contains(text) {
            let n = shown.read(&mut buffer).unwrap();
            assert!(n > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    };
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let device = spawn(move || {
        while stopped.try_recv().is_err() {
            master.write(b"esp> ", Duration::from_secs(1)).unwrap();
            sleep(Duration::from_millis(50));
        }
        master
    });
    until("esp> ", &mut seen);
    stop.send(()).unwrap();
    let mut master = device.join().unwrap();
    monitor.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let (mut heard, mut buffer) = (Vec::new(), [0; 64]);
    while !heard.ends_with(b"hello\r\n") {
        let n = master.read(&mut buffer, Duration::from_secs(20)).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&buffer[..n]);
    }
    let crash = PANIC.replace("deadbeefdeadbeef", &hash[..16]);
    master.write(crash.as_bytes(), Duration::from_secs(5)).unwrap();
    until("(ELF file: verified)", &mut seen);
    until("---   0x42000010", &mut seen);
    assert!(seen.contains("Guru Meditation Error"));
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

#[test]
fn brown_outs_are_counted() {
    let mut bench = Bench::new();
    let (port, printer) = printing("\r\nBrownout detector was triggered\r\n\r\nets Jul 29 2019 12:21:46\r\n");
    bench.port = port;
    let out = bench.good("esp_console_capture", json!({"duration_s": 0.8}));
    assert!(out["counts"]["brown_outs"].as_u64().unwrap() >= 2, "{out}");
    printer.join().unwrap();
}

#[test]
fn two_captures_hear_the_same_and_text_is_sent() {
    let mut bench = Bench::new();
    let mut master = PtyMaster::new().unwrap();
    bench.port = master.path().display().to_string();
    let device = spawn(move || {
        let (mut heard, mut buffer) = (Vec::new(), [0; 256]);
        for _ in 0..40 {
            master.write(b"prompt> ", Duration::from_secs(1)).unwrap();
            let n = master.read(&mut buffer, Duration::from_millis(100)).unwrap_or(0);
            heard.extend_from_slice(&buffer[..n]);
            if heard.ends_with(b"version\n") {
                master.write(b"\r\nVERSION 7\r\n", Duration::from_secs(1)).unwrap();
                sleep(Duration::from_millis(500));
                return;
            }
        }
        panic!("nothing was sent: {:?}", String::from_utf8_lossy(&heard));
    });
    let capture = |send: bool| {
        let mut arguments = json!({"duration_s": 8, "until": ["VERSION [0-9]"], "port": bench.port});
        if send {
            arguments["send"] = "version\\n".into();
            arguments["send_after"] = "prompt> prompt> ".into();
        }
        json!({"name": "esp_console_capture", "arguments": arguments})
    };
    let (first, second) = (capture(false), capture(true));
    let first = bench.client.send("tools/call", first);
    let second = bench.client.send("tools/call", second);
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let message = bench.client.receive();
        if message["id"] == first || message["id"] == second {
            answers.push(message["result"]["structuredContent"].clone());
        }
    }
    for answer in answers {
        assert_eq!(answer["matched"], "VERSION 7", "{answer}");
    }
    device.join().unwrap();
}

#[test]
fn silence_is_no_verdict_and_a_device_that_does_not_answer_is_an_error() {
    let mut bench = Bench::new();
    let master = PtyMaster::new().unwrap();
    bench.port = master.path().display().to_string();
    let out = bench.good("esp_console_capture", json!({"duration_s": 5, "silence_s": 0.3}));
    assert_eq!((out["ended_by"].clone(), out["bytes"].clone()), (json!("silence"), json!(0)));
    assert_eq!(bench.bad("esp_thermal_status", json!({})), "no_serial_data");
    drop(master);
}
