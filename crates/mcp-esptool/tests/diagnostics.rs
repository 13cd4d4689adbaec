//! The diagnostics tools on simulated devices, and on a stand-in that crashes, over MCP.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;
#[cfg(unix)]
#[path = "diagnostics/stand_in.rs"]
mod stand_in;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Client;
use esp_model::chip::{self, Arch, Chip};
use serde_json::{Value, json};

struct Bench {
    client: Client,
    dir: tempfile::TempDir,
    port: String,
}

/// A RISC-V chip with Wi-Fi calibration and registers.
fn chip() -> &'static Chip {
    let fits =
        |chip: &&Chip| chip.arch == Arch::Riscv && chip.chip_id.is_some() && !chip.registers().registers.is_empty();
    chip::all().iter().find(fits).unwrap()
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { client: Client::initialized(dir.path(), &[]), dir, port: format!("sim://{}", chip().id) }
    }

    fn call(&mut self, tool: &str, mut arguments: Value) -> Value {
        if arguments.get("port").is_none() && tool != "esp_partition_create" && tool != "esp_nvs_partition_create" {
            arguments["port"] = self.port.clone().into();
        }
        self.client.call(tool, arguments)
    }

    fn good(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments);
        assert_ne!(answer["isError"], true, "{tool}: {answer}");
        answer["structuredContent"].clone()
    }

    /// The error's code.
    fn bad(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        assert_eq!(answer["isError"], true, "{tool}: {answer}");
        answer["_meta"]["mcp-esptool/error"]["code"].as_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    /// A table with NVS, a core dump partition and a file system.
    fn partitioned(&mut self) {
        let csv = "nvs,data,nvs,0x9000,24K\nphy_init,data,phy,0xf000,4K\ncoredump,data,coredump,0x10000,64K\n\
                   store,data,spiffs,0x20000,64K\napp,app,factory,0x30000,1M\n";
        self.good("esp_partition_create", json!({"layout": csv, "output_file": "table.bin"}));
        self.flash("table.bin", 0x8000);
    }

    fn flash(&mut self, file: &str, address: u32) {
        self.good("esp_flash_firmware", json!({"files": [{"path": file, "address": address}]}));
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A core dump of one task at `pc`, of the app whose ELF file has this hash: an ELF core with a CRC32, as ESP-IDF writes it.
fn core_dump(chip: &Chip, pc: u32, sha256: &str) -> Vec<u8> {
    let note = |name: &str, kind: u32, data: &[u8]| {
        let mut bytes = words(&[name.len() as u32 + 1, data.len() as u32, kind]);
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut registers = vec![0u8; 72];
    registers[24..28].copy_from_slice(&0x3fc9_0000u32.to_le_bytes());
    registers.extend(words(&[pc, pc + 4, 0x3fc9_1000]));
    registers.resize(72 + 33 * 4, 0);
    let version = 0x0000_0102 | u32::from(chip.chip_id.unwrap()) << 16;
    let mut info = words(&[version]);
    info.extend(sha256.bytes());
    info.resize(72, 0);
    let notes = [
        note("CORE", 1, &registers),
        note("ESP_CORE_DUMP_INFO", 8266, &info),
        note("ESP_EXTRA_INFO", 677, &words(&[0x3fc9_0000, 7])),
        note("ESP_PANIC_DETAILS", 679, b"it broke\0"),
    ]
    .concat();
    let memory = [0u8; 4096];
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\xf3\0".to_vec();
    elf.extend(words(&[1, 0, 52, 0, 0]));
    elf.extend([52u16, 32, 2, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    let at = 52 + 64;
    for (kind, offset, address, len) in [(4, at, 0, notes.len()), (1, at + notes.len(), 0x3fc9_1000, memory.len())] {
        elf.extend(words(&[kind, offset as u32, address, address, len as u32, len as u32, 6, 0]));
    }
    elf.extend(notes);
    elf.extend(memory);
    let mut dump = words(&[24 + elf.len() as u32 + 4, version, 0, 0, 0, 101]);
    dump.extend(elf);
    dump.extend(crc32fast::hash(&dump).to_le_bytes());
    dump
}

#[test]
fn memory_is_dumped_and_what_cannot_be_read_is_refused() {
    let mut bench = Bench::new();
    let ram = chip().memory.iter().find(|region| region.name.contains("DRAM")).unwrap().start + 0x1_0000;
    let dump = bench.good("esp_memory_dump", json!({"address": ram, "size": 600, "output_file": "ram.bin"}));
    assert_eq!((dump["size_bytes"].as_u64(), bench.file("ram.bin").len()), (Some(600), 600));
    assert!(dump["regions"].to_string().contains("DRAM") && dump["hexdump"].as_str().unwrap().lines().count() == 16);
    let register = bench.good("esp_memory_dump", json!({"address": "0x60000000", "size": 4}));
    assert!(register["note"].as_str().unwrap().contains("registers may change"), "{register}");
    let mapped = chip().image.irom[0];
    assert_eq!(bench.bad("esp_memory_dump", json!({"address": mapped, "size": 4})), "address_unreadable");
    for (address, size) in [("0xfffffffe", 4), ("0x0", 0), ("0x0", 2 << 20)] {
        assert_eq!(bench.bad("esp_memory_dump", json!({"address": address, "size": size})), "bad_parameter");
    }
}

#[test]
fn registers_are_named_and_their_provenance_is_told() {
    let mut bench = Bench::new();
    let reset = bench.good("esp_register_dump", json!({}));
    assert!(reset["provenance"].as_str().unwrap().contains("reset the chip"));
    assert!(reset["registers"][0]["fields"][0]["meaning"].is_string(), "{reset}");
    let all = bench.good("esp_register_dump", json!({"group": "all"}));
    let groups: std::collections::BTreeSet<&str> =
        all["registers"].as_array().unwrap().iter().map(|register| register["group"].as_str().unwrap()).collect();
    assert!(groups.len() >= 6, "{groups:?}");
    assert_eq!(bench.bad("esp_register_dump", json!({"group": "everything"})), "bad_parameter");
}

#[test]
fn core_dumps_come_from_flash_files_and_text() {
    let mut bench = Bench::new();
    assert_eq!(bench.bad("esp_core_dump_analyze", json!({})), "no_core_dump");
    bench.partitioned();
    assert_eq!(bench.bad("esp_core_dump_analyze", json!({})), "no_core_dump");
    let dump = core_dump(chip(), 0x4200_1234, "0123456789abcdef");
    bench.write("core.bin", &dump);
    bench.flash("core.bin", 0x10000);
    let read = bench.good("esp_core_dump_analyze", json!({"output_file": "kept.bin"}));
    assert_eq!((read["chip"].clone(), read["reason"].clone()), (json!(chip().id), json!("it broke")));
    assert_eq!((read["elf_match"].clone(), read["checksum_ok"].clone()), (json!("no_elf"), json!(true)));
    assert_eq!(read["tasks"][0]["backtrace"][0]["pc"], "0x42001234");
    assert_eq!(bench.file("kept.bin"), dump);
    let from_file = bench.good("esp_core_dump_analyze", json!({"dump_file": "kept.bin"}));
    assert_eq!(from_file["tasks"], read["tasks"]);
    let text = format!("boot\r\n=== CORE DUMP START ===\r\n{}\r\n=== CORE DUMP END ===\r\nmore", base64(&dump));
    bench.write("console.txt", text.replace("===", "================= ").as_bytes());
    let from_text = bench.good("esp_core_dump_analyze", json!({"dump_file": "console.txt"}));
    assert_eq!(from_text["tasks"], read["tasks"]);
    // A table that the project moved is found too.
    bench.good("esp_flash_erase", json!({"region": "0x8000+0x1000", "no_backup": true}));
    let csv = "nvs,data,nvs,0x11000,24K\ncoredump,data,coredump,0x20000,64K\napp,app,factory,0x30000,1M\n";
    let moved = json!({"layout": csv, "output_file": "moved.bin", "table_offset": "0xa000"});
    bench.good("esp_partition_create", moved);
    bench.flash("moved.bin", 0xa000);
    bench.flash("core.bin", 0x20000);
    let from_moved = bench.good("esp_core_dump_analyze", json!({}));
    assert_eq!(from_moved["tasks"], read["tasks"]);
    let mut damaged = dump.clone();
    damaged[400] ^= 1;
    bench.write("damaged.bin", &damaged);
    assert_eq!(bench.bad("esp_core_dump_analyze", json!({"dump_file": "damaged.bin"})), "core_dump_damaged");
    let anyway = bench.good("esp_core_dump_analyze", json!({"dump_file": "damaged.bin", "damaged": true}));
    assert_eq!(anyway["checksum_ok"], false);
    assert_eq!(bench.bad("esp_core_dump_analyze", json!({"dump_file": "table.bin"})), "core_dump_invalid");
}

/// Base64 in lines, as the console prints it.
fn base64(bytes: &[u8]) -> String {
    bytes.chunks(48).map(|line| STANDARD.encode(line)).collect::<Vec<_>>().join("\r\n")
}

/// The smallest RISC-V ELF file with code at the address, and its SHA-256.
fn program(address: u32) -> (Vec<u8>, String) {
    let names = b"\0.flash.text\0.shstrtab\0";
    let code = [0x13u8, 0, 0, 0].repeat(64);
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0".to_vec();
    elf.extend(words(&[1, address, 0, (52 + code.len() + names.len()) as u32, 0]));
    elf.extend([52u16, 32, 0, 40, 3, 2].iter().flat_map(|half| half.to_le_bytes()));
    elf.extend(&code);
    elf.extend(names);
    elf.extend(words(&[0; 10]));
    elf.extend(words(&[1, 1, 6, address, 52, code.len() as u32, 0, 0, 4, 0]));
    elf.extend(words(&[13, 3, 0, 0, (52 + code.len()) as u32, names.len() as u32, 0, 0, 1, 0]));
    let hash = esp_model::ota::sha256_hex(&elf);
    (elf, hash)
}

#[test]
fn the_elf_file_is_found_by_its_hash_and_a_foreign_one_is_refused() {
    let mut bench = Bench::new();
    let (elf, hash) = program(0x4200_0000);
    bench.write("other.elf", &program(0x4201_0000).0);
    fs::create_dir_all(bench.dir.path().join("project/build")).unwrap();
    bench.write("project/build/app.elf", &elf);
    bench.write("core.bin", &core_dump(chip(), 0x4200_0010, &hash[..16]));
    let found = bench.good("esp_core_dump_analyze", json!({"dump_file": "core.bin"}));
    assert_eq!(found["elf_match"], "verified");
    assert!(found["elf_file"].as_str().unwrap().contains("project/build/app.elf (found by SHA-256)"), "{found}");
    // Programs in Rust have no ending, and a store has them by their hash.
    fs::rename(bench.dir.path().join("project/build/app.elf"), bench.dir.path().join("project/build/app")).unwrap();
    let bare = bench.good("esp_core_dump_analyze", json!({"dump_file": "core.bin"}));
    assert_eq!(bare["elf_match"], "verified", "{bare}");
    fs::remove_file(bench.dir.path().join("project/build/app")).unwrap();
    let none = bench.good("esp_core_dump_analyze", json!({"dump_file": "core.bin"}));
    assert_eq!(none["elf_match"], "no_elf", "{none}");
    let store = tempfile::tempdir().unwrap();
    let kept = store.path().join(".build-id").join(&hash[..2]);
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join(format!("{}.debug", &hash[2..])), &elf).unwrap();
    let setting = store.path().display().to_string();
    let mut other = Client::initialized(bench.dir.path(), &["--set", &format!("elf_dirs={setting}")]);
    let stored = other.call("esp_core_dump_analyze", json!({"dump_file": "core.bin"}))["structuredContent"].clone();
    assert_eq!(stored["elf_match"], "verified", "{stored}");
    let foreign = json!({"dump_file": "core.bin", "elf_file": "other.elf"});
    assert_eq!(bench.bad("esp_core_dump_analyze", foreign), "foreign_elf");
}

#[test]
fn the_profile_measures_and_puts_the_scratch_region_back() {
    let mut bench = Bench::new();
    bench.partitioned();
    bench.write("data.bin", &[0x5a; 0x3000]);
    bench.flash("data.bin", 0x20000);
    let profile = json!({"duration": 0.2, "scratch": "store", "backup_file": "old.bin"});
    let out = bench.good("esp_performance_profile", profile);
    let kinds: Vec<&str> =
        out["transfers"].as_array().unwrap().iter().map(|transfer| transfer["what"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["read", "md5", "erase", "write"], "{out}");
    assert!(out["round_trip"]["count"].as_u64().unwrap() > 0 && out["errors"] == 0, "{out}");
    assert_eq!(out["not_measurable"][0]["measurable"], false);
    let old = bench.file("old.bin");
    assert!(old.len() == 0x10000 && old.starts_with(&[0x5a; 0x3000]));
    bench.good("esp_flash_read", json!({"address": 0x20000, "size": "64K", "output_file": "now.bin"}));
    assert_eq!(bench.file("now.bin"), old);
    assert_eq!(bench.bad("esp_performance_profile", json!({"scratch": "store"})), "missing_parameter");
    assert_eq!(bench.bad("esp_performance_profile", json!({"duration": 0})), "bad_parameter");
}

#[test]
fn power_and_thermal_show_evidence_and_no_invented_numbers() {
    let mut bench = Bench::new();
    let power = bench.good("esp_power_analysis", json!({}));
    // Nothing ran: no verdict follows from silence.
    assert_eq!(power["verdict"], "unknown");
    let what: Vec<&str> =
        power["not_measurable"].as_array().unwrap().iter().map(|item| item["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["current and energy", "supply voltage"]);
    assert!(!power.to_string().contains(" mA"), "{power}");
    let thermal = bench.good("esp_thermal_status", json!({}));
    assert_eq!(thermal["not_measurable"][0]["what"], "chip temperature");
    assert!(thermal["findings"].as_array().is_some_and(|findings| !findings.is_empty()));
}

#[test]
fn the_radios_calibration_is_checked_against_this_device() {
    let mut bench = Bench::new();
    bench.partitioned();
    let finding = |out: &Value, what: &str| {
        let found = out["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == what).cloned();
        found.unwrap_or_else(|| panic!("{what}: {out}"))
    };
    let blank = bench.good("esp_rf_calibration_check", json!({}));
    assert_eq!(finding(&blank, "cal_data")["verdict"], "info");
    assert_eq!(finding(&blank, "PHY init partition")["value"], "blank");
    let mac = bench.good("esp_mac_address_read", json!({}))["mac"].as_str().unwrap_or_default().replace(':', "");
    for (mac, verdict) in [(mac.as_str(), "ok"), ("001122334455", "info")] {
        let data = json!({"phy": {"cal_version": {"type": "u32", "value": 5},
            "cal_mac": {"type": "hex2bin", "value": mac}, "cal_data": {"type": "hex2bin", "value": "5a".repeat(1900)}}});
        bench.good("esp_nvs_partition_create", json!({"data": data, "output_file": "nvs.bin"}));
        bench.flash("nvs.bin", 0x9000);
        let out = bench.good("esp_rf_calibration_check", json!({}));
        assert_eq!(finding(&out, "cal_mac")["verdict"], verdict, "{out}");
        assert_eq!(finding(&out, "cal_data")["value"], "1900 bytes");
    }
    bench.write("phy.bin", &[b"PHYINIT\0".as_slice(), &[7; 128], b"PHYINIT\0"].concat());
    bench.flash("phy.bin", 0xf000);
    let out = bench.good("esp_rf_calibration_check", json!({}));
    assert_eq!(finding(&out, "PHY init partition")["verdict"], "ok");
}

#[test]
fn a_capture_is_bounded_logged_and_decoded() {
    let mut bench = Bench::new();
    let capture = json!({"duration_s": 2, "reset": true, "log_file": "log.bin", "until": ["rst:0x[0-9a-f]+"]});
    let out = bench.good("esp_console_capture", capture);
    assert!(out["ended_by"].as_str().unwrap().starts_with("pattern"), "{out}");
    assert_eq!(bench.file("log.bin").len() as u64, out["bytes"].as_u64().unwrap());
    assert!(out["first_byte_ms"].is_number() && out["lost_bytes"] == 0);
    let bytes = bench.good("esp_console_capture", json!({"duration_s": 2, "reset": true, "max_bytes": 10}));
    assert_eq!((bytes["ended_by"].clone(), bytes["bytes"].clone()), (json!("bytes"), json!(10)));
    assert_eq!(bench.bad("esp_console_capture", json!({"until": ["("]})), "bad_parameter");
    assert_eq!(bench.bad("esp_console_capture", json!({"duration_s": -1})), "bad_parameter");
}

/// A log that somebody pasted, with the clock of a monitor before each line.
const PASTED: &str = "12:16:53.101 -> Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.\n\
     12:16:53.101 -> MEPC    : 0x42000010  RA      : 0x42000020  SP      : 0x3fc91f60  GP      : 0x3fc8b600\n\
     12:16:53.101 -> MCAUSE  : 0x00000005  MTVAL   : 0x00000014\n";

#[test]
fn a_pasted_log_is_decoded_without_a_device() {
    let mut bench = Bench::new();
    let chip = chip().id;
    let logs = bench.dir.path().join("utf16.log");
    let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(PASTED.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    fs::write(logs, wide).unwrap();
    for arguments in [json!({ "text": PASTED, "chip": chip }), json!({ "input_file": "utf16.log", "chip": chip })] {
        let answer = bench.client.call("esp_log_decode", arguments);
        assert_ne!(answer["isError"], true, "{answer}");
        let out = &answer["structuredContent"];
        assert_eq!(out["findings"][0]["code"], "null_pointer", "{out}");
        assert!(out["findings"][0]["cause"].as_str().unwrap().contains("20"), "{out}");
        assert!(out["crashes"][0]["numbers"].to_string().contains("20 bytes behind"), "{out}");
        assert_eq!((out["lines"].as_u64(), out["events"][0]["line"].as_u64()), (Some(3), Some(1)), "{out}");
    }
}

#[test]
fn a_file_that_is_no_log_and_a_log_that_is_no_dump_lead_to_the_other_tool() {
    let mut bench = Bench::new();
    fs::write(bench.dir.path().join("log.txt"), PASTED).unwrap();
    fs::write(bench.dir.path().join("image.bin"), [0_u8; 512]).unwrap();
    let answer = bench.client.call("esp_core_dump_analyze", json!({ "dump_file": "log.txt" }));
    let text = answer.to_string();
    assert!(text.contains("core_dump_invalid") && text.contains("esp_log_decode input_file=log.txt"), "{text}");
    let answer = bench.client.call("esp_log_decode", json!({ "input_file": "image.bin" }));
    assert!(answer.to_string().contains("not_a_log"), "{answer}");
}

#[test]
fn findings_of_the_user_are_told_and_bad_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("findings");
    fs::create_dir(&own).unwrap();
    let entry = "[[finding]]\ncode = \"own\"\nline = 'lamp (\\w+) is dark'\ncause = \"dark\"\nremedy = \"light it\"\n\
                 confidence = \"certain\"\nsource = \"us\"\nexample = \"lamp one is dark\"\n";
    fs::write(own.join("own.toml"), entry).unwrap();
    let set = format!("findings_dir={}", own.display());
    let mut client = Client::initialized(dir.path(), &["--set", &set]);
    let answer = client.call("esp_log_decode", json!({ "text": "I (5) app: lamp two is dark" }));
    assert_eq!(answer["structuredContent"]["findings"][0]["code"], "own", "{answer}");
    fs::write(own.join("own.toml"), entry.replace("lamp one is dark", "nothing")).unwrap();
    let mut client = Client::initialized(dir.path(), &["--set", &set]);
    let answer = client.call("esp_log_decode", json!({ "text": "x" }));
    let text = answer.to_string();
    assert!(text.contains("bad_configuration") && text.contains("finding own"), "{text}");
}

/// Every tool that the catalogue's texts name is one.
#[test]
fn remedies_name_tools_that_there_are() {
    let not_tools = ["esp_task_wdt_", "esp_netif_", "esp_event_", "esp_err_t", "esp_init_data_"];
    for entry in esp_model::console::Catalogue::builtin().entries() {
        for text in [&entry.remedy, &entry.cause] {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("esp_")) {
                let known = not_tools.iter().any(|other| word.starts_with(other));
                assert!(known || mcp_esptool::tools::find(word).is_some(), "{}: {word}", entry.code);
            }
        }
    }
}

#[test]
fn file_systems_are_listed_and_extracted() {
    let mut bench = Bench::new();
    bench.partitioned();
    assert_eq!(bench.bad("esp_filesystem_extract", json!({})), "no_file_system");
    bench.write("store.bin", &spiffs());
    bench.flash("store.bin", 0x20000);
    let partitions = bench.good("esp_partition_analyze", json!({}))["partitions"].clone();
    let store = partitions.as_array().unwrap().iter().find(|row| row["name"] == "store").unwrap().clone();
    assert_eq!(store["content"], "file_system", "{store}");
    let out = bench.good("esp_filesystem_extract", json!({"output_dir": "files"}));
    let found = &out["file_systems"][0];
    assert_eq!((found["name"].clone(), found["kind"].clone()), (json!("store"), json!("SPIFFS")));
    // A name that would lead out of the folder stays in it.
    assert_eq!(bench.file("files/store/__/escape.txt"), b"a".repeat(200));
    assert!(!bench.dir.path().join("escape.txt").exists() && !bench.dir.path().join("files/escape.txt").exists());
    assert_eq!(bench.bad("esp_filesystem_extract", json!({"partition": "nothing"})), "unknown_partition");
    let file = bench.good("esp_filesystem_extract", json!({"image_file": "store.bin", "port": null}));
    assert_eq!(file["file_systems"][0]["files"][0]["size_bytes"], 200);
    let kind = bench.client.call("esp_firmware_analyze", json!({"binary_file": "store.bin"}));
    assert_eq!(kind["structuredContent"]["file_system"], "SPIFFS page 256, 1 file", "{kind}");
}

/// 64 KiB with one file of 200 bytes, `/../escape.txt`.
fn spiffs() -> Vec<u8> {
    let mut image = vec![0xff; 0x10000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    for block in 0..16u32 {
        let magic = (0x2014_0529 ^ 256 ^ (16 - block)) as u16;
        put(block as usize * 4096 + 252, &magic.to_le_bytes());
    }
    put(0, &[1, 0x80, 1, 0]);
    put(256, &[1, 0x80, 0, 0, 0xf8]);
    put(256 + 8, &200u32.to_le_bytes());
    put(256 + 12, b"\x01/../escape.txt\0");
    put(512, &[1, 0, 0, 0, 0xfc]);
    put(517, &[b'a'; 200]);
    image
}

#[test]
fn the_report_holds_pictures_a_trace_that_runs_and_no_secrets() {
    let mut bench = Bench::new();
    bench.partitioned();
    let secret = json!({"wifi": {"ssid": {"type": "string", "value": "home"},
        "password": {"type": "string", "value": "hunter2hunter2"}}});
    bench.good("esp_nvs_partition_create", json!({"data": secret, "output_file": "nvs.bin"}));
    bench.flash("nvs.bin", 0x9000);
    let out = bench.good("esp_diagnostic_report", json!({"output_dir": "report", "capture_s": 1}));
    let names =
        ["report.md", "report.json", "flash-map.svg", "timing.svg", "connecting.trace", "console.trace", "console.log"];
    for name in names {
        let bytes = bench.file(&format!("report/{name}"));
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("hunter2") && !text.contains(&hex("hunter2")), "{name}");
    }
    let report = String::from_utf8(bench.file("report/report.md")).unwrap();
    let command = format!("mcp-esptool call esp_diagnostic_report port={} output_dir=report capture_s=1", bench.port);
    assert!(report.contains(&command), "{report}");
    assert!(report.contains("flash-map.svg") && report.contains("timing.svg"));
    assert!(out["missing"].to_string().contains("core dump"), "{out}");
    let told = replay(bench.dir.path(), "report/connecting.trace");
    assert!(told.contains(&format!("connect: {}", chip().name)), "{told}");
    assert!(replay(bench.dir.path(), "report/console.trace").contains("bytes sent"));
    assert_eq!(bench.bad("esp_diagnostic_report", json!({"output_dir": "x", "capture_s": 1e9})), "bad_parameter");
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What `mcp-esptool replay` says of a trace.
fn replay(dir: &Path, file: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let output = command.args(["replay", file]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
