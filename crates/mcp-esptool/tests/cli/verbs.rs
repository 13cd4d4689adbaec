//! Verbs on a virtual board and on files, as a person types them: each is judged by what it leaves behind.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use esp_model::chip::Chip;
use esp_ops::firmware::sample;
use serde_json::Value;

use super::{stderr, stdout};

/// A folder and, when it was started, the virtual board `bench`.
struct Desk {
    dir: tempfile::TempDir,
    board: bool,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir, board: false }
    }

    /// A desk with a board on which the sample program can run.
    fn with_board() -> (Self, &'static Chip, Vec<sample::Part>) {
        let (chip, parts) = sample::program().unwrap();
        let mut desk = Self::new();
        for part in &parts {
            desk.put(part.name, &part.bytes);
        }
        desk.good(&format!("virtual start {} --id bench --backend builtin", chip.id));
        desk.board = true;
        (desk, chip, parts)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(line.split(' ')).current_dir(self.path(".")).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.dir.path()).env("MCP_ESPTOOL_STATE_DIR", self.dir.path().join("state"));
        for name in ["ESPTOOL_PORT", "ESPTOOL_BAUD", "ESPBAUD", "COLUMNS"] {
            command.env_remove(name);
        }
        if self.board {
            command.env("ESPPORT", "bench")
        } else {
            command.env_remove("ESPPORT")
        };
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Runs a line that must succeed; gives what it printed.
    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// Runs a line that must end with this code; gives what it said.
    fn bad(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        said
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.good(&format!("{line} --json"))).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.board {
            let _ = self.command("virtual stop --all").output();
        }
    }
}

/// `ADDRESS FILE` for each part.
fn pairs(parts: &[sample::Part]) -> String {
    parts.iter().map(|part| format!("{:#x} {}", part.address, part.name)).collect::<Vec<_>>().join(" ")
}

#[test]
fn verbs_write_read_and_erase_a_board() {
    let (desk, chip, parts) = Desk::with_board();
    assert!(desk.good("ports").contains("bench"));
    assert!(desk.good("info").contains(&chip.name));
    assert_eq!(desk.json("info chip")["chip_id"], chip.id);
    desk.good(&format!("write {}", pairs(&parts)));
    desk.good(&format!("verify {}", pairs(&parts)));
    let app = parts.last().unwrap();
    // Paths are the user's own: also above the folder.
    desk.good(&format!("read {:#x} {} ../back.bin", app.address, app.bytes.len()));
    assert!(desk.get("../back.bin") == app.bytes);
    assert!(desk.good("partitions").contains("nvs"));
    assert!(desk.good("partitions check").contains("nvs"));
    assert!(desk.good("partitions map").contains("nvs"));
    desk.put("other.bin", &[0x55; 4096]);
    assert!(desk.bad(&format!("verify {:#x} other.bin", app.address), 3).contains("differs"));

    desk.good("nvs set wifi ssid Home");
    desk.good("nvs set wifi channel 6");
    let value = |line: &str| desk.json(line)["entries"][0].clone();
    assert_eq!(value("nvs get wifi ssid --show-values")["value"], "Home");
    assert_eq!(
        (&value("nvs get wifi channel")["value"], &value("nvs get wifi channel")["type"]),
        (&6.into(), &"i32".into())
    );
    assert_eq!(desk.json("nvs")["entry_count"], 2);
    desk.good("read nvs nvs.bin");
    assert!(desk.good("nvs show nvs.bin").contains("channel"));
    assert_eq!(desk.json("nvs diff nvs.bin")["entry_count"], 0);

    desk.good("backup saved");
    assert!(desk.path("saved/manifest.json").is_file() || desk.path("saved").read_dir().unwrap().count() > 0);
    desk.good("nvs delete wifi ssid");
    assert_eq!(desk.json("nvs diff nvs.bin")["entry_count"], 1);
    desk.good("restore saved --partitions nvs");
    assert_eq!(desk.json("nvs diff nvs.bin")["entry_count"], 0);
    assert!(desk.good("compare saved").contains("same"));
    desk.good("erase nvs --no-backup");
    desk.good("read nvs blank.bin");
    assert!(desk.get("blank.bin").iter().all(|byte| *byte == 0xff));
    desk.good(&format!("erase {:#x} 4K", app.address));
    desk.good(&format!("read {:#x} 4096 blank.bin", app.address));
    assert!(desk.get("blank.bin").iter().all(|byte| *byte == 0xff));
    // Nothing is erased unless it is said what.
    assert!(desk.bad("erase", 2).contains("REGION"));
    // The partition table, from CSV.
    desk.put("table.csv", b"nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,1M\nlog,data,0x40,0x110000,64K\n");
    desk.good("partitions make table.csv table.bin");
    desk.good("partitions write table.bin --no-backup");
    assert!(desk.good("partitions").contains("log"));
    assert!(desk.good("virtual list").contains("bench"));
    assert!(desk.good("virtual status bench").contains("bench"));
    desk.good("virtual stop bench");
    assert!(!desk.good("virtual").contains("bench"));
}

