//! Secure boot and flash encryption against espsecure, both ways.

use std::fs;
use std::path::{Path, PathBuf};

use esp_model::secure::block::key_digest;
use esp_model::secure::boot_v2::Padding;
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_model::secure::{PrivateKey, PublicKey, Scheme, boot_v1, boot_v2};
use libtest_mimic::Trial;

use crate::reference::{Answer, Stop, batch, corpus, fail, same_bytes, scratch, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("secure::bootloader_digest_equals_espsecure", bootloader_digest),
        trial("secure::flash_encryption_equals_espsecure", flash_encryption),
        trial("secure::espsecure_accepts_our_keys_and_signatures", ours_at_theirs),
        trial("secure::we_accept_espsecures_keys_and_signatures", theirs_at_ours),
    ]
}

/// Reproducible bytes: these keys protect nothing.
pub fn noise(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed | 1;
    move |buffer| {
        for byte in buffer {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (state >> 56) as u8;
        }
    }
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    noise(seed)(&mut out);
    out
}

fn secure_corpus() -> Result<PathBuf, Stop> {
    Ok(corpus()?.join("secure/esptool"))
}

pub fn all_ok(cases: &[Vec<String>], answers: &[Answer]) -> Result<(), Stop> {
    match answers.iter().zip(cases).find(|(answer, _)| !answer.ok) {
        Some((answer, case)) => fail(format!("{case:?}: {}", answer.text)),
        None => Ok(()),
    }
}

pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_string).collect()
}

fn private(dir: &Path, name: &str) -> Result<PrivateKey, Stop> {
    Ok(PrivateKey::from_pem(&fs::read_to_string(dir.join(name))?)?)
}

fn public(dir: &Path, name: &str) -> Result<PublicKey, Stop> {
    Ok(PublicKey::from_pem(&fs::read_to_string(dir.join(name))?)?)
}

fn bootloader_digest() -> Result<(), Stop> {
    let corpus = secure_corpus()?;
    let dir = scratch("digest");
    let path = |name: String| dir.join(name).display().to_string();
    let iv = fs::read(corpus.join("digest_iv.bin"))?;
    let Ok(fixed) = <&[u8; boot_v1::IV]>::try_from(iv.as_slice()) else { return fail("IV of a wrong length") };
    let (mut cases, mut ours) = (Vec::new(), Vec::new());
    // Images with and without appended hash, whose end falls differently into the engine's 128-byte blocks.
    for (index, (key_len, extra, hash_appended)) in
        [(32, 0, 0), (32, 0, 1), (24, 10, 1), (16, 33, 1), (32, 70, 1), (32, 100, 0)].into_iter().enumerate()
    {
        let key = bytes(key_len, 40 + index as u64);
        let mut image = fs::read(corpus.join("bootloader.bin"))?;
        image[23] = hash_appended;
        image.extend(bytes(extra, 5));
        let files = ["key", "iv", "out", "bin"].map(|kind| path(format!("{index}.{kind}")));
        let [key_file, iv_file, out, image_file] = &files;
        fs::write(key_file, &key)?;
        fs::write(iv_file, &iv)?;
        fs::write(image_file, &image)?;
        cases.push(words(&format!("digest-secure-bootloader -k {key_file} --iv {iv_file} -o {out} {image_file}")));
        ours.push((out.clone(), boot_v1::digest_bootloader(&image, &key, fixed)?));
    }
    all_ok(&cases, &batch("espsecure", &cases)?)?;
    ours.iter().try_for_each(|(file, data)| same_bytes(file, data, &fs::read(file)?))
}

fn flash_encryption() -> Result<(), Stop> {
    let dir = scratch("encrypt");
    let path = |name: String| dir.join(name).display().to_string();
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for (index, (key_len, address, len)) in [
        (32usize, 0u64, 32usize),
        (32, 0x1000, 4096),
        (24, 0x10010, 160),
        (24, 0xfff_fe0, 32),
        (32, 0x7_1230, 48),
        (32, 0x12340, 5000 / 16 * 16),
        (64, 0x10, 16),
        (64, 0x8000, 4096),
        (64, 0xfff_ff0, 272),
        (16, 0x90, 1024),
        (16, 0x20000, 16),
    ]
    .into_iter()
    .enumerate()
    {
        for config in [None, Some(0xf), Some(0x5)] {
            let fits = if config.is_some() {
                matches!(key_len, 24 | 32) && address + len as u64 <= 1 << 24
            } else {
                key_len != 24
            };
            if !fits {
                continue;
            }
            let seed = index as u64 + 7;
            let (key, data) = (bytes(key_len, seed), bytes(len, seed + 100));
            let at = cases.len();
            let files = [path(format!("{at}.key")), path(format!("{at}.plain")), path(format!("{at}.out"))];
            fs::write(&files[0], &key)?;
            fs::write(&files[1], &data)?;
            let kind = config.map_or("--aes-xts".to_string(), |config| format!("--flash-crypt-conf {config:#x}"));
            let [key_file, plain, out] = &files;
            cases.push(words(&format!("encrypt-flash-data {kind} -k {key_file} -o {out} -a {address:#x} {plain}")));
            let key = config.map_or_else(|| FlashKey::xts(&key), |config| FlashKey::esp32(&key, config))?;
            let mut data = data;
            key.apply(Direction::Encrypt, address, &mut data)?;
            ours.push((files[2].clone(), data));
        }
    }
    all_ok(&cases, &batch("espsecure", &cases)?)?;
    ours.iter().try_for_each(|(file, data)| same_bytes(file, data, &fs::read(file)?))
}

