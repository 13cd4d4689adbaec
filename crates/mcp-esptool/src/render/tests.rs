use serde_json::json;

use super::*;

fn short(result: &impl Serialize, headline: &str) -> String {
    facts(result, headline).text
}

#[derive(Serialize)]
struct Partition {
    name: &'static str,
    offset: u32,
    size_bytes: u32,
    note: Option<&'static str>,
}

#[derive(Serialize)]
struct Out {
    port: &'static str,
    verified: bool,
    took_s: f64,
    partitions: Vec<Partition>,
    notes: Vec<&'static str>,
    console: String,
}

fn out() -> Out {
    Out {
        port: "sim://esp32",
        verified: true,
        took_s: 1.5,
        partitions: vec![
            Partition { name: "nvs", offset: 0x9000, size_bytes: 24576, note: None },
            Partition { name: "factory", offset: 0x10000, size_bytes: 1_048_576, note: None },
        ],
        notes: Vec::new(),
        console: "boot\nhello\nhello\nhello\nend".into(),
    }
}

#[test]
fn fields_tables_and_console_keep_their_order() {
    let text = short(&out(), "headline");
    let wanted = "\
port: sim://esp32; verified: yes; took_s: 1.5
partitions (2):
  name     offset   size_bytes
  nvs      0x9000   0x6000
  factory  0x10000  0x100000
console:
| boot
| hello  (×3)
| end
";
    assert_eq!(text, wanted);
}

#[test]
fn what_the_headline_tells_is_not_repeated() {
    assert!(!short(&out(), "2 partitions on sim://esp32").contains("port:"));
}

#[test]
fn long_results_are_cut_and_say_so() {
    let rows: Vec<_> = (0..160).map(|row| json!({ "address": row * 4096, "name": format!("entry {row}") })).collect();
    let whole = facts(&json!({ "rows": rows }), "").whole.unwrap();
    assert!(whole.contains("entry 159") && !whole.contains('…'), "{whole}");
    assert_eq!(facts(&out(), "").whole, None);
    let text = short(&json!({ "rows": rows }), "");
    assert!(text.contains("0x63000") && text.contains("… 60 more rows\n"), "{text}");
    let long: Vec<_> =
        (0..99).map(|row| json!({ "text": format!("{row:060}"), "more": format!("{row:x>60}"), "row": row })).collect();
    let text = short(&json!({ "a": long.clone(), "b": long }), "");
    assert!(text.len() < SHORT.bytes + 60 && text.ends_with(" more lines"), "{text}");
}

#[test]
fn empty_values_are_left_out_and_objects_stay_on_a_line() {
    let text = short(&json!({ "none": null, "empty": [], "object": { "a": 1, "b": "x" }, "deep": { "c": {} } }), "");
    assert_eq!(text, "object: a 1, b x\n");
}

#[test]
fn a_column_of_equal_values_is_told_once() {
    let rows: Vec<_> = (0..5).map(|row| json!({ "name": format!("row {row}"), "readable": true })).collect();
    let text = short(&json!({ "rows": rows }), "");
    assert!(text.starts_with("rows (5, all with readable yes):\n  name\n  row 0\n"), "{text}");
}

#[test]
fn rows_that_do_not_fit_are_written_field_by_field_and_nothing_is_cut() {
    let path = format!("/root/.espressif/tools/{}/libc.a", "x/".repeat(60));
    let remedy = "sign bootloader and application, flash them, then enable secure boot; keep the key in a safe place";
    let row = |name: &str| {
        json!({ "name": name, "source": path, "output_file": path, "remedy": format!("{name}: {remedy}"),
            "frames": [{ "pc": 0x4038_0698, "function": "panic_abort" }, { "pc": 0x4200_9351, "function": "app_main" }] })
    };
    let text = short(&json!({ "rows": [row("one"), row("two")] }), "");
    assert!(text.contains(&format!("one: {remedy}")) && text.contains(&format!("two: {remedy}")), "{text}");
    assert!(text.contains("  source: …/x/") && text.contains(&format!("output_file: {path}")), "{text}");
    assert!(text.contains("    app_main     0x42009351"), "{text}");
}

#[test]
fn a_few_long_rows_stand_below_the_table() {
    let mut rows: Vec<_> = (0..12).map(|row| json!({ "name": format!("row {row}"), "value": row })).collect();
    rows.insert(3, json!({ "name": "long", "value": "ff ".repeat(60) }));
    let text = short(&json!({ "rows": rows }), "");
    assert!(text.contains("  row 2   2\n  row 3   3\n"), "{text}");
    assert!(text.contains("\n- name: long\n  value: ff ff "), "{text}");
}

#[test]
fn remedies_show_parameters_as_a_call_takes_them() {
    let text = short(
        &json!({ "remedy": { "tool": "esp_efuse_burn", "parameters": { "burns": [{ "value": 1 }] },
        "text": "a sentence that is long enough to make the object stand on lines of its own, below its name" } }),
        "",
    );
    assert!(text.contains("  parameters: {\"burns\":[{\"value\":1}]}\n"), "{text}");
}

#[test]
fn times_are_dates_and_no_number_ends_in_its_point() {
    let text = short(&json!({ "ended_ms": 1_795_963_392_848_u64, "took_ms": 12, "verify_s": 0.0001, "at": 326 }), "");
    assert_eq!(text, "at: 326; ended_ms: 2026-11-29T14:43:12Z; took_ms: 12; verify_s: 0\n");
}

#[test]
fn pairs_stay_together_and_pointers_are_hex() {
    let text =
        short(&json!({ "registers": [["PC", 1_074_614_059], ["PS", 32]], "total_bytes": 4_000_000_000_u64 }), "");
    assert_eq!(text, "registers: PC 0x400d4f2b, PS 0x20; total_bytes: 4000000000\n");
}

#[test]
fn sentences_stand_below_each_other_and_equal_ones_are_folded() {
    let note = "the partition table ends behind the flash size that the header names";
    let text = short(&json!({ "notes": [note, note, "another note"] }), "");
    assert_eq!(text, format!("notes:\n| {note}  (×2)\n| another note\n"));
}

#[test]
fn sizes_of_regions_are_hex_and_counts_are_not() {
    let text = short(&json!({ "flash_size_bytes": 4_194_304, "written_bytes": 4096, "size_bytes": 8192 }), "");
    assert_eq!(text, "flash_size_bytes: 0x400000; size_bytes: 8192; written_bytes: 4096\n");
}

#[test]
fn colours_and_control_characters_of_a_console_are_left_out() {
    assert_eq!(
        plain("console:\n| \u{1b}[0;32mI (7) boot: x\u{1b}[0m\r\n| a\tb \u{1b}]0;title\u{7}"),
        "console:\n| I (7) boot: x\n| a\tb ]0;title".replace("a\tb", "a b")
    );
    assert_eq!(plain("array[0m] and\ttabs stay"), "array[0m] and\ttabs stay");
}
