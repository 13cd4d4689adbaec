use serde_json::json;

use super::*;

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
    let text = facts(&out(), "headline");
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
    assert!(!facts(&out(), "2 partitions on sim://esp32").contains("port:"));
}

#[test]
fn long_results_are_cut_and_say_so() {
    let rows: Vec<_> = (0..100).map(|row| json!({ "address": row * 4096, "name": format!("entry {row}") })).collect();
    let text = facts(&json!({ "rows": rows }), "");
    assert!(text.contains("0x27000") && text.contains("60 more rows in structuredContent"), "{text}");
    let long: Vec<_> =
        (0..39).map(|row| json!({ "text": format!("{row:060}"), "more": format!("{row:x>60}"), "row": row })).collect();
    let text = facts(&json!({ "a": long.clone(), "b": long }), "");
    assert!(text.len() < MAX_BYTES + 60 && text.ends_with("in structuredContent"), "{text}");
}

#[test]
fn empty_values_are_left_out_and_objects_stay_on_a_line() {
    let text = facts(&json!({ "none": null, "empty": [], "object": { "a": 1, "b": "x" }, "deep": { "c": {} } }), "");
    assert_eq!(text, "object: a 1, b x\n");
}

#[test]
fn a_column_of_equal_values_is_told_once() {
    let rows: Vec<_> = (0..5).map(|row| json!({ "name": format!("row {row}"), "readable": true })).collect();
    let text = facts(&json!({ "rows": rows }), "");
    assert!(text.starts_with("rows (5, all with readable yes):\n  name\n  row 0\n"), "{text}");
}

#[test]
fn rows_are_not_wider_than_a_screen_and_paths_keep_their_end() {
    let path = format!("/root/.espressif/tools/{}/libc.a", "x/".repeat(60));
    let row = |name: &str| {
        json!({ "name": name, "file": path, "note": "word ".repeat(40), "more": "text ".repeat(40),
        "deep": { "a": "1".repeat(50), "b": 2 } })
    };
    let text = facts(&json!({ "rows": [row("one"), row("two")] }), "");
    assert!(text.lines().all(|line| line.chars().count() <= 164), "{text}");
    assert!(text.contains("/libc.a") && text.contains('…'), "{text}");
}

#[test]
fn sentences_stand_below_each_other_and_equal_ones_are_folded() {
    let note = "the partition table ends behind the flash size that the header names";
    let text = facts(&json!({ "notes": [note, note, "another note"] }), "");
    assert_eq!(text, format!("notes:\n| {note}  (×2)\n| another note\n"));
}

#[test]
fn sizes_of_regions_are_hex_and_counts_are_not() {
    let text = facts(&json!({ "flash_size_bytes": 4_194_304, "written_bytes": 4096, "size_bytes": 8192 }), "");
    assert_eq!(text, "flash_size_bytes: 0x400000; size_bytes: 8192; written_bytes: 4096\n");
}