#[test]
fn run_judges_a_program_for_ci() {
    let (desk, ..) = Desk::with_board();
    let parts = sample::program().unwrap().1;
    let line = format!("run {}", pairs(&parts));
    let good = desk.good(&format!("{line} --expect hello|second|line --timeout 20 --junit-file report.xml"));
    assert!(good.starts_with("PASS"), "{good}");
    assert!(String::from_utf8(desk.get("report.xml")).unwrap().contains("<testsuite"));
    assert!(desk.bad(&format!("{line} --expect never-said --timeout 1"), 3).starts_with("FAIL"));
    assert!(desk.bad("run none.elf --timeout 1", 1).contains("none.elf"));
}

#[test]
fn flash_shows_the_console_when_asked() {
    let (desk, ..) = Desk::with_board();
    let parts = sample::program().unwrap().1;
    for line in [format!("flash {} --monitor", pairs(&parts)), format!("run {}", pairs(&parts))] {
        let mut child = desk.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, pieces) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let _ = sender.send(buffer[..count].to_vec());
            }
        });
        let mut seen = Vec::new();
        let until = Instant::now() + Duration::from_secs(60);
        // The boot line of the ROM comes first: nothing of the start is missed.
        while Instant::now() < until && !String::from_utf8_lossy(&seen).contains("rst:") {
            seen.extend(pieces.recv_timeout(Duration::from_secs(1)).unwrap_or_default());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(seen.contains("written") && seen.contains("rst:"), "{line}: {seen}");
    }
}

#[test]
fn efuses_are_listed_and_burned_with_a_token() {
    let (desk, chip, _) = Desk::with_board();
    assert!(desk.good("efuse").contains("MAC"));
    let field = "DIS_FORCE_DOWNLOAD";
    assert!(chip.efuse().fields.iter().any(|known| known.name == field));
    let planned = desk.json(&format!("efuse burn {field} 1"));
    let token = planned["confirm_token"].as_str().unwrap();
    let read = || desk.json(&format!("efuse list {field}"))["fields"][0]["value"].to_string();
    let before = read();
    desk.good(&format!("efuse burn {field} 1 --confirm-token {token}"));
    assert_ne!(read(), before);
    assert!(desk.good("security").contains("open"));
    assert!(desk.good("security audit --profile development").len() > 10);
}

#[test]
fn ota_slots_are_written_and_switched() {
    let (desk, _, parts) = Desk::with_board();
    desk.put("ota.csv", b"nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\na,app,ota_0,0x10000,1M\nb,app,ota_1,0x110000,1M\n");
    desk.good("partitions make ota.csv ota.bin");
    desk.good(&format!("write {:#x} bootloader.bin 0x8000 ota.bin 0x10000 app.bin", parts[0].address));
    desk.good("ota write app.bin");
    assert_eq!(desk.json("ota")["selected"], "b");
    desk.good(&format!("read 0x110000 {} slot.bin", parts[2].bytes.len()));
    assert!(desk.get("slot.bin") == parts[2].bytes);
    desk.good("ota switch 0");
    assert_eq!(desk.json("ota")["selected"], "a");
    desk.good("ota package app.bin package");
    assert!(desk.path("package").is_dir());
}

