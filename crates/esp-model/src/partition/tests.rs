use super::otadata::{Choice, Entry, Otadata, Rules, State, Why};
use super::*;

const TWO_OTA: &str = "nvs,data,nvs,,16K\notadata,data,ota,,8K\nfactory,app,factory,,1M\nota_0,app,ota_0,,1M\n";

fn read(csv: &str) -> Result<Table, TableError> {
    Table::read(csv.as_bytes(), &Options::default())
}

#[test]
fn offsets_are_filled_in() {
    let table = read(TWO_OTA).unwrap();
    let offsets: Vec<u32> = table.partitions.iter().map(|p| p.offset).collect();
    assert_eq!(offsets, [0x9000, 0xd000, 0x10000, 0x110000]);
    assert_eq!(table.end(), 0x21_0000);
}

#[test]
fn binary_and_back() {
    for preset in PRESETS {
        let table = preset.table(&Options::default()).unwrap();
        let bytes = table.to_binary(true).unwrap();
        let back = Table::read(&bytes, &Options::default()).unwrap();
        assert_eq!(back.to_csv(false, &Subtypes::default()), table.to_csv(false, &Subtypes::default()));
        assert_eq!(recognise(&bytes), Recognised::Table { signature: 0 });
    }
}

#[test]
fn negative_size_reaches_up_to_an_address() {
    let table = read("a,data,nvs,0x9000,-0x10000\n").unwrap();
    assert_eq!(table.partitions[0].size, 0x7000);
}

#[test]
fn refusals_name_the_row() {
    let cases = [
        ("# c\na,app,factory,0x11000,64K", "line 2 (\"a\"): offset 0x11000 is not aligned to 0x10000"),
        ("a,data,nvs,,", "line 1 (\"a\"): size is empty"),
        ("a,,nvs,,4K", "line 1 (\"a\"): type is empty"),
        ("a,app,,,64K", "line 1 (\"a\"): subtype of an app is empty"),
        ("a,data,nvs,,4K,shiny", "line 1 (\"a\"): unknown flag \"shiny\""),
        ("a,data,0x100,,4K", "line 1 (\"a\"): subtype 256 is out of range"),
        ("a,0x40,word,,4K", "line 1 (\"a\"): subtype \"word\" is not a number"),
        ("a,data,phy,0x8000,4K", "line 1 (\"a\"): offset 0x8000 is below 0x9000, where the partition table ends"),
        ("a,data,phy,,4K\na,data,fat,,4K", "line 2 (\"a\"): the name is already used at line 1"),
        ("a,data,nvs,,8K", "line 1 (\"a\"): an NVS partition of 0x2000 bytes must be read-only"),
        ("a,data,ota,,4K", "line 1 (\"a\"): a otadata partition must have 0x2000 bytes, not 0x1000"),
        ("a,data,coredump,,4K,readonly", "line 1 (\"a\"): a partition of this subtype is always written"),
        ("a,bootloader,primary,,", "line 1 (\"a\"): the offset of the primary bootloader is not given"),
        ("$X,data,phy,,4K", "line 1 (\"$X,data,phy,,4K\"): unknown variable \"X\""),
    ];
    for (csv, message) in cases {
        let error = read(csv).unwrap_err().to_string();
        assert!(error.starts_with(message), "{csv}: {error}");
    }
}

#[test]
fn bootloader_and_table_entries() {
    let options = Options {
        primary_bootloader: Some(0x1000),
        recovery_bootloader: Some(0x3f_0000),
        table_offset: 0x9000,
        ..Options::default()
    };
    let csv = "b,bootloader,primary,,\nt,partition_table,primary,,\nn,data,nvs,,16K\nr,bootloader,recovery,,\n";
    let table = Table::read(csv.as_bytes(), &options).unwrap();
    let shape: Vec<_> = table.partitions.iter().map(|p| (p.offset, p.size)).collect();
    assert_eq!(shape, [(0x1000, 0x8000), (0x9000, 0x1000), (0xa000, 0x4000), (0x3f_0000, 0x8000)]);
    let high = Options { primary_bootloader: Some(0x9000), ..options };
    assert!(matches!(Table::read(csv.as_bytes(), &high), Err(TableError::BootloaderAboveTable { .. })));
}

#[test]
fn custom_subtypes() {
    let mut subtypes = Subtypes::default();
    subtypes.add(["app, my_app1, 0x40", "data,log,41"]).unwrap();
    let options = Options { subtypes, ..Options::default() };
    let table = Table::read(b"a,app,my_app1,,64K\nl,data,log,,4K", &options).unwrap();
    assert_eq!((table.partitions[0].subtype, table.partitions[1].subtype), (0x40, 0x41));
    assert!(Subtypes::default().add(["app, twice, 0x20"]).is_err());
    assert!(Subtypes::default().add(["app, short"]).is_err());
    assert!(Subtypes::default().add(["apple, a, 0x40"]).is_err());
}

#[test]
fn variables_and_marks() {
    let value = |name: &str| (name == "SIZE").then(|| "16K".to_owned());
    let options = Options { variables: &value, ..Options::default() };
    let table = Table::read(b"\xef\xbb\xbfn,data,nvs,,${SIZE}\no,data,phy,,$SIZE\n", &options).unwrap();
    assert_eq!(table.partitions[0].size, 0x4000);
    assert_eq!(table.partitions[1].size, 0x4000);
}

