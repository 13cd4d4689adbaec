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

/// A long answer is cut and says by which call the rest comes; documents are not told twice.
pub fn cut_text_names_the_call_that_shows_all() {
    let mut session = Session::new(4);
    let values: serde_json::Map<_, _> = (0..150).map(|n| (format!("key{n:03}"), json!(n))).collect();
    session.aside("esp_nvs_partition_create", json!({"data": {"many": values}, "output_file": "nvs.bin"}));
    let text = session.ok("esp_nvs_partition_create", json!({"action": "decode", "image_file": "nvs.bin"}));
    has(&text, &["key099", "… 50 more rows", "cut; esp_docs name=esp://results/"]);
    assert!(!text.contains("key149"), "{text}");
    let name = text.split("esp_docs name=").nth(1).unwrap().split(' ').next().unwrap();
    has(&session.ok("esp_docs", json!({"name": name})), &["key000", "key149"]);
    let gone = json!({"name": "esp://results/0123456789abcdef"});
    has(&session.refused("esp_docs", gone), &["not kept any more", "make the call again"]);
    let text = session.ok("esp_docs", json!({"name": "esp_flash_erase"}));
    assert_eq!(text.matches("## Examples").count(), 1, "{text}");
}

/// Of many crashes the first ones are explained, and the others counted.
pub fn crashes_that_are_not_shown_are_counted() {
    let mut session = Session::new(1);
    let crash = "Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.\n\
        PC      : 0x400d1234  PS      : 0x00060030  A0      : 0x800d5678  A1      : 0x3ffb5e10\n\
        EXCVADDR: 0x00000004\nBacktrace: 0x400d1231:0x3ffb5e10\nRebooting...\n";
    has(&session.ok("esp_log_decode", json!({"text": crash.repeat(20)})), &["crashes_left_off: 4"]);
}

/// A merged file: its apps in the headline, partitions by name.
pub fn merged_file_is_told_with_names_and_apps() {
    let mut session = Session::new(1);
    let files = session.firmware("esp32c3");
    session.aside("esp_binary_merge", json!({"files": files, "output_file": "merged.bin"}));
    let text = session.ok("esp_firmware_analyze", json!({"binary_file": "merged.bin"}));
    has(&text, &["merged image, its place is 0x0; factory: app `", "data  nvs", "app   factory"]);
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
        &["app_main", "verified", "lines of esp32h2", "line: 1"],
    );
    has(
        &session.refused("esp_core_dump_analyze", json!({"dump_file": "log.txt"})),
        &["is not a core dump", "esp_log_decode input_file=log.txt"],
    );
    Ok(())
}
