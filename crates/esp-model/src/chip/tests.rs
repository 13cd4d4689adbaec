use super::*;

#[test]
fn every_chip_folder_is_valid() {
    assert!(all().len() >= 2);
    for chip in all() {
        chip.data.validate().unwrap_or_else(|error| panic!("{}: {error}", chip.id));
        let table = chip.efuse();
        for field in chip.identity.fields() {
            assert!(table.field(field).is_some(), "{}: no eFuse field {field}", chip.id);
        }
    }
}

#[test]
fn chips_are_found_in_any_spelling() {
    for name in ["esp32c3", "ESP32-C3", "Esp32_C3"] {
        assert_eq!(by_name(name).map(|chip| chip.id), Some("esp32c3"));
    }
    assert!(by_name("esp99").is_none());
}
