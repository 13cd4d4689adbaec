//! What reference tests cannot say: refusals, broken input, secrets that stay inside.

use super::block::{BLOCK, SignatureBlock};
use super::boot_v2::{Padding, append, attach, check, sign, verify};
use super::flash_encryption::{Direction, FlashKey, KeyKind};
use super::{PrivateKey, PublicKey, SECTOR, Scheme, SecureError, boot_v1, nvs_keys};

/// Reproducible bytes: these keys protect nothing.
fn noise(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed | 1;
    move |buffer| {
        for byte in buffer {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (state >> 56) as u8;
        }
    }
}

fn key(scheme: Scheme, seed: u64) -> PrivateKey {
    PrivateKey::generate(scheme, &mut noise(seed)).unwrap()
}

#[test]
fn every_curve_signs_appends_and_verifies() {
    for scheme in [Scheme::EcdsaP192, Scheme::EcdsaP256, Scheme::EcdsaP384] {
        let (first, second) = (key(scheme, 1), key(scheme, 2));
        let (first_public, second_public) = (first.public().unwrap(), second.public().unwrap());
        let once = sign(b"firmware", &[first], Padding::Sector, noise(3)).unwrap();
        assert_eq!(once.len(), 2 * SECTOR);
        assert_eq!(verify(&once, &first_public, Padding::Sector), Ok(vec![0]));
        assert_eq!(verify(&once, &second_public, Padding::Sector), Err(SecureError::NotSignedByKey));
        let twice = append(&once, &[second], noise(4)).unwrap();
        assert_eq!(verify(&twice, &second_public, Padding::Sector), Ok(vec![1]));
        assert!(check(&twice).unwrap().iter().all(|block| block.is_valid()));
    }
}

#[test]
fn a_changed_byte_is_seen() {
    let owner = key(Scheme::EcdsaP256, 1);
    let public = owner.public().unwrap();
    let signed = sign(b"firmware", &[owner], Padding::Sector, noise(3)).unwrap();
    let mut content = signed.clone();
    content[3] ^= 1;
    assert_eq!(verify(&content, &public, Padding::Sector), Err(SecureError::OtherContent(0)));
    let mut block = signed.clone();
    block[SECTOR + 200] ^= 1;
    assert_eq!(verify(&block, &public, Padding::Sector), Err(SecureError::NotSignedByKey));
}

#[test]
fn a_sector_holds_three_blocks() {
    let keys = || (1..=4).map(|seed| key(Scheme::EcdsaP256, seed));
    assert_eq!(sign(b"", &keys().collect::<Vec<_>>(), Padding::Sector, noise(3)), Err(SecureError::TooManyBlocks(4)));
    let three = sign(b"x", &keys().take(3).collect::<Vec<_>>(), Padding::Sector, noise(3)).unwrap();
    assert_eq!(append(&three, &[key(Scheme::EcdsaP256, 9)], noise(3)), Err(SecureError::TooManyBlocks(4)));
    assert_eq!(sign(b"x", &[], Padding::Sector, noise(3)), Err(SecureError::NoKey));
}

#[test]
fn a_foreign_signature_is_checked_before_it_is_attached() {
    let public = key(Scheme::EcdsaP256, 1).public().unwrap();
    let content = vec![0; SECTOR];
    assert_eq!(attach(&content, &[(public.clone(), vec![0; 70])]), Err(SecureError::BadSignature));
    assert!(matches!(attach(&content[1..], &[]), Err(SecureError::Alignment { .. })));
    let unpadded = sign(&content[1..], &[key(Scheme::EcdsaP256, 1)], Padding::None, noise(3)).unwrap();
    assert_eq!(unpadded.len(), 2 * SECTOR - 1);
    assert!(matches!(verify(&unpadded, &public, Padding::Sector), Err(SecureError::Alignment { .. })));
    assert_eq!(verify(&unpadded, &public, Padding::None), Ok(vec![0]));
}

#[test]
fn version_one_takes_only_p256_and_version_zero() {
    let wrong = key(Scheme::EcdsaP384, 1);
    assert!(matches!(boot_v1::sign(b"app", &wrong), Err(SecureError::WrongScheme { .. })));
    let owner = key(Scheme::EcdsaP256, 1);
    let public = owner.public().unwrap();
    let mut signed = boot_v1::sign(b"app", &owner).unwrap();
    assert_eq!(boot_v1::verify(&signed, &public), Ok(()));
    signed[3] = 7;
    assert_eq!(boot_v1::verify(&signed, &public), Err(SecureError::SignatureVersion(7)));
    assert!(matches!(boot_v1::verify(b"short", &public), Err(SecureError::TooShort { .. })));
}

