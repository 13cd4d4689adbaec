use std::collections::BTreeMap;

use super::super::{Contents, generate};
use super::*;
use crate::secure::nvs_keys;

type Model = BTreeMap<(String, String), Value>;

fn set(namespace: &str, key: &str, value: Value) -> Change {
    Change::Set { namespace: namespace.into(), key: key.into(), value }
}

fn remove(namespace: &str, key: Option<&str>) -> Change {
    Change::Remove { namespace: namespace.into(), key: key.map(str::to_owned) }
}

fn sample(keys: Option<&Keys>) -> Vec<u8> {
    let csv = format!(
        "key,type,encoding,value\nwifi,namespace,,\nssid,data,string,home\npsk,data,string,old-secret\n\
         app,namespace,,\ncount,data,u32,7\ncert,data,hex2bin,{}\n",
        "a5".repeat(300)
    );
    generate(&[csv.as_bytes()], 0x6000, Version::V2, keys, &mut |_| Err(String::new())).unwrap()
}

fn model(contents: &Contents) -> Model {
    let pair = |e: &super::super::Entry| ((e.namespace.to_string(), e.key.clone()), e.value.clone());
    contents.entries.iter().map(pair).collect()
}

fn applied(flash: &[u8], steps: &[Step]) -> Vec<u8> {
    let mut flash = flash.to_vec();
    steps.iter().for_each(|step| step.apply(&mut flash));
    flash
}

#[test]
fn a_changed_string_is_appended_and_other_entries_stay_where_they_are() {
    let flash = sample(None);
    let steps = change(&flash, &[set("wifi", "psk", Value::Text("new-secret".into()))], None).unwrap();
    let after = applied(&flash, &steps);
    assert!(steps.iter().all(|step| matches!(step, Step::Program { .. })), "no erase: {steps:?}");
    let (before, contents) = (read(&flash), read(&after));
    assert_eq!(contents.findings, []);
    assert_eq!(contents.get("wifi", "psk"), Some(&Value::Text("new-secret".into())));
    for entry in before.entries.iter().filter(|entry| entry.key != "psk") {
        let same = contents.entries.iter().find(|e| e.key == entry.key).unwrap();
        assert_eq!((same.page, same.slot, &same.value), (entry.page, entry.slot, &entry.value));
    }
    assert_eq!(contents.count(SlotState::Erased), 2, "the old string's two entries");
}

#[test]
fn the_same_value_needs_no_step_and_another_type_replaces() {
    let flash = sample(None);
    assert_eq!(change(&flash, &[set("app", "count", Value::U32(7))], None).unwrap(), []);
    let steps = change(&flash, &[set("app", "count", Value::Text("seven".into()))], None).unwrap();
    let contents = read(&applied(&flash, &steps));
    assert_eq!((contents.get("app", "count"), contents.findings.len()), (Some(&Value::Text("seven".into())), 0));
}

#[test]
fn blobs_take_the_other_half_of_the_chunk_numbers() {
    let mut flash = sample(None);
    for (round, length) in [(1u8, 5000), (2, 40), (3, 0), (4, 5000)] {
        let value = Value::Blob(vec![round; length]);
        let steps = change(&flash, &[set("app", "cert", value.clone())], None).unwrap();
        flash = applied(&flash, &steps);
        let contents = read(&flash);
        assert_eq!((contents.findings.as_slice(), contents.get("app", "cert")), (&[][..], Some(&value)), "{round}");
    }
}

#[test]
fn removing_takes_keys_and_whole_namespaces() {
    let flash = sample(None);
    let after = applied(&flash, &change(&flash, &[remove("app", None)], None).unwrap());
    let contents = read(&after);
    assert_eq!((contents.entries.len(), contents.findings.len()), (2, 0));
    assert_eq!(change(&flash, &[remove("app", Some("nothing"))], None).unwrap(), []);
    assert_eq!(change(&flash, &[remove("nowhere", None)], None).unwrap(), []);
}

#[test]
fn encrypted_partitions_are_changed_with_their_keys() {
    let keys = Keys::from_bytes(&*nvs_keys::from_hmac_key(&[7; 32]).unwrap()).unwrap();
    let flash = sample(Some(&keys));
    let value = Value::Text("a longer secret than one entry of thirty-two bytes can hold".into());
    let steps = change(&flash, &[set("wifi", "psk", value.clone()), set("new", "n", Value::I8(-1))], Some(&keys));
    let after = applied(&flash, &steps.unwrap());
    let contents = read(&decrypt(&after, &keys));
    assert_eq!((contents.findings.as_slice(), contents.get("wifi", "psk")), (&[][..], Some(&value)));
    assert_eq!(contents.get("new", "n"), Some(&Value::I8(-1)));
    assert!(matches!(change(&flash, &[], None), Err(NvsError::Damaged(Finding::Unreadable))));
}

#[test]
fn a_blank_partition_gets_its_first_page() {
    let flash = vec![0xff; 0x3000];
    let after = applied(&flash, &change(&flash, &[set("a", "b", Value::U8(1))], None).unwrap());
    assert_eq!(read(&after).get("a", "b"), Some(&Value::U8(1)));
}

/// Many changes in three pages: erased entries are collected again and again. After any step, as after a loss of
/// power, each key has its old or its new value.
#[test]
fn every_step_leaves_old_or_new_values() {
    let mut flash = vec![0xff; 0x3000];
    let mut known = Model::new();
    let mut erases = 0;
    for round in 0..400u32 {
        let key = format!("k{}", round * 7 % 11);
        let value = match round % 4 {
            0 => Value::U32(round),
            1 => Value::Text("x".repeat((round * 31 % 200) as usize)),
            2 => Value::Blob(vec![round as u8; (round * 53 % 900) as usize]),
            _ => Value::I64(-i64::from(round)),
        };
        let step = if round % 9 == 8 { remove("ns", Some(&key)) } else { set("ns", &key, value.clone()) };
        let steps = change(&flash, std::slice::from_ref(&step), None).unwrap();
        let old = known.clone();
        match step {
            Change::Set { .. } => drop(known.insert(("ns".into(), key.clone()), value)),
            Change::Remove { .. } => drop(known.remove(&("ns".to_owned(), key.clone()))),
        }
        for step in &steps {
            erases += u32::from(matches!(step, Step::Erase { .. }));
            step.apply(&mut flash);
            let now = model(&read(&flash));
            for (pair, value) in &old {
                let allowed = [Some(value), known.get(pair)];
                assert!(allowed.contains(&now.get(pair)), "round {round}, {pair:?} after {step:?}");
            }
        }
        let contents = read(&flash);
        assert_eq!((model(&contents), contents.findings.as_slice()), (known.clone(), &[][..]), "round {round}");
    }
    assert!(erases > 10, "{erases}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let flash = sample(None);
    let refused = |change_: Change| change(&flash, &[change_], None).unwrap_err().to_string();
    assert!(refused(set("app", "much", Value::Blob(vec![0; 0x8000]))).contains("does not fit into the partition"));
    assert!(refused(set("app", "long", Value::Text("x".repeat(4000)))).contains("4001 bytes are more than"));
    assert!(refused(set("app", "a_key_of_16_char", Value::U8(0))).contains("longer than 15"));
    let mut torn = flash.clone();
    Step::Program { at: 0, bytes: FREEING.to_le_bytes().to_vec() }.apply(&mut torn);
    assert!(matches!(change(&torn, &[], None), Err(NvsError::Damaged(Finding::Freeing(0)))));
}
