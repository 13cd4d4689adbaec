//! Commands that work on files alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;

use crate::reference::{Stop, fail, same_bytes, scratch, tool, trial};
use crate::{face, ran};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faces: espsecure makes the same files and says the same", espsecure),
        trial("faces: merge-bin makes the same files and says the same", merge),
        trial("faces: image-info says the same", image_info),
        trial("faces: wrong usage ends with the same code", usage),
    ]
}

/// A case: the tool, its words, the files that it makes.
type Case<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Both tools in folders of their own with the same inputs: codes, texts and files must be the same.
fn compare(name: &str, prepare: impl Fn(&Path) -> Result<(), Stop>, cases: &[Case<'_>]) -> Result<(), Stop> {
    let folders = [scratch(&format!("faces-{name}-ours")), scratch(&format!("faces-{name}-theirs"))];
    for folder in &folders {
        prepare(folder)?;
    }
    let [ours, theirs] = &folders;
    for (program, words, files) in cases {
        let mut reference = Command::new(tool(program)?);
        let wanted = ran(reference.args(words.split(' ')), theirs)?;
        let got = ran(face(program).args(words.split(' ')), ours)?;
        if got.code != wanted.code {
            return fail(format!(
                "{program} {words}: code {} not {}\n{}\n{}",
                got.code, wanted.code, got.text, wanted.text
            ));
        }
        if wanted.code == 0 && got.text != wanted.text {
            return fail(format!("{program} {words} says\n{}\nnot\n{}", got.text, wanted.text));
        }
        if wanted.code != 0 {
            same_reason(program, words, &got.text, &wanted.text)?;
        }
        for file in *files {
            same_bytes(
                &format!("{program} {words}: {file}"),
                &fs::read(ours.join(file))?,
                &fs::read(theirs.join(file))?,
            )?;
        }
    }
    Ok(())
}

/// The line with the reason is the same; how usage is framed is not compared.
fn same_reason(program: &str, words: &str, ours: &str, theirs: &str) -> Result<(), Stop> {
    // The chips are listed in another order.
    let plain = |line: &str| line.split(" (choose from").next().unwrap_or_default().to_string();
    let reason = |text: &str| text.lines().find(|line| line.contains("A fatal error occurred")).map(plain);
    match (reason(ours), reason(theirs)) {
        (ours, theirs) if ours == theirs => Ok(()),
        (ours, theirs) => fail(format!("{program} {words}: {ours:?} not {theirs:?}")),
    }
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8).collect()
}

fn secure_inputs(folder: &Path) -> Result<(), Stop> {
    fs::write(folder.join("k32"), pattern(32, 1))?;
    fs::write(folder.join("k64"), pattern(64, 2))?;
    fs::write(folder.join("app"), pattern(8192, 3))?;
    fs::write(folder.join("odd"), pattern(1001, 4))?;
    Ok(())
}

fn espsecure() -> Result<(), Stop> {
    let cases: [Case<'_>; 12] = [
        ("espsecure", "encrypt-flash-data -k k32 -o a.enc -a 0x10000 app", &["a.enc"]),
        (
            "espsecure",
            "decrypt-flash-data --keyfile k32 --output a.dec --address 0x10000 --flash-crypt-conf 0xf a.enc",
            &["a.dec"],
        ),
        ("espsecure", "encrypt_flash_data --keyfile k64 --output x.enc --address 0x10000 --aes_xts app", &["x.enc"]),
        ("espsecure", "decrypt-flash-data -x -k k64 -o x.dec -a 65536 x.enc", &["x.dec"]),
        ("espsecure", "encrypt-flash-data -x -k k32 -o n.enc -a 0x10 odd", &[]),
        ("espsecure", "encrypt-flash-data -x -k k32 -o n.enc -a 0x11 app", &[]),
        ("espsecure", "encrypt-flash-data -k k64 -o n.enc -a 0x10 app", &[]),
        ("espsecure", "verify-signature --version 2 --keyfile missing.pem app", &[]),
        ("espsecure", "signature-info-v2 app", &[]),
        ("espsecure", "signature-info-v2 odd", &[]),
        ("espsecure", "generate-flash-encryption-key k32 extra", &[]),
        ("espsecure", "frob", &[]),
    ];
    compare("secure", secure_inputs, &cases)?;
    signatures()
}