#[test]
fn flash_keys_refuse_what_hardware_cannot_do() {
    assert!(matches!(FlashKey::esp32(&[0; 16], 15), Err(SecureError::KeyLength { .. })));
    assert!(matches!(FlashKey::xts(&[0; 24]), Err(SecureError::KeyLength { .. })));
    let old = FlashKey::esp32(&[7; 32], 15).unwrap();
    assert!(matches!(old.apply(Direction::Encrypt, 8, &mut [0; 16]), Err(SecureError::Alignment { .. })));
    assert!(matches!(old.apply(Direction::Encrypt, 0, &mut [0; 15]), Err(SecureError::Alignment { .. })));
    assert_eq!(old.apply(Direction::Encrypt, 0xff_fff0, &mut [0; 32]), Err(SecureError::Address(0x100_0010)));
    for kind in [KeyKind::Xts128Derived, KeyKind::Bits256, KeyKind::Xts256] {
        let key = FlashKey::xts(&kind.generate(&mut noise(5))).unwrap();
        let mut data = [9; 64];
        key.apply(Direction::Encrypt, 0x1_0010, &mut data).unwrap();
        assert_ne!(data, [9; 64]);
        // Any aligned piece decrypts on its own.
        key.apply(Direction::Decrypt, 0x1_0020, &mut data[16..48]).unwrap();
        assert_eq!(data[16..48], [9; 32]);
    }
}

#[test]
fn nvs_keys_survive_their_partition() {
    let keys = nvs_keys::from_hmac_key(&[3; 32]).unwrap();
    let mut partition = nvs_keys::to_partition(&keys);
    assert_eq!(nvs_keys::from_partition(&partition).as_deref(), Some(&*keys));
    partition[0] ^= 1;
    assert!(nvs_keys::from_partition(&partition).is_none());
    assert!(nvs_keys::from_hmac_key(&[3; 31]).is_err());
}

#[test]
fn keys_do_not_show_themselves() {
    let owner = key(Scheme::EcdsaP256, 1);
    let pem = owner.to_pem().unwrap();
    assert_eq!(format!("{owner:?}"), "PrivateKey(ecdsa256)");
    assert!(matches!(PrivateKey::from_pem(&pem.replace("BEGIN EC", "BEGIN")), Err(SecureError::NotAKey)));
    assert_eq!(PublicKey::from_pem(&pem).unwrap(), owner.public().unwrap());
    assert_eq!(format!("{:?}", FlashKey::xts(&[1; 32]).unwrap()), "FlashKey(XTS-AES-128)");
}

#[test]
fn mutated_blocks_and_keys_do_not_panic() {
    let owner = key(Scheme::EcdsaP384, 1);
    let pem = owner.to_pem().unwrap().to_string();
    let signed = sign(b"firmware", &[owner], Padding::Sector, noise(3)).unwrap();
    let block = signed[SECTOR..SECTOR + BLOCK].to_vec();
    let mut random = noise(77);
    let mut pick = |below: usize| {
        let mut bytes = [0; 4];
        random(&mut bytes);
        u32::from_le_bytes(bytes) as usize % below
    };
    for round in 0..10_000 {
        let mut bytes = block.clone();
        for _ in 0..=pick(4) {
            let at = pick(bytes.len());
            bytes[at] = pick(256) as u8;
        }
        if round % 4 == 0 {
            // A right CRC lets the damage through to the inner parsers.
            let crc = crc32fast::hash(&bytes[..1196]).to_le_bytes();
            bytes[1196..1200].copy_from_slice(&crc);
        }
        bytes.truncate(if round % 7 == 0 { pick(BLOCK) } else { BLOCK });
        if let Some(block) = SignatureBlock::parse(&bytes) {
            let _ = (block.public_key(), block.signature(), block.key_digest());
        }
        let mut text = pem.clone().into_bytes();
        let at = pick(text.len());
        text[at] = pick(128) as u8;
        let _ = PrivateKey::from_pem(&String::from_utf8_lossy(&text));
    }
}
