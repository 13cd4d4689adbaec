use super::*;

/// A core with one task: register note, version and panic notes, one segment.
fn core(sha: &str) -> Vec<u8> {
    let mut registers = vec![0u8; 72];
    registers[24..28].copy_from_slice(&0x3fc8_0000u32.to_le_bytes());
    registers.extend((0..32u32).flat_map(|i| (0x4200_0000 + i * 16).to_le_bytes()));
    registers.extend([0; 4]);
    let mut info = 0x0005_0102u32.to_le_bytes().to_vec();
    info.extend(sha.as_bytes());
    info.resize(72, 0);
    let extra: Vec<u8> = [0x3fc8_0000u32, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    let notes = [
        note("CORE", 1, &registers),
        note("ESP_CORE_DUMP_INFO", 8266, &info),
        note("ESP_EXTRA_INFO", 677, &extra),
        note("ESP_PANIC_DETAILS", 679, b"it \x1b[31mbroke\0"),
    ]
    .concat();
    let memory = [0xa5u8; 64];
    let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend([4, 0, 0xf3, 0]);
    for word in [1u32, 0, 52, 0, 0] {
        bytes.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 2, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    let at = 52 + 64;
    for (kind, offset, address, len) in [(4u32, at, 0, notes.len()), (1, at + notes.len(), 0x3fc8_0000, memory.len())] {
        for word in [kind, offset as u32, address, address, len as u32, len as u32, 6, 0] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.extend(notes);
    bytes.extend(memory);
    bytes
}

fn note(name: &str, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [name.len() as u32 + 1, data.len() as u32, kind].iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Version 1.2: header of 24 bytes and a CRC32.
fn dump() -> Vec<u8> {
    let core = core("0123456789abcdef");
    let mut bytes: Vec<u8> =
        [24 + core.len() as u32 + 4, 0x0005_0102, 0, 0, 0, 101].iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(core);
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

#[test]
fn a_dump_from_a_partition() {
    let mut bytes = dump();
    bytes.resize(0x1000, 0xff);
    let dump = CoreDump::parse(&bytes, Check::Enforce).unwrap();
    assert_eq!(dump.version, Some(Version { chip_id: 5, major: 1, minor: 2 }));
    assert_eq!((dump.chip_revision, dump.crashed_task, dump.in_isr), (Some(101), Some(0x3fc8_0000), Some(true)));
    assert_eq!(dump.app_sha256.as_deref(), Some("0123456789abcdef"));
    assert_eq!(dump.tasks.len(), 1);
    assert_eq!((dump.tasks[0].registers.pc, dump.tasks[0].registers.sp()), (0x4200_0000, 0x4200_0020));
    assert_eq!(dump.word(0x3fc8_003c), Some(0xa5a5_a5a5));
    assert_eq!(dump.word(0x3fc8_003d), None);
}

#[test]
fn control_characters_of_the_device_do_not_pass() {
    let dump = CoreDump::parse(&dump(), Check::Enforce).unwrap();
    assert_eq!(dump.panic_details.as_deref(), Some("it \u{fffd}[31mbroke"));
}

#[test]
fn a_changed_byte_is_refused_or_reported() {
    let mut bytes = dump();
    bytes[300] ^= 1;
    let error = CoreDump::parse(&bytes, Check::Enforce).unwrap_err();
    assert!(matches!(error, CoreDumpError::Checksum { kind: ChecksumKind::Crc32, .. }), "{error}");
    assert_eq!(CoreDump::parse(&bytes, Check::Report).unwrap().checksum.ok, Some(false));
}

#[test]
fn blank_cut_and_foreign_bytes_have_their_own_errors() {
    let parse = |bytes: &[u8]| CoreDump::parse(bytes, Check::Enforce).unwrap_err();
    assert_eq!(parse(&[0xff; 4096]), CoreDumpError::Blank);
    let whole = dump();
    assert!(matches!(parse(&whole[..whole.len() - 1]), CoreDumpError::Cut { what: "dump", .. }));
    assert!(matches!(parse(b""), CoreDumpError::Cut { what: "header", .. }));
    assert!(matches!(parse(&[0x55; 64]), CoreDumpError::Version(_) | CoreDumpError::NotACoreDump(_)));
}

#[test]
fn base64_between_markers_with_a_loggers_own_prefixes() {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let bytes = dump();
    let blocks: Vec<String> = bytes.chunks(48).map(|block| format!("[12:00:01] {}", encode(block))).collect();
    let log = format!(
        "rst:0x1\r\n===== CORE DUMP START =====\r\n{}\r\n===== CORE DUMP END =====\r\nRebooting\r\n",
        blocks.join("\r\n")
    );
    assert_eq!(CoreDump::parse(log.as_bytes(), Check::Enforce).unwrap().tasks.len(), 1);
    let cut = log.split_at(log.len() / 2).0;
    assert!(matches!(CoreDump::parse(cut.as_bytes(), Check::Enforce), Err(CoreDumpError::Cut { .. })));
    assert_eq!(CoreDump::parse(encode(&bytes).as_bytes(), Check::Enforce).unwrap().tasks.len(), 1);
}

#[test]
fn damaged_dumps_do_no_harm() {
    crate::testing::mutate(&[dump(), core("00")], 10_000, |bytes| {
        let _ = CoreDump::parse(bytes, Check::Report);
    });
}
