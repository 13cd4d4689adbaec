//! The program is killed in the middle of its work, again and again; the next run goes on where it was.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::bench::{chip, noise, table};

const SIZE: usize = 512 << 10;
const BLOCK: u64 = 0x1_0000;

/// The simulator as a program of its own: it outlives the one that is killed.
struct Device {
    child: Child,
    port: String,
}

impl Device {
    /// With the flash content of `flash.bin` in this folder, which follows the flash.
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(["sim", chip().id, "--rfc2217", "127.0.0.1:0", "--flash"]).arg(dir.join("flash.bin"));
        let mut child = command.args(["--baud-pacing"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let port = listening(&mut child);
        Self { child, port }
    }
}

/// The port's URL out of what the simulator says when it listens.
fn listening(child: &mut Child) -> String {
    let (sender, lines) = std::sync::mpsc::channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
    }
    loop {
        let line = lines.recv_timeout(Duration::from_secs(20)).unwrap();
        let at = line.find("rfc2217://").map(|at| &line[at..]);
        if let Some(url) = at.and_then(|text| text.split_whitespace().next()) {
            return url.trim_end_matches(['.', ',', ')']).to_owned();
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls a tool by the command line; kills it as soon as it has come this far. `None`: it was killed.
fn call(dir: &Path, tool: &str, arguments: &[String], kill_when: Option<&dyn Fn() -> bool>) -> Option<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["call", tool]).args(arguments).arg("--json").current_dir(dir).env("XDG_CONFIG_HOME", dir);
    command.env("MCP_ESPTOOL_STATE_DIR", dir.join("state"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    while let Some(is_there) = kill_when
        && child.try_wait().unwrap().is_none()
    {
        if is_there() {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{tool}: {text}");
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{tool}: {error}: {text}")))
}

fn number(out: &Value, name: &str) -> u64 {
    let found = out.get(name).or_else(|| out["structuredContent"].get(name)).or_else(|| out["data"].get(name));
    found.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {name} in {out}"))
}

#[test]
fn a_killed_read_goes_on_behind_its_last_block() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(SIZE, 1);
    fs::write(dir.path().join("flash.bin"), &bytes).unwrap();
    let device = Device::start(dir.path());
    let arguments = ["port", "address", "size", "output_file"].into_iter().zip([&device.port, "0", "512K", "out.bin"]);
    let arguments: Vec<String> = arguments.map(|(name, value)| format!("{name}={value}")).collect();
    let part = dir.path().join("out.bin.part");
    let held = || fs::metadata(&part).map_or(0, |about| about.len());
    let mut there = 0;
    for _ in 0..3 {
        let killed = call(dir.path(), "esp_flash_read", &arguments, Some(&|| held() > there + BLOCK));
        assert!(killed.is_none(), "it was faster than the test");
        let length = held();
        assert!(length + BLOCK >= there, "at most one block is read again: {length} after {there}");
        there = length;
    }
    assert!(there > BLOCK, "{there}");
    let out = call(dir.path(), "esp_flash_read", &arguments, None).unwrap();
    assert!(number(&out, "resumed_bytes") + BLOCK > there, "{out}");
    assert!(fs::read(dir.path().join("out.bin")).unwrap() == bytes);
}

#[test]
fn a_killed_write_goes_on_behind_its_last_block() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(SIZE, 2);
    fs::write(dir.path().join("raw.bin"), &bytes).unwrap();
    fs::write(dir.path().join("flash.bin"), vec![0xff; 4 << 20]).unwrap();
    let device = Device::start(dir.path());
    let list = r#"files=[{"path":"raw.bin","address":"0x10000"}]"#;
    let arguments = [format!("port={}", device.port), list.to_owned()];
    let right = || {
        let flash = fs::read(dir.path().join("flash.bin")).unwrap();
        let there = &flash[0x1_0000..0x1_0000 + SIZE];
        there.iter().zip(&bytes).position(|(a, b)| a != b).unwrap_or(SIZE) as u64
    };
    for _ in 0..3 {
        let began = right();
        if call(dir.path(), "esp_flash_firmware", &arguments, Some(&|| right() > began + BLOCK)).is_some() {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = right();
    assert!(before > 0, "the test killed it too early");
    let out = call(dir.path(), "esp_flash_firmware", &arguments, None).unwrap();
    let again = number(&out, "written_bytes");
    let missing = SIZE as u64 - before;
    assert!(again <= missing + BLOCK, "{again} bytes were written, {missing} were missing");
    assert_eq!(right(), SIZE as u64);
}

/// A flash with a table and `SIZE` bytes of app; the rest is blank. Returns the app's address too.
fn flash_with_app(seed: u32) -> (Vec<u8>, usize) {
    let csv = "nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,0x100000\n";
    let mut flash = vec![0xff; 4 << 20];
    let rows = table(csv, 0x8000);
    flash[0x8000..0x8000 + rows.len()].copy_from_slice(&rows);
    flash[0x1_0000..0x1_0000 + SIZE].copy_from_slice(&noise(SIZE, seed));
    (flash, 0x1_0000)
}

/// Bytes that a backup holds already, finished or not.
fn held(dir: &Path) -> u64 {
    let objects = fs::read_dir(dir.join("backup/objects")).into_iter().flatten().flatten();
    objects.filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum()
}

#[test]
fn a_killed_backup_goes_on_behind_its_last_block() {
    let dir = tempfile::tempdir().unwrap();
    let (flash, app) = flash_with_app(3);
    fs::write(dir.path().join("flash.bin"), &flash).unwrap();
    let device = Device::start(dir.path());
    let arguments = [format!("port={}", device.port), "output_dir=backup".to_owned()];
    let mut there = 0;
    for _ in 0..4 {
        let killed = call(dir.path(), "esp_flash_backup", &arguments, Some(&|| held(dir.path()) > there + BLOCK));
        assert!(killed.is_none(), "it was faster than the test");
        let now = held(dir.path());
        assert!(now + BLOCK >= there, "at most one block is read again: {now} after {there}");
        there = now;
    }
    assert!(there > BLOCK, "{there}");
    let out = call(dir.path(), "esp_flash_backup", &arguments, None).unwrap();
    let (read, content) = (number(&out, "read_bytes"), SIZE as u64 + BLOCK);
    assert!(read <= content.saturating_sub(there) + BLOCK, "{read} bytes were read, {there} were there: {out}");
    let manifest: Value = serde_json::from_slice(&fs::read(dir.path().join("backup/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["complete"], true);
    let areas = manifest["areas"].as_array().unwrap();
    let object = areas.iter().find(|area| area["name"] == "factory").unwrap()["sha256"].as_str().unwrap();
    let bytes = fs::read(dir.path().join(format!("backup/objects/{object}.bin"))).unwrap();
    assert!(bytes == flash[app..app + bytes.len()] && bytes.len() >= SIZE - 16, "{}", bytes.len());
}

#[test]
fn a_killed_restore_goes_on_behind_its_last_block() {
    let dir = tempfile::tempdir().unwrap();
    let (flash, app) = flash_with_app(4);
    fs::write(dir.path().join("flash.bin"), &flash).unwrap();
    let device = Device::start(dir.path());
    call(dir.path(), "esp_flash_backup", &[format!("port={}", device.port), "output_dir=backup".to_owned()], None);
    drop(device);
    // The same device, its app lost.
    let mut lost = flash.clone();
    lost[app..].fill(0xff);
    fs::write(dir.path().join("flash.bin"), &lost).unwrap();
    let device = Device::start(dir.path());
    let arguments = ["backup_dir=backup", "no_backup=true"].map(String::from);
    let arguments = [vec![format!("port={}", device.port)], arguments.to_vec()].concat();
    let right = || {
        let now = fs::read(dir.path().join("flash.bin")).unwrap();
        let there = now[app..app + SIZE].iter().zip(&flash[app..]).position(|(a, b)| a != b);
        there.unwrap_or(SIZE) as u64
    };
    for _ in 0..3 {
        let began = right();
        if call(dir.path(), "esp_flash_restore", &arguments, Some(&|| right() > began + BLOCK)).is_some() {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let before = right();
    assert!(before > 0, "the test killed it too early");
    let out = call(dir.path(), "esp_flash_restore", &arguments, None).unwrap();
    let (again, missing) = (number(&out, "written_bytes"), SIZE as u64 - before);
    assert!(again <= missing + BLOCK, "{again} bytes were written, {missing} were missing: {out}");
    assert!(fs::read(dir.path().join("flash.bin")).unwrap() == flash);
}
