//! A program that behaves towards its starter as Espressif's QEMU does, without emulating anything.
//!
//! What is wrong with it stands in the file `behaviour` beside it, one word a line: `noisy`, `slow`, `dies`,
//! `ignores_quit`, `old_efuse`, `no_qmp`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The chip's end of the serial line: nobody listening, the bytes are lost.
type Line = Arc<Mutex<Option<TcpStream>>>;

pub fn main(program: &Path, args: &[String]) -> ExitCode {
    let behaviour = fs::read_to_string(program.with_file_name("behaviour")).unwrap_or_default();
    let is = |word: &str| behaviour.lines().any(|line| line == word);
    if args == ["-machine", "help"] {
        println!("Supported machines are:\nesp32c3              Espressif ESP32C3 machine\nnone                 empty");
        return ExitCode::SUCCESS;
    }
    let flash = PathBuf::from(drive(args, "if=mtd"));
    let size = fs::metadata(&flash).map_or(0, |file| file.len());
    if ![2, 4, 8, 16].map(|mb| mb << 20).contains(&size) {
        eprintln!("Error: only 2, 4, 8, and 16MB images are supported");
        return ExitCode::FAILURE;
    }
    fs::write(flash.with_file_name("arguments"), args.join("\n")).unwrap();
    if is("noisy") {
        // More than a pipe holds: stands still here when nobody reads.
        let chunk = [b'x'; 4096];
        (0..512).for_each(|_| std::io::stdout().write_all(&chunk).unwrap());
    }
    if is("slow") {
        std::thread::sleep(Duration::from_millis(1500));
    }
    if is("no_qmp") {
        std::thread::sleep(Duration::from_secs(600));
    }
    let serial = value(args, "-serial").strip_prefix("tcp:").unwrap().split(',').next().unwrap();
    let serial = match TcpListener::bind(serial) {
        Ok(serial) => serial,
        Err(error) => {
            eprintln!("Failed to find an available port: {error}");
            return ExitCode::FAILURE;
        }
    };
    let line = Line::default();
    let strap = value(args, "-global").split("strap_mode,value=").nth(1).unwrap_or("?").to_string();
    let chip = Chip { line: line.clone(), strap, flash };
    let echo = line.clone();
    std::thread::spawn(move || {
        for client in serial.incoming().flatten() {
            std::thread::sleep(Duration::from_millis(20)); // taken by the system, not yet by the program
            *echo.lock().unwrap() = Some(client.try_clone().unwrap());
            let mut bytes = [0; 1024];
            let mut reader = client;
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let upper = bytes[..count].to_ascii_uppercase();
                let _ = reader.write_all(&upper);
            }
            *echo.lock().unwrap() = None;
        }
    });
    let path = value(args, "-qmp").strip_prefix("unix:").unwrap().split(",server").next().unwrap().replace(",,", ",");
    let control = UnixListener::bind(path).unwrap();
    loop {
        let (client, _) = control.accept().unwrap();
        if qmp(client, &chip, &is) {
            return ExitCode::SUCCESS;
        }
    }
}

struct Chip {
    line: Line,
    strap: String,
    flash: PathBuf,
}

impl Chip {
    fn boot(&self) {
        let mut first = [0; 16];
        fs::File::open(&self.flash).and_then(|mut file| file.read_exact(&mut first)).unwrap();
        let text = format!("ESP-ROM:standin\r\nboot:{}\r\nflash:{first:02x?}\r\n", self.strap);
        if let Some(client) = &mut *self.line.lock().unwrap() {
            let _ = client.write_all(text.as_bytes());
        }
    }
}

/// One control connection; true when the program is to end.
fn qmp(client: std::os::unix::net::UnixStream, chip: &Chip, is: &dyn Fn(&str) -> bool) -> bool {
    let mut out = client.try_clone().unwrap();
    let mut say = |text: &str| out.write_all(format!("{text}\r\n").as_bytes()).is_ok();
    say(
        r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 2, "major": 9}, "package": "standin"}, "capabilities": ["oob"]}}"#,
    );
    let mut ready = false;
    for text in BufReader::new(client).lines().map_while(Result::ok) {
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let command = message["execute"].as_str().unwrap_or_default();
        if command == "qmp_capabilities" {
            ready = true;
        } else if !ready {
            say(r#"{"error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation"}}"#);
            continue;
        }
        match command {
            "cont" => {
                say(r#"{"timestamp": {"seconds": 1, "microseconds": 1}, "event": "RESUME"}"#);
                chip.boot();
                if is("dies") {
                    eprintln!("qemu: fatal: illegal instruction");
                    std::process::exit(3);
                }
            }
            "system_reset" => chip.boot(),
            "qom-list-types" => {
                let chip = if is("old_efuse") { "esp32c3" } else { "esp32s3" };
                say(&format!(r#"{{"return": [{{"name": "nvram.{chip}.efuse"}}, {{"name": "nvram.esp32c3.efuse"}}]}}"#));
                continue;
            }
            "query-chardev" => {
                let state = if chip.line.lock().unwrap().is_some() { "tcp:1 <-> 2" } else { "disconnected:tcp:1" };
                say(&format!(
                    r#"{{"return": [{{"label": "serial0", "filename": "{state}", "frontend-open": true}}]}}"#
                ));
                continue;
            }
            "quit" if is("ignores_quit") => {}
            "quit" => {
                say(r#"{"return": {}}"#);
                return true;
            }
            _ => {}
        }
        say(r#"{"return": {}}"#);
    }
    false
}

fn value<'a>(args: &'a [String], name: &str) -> &'a str {
    args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).map_or("", String::as_str)
}

/// The file of the drive with this property; a doubled comma is one of the path.
fn drive(args: &[String], property: &str) -> String {
    let found = args.iter().find(|arg| arg.starts_with("file=") && arg.contains(property)).cloned().unwrap_or_default();
    let path = found.split(&format!(",{property}")).next().unwrap_or_default();
    path.trim_start_matches("file=").replace(",,", ",")
}
