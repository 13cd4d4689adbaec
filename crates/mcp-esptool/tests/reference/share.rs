//! A shared board, used by esptool and pyserial, also over a slow network.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::reference::{self, Stop, fail, scratch, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("share: esptool flashes a shared terminal", shared_terminal),
        trial("share: esptool resets and flashes over 100 ms round trips", over_a_slow_network),
        trial("jumpstarter: the driver of contrib flashes and reads a virtual board", jumpstarter),
        trial("labgrid: a place of contrib has a virtual board's console", labgrid),
    ]
}

/// A program of ours that ends with the test, and the last word of its first line.
pub struct Running(Child, pub String);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it.
pub fn start(name: &str, args: &[&str]) -> Result<Running, Stop> {
    let dir = scratch(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(args).env("XDG_RUNTIME_DIR", &dir).env("MCP_ESPTOOL_STATE_DIR", dir.join("state"));
    command.env("XDG_CONFIG_HOME", &dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let Some(stderr) = child.stderr.take() else { return fail("no stderr") };
    let mut lines = BufReader::new(stderr).lines();
    let mut said = String::new();
    let mut place = None;
    while place.is_none() {
        let Some(line) = lines.next().transpose()? else { return fail(format!("{args:?} said {said}")) };
        place = line.split_whitespace().find(|word| word.contains("://") || word.starts_with('/')).map(str::to_owned);
        said = line;
    }
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Running(child, place.unwrap_or_default()))
}

/// Leads to `to` and lets each byte take `delay` in both directions.
fn slow(to: &str, delay: Duration) -> Result<String, Stop> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (here, to) = (listener.local_addr()?, to.to_owned());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { return };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
            carry(from_client, server, delay);
            carry(from_server, client, delay);
        }
    });
    Ok(here.to_string())
}

fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, pieces) = channel::<(Instant, Vec<u8>)>();
    let _ = to.set_nodelay(true);
    std::thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let _ = sender.send((Instant::now() + delay, buffer[..count].to_vec()));
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in pieces {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// Writes a file by esptool, which compares what was written by its hash.
fn flash(port: &str, chip: &str, options: &[&str], name: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("{name}-files"));
    let file = dir.join("data.bin");
    let bytes: Vec<u8> = (0..12_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, &bytes)?;
    // Its usual 0.1 s is less than the answer takes on the way.
    let settings = dir.join("esptool.cfg");
    fs::write(&settings, "[esptool]\nsync_timeout = 1\n")?;
    let mut command = Command::new(reference::tool("esptool")?);
    command.args(["--chip", chip, "--port", port]).args(options).args(["write-flash", "0x10000"]).arg(&file);
    let run = command.env("ESPTOOL_CFGFILE", &settings).output()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let good = run.status.success() && text.contains("Hash of data verified");
    if good { Ok(()) } else { fail(format!("esptool: {text}")) }
}

fn shared_terminal() -> Result<(), Stop> {
    let link = scratch("share-terminal-link").join("board");
    let link = link.display().to_string();
    let _sim = start("share-terminal-sim", &["sim", "esp32c3", "--pty", &link])?;
    let shared = start("share-terminal", &["share", &link, "--rfc2217", "127.0.0.1:0"])?;
    flash(&shared.1, "esp32c3", &["--before", "no-reset", "--after", "no-reset"], "share-terminal")?;
    one_at_a_time(&shared.1)
}

/// Whoever comes second is told who is first, at once.
fn one_at_a_time(url: &str) -> Result<(), Stop> {
    let at = url.trim_start_matches("rfc2217://");
    // The one before may just be leaving.
    std::thread::sleep(Duration::from_millis(500));
    let mut first = TcpStream::connect(at)?;
    first.read_exact(&mut [0; 3])?;
    let mut second = TcpStream::connect(at)?;
    second.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    second.read_to_string(&mut text)?;
    let own = first.local_addr()?.to_string();
    if text.contains("is in use by") && text.contains(&own) { Ok(()) } else { fail(format!("{text:?}")) }
}

fn over_a_slow_network() -> Result<(), Stop> {
    let sim = start("share-slow-sim", &["sim", "esp32", "--rfc2217", "127.0.0.1:0"])?;
    let shared = start("share-slow", &["share", &sim.1, "--rfc2217", "127.0.0.1:0"])?;
    let slow = slow(shared.1.trim_start_matches("rfc2217://"), Duration::from_millis(50))?;
    // The client waits for the confirmation of each line: the next one comes a round trip later. Each time that it changes
    // a time limit, pyserial sends all settings again and waits for a round trip and 50 ms more: one run has enough of it.
    flash(&format!("rfc2217://{slow}"), "esp32", &[], "share-slow")
}

/// A virtual board as a lab's exporter would serve it.
fn jumpstarter() -> Result<(), Stop> {
    let python = reference::jumpstarter_python()?;
    let board = start("jumpstarter", &["sim", "esp32c3", "--tcp", "127.0.0.1:0"])?;
    let folder = reference::root().join("contrib/jumpstarter");
    let mut command = Command::new(python);
    command.arg(folder.join("try.py")).arg(&board.1).arg(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.env("MCP_ESPTOOL_STATE_DIR", scratch("jumpstarter-state")).env("PYTHONDONTWRITEBYTECODE", "1");
    let said = reference::run(&mut command)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.contains("ESP32-C3") && said.contains("written and read back") { Ok(()) } else { fail(said) }
}

/// The same board as a place of labgrid.
fn labgrid() -> Result<(), Stop> {
    let python = reference::labgrid_python()?;
    let board = start("labgrid", &["sim", "esp32c3", "--rfc2217", "127.0.0.1:0"])?;
    let (folder, dir) = (reference::root().join("contrib/labgrid"), scratch("labgrid-place"));
    let Some((host, port)) = board.1.trim_start_matches("rfc2217://").split_once(':') else { return fail(&board.1) };
    let text = fs::read_to_string(folder.join("place.yaml"))?;
    let here =
        text.replace("host: lab-computer", &format!("host: {host}")).replace("port: 4000", &format!("port: {port}"));
    let place = dir.join("place.yaml");
    fs::write(&place, here)?;
    let mut command = Command::new(python);
    command.arg(folder.join("try.py")).arg(&place).arg(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.env("MCP_ESPTOOL_STATE_DIR", dir.join("state")).env("PYTHONDONTWRITEBYTECODE", "1");
    let said = reference::run(&mut command)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.contains("POWERON") && said.contains("ESP32-C3") && said.contains("again") { Ok(()) } else { fail(said) }
}
