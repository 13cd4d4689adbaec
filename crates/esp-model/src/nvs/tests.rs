use super::*;
use crate::secure::nvs_keys;

const CSV: &str = "key,type,encoding,value\n\
    # a comment\n\
    store,namespace,,\n\
    small,data,u8,0xff\n";

fn build(csv: &str, size: u64, version: Version) -> Result<Vec<u8>, NvsError> {
    generate(&[csv.as_bytes()], size, version, None, &mut |path| Err(format!("no file {path}")))
}

fn sample() -> String {
    format!(
        "key,type,encoding,value\nstore,namespace,,\na,data,u8,255\nb,data,i64,-9\nt,data,string,\"two\nlines, \"\"q\"\"\"\n\
         blob,data,hex2bin,{}\nother,namespace,,\nc,data,i16,-5\nd,data,base64,MTIzYWJj\n",
        "5a".repeat(6000)
    )
}

#[test]
fn what_is_written_is_read() {
    let image = build(&sample(), 0x6000, Version::V2).unwrap();
    assert_eq!(image.len(), 0x6000);
    let contents = read(&image);
    assert_eq!(contents.findings, []);
    assert_eq!(contents.get("store", "a"), Some(&Value::U8(255)));
    assert_eq!(contents.get("store", "b"), Some(&Value::I64(-9)));
    assert_eq!(contents.get("store", "t"), Some(&Value::Text("two\nlines, \"q\"".into())));
    assert_eq!(contents.get("store", "blob"), Some(&Value::Blob(vec![0x5a; 6000])));
    assert_eq!(contents.get("other", "d"), Some(&Value::Blob(b"123abc".to_vec())));
    assert_eq!(contents.pages[0].state, PageState::Full);
    let (csv, left_out) = contents.to_csv();
    assert!(left_out.is_empty());
    assert_eq!(build(&csv, 0x6000, Version::V2).unwrap(), image);
}

#[test]
fn encryption_is_undone_by_the_same_keys() {
    let keys = Keys::from_bytes(&*nvs_keys::from_hmac_key(&[7; 32]).unwrap()).unwrap();
    let plain = build(&sample(), 0x6000, Version::V2).unwrap();
    let image =
        generate(&[sample().as_bytes()], 0x6000, Version::V2, Some(&keys), &mut |_| Err(String::new())).unwrap();
    assert_ne!(image, plain);
    assert_eq!(decrypt(&image, &keys), plain);
    assert_eq!(encrypt(&plain, &keys), image);
    assert_eq!(read(&image).findings, [Finding::Unreadable]);
    assert_eq!(Keys::from_bytes(&[1; 64]), Err(KeysError::Same));
    assert_eq!(Keys::from_bytes(&[1; 63]), Err(KeysError::Short(63)));
}

#[test]
fn refusals_name_line_and_key() {
    let cases = [
        (CSV, "line 4 (\"small\"): \"0xff\" is not a whole number"),
        ("key,type,encoding,value\nn,namespace,,\na,data,u8,256\n", "line 3 (\"a\"): 256 does not fit u8"),
        ("key,type,encoding,value\na,data,u9,1\n", "line 2 (\"a\"): unknown encoding \"u9\""),
        ("key,type,encoding,value\nabcdefghijklmnop,data,u8,1\n", "line 2 (\"abcdefghijklmnop\"): the key is longer"),
        ("key,type,encoding,value\na,data,hex2bin,abc\n", "line 2 (\"a\"): the value is not pairs"),
        ("key,type,encoding,value\na,file,binary,x.bin\n", "line 2 (\"a\"): file \"x.bin\": no file x.bin"),
        ("key,type,encoding,value\na,data\n", "line 2 (\"a\"): encoding is missing"),
        ("key,type,value\na,data,1\n", "the first row has no column \"encoding\""),
    ];
    for (csv, message) in cases {
        let error = build(csv, 0x3000, Version::V2).unwrap_err().to_string();
        assert!(error.starts_with(message), "{csv}: {error}");
    }
    for size in [0, 100, 0x1001, 0xffff_ffff_f000] {
        assert_eq!(build(CSV, size, Version::V2), Err(NvsError::Size(size)));
    }
    let much = "key,type,encoding,value\nn,namespace,,\na,data,blob_fill(9000;0x00),\n";
    assert!(build(much, 0x3000, Version::V2).unwrap_err().to_string().contains("does not fit into the partition"));
    assert!(build(much, 0x4000, Version::V2).is_ok());
    assert!(build(much, 0x4000, Version::V1).unwrap_err().to_string().contains("more than the 1984"));
}