/// Version 1 signs without chance: equal files. Version 2 is verified by the other side.
fn signatures() -> Result<(), Stop> {
    let folder = scratch("faces-signatures");
    fs::write(folder.join("app"), pattern(8192, 3))?;
    let theirs =
        |words: &str| -> Result<_, Stop> { ran(Command::new(tool("espsecure")?).args(words.split(' ')), &folder) };
    let ours = |words: &str| ran(face("espsecure").args(words.split(' ')), &folder);
    let both = |words: &str, name: &str| -> Result<(), Stop> {
        let (a, b) = (ours(&words.replace("OUT", "ours"))?, theirs(&words.replace("OUT", "theirs"))?);
        if (a.code, b.code) != (0, 0) || a.text.replace("ours", "OUT") != b.text.replace("theirs", "OUT") {
            return fail(format!("{words}: {}\n{}", a.text, b.text));
        }
        same_bytes(name, &fs::read(folder.join("ours"))?, &fs::read(folder.join("theirs"))?)
    };
    for (scheme, key) in [("ecdsa256", "p256.pem"), ("ecdsa192", "p192.pem"), ("ecdsa384", "p384.pem")] {
        theirs(&format!("generate-signing-key --version 2 --scheme {scheme} {key}"))?;
        both(&format!("digest-sbv2-public-key -k {key} -o OUT"), "digest")?;
        both(&format!("extract-public-key --version 2 -k {key} OUT"), "public key")?;
        for (signer, checker) in [(true, false), (false, true)] {
            let run = |own: bool, words: &str| if own { ours(words) } else { theirs(words) };
            let signed = run(signer, &format!("sign-data --version 2 --keyfile {key} --output s.bin app"))?;
            let checked = run(checker, &format!("verify-signature --version 2 --keyfile {key} s.bin"))?;
            if (signed.code, checked.code) != (0, 0) {
                return fail(format!("{scheme}: {}\n{}", signed.text, checked.text));
            }
        }
    }
    both("sign-data --version 1 --keyfile p256.pem --output OUT app", "signed, version 1")?;
    both("extract-public-key --version 1 -k p256.pem OUT", "raw public key")?;
    both("digest-private-key -k p256.pem OUT", "digest of the private key")
}

fn merge_inputs(folder: &Path) -> Result<(), Stop> {
    for (name, length) in [("a", 5000), ("b", 3072), ("c", 70_000)] {
        fs::write(folder.join(name), pattern(length, length as u8))?;
    }
    Ok(fs::write(folder.join("args"), "--flash-mode keep\n0x1000 a\n0x8000 b\n0x10000 c\n")?)
}

fn merge() -> Result<(), Stop> {
    let cases: [Case<'_>; 9] = [
        ("esptool", "--chip esp32 merge-bin -o m.bin 0x1000 a 0x8000 b 0x10000 c", &["m.bin"]),
        ("esptool", "--chip esp32 merge_bin --output m4.bin --fill-flash-size 2MB 0x1000 a 0x8000 b", &["m4.bin"]),
        ("esptool", "-c ESP32-S3 merge-bin -o t.bin -t 0x1000 --pad-to-size 1MB 0x1000 a 0x8000 b", &["t.bin"]),
        ("esptool", "--chip esp32c3 merge-bin -f hex -o m.hex 0x0 a 0x8000 b", &["m.hex"]),
        (
            "esptool",
            "--chip esp32s2 merge-bin --format uf2 --output m.uf2 --chunk-size 256 0x1000 a 0x10000 c",
            &["m.uf2"],
        ),
        ("esptool", "--chip esp32s2 merge-bin --format uf2 -o n.uf2 --md5-disable 0x1000 a", &["n.uf2"]),
        ("esptool", "--chip esp32 merge-bin -o at.bin @args", &["at.bin"]),
        ("esptool", "--chip esp32 merge-bin -o x.bin 0x1000 a 0x1800 b", &[]),
        ("esptool", "merge-bin -o x.bin 0x1000 a", &[]),
    ];
    compare("merge", merge_inputs, &cases)
}

/// An image with one segment in RAM, right in checksum and without SHA-256.
fn image(chip_id: u8, address: u32) -> Vec<u8> {
    let data = pattern(64, 9);
    let mut image = vec![0xe9, 1, 2, 0x20];
    image.extend(address.to_le_bytes());
    image.extend([0xee, 0, 0, 0, chip_id, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0]);
    image.extend(address.to_le_bytes());
    image.extend((data.len() as u32).to_le_bytes());
    image.extend(&data);
    image.resize(image.len() | 0xf, 0);
    image.push(data.iter().fold(0xef, |sum, byte| sum ^ byte));
    image
}

fn image_info() -> Result<(), Stop> {
    let inputs = |folder: &Path| -> Result<(), Stop> {
        fs::write(folder.join("c3.bin"), image(5, 0x3fc8_0000))?;
        fs::write(folder.join("old.bin"), image(0, 0x4008_0000))?;
        Ok(fs::write(folder.join("none.bin"), pattern(100, 1))?)
    };
    let cases: [Case<'_>; 4] = [
        ("esptool", "image-info c3.bin", &[]),
        ("esptool", "--chip esp32 image_info old.bin", &[]),
        ("esptool", "image-info none.bin", &[]),
        ("esptool", "image-info missing.bin", &[]),
    ];
    compare("info", inputs, &cases)
}

fn usage() -> Result<(), Stop> {
    let cases: [Case<'_>; 7] = [
        ("esptool", "version", &[]),
        ("esptool", "frob", &[]),
        ("esptool", "--chip esp99 version", &[]),
        ("esptool", "write-flash 0x1000", &[]),
        ("esptool", "write-flash x a", &[]),
        ("esptool", "--before never version", &[]),
        ("espefuse", "--chip esp32 --virt burn-efuse FROB 1", &[]),
    ];
    let inputs = |folder: &Path| -> Result<(), Stop> { Ok(fs::write(PathBuf::from(folder).join("a"), "a")?) };
    compare("usage", inputs, &cases)
}
