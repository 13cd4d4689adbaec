use std::collections::BTreeMap;

use super::*;
use crate::testing::mutate;
use esp_model::partition::{Options, Table};

const TABLE: &str = "nvs,data,nvs,0x9000,0x4000\nfctry,data,nvs,0xd000,0x3000\nfactory,app,factory,0x10000,1M\n";

fn example_text() -> String {
    example("esp32c3", "blink", &[("app.bin".into(), 0x1_0000)], None)
}

fn context() -> Context {
    let sizes = BTreeMap::from([("app.bin".to_owned(), 1000), ("partitions.csv".to_owned(), 100)]);
    Context { sizes, table: Some(Table::from_csv(TABLE, &Options::default()).unwrap()), rows: None }
}

fn findings(text: &str) -> Vec<String> {
    let recipe = Recipe::parse(text).unwrap();
    lint(&recipe, &context()).into_iter().map(|finding| format!("{}: {}", finding.place, finding.text)).collect()
}

#[test]
fn the_example_is_clean() {
    assert_eq!(findings(&example_text()), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_named() {
    let good = example_text();
    for (from, to, wanted) in [
        ("\"esp32c3\"", "\"esp99\"", "there is no chip"),
        ("min_revision = \"0.0\"", "min_revision = \"new\"", "not `major.minor`"),
        ("min_revision = \"0.0\"", "min_revision = \"2.0\"\nmax_revision = \"1.0\"", "above max_revision"),
        ("partition = \"fctry\"\n[nvs", "partition = \"nothing\"\n[nvs", "no such partition"),
        ("partition = \"fctry\"\n[nvs", "partition = \"factory\"\n[nvs", "not of type data"),
        ("values.device", "values.phy", "radio's calibration"),
        ("hw_rev = { type = \"u8\", value = 1 }", "hw_rev = { type = \"u8\", value = 300 }", "hw_rev"),
        ("hw_rev =", "a_key_of_16_bytes =", "1 to 15 bytes"),
        ("serial = \"{serial}\"", "serial = \"{serail}\"", "nothing is called {serail}"),
        ("SN:{serial}", "SN:{serial", "no partner"),
        ("min = 2097152\n", "", "nothing would ever fail"),
        ("min = 2097152\n", "min = 5\nmax = 4\n", "min is above max"),
        ("name = \"serial in flash\"", "name = \"flash size\"", "same name"),
        ("address = \"0x10000\"", "address = \"far\"", "not a 32-bit number"),
        ("address = \"0x10000\"", "address = \"0xcff0\"", "begins at"),
        ("app.bin", "gone.bin", "cannot be read"),
        ("mac = { type = \"hex2bin\", value = \"{mac.hex}\" }\n", "", "but nothing is written"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let found = findings(&text.replace("MAC:{mac}", ""));
        assert!(found.iter().any(|finding| finding.contains(wanted)), "{to}: {found:?}");
    }
    for (from, to) in
        [("[label]", "[lable]"), ("min = 2097152", "mni = 1"), ("key = \"serial\"\nequals", "kye = \"serial\"\nequals")]
    {
        assert!(Recipe::parse(&good.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn a_lock_notices_every_change() {
    let text = example_text();
    let files = BTreeMap::from([("app.bin".to_owned(), lock::sha256(b"app"))]);
    let locked = lock::locked(&text, &files);
    let lock = Recipe::parse(&locked).unwrap().lock.unwrap();
    assert_eq!(lock.differences(&locked, &files), Vec::<String>::new());
    assert_eq!(lock::locked(&locked, &files), locked);
    let edited = locked.replace("1.0.0", "1.0.1");
    assert_eq!(lock.differences(&edited, &files), ["the recipe itself"]);
    let other = BTreeMap::from([("app.bin".to_owned(), lock::sha256(b"other"))]);
    assert_eq!(lock.differences(&locked, &other), ["app.bin"]);
    assert_eq!(lock.differences(&locked, &BTreeMap::new()), ["app.bin"]);
}

#[test]
fn templates_are_filled() {
    let values = Values::from([("serial".into(), "SN-1".into()), ("mac".into(), "24:0A:C4:00:00:01".into())]);
    let fill = |text: &str| Template::parse(text).and_then(|template| template.fill(&values));
    assert_eq!(fill("{{{serial}}} {mac.hex}").unwrap(), "{SN-1} 240ac4000001");
    for bad in ["{", "}", "{}", "{serial", "a}b", "{a{b}}"] {
        assert!(fill(bad).is_err(), "{bad}");
    }
    assert!(fill("{other}").unwrap_err().to_string().contains("known: mac, serial"));
}

#[test]
fn rows_are_found_by_address_and_serial() {
    let text = "serial,gain,\"note, free\"\r\nSN-1,5,\"a \"\"b\"\"\nc\"\r\nSN-2,6,\r\n\r\n24-0A-C4-00-00-01,7,x\r\nSN-2,8,y\r\n";
    let rows = units::Rows::parse(text).unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows.find("serial", "SN-1").unwrap()["note, free"], "a \"b\"\nc");
    assert_eq!(rows.find("serial", "24:0a:c4:00:00:01").unwrap()["gain"], "7");
    // Two rows for one unit are none.
    assert_eq!(rows.find("serial", "SN-2"), None);
    for bad in ["", "a,a\n1,2\n", "a,\n1,2\n", "a,b\n1\n", "a\n\"1\n"] {
        assert!(units::Rows::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn revisions_and_numbers() {
    assert_eq!(
        (revision("1.2"), revision("v3.10"), revision("x"), revision("1.100")),
        (Some(102), Some(310), None, None)
    );
    assert_eq!(number(&toml::Value::String("4MB".into())), Some(4 << 20));
    assert_eq!(number(&toml::Value::Integer(-1)), None);
}

#[test]
fn mutated_recipes_do_no_harm() {
    let (text, rows) = (example_text(), "serial,gain\nSN-1,\"5\"\n");
    mutate(&[text.clone().into_bytes()], 10_000, |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            if let Ok(recipe) = Recipe::parse(text) {
                let _ = (lint(&recipe, &context()), recipe.files().len());
            }
            let _ = lock::locked(text, &BTreeMap::new());
        }
    });
    mutate(&[rows.as_bytes().to_vec()], 10_000, |bytes| {
        let _ = std::str::from_utf8(bytes).map(units::Rows::parse);
    });
}
