use super::*;

#[test]
fn a_broken_image_does_not_boot_and_says_why() {
    let chip = chip_named("esp32c3").unwrap();
    let wanted = esp_link::bootloaders::Wanted { mode: image::FlashMode::Dio, crystal_mhz: None, revision: None };
    let stock = esp_link::bootloaders::StockBootloader::find(chip, wanted).unwrap();
    let good = analyze(stock.bytes, None, USUAL_STRINGS);
    assert_eq!((good.boots, good.kind.as_str(), good.problems.len()), (Boots::Yes, "image", 0));
    assert!(good.image.as_ref().is_some_and(|image| image.bootloader.is_some()));
    assert!(good.what.as_ref().is_some_and(|what| what.starts_with("bootloader")), "{:?}", good.what);
    let cut = analyze(&stock.bytes[..stock.bytes.len() / 2], None, USUAL_STRINGS);
    assert!(cut.what.as_ref().is_some_and(|what| what.contains("cut off")), "{:?}", cut.what);
    let mut broken = stock.bytes.to_vec();
    broken[100] ^= 1;
    let bad = analyze(&broken, None, USUAL_STRINGS);
    assert_eq!(bad.boots, Boots::No);
    assert!(Analyze::summary(&bad).contains("checksum"), "{}", Analyze::summary(&bad));
    let other = analyze(stock.bytes, chip_named("esp32").ok(), USUAL_STRINGS);
    assert_eq!(other.boots, Boots::No);
}

#[test]
fn everything_else_is_told_too() {
    assert_eq!(analyze(&[], None, USUAL_STRINGS).kind, "empty");
    assert_eq!(analyze(&[0xff; 64], None, USUAL_STRINGS).kind, "blank");
    assert_eq!(analyze(b"hello, world", None, USUAL_STRINGS).kind, "unknown");
    let told = |bytes: &[u8]| analyze(bytes, None, USUAL_STRINGS).what.unwrap();
    assert!(told(b"<!doctype html><html>").contains("web page"));
    assert!(told(b"PK\x03\x04").contains("unpack it"));
    let url = analyze(b"\0\0https://example.com/path\0", None, USUAL_STRINGS);
    assert_eq!(url.strings[0].kind, "url");
    let otadata = Otadata::BLANK.switch_to(1, 2, esp_model::partition::otadata::State::New).unwrap();
    assert_eq!(analyze(&otadata.bytes(), None, USUAL_STRINGS).kind, "otadata");
}