#[test]
fn damage_is_found() {
    let image = build(&sample(), 0x6000, Version::V2).unwrap();
    let broken = |at: usize, with: u8| {
        let mut image = image.clone();
        image[at] = with;
        read(&image).findings
    };
    assert_eq!(broken(5, 9)[0], Finding::HeaderCrc(0));
    assert_eq!(broken(64 + 32 + 24, 1), [Finding::ItemCrc(0, 1)]);
    assert_eq!(broken(64 + 32 * 4, b'x'), [Finding::Data(0, 3, "t".into())]);
    assert_eq!(broken(0x5100, 1)[0], Finding::NotBlank(5));
    assert!(matches!(broken(0x1000 + 100, 1)[..], [Finding::Data(1, 0, _), Finding::Incomplete(..), ..]));
    assert_eq!(read(&image[..100]).findings[0], Finding::Length(100));
    // A write that was cut short: the entry is there, its state bits are not.
    let mut torn = image.clone();
    let last = read(&image).pages[1].count(SlotState::Written);
    torn[0x1000 + 64 + last * 32] = 0;
    assert_eq!(read(&torn).findings, [Finding::Torn(1, last)]);
}

#[test]
fn edits_keep_the_rest() {
    let image = build(&sample(), 0x6000, Version::V2).unwrap();
    let set = |namespace: &str, key: &str, value| Change::Set { namespace: namespace.into(), key: key.into(), value };
    let changes = [
        set("store", "a", Value::U8(1)),
        set("new", "n", Value::Text("x".into())),
        Change::Remove { namespace: "store".into(), key: Some("b".into()) },
    ];
    let edited = edit(&image, &changes, None).unwrap();
    assert_eq!(edited.len(), image.len());
    let names: Vec<String> = diff(&read(&image), &read(&edited))
        .into_iter()
        .map(|difference| match difference {
            Difference::Added(e) => format!("+{}/{}", e.namespace, e.key),
            Difference::Removed(e) => format!("-{}/{}", e.namespace, e.key),
            Difference::Changed(e, _) => format!("~{}/{}", e.namespace, e.key),
        })
        .collect();
    assert_eq!(names, ["~store/a", "-store/b", "+new/n"]);
    let gone = edit(&image, &[Change::Remove { namespace: "store".into(), key: None }], None).unwrap();
    assert_eq!(read(&gone).entries.len(), 2);
    let mut damaged = image;
    damaged[64 + 32 + 24] = 0;
    assert!(matches!(edit(&damaged, &[], None), Err(NvsError::Damaged(_))));
}

#[test]
fn a_read_only_image_has_no_spare_pages() {
    assert_eq!(build("key,type,encoding,value\nn,namespace,,\n", 0x2000, Version::V2).unwrap().len(), 0x1000);
}

#[test]
fn mutated_images_and_texts_do_no_harm() {
    let image = build(&sample(), 0x3000, Version::V2).unwrap();
    let (mut readable, mut round) = (0, 0);
    crate::testing::mutate(&[image], 10_000, |bytes| {
        let contents = read(bytes);
        readable += usize::from(!contents.entries.is_empty());
        round += 1;
        if round % 8 == 0 {
            let _ = (contents.to_csv(), edit(bytes, &[], None));
        }
    });
    assert!(readable > 1000);
    let fill = "key,type,encoding,value\nn,namespace,,\na,data,blob_sz_fill(99;0x12),é\n";
    let seeds = [
        sample().replace("5a5a5a", "5a").into_bytes(),
        fill.into(),
        "é,data,BINARY,éé\nsta.ssid,data,string,x\n".into(),
    ];
    let mut made = 0;
    crate::testing::mutate(&seeds, 10_000, |bytes| {
        round += 1;
        let version = if round % 2 == 0 { Version::V1 } else { Version::V2 };
        made += usize::from(generate(&[bytes], 0x3000, version, None, &mut |_| Ok(vec![7; 40])).is_ok());
    });
    assert!(made > 500, "{made}");
}