#[test]
fn a_changed_table_is_noticed() {
    let mut bytes = read(TWO_OTA).unwrap().to_binary(true).unwrap();
    bytes[40] ^= 1;
    assert!(matches!(Table::read(&bytes, &Options::default()), Err(TableError::Md5 { entry: 4, .. })));
    assert!(Table::from_binary(&bytes, false).is_err());
    assert_eq!(Table::from_binary(&bytes[..64], true), Err(TableError::NoEnd));
    assert_eq!(Table::from_binary(&bytes[..70], true), Err(TableError::Truncated(2)));
}

#[test]
fn too_many_entries() {
    let rows = |count: usize| (0..count).map(|i| format!("p{i},data,phy,,4K\n")).collect::<String>();
    assert!(read(&rows(94)).unwrap().to_binary(true).is_ok());
    assert_eq!(read(&rows(95)).unwrap().to_binary(true), Err(TableError::TooMany(95)));
    assert!(read(&rows(95)).unwrap().to_binary(false).is_ok());
}

#[test]
fn kinds_of_sectors() {
    let mut state = 1u32;
    let noise: Vec<u8> = (0..4096)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    assert_eq!(recognise(&noise), Recognised::Encrypted);
    assert_eq!(recognise(&[0xff; 4096]), Recognised::Blank);
    assert_eq!(recognise(&[0; 4096]), Recognised::Other);
    let mut signed = read(TWO_OTA).unwrap().to_binary(true).unwrap();
    signed.extend_from_slice(&[0; 4]);
    signed.extend_from_slice(&noise[..64]);
    assert_eq!(recognise(&signed), Recognised::Table { signature: 68 });
}

#[test]
fn otadata_of_a_new_device() {
    let rules = Rules { slots: 2, factory: true, rollback: false };
    let decision = Otadata::read(&[]).decide(rules);
    assert_eq!((decision.choice, decision.why), (Choice::Factory, Why::Default));
    let decision = Otadata::BLANK.decide(Rules { factory: false, ..rules });
    assert_eq!((decision.choice, decision.why), (Choice::Slot(0), Why::NoFactory));
}

#[test]
fn the_higher_sequence_wins() {
    let rules = Rules { slots: 2, factory: true, rollback: true };
    let mut data = Otadata { entries: [Entry::new(3, State::Valid), Entry::new(4, State::New)] };
    let decision = data.decide(rules);
    assert_eq!((decision.choice, decision.why), (Choice::Slot(1), Why::Entry(1)));
    assert_eq!(decision.after.entries[1].state, State::PendingVerify);
    // The app did not confirm itself: the next start goes back.
    let decision = decision.after.decide(rules);
    assert_eq!((decision.choice, decision.why), (Choice::Slot(0), Why::Entry(0)));
    assert_eq!(decision.after.entries[1].state, State::Aborted);
    data.entries[1].crc ^= 1;
    assert_eq!(data.decide(rules).choice, Choice::Slot(0));
    data.entries[0].crc ^= 1;
    assert_eq!(data.decide(rules).why, Why::Damaged);
}

#[test]
fn anti_rollback_skips_old_apps() {
    let rules = Rules { slots: 2, factory: false, rollback: true };
    let data = Otadata { entries: [Entry::new(1, State::Valid), Entry::new(2, State::Valid)] };
    let versions = |slot: u32| [Some(3), Some(1)].get(slot as usize).copied().flatten();
    assert_eq!(data.decide_anti_rollback(rules, 2, versions).choice, Choice::Slot(0));
    assert_eq!(data.decide_anti_rollback(rules, 1, versions).choice, Choice::Slot(1));
    assert_eq!(data.decide_anti_rollback(rules, 9, versions).why, Why::Damaged);
}

#[test]
fn switching_slots_keeps_the_old_entry() {
    let first = Otadata::BLANK.switch_to(1, 3, State::New).unwrap();
    assert_eq!((first.entries[0].sequence, first.entries[1]), (2, Entry::BLANK));
    let second = first.switch_to(0, 3, State::Undefined).unwrap();
    assert_eq!((second.entries[0], second.entries[1].sequence), (first.entries[0], 4));
    let same = second.switch_to(0, 3, State::Valid).unwrap();
    assert_eq!((same.entries[1].sequence, same.entries[1].state), (4, State::Valid));
    assert_eq!(same.switch_to(3, 3, State::New), None);
    assert_eq!(Otadata::read(&same.bytes()), same);
}

#[test]
fn mutated_tables_do_no_harm() {
    let csv = "# c\nnvs,data,nvs,,16K\notadata,data,ota,0xd000,8K,encrypted\nf,app,factory,,-2M,readonly\n";
    let seeds = [csv.as_bytes().to_vec(), read(TWO_OTA).unwrap().to_binary(true).unwrap()];
    let mut accepted = 0;
    crate::testing::mutate(&seeds, 20_000, |bytes| {
        if let Ok(table) = Table::read(bytes, &Options::default()) {
            accepted += 1;
            let _ = table.to_binary(true);
            let _ = (table.to_csv(false, &Subtypes::default()), table.warnings(&Options::default()));
        }
        recognise(bytes);
        let data = Otadata::read(bytes);
        let _ = (data.decide(Rules { slots: 2, ..Rules::default() }), data.switch_to(1, 2, State::New));
    });
    assert!(accepted > 100, "{accepted} of the mutated tables were accepted");
}
