//! Jobs on files.

use std::fs;

use serde_json::json;

use super::reference::Stop;
use super::session::{Session, corpus, has};

/// Job 6: what is in a dump, and one value of its NVS changed; the rest stays.
pub fn dump_is_read_and_one_value_changed_in_place() {
    let mut session = Session::new(8);
    let files = session.firmware("esp32c3");
    session.aside("esp_partition_create", json!({"layout": "single_app", "output_file": "table.bin"}));
    let data = json!({"net": {"hostname": "unit-7", "psk": "hunter2-99"}});
    session.aside("esp_nvs_partition_create", json!({"data": data, "output_file": "nvs.bin"}));
    session.aside("esp_flash_firmware", json!({"port": "sim://esp32c3-demo", "files": files}));
    session.aside(
        "esp_flash_firmware",
        json!({"port": "sim://esp32c3-demo", "files": [{"path": "nvs.bin", "address": "0x9000"}]}),
    );
    session.aside("esp_flash_read", json!({"port": "sim://esp32c3-demo", "region": "all", "output_file": "dump.bin"}));
    let before = session.bytes("dump.bin");
    has(&session.ok("esp_flash_analyze", json!({"port": "image:dump.bin"})), &["nvs", "factory", "bootloader"]);
    has(&session.ok("esp_nvs", json!({"port": "image:dump.bin"})), &["unit-7", "psk"]);
    let set = json!({"port": "image:dump.bin?write=1", "action": "set", "namespace": "net", "key": "hostname", "value": "unit-8"});
    has(&session.ok("esp_nvs", set), &["1 change", "changed in place"]);
    let after = session.bytes("dump.bin");
    let differs: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
    assert!(!differs.is_empty() && differs.iter().all(|at| (0x9000..0xa000).contains(at)));
    has(&session.ok("esp_boot_check", json!({"port": "image:dump.bin"})), &["starts"]);
}

/// Job 7: a core dump, in one call that names the culprit.
pub fn core_dump_names_the_culprit() -> Result<(), Stop> {
    let (dump, elf) = (corpus("coredump/esp32c3.b64")?, corpus("coredump/esp32c3.elf")?);
    let mut session = Session::new(1);
    session.write("dump.b64", &fs::read(dump).unwrap());
    session.write("app.elf", &fs::read(elf).unwrap());
    let text = session.ok("esp_core_dump_analyze", json!({"dump_file": "dump.b64", "elf_file": "app.elf"}));
    let headline = text.lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(!headline.contains("panic_abort") && headline.contains("test_core_dump.c"), "{headline}");
    Ok(())
}

/// Job 8: where the bytes go, in one call.
pub fn size_is_explained() -> Result<(), Stop> {
    let folder = corpus("build/main-h2")?;
    let mut session = Session::new(1);
    session.write("main.elf", &fs::read(folder.join("main.elf")).unwrap());
    session.write("main.map", &fs::read(folder.join("main.map")).unwrap());
    has(
        &session.ok("esp_size_analysis", json!({"elf_file": "main.elf", "map_file": "main.map"})),
        &["DIRAM", "libesp_hw_support.a"],
    );
    Ok(())
}

/// Job 14: a saved log with a panic, decoded with the app's ELF file.
pub fn panic_log_is_decoded_with_the_elf() -> Result<(), Stop> {
    let folder = corpus("build/main-h2")?;
    let mut session = Session::new(3);
    session.write("main.elf", &fs::read(folder.join("main.elf")).unwrap());
    let found = session.ok("esp_symbols", json!({"elf_file": "main.elf", "names": ["app_main"], "addresses": []}));
    let address = found.split("0x").nth(1).unwrap().get(..8).unwrap().to_owned();
    let log = format!(
        "Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.\n\n\
         Core  0 register dump:\nMEPC    : 0x{address}  RA      : 0x{address}  SP      : 0x40816f10  GP      : 0x40809a14\n\
         MCAUSE  : 0x00000005  MTVAL   : 0x00000000\n\nELF file SHA256: f57e98889\n\nRebooting...\n"
    );
    session.write("log.txt", log.as_bytes());
    has(
        &session.ok("esp_log_decode", json!({"input_file": "log.txt", "elf_file": "main.elf"})),
        &["app_main", "verified"],
    );
    has(
        &session.refused("esp_core_dump_analyze", json!({"dump_file": "log.txt"})),
        &["is not a core dump", "esp_log_decode input_file=log.txt"],
    );
    Ok(())
}