fn ours_at_theirs() -> Result<(), Stop> {
    let dir = scratch("sign");
    let path = |name: String| dir.join(name).display().to_string();
    let content = bytes(9000, 3);
    let mut cases = Vec::new();
    let mut digests = Vec::new();
    for (index, scheme) in Scheme::ALL.into_iter().enumerate() {
        let mut random = noise(index as u64 + 50);
        let first = PrivateKey::generate(scheme, &mut random)?;
        let (key, public, image) =
            (path(format!("{scheme}.pem")), path(format!("{scheme}.pub")), path(format!("{scheme}.bin")));
        fs::write(&key, first.to_pem()?.as_bytes())?;
        fs::write(&public, first.public()?.to_pem()?)?;
        let digest = key_digest(&first.public()?);
        let second =
            PrivateKey::generate(if scheme == Scheme::Rsa3072 { Scheme::EcdsaP256 } else { scheme }, &mut random)?;
        let signed = boot_v2::sign(&content, &[first], Padding::Sector, &mut random)?;
        let signed = boot_v2::append(&signed, &[second], &mut random)?;
        fs::write(&image, signed)?;
        cases.push(words(&format!("verify-signature -v 2 -k {public} {image}")));
        cases.push(words(&format!("verify-signature -v 2 -k {key} {image}")));
        let out = path(format!("{scheme}.digest"));
        cases.push(words(&format!("digest-sbv2-public-key -k {public} -o {out}")));
        digests.push((out, digest));
        cases.push(words(&format!("signature-info-v2 {image}")));
    }
    let key = PrivateKey::generate(Scheme::EcdsaP256, &mut noise(9))?;
    let (pem, image) = (path("v1.pem".into()), path("v1.bin".into()));
    fs::write(&pem, key.to_pem()?.as_bytes())?;
    fs::write(&image, boot_v1::sign(&content, &key)?)?;
    cases.push(words(&format!("verify-signature -v 1 -k {pem} {image}")));
    let answers = batch("espsecure", &cases)?;
    all_ok(&cases, &answers)?;
    if answers.iter().filter(|answer| answer.text.contains("Public key digest for block 1")).count() != 4 {
        return fail("espsecure does not see our second block");
    }
    digests.iter().try_for_each(|(file, digest)| same_bytes(file, digest, &fs::read(file)?))
}

fn theirs_at_ours() -> Result<(), Stop> {
    let dir = scratch("verify");
    let path = |name: String| dir.join(name).display().to_string();
    let content = path("content.bin".into());
    fs::write(&content, bytes(5000, 11))?;
    let mut cases = Vec::new();
    for scheme in Scheme::ALL {
        let (key, public, image) =
            (path(format!("{scheme}.pem")), path(format!("{scheme}.pub")), path(format!("{scheme}.bin")));
        cases.push(words(&format!("generate-signing-key -v 2 -s {scheme} {key}")));
        cases.push(words(&format!("extract-public-key -v 2 -k {key} {public}")));
        cases.push(words(&format!("sign-data -v 2 -k {key} -o {image} {content}")));
    }
    let (v1, image) = (path("v1.pem".into()), path("v1.bin".into()));
    cases.push(words(&format!("generate-signing-key -v 1 {v1}")));
    cases.push(words(&format!("sign-data -v 1 -k {v1} -o {image} {content}")));
    cases.push(words(&format!("digest-private-key -k {v1} {}", path("v1.digest".into()))));
    all_ok(&cases, &batch("espsecure", &cases)?)?;
    for scheme in Scheme::ALL {
        let key = private(&dir, &format!("{scheme}.pem"))?;
        let public = public(&dir, &format!("{scheme}.pub"))?;
        if key.public()? != public {
            return fail(format!("{scheme}: private and public key differ"));
        }
        boot_v2::verify(&fs::read(dir.join(format!("{scheme}.bin")))?, &public, Padding::Sector)?;
        let theirs = fs::read_to_string(dir.join(format!("{scheme}.pem")))?;
        same_bytes(&format!("{scheme} PEM"), key.to_pem()?.as_bytes(), theirs.as_bytes())?;
    }
    let key = private(&dir, "v1.pem")?;
    same_bytes("V1 signature", &boot_v1::sign(&fs::read(&content)?, &key)?, &fs::read(dir.join("v1.bin"))?)?;
    same_bytes("private key digest", key.private_digest()?.as_slice(), &fs::read(dir.join("v1.digest"))?)
}