#[test]
fn files_are_made_described_and_signed() {
    let desk = Desk::new();
    let (chip, parts) = sample::program().unwrap();
    for part in &parts {
        desk.put(part.name, &part.bytes);
    }
    assert!(desk.good("image app.bin").contains(chip.id));
    desk.good(&format!("merge -o merged.bin {}", pairs(&parts)));
    let (merged, app) = (desk.get("merged.bin"), &parts[2]);
    assert!(merged[app.address as usize..][..app.bytes.len()] == app.bytes);
    let args = parts.iter().map(|part| format!("{:#x} {}\n", part.address, part.name)).collect::<String>();
    desk.put("flash_args", format!("--flash_mode keep\n{args}").as_bytes());
    desk.good("merge -o again.bin @flash_args");
    assert!(desk.get("again.bin") == merged);
    desk.good("merge --split-file merged.bin -o parts/");
    assert!(desk.path("parts").read_dir().unwrap().count() >= 3);

    desk.good("security key key.pem --scheme ecdsa256 --version 2");
    desk.good("security sign app.bin key.pem -o signed.bin --version 2");
    assert!(desk.get("signed.bin").len() > app.bytes.len());
    desk.good("security check signed.bin key.pem --version 2");
    desk.good("security flash-key flash.key --key-bits 256");
    desk.good(&format!("security encrypt flash.key {:#x} app.bin -c {} -o secret", app.address, chip.id));
    assert!(desk.get("secret/app.bin.enc") != app.bytes);
    desk.good(&format!("security decrypt flash.key {:#x} secret/app.bin.enc -c {} -o open", app.address, chip.id));
    let back = desk.path("open").read_dir().unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read(back).unwrap()[..app.bytes.len()] == app.bytes);

    desk.put("values.csv", b"key,type,encoding,value\nwifi,namespace,,\nchannel,data,u8,6\n");
    desk.good("nvs make values.csv nvs.bin 0x6000");
    assert!(desk.get("nvs.bin").len() == 0x6000 && desk.good("nvs show nvs.bin").contains("channel"));
    desk.good(&format!("image bootloader -c {} -o boot.bin --source stock", chip.id));
    assert_eq!(desk.get("boot.bin")[0], 0xe9);
    assert!(desk.good("image shrink app.bin").contains("bytes"));
    desk.put("crash.log", b"rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)\nGuru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.\n");
    assert!(desk.good("decode crash.log").contains("Load access fault"));
    // A flash image does for a board.
    desk.good("-p image:merged.bin?write=1 nvs set wifi channel 11");
    assert_eq!(desk.json("nvs -p image:merged.bin get wifi channel")["entries"][0]["value"], 11);
}

#[test]
fn programs_become_images_and_sizes() {
    let desk = Desk::new();
    let chip = sample::program().unwrap().0;
    desk.put("app.elf", &elf::program(chip));
    desk.good(&format!("image make app.elf app.bin -c {}", chip.id));
    assert_eq!(desk.get("app.bin")[0], 0xe9);
    desk.good(&format!("image set app.elf -c {} -o set", chip.id));
    assert!(desk.path("set").read_dir().unwrap().count() >= 3);
    assert!(
        desk.good(&format!("size app.elf -c {}", chip.id)).contains("iram")
            || desk.good(&format!("size app.elf -c {}", chip.id)).contains("IRAM")
    );
    assert!(desk.good("decode address 0x42000020 --elf app.elf").contains("0x42000020"));
}

#[path = "elf.rs"]
mod elf;

