//! Every file of the corpus' `secure` folder, and what the reference makes of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use esp_model::secure::block::key_digest;
use esp_model::secure::boot_v2::Padding;
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_model::secure::{PrivateKey, PublicKey, boot_v1, boot_v2};
use libtest_mimic::Trial;

use crate::reference::{Stop, batch, corpus, fail, same_bytes, scratch, trial};
use crate::secure::{all_ok, noise, words};

pub fn trials() -> Vec<Trial> {
    vec![trial("secure::every_file_of_the_corpus", every_file)]
}

/// The folder, and which of its files were looked at.
struct Corpus {
    dir: PathBuf,
    seen: RefCell<BTreeSet<String>>,
}

impl Corpus {
    fn open() -> Result<Self, Stop> {
        Ok(Self { dir: corpus()?.join("secure/esptool"), seen: RefCell::default() })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Stop> {
        self.seen.borrow_mut().insert(name.into());
        Ok(fs::read(self.dir.join(name))?)
    }

    fn text(&self, name: &str) -> Result<String, Stop> {
        Ok(String::from_utf8_lossy(&self.read(name)?).into_owned())
    }

    fn private(&self, name: &str) -> Result<PrivateKey, Stop> {
        Ok(PrivateKey::from_pem(&self.text(name)?)?)
    }

    fn public(&self, name: &str) -> Result<PublicKey, Stop> {
        Ok(PublicKey::from_pem(&self.text(name)?)?)
    }

    fn names(&self) -> Result<Vec<String>, Stop> {
        let entries = fs::read_dir(&self.dir)?.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }
}

fn every_file() -> Result<(), Stop> {
    let dir = Corpus::open()?;
    flash_encryption(&dir)?;
    signatures(&dir)?;
    keys(&dir)?;
    bootloader_of_version_1(&dir)?;
    let seen = dir.seen.borrow();
    let left: Vec<_> = dir.names()?.into_iter().filter(|name| !seen.contains(name)).collect();
    if left.is_empty() { Ok(()) } else { fail(format!("nobody looked at {left:?}")) }
}

/// All keys: read, halves that belong together, several signers, and the digests that espsecure computes.
fn keys(dir: &Corpus) -> Result<(), Stop> {
    let scratch = scratch("corpus-keys");
    let (mut cases, mut ours) = (Vec::new(), Vec::new());
    for name in dir.names()?.into_iter().filter(|name| name.ends_with(".pem")) {
        let key = match name.contains("pubkey") {
            true => dir.public(&name)?,
            false => dir.private(&name)?.public()?,
        };
        let out = scratch.join(&name).display().to_string();
        cases.push(words(&format!("digest-sbv2-public-key -k {} -o {out}", dir.dir.join(&name).display())));
        ours.push((out, key_digest(&key)));
    }
    let answers = batch("espsecure", &cases)?;
    all_ok(&cases, &answers)?;
    ours.iter().try_for_each(|(file, digest)| same_bytes(file, digest, &fs::read(file)?))?;
    for scheme in ["rsa", "ecdsa192", "ecdsa256", "ecdsa384"] {
        for number in ["", "2", "4"] {
            let private = dir.private(&format!("{scheme}_secure_boot_signing_key{number}.pem"))?;
            if private.public()? != dir.public(&format!("{scheme}_secure_boot_signing_pubkey{number}.pem"))? {
                return fail(format!("{scheme} {number}: two halves of different keys"));
            }
        }
        // The three signers of the file, each in a block; the fourth is a stranger.
        let multi = dir.read(&format!("bootloader_multi_signed_v2_{scheme}.bin"))?;
        for number in ["", "2", "3"] {
            let signer = dir.private(&format!("{scheme}_secure_boot_signing_key{number}.pem"))?.public()?;
            boot_v2::verify(&multi, &signer, Padding::Sector)?;
        }
    }
    Ok(())
}

/// The ESP32's first secure boot: the digest over a bootloader, and a signature that was made elsewhere.
fn bootloader_of_version_1(dir: &Corpus) -> Result<(), Stop> {
    let (plain, theirs) = (dir.read("bootloader.bin")?, dir.read("bootloader_digested.bin")?);
    let (key, start) = (dir.read("256bit_key.bin")?, dir.read("digest_iv.bin")?);
    let Ok(fixed) = <&[u8; boot_v1::IV]>::try_from(start.as_slice()) else { return fail("IV of a wrong length") };
    let out = scratch("corpus-digest").join("digested.bin").display().to_string();
    let path = |name: &str| dir.dir.join(name).display().to_string();
    let case = |start: &str| {
        let (key, start, image) = (path("256bit_key.bin"), path(start), path("bootloader.bin"));
        words(&format!("digest-secure-bootloader -k {key} --iv {start} -o {out} {image}"))
    };
    // With a start value of 32 bytes espsecure makes the corpus' file, which no ROM reads; ours has 128 (docs/compatibility.md).
    let short = dir.read("256bit_iv.bin")?;
    let answers = batch("espsecure", &[case("256bit_iv.bin")])?;
    if !answers[0].ok || short.len() == boot_v1::IV || fs::read(&out)? != theirs {
        return fail(&answers[0].text);
    }
    let cases = [case("digest_iv.bin")];
    all_ok(&cases, &batch("espsecure", &cases)?)?;
    let ours = boot_v1::digest_bootloader(&plain, &key, fixed)?;
    same_bytes("digest with espsecure's start value", &ours, &fs::read(&out)?)?;
    let owner = dir.public("ecdsa256_secure_boot_signing_pubkey.pem")?;
    let signature = dir.read("pre_calculated_bootloader_signature.bin")?;
    boot_v1::verify(&boot_v1::attach(&plain, &owner, &signature)?, &owner)?;
    dir.private("ecdsa_secure_boot_signing_key2.pem").map(drop)
}

/// The corpus' encrypted files: plain file, key, address, and the ESP32's FLASH_CRYPT_CONFIG or none for XTS.
const ENCRYPTED: [(&str, &str, &str, u64, Option<u8>); 9] = [
    ("bootloader-encrypted.bin", "bootloader.bin", "256bit_key.bin", 0x1000, Some(0xf)),
    ("bootloader-encrypted-conf0.bin", "bootloader.bin", "256bit_key.bin", 0x1000, Some(0)),
    ("bootloader-encrypted-conf3.bin", "bootloader.bin", "256bit_key.bin", 0x1000, Some(3)),
    ("bootloader-encrypted-conf9.bin", "bootloader.bin", "256bit_key.bin", 0x1000, Some(9)),
    ("bootloader-encrypted-confc.bin", "bootloader.bin", "256bit_key.bin", 0x1000, Some(0xc)),
    ("bootloader-encrypted-aes-xts.bin", "bootloader.bin", "256bit_key.bin", 0x1000, None),
    ("hello-world-signed-encrypted.bin", "hello-world-signed.bin", "ef-flashencryption-key.bin", 0x20000, Some(0xf)),
    ("hello-world-signed-encrypted-aes-xts.bin", "hello-world-signed.bin", "ef-flashencryption-key.bin", 0x20000, None),
    ("hello-world-signed-encrypted-aes-xts-256.bin", "hello-world-signed.bin", "512bit_key.bin", 0x10000, None),
];

fn flash_encryption(dir: &Corpus) -> Result<(), Stop> {
    for (encrypted, plain, key, address, config) in ENCRYPTED {
        let key = dir.read(key)?;
        let key = config.map_or_else(|| FlashKey::xts(&key), |config| FlashKey::esp32(&key, config))?;
        let (plain, theirs) = (dir.read(plain)?, dir.read(encrypted)?);
        same_bytes(encrypted, &key.encrypt_padded(address, &plain, &mut noise(1))?, &theirs)?;
        let mut back = theirs;
        key.apply(Direction::Decrypt, address, &mut back)?;
        same_bytes(&format!("{encrypted}, decrypted"), &back, &plain)?;
    }
    Ok(())
}

fn signatures(dir: &Corpus) -> Result<(), Stop> {
    let unsigned = dir.read("bootloader_unsigned_v2.bin")?;
    let kinds = [("rsa", "rsa"), ("ecdsa192", "ecdsa192"), ("ecdsa256", "ecdsa256"), ("ecdsa384", "ecdsa384")];
    for (file, key) in kinds {
        let single = dir.read(&format!("bootloader_signed_v2_{file}.bin"))?;
        let owner = dir.public(&format!("{key}_secure_boot_signing_pubkey.pem"))?;
        if boot_v2::verify(&single, &owner, Padding::Sector)? != [0] {
            return fail(format!("{file}: not signed by its key in block 0"));
        }
        let multi = dir.read(&format!("bootloader_multi_signed_v2_{file}.bin"))?;
        let checked = boot_v2::check(&multi)?;
        if checked.len() != 3 || !checked.iter().all(boot_v2::Checked::is_valid) {
            return fail(format!("{file}: three valid blocks expected, got {checked:?}"));
        }
        let stranger = dir.public(&format!("{key}_secure_boot_signing_pubkey4.pem"))?;
        if boot_v2::verify(&multi, &stranger, Padding::Sector).is_ok() {
            return fail(format!("{file}: a stranger's key was accepted"));
        }
        // The corpus' signature made outside, and the same block from it.
        let signature = dir.read(&format!("pre_calculated_bootloader_signature_{file}.bin"))?;
        let attached = boot_v2::attach(&unsigned, &[(owner, signature)])?;
        if !boot_v2::check(&attached)?.iter().all(boot_v2::Checked::is_valid) {
            return fail(format!("{file}: attached signature is not valid"));
        }
    }
    let digest = dir.read("rsa_public_key_digest.bin")?;
    same_bytes("RSA key digest", &key_digest(&dir.public("rsa_secure_boot_signing_pubkey.pem")?), &digest)?;
    for curve in ["ecdsa192", "ecdsa256"] {
        let digest = dir.read(&format!("{curve}_public_key_digest_v2.bin"))?;
        let key = dir.private(&format!("{curve}_secure_boot_signing_key_v2.pem"))?.public()?;
        same_bytes(curve, &key_digest(&key), &digest)?;
    }
    // V1 is deterministic: our signature is theirs.
    let (plain, signed) = (dir.read("bootloader.bin")?, dir.read("bootloader_signed.bin")?);
    let key = dir.private("ecdsa256_secure_boot_signing_key.pem")?;
    boot_v1::verify(&signed, &key.public()?)?;
    same_bytes("V1 signature", &boot_v1::sign(&plain, &key)?, &signed)?;
    let raw = dir.read("ecdsa256_secure_boot_signing_pubkey_raw.bin")?;
    same_bytes("raw public key", boot_v1::raw_public_key(&key.public()?)?, &raw)?;
    dir.private("ecdsa256_secure_boot_signing_key_pkcs8.pem").map(drop)
}