#[test]
fn habits_of_other_tools_hold() {
    let (desk, chip, _) = Desk::with_board();
    // Options before the verb, a rate by environment, quiet, results as JSON, errors as JSON.
    assert_eq!(desk.good("-p bench info -q"), "");
    let mut command = desk.command("info -p none");
    assert_ne!(command.env("ESPPORT", "bench").output().unwrap().status.code(), Some(0), "the line counts more");
    let mut command = desk.command("info --json");
    let output = command.env("ESPTOOL_PORT", "bench").env("ESPPORT", "none").env("ESPBAUD", "115200").output().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stdout(&output)).unwrap()["chip_id"], chip.id);
    let failed = desk.run("read none out.bin --json");
    let error: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert!(failed.status.code() != Some(0) && error["error"]["code"].is_string(), "{error}");
    desk.put("esptool.cfg", b"[esptool]\ncustom_reset_sequence = nonsense\n");
    assert!(desk.bad("info", 2).contains("before"));
    std::fs::remove_file(desk.path("esptool.cfg")).unwrap();
    assert!(desk.bad("write 0x0", 2).contains("ADDRESS FILE"));
    std::fs::create_dir(desk.path("empty")).unwrap();
    assert!(desk.bad("flash empty", 1).contains("is not a build"));
    assert!(desk.bad("write @none 0x0 a", 2).contains("@none"));
}

#[test]
fn without_a_terminal_several_boards_are_an_error_that_lists_them() {
    let (desk, chip, _) = Desk::with_board();
    desk.good(&format!("virtual start {} --id second --backend builtin", chip.id));
    let mut command = desk.command("info");
    let output = command.env_remove("ESPPORT").output().unwrap();
    let said = stderr(&output);
    assert!(output.status.code() == Some(2) || output.status.code() == Some(1), "{said}");
    assert!(said.contains("bench") && said.contains("second"), "{said}");
}

#[test]
fn the_policy_and_root_still_fence_a_person() {
    let desk = Desk::new();
    std::fs::write(desk.path("../outside.bin"), [0xe9; 64]).unwrap();
    assert!(desk.bad("image ../none.bin", 1).contains("file_not_found"));
    assert!(desk.bad("image none.bin", 1).contains("counts from the folder you are in"));
    let fenced = desk.run("--root . image ../outside.bin");
    assert!(stderr(&fenced).contains("path_refused"), "{}", stderr(&fenced));
    std::fs::write(desk.path("../policy.toml"), format!("project_roots = [{:?}]\n", desk.path("."))).unwrap();
    let set = format!("--set policy_file={} image ../outside.bin", desk.path("../policy.toml").display());
    assert!(stderr(&desk.run(&set)).contains("path_refused"));
}

#[test]
fn help_shows_verbs_in_groups_and_a_tools_parameters() {
    let desk = Desk::new();
    let help = desk.good("--help");
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("no {text:?} in {help}"));
    assert!(at("Boards:") < at("  flash ") && at("  flash ") < at("Files:") && at("Files:") < at("  serve "));
    let read = desk.good("read --help");
    assert!(read.contains("mcp-esptool read [OPTIONS] REGION OUTPUT_FILE") && read.contains("--wait-s"), "{read}");
    assert!(read.contains("esp_flash_read") && read.contains("mcp-esptool read nvs nvs.bin"), "{read}");
    for line in ["tools esp_flash_read", "call esp_flash_read --help"] {
        let page = desk.good(line);
        assert!(
            page.contains("output_file")
                && page.contains("required")
                && page.contains("mcp-esptool call esp_flash_read"),
            "{page}"
        );
        assert!(page.contains("mcp-esptool read nvs nvs.bin"), "{page}");
    }
    assert!(desk.good("call --help").contains("name=value"));
    assert!(desk.bad("tools esp_flash_red", 2).contains("esp_flash_read"));
    let mut narrow = desk.command("tools");
    let text = stdout(&narrow.env("COLUMNS", "60").output().unwrap());
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    let faults = desk.good("sim --fault help");
    assert!(faults.contains("unplug-at-reset") && faults.contains("strapping pin"), "{faults}");
}
