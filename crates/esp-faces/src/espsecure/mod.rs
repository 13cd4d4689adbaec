//! `espsecure`: keys, signatures and encryption as files.

mod debug_certificate;
mod digest_private_key;
mod digest_public_key;
mod digest_secure_bootloader;
mod extract_public_key;
mod flash_data;
mod flash_key;
mod hsm;
mod keys;
mod permissions;
mod sign_data;
mod signature_info;
mod signing_key;
mod verify_signature;

use crate::command::{Entry, Face};
pub use hsm::Hsm;
pub use keys::random;

/// The face.
pub static FACE: Face = Face {
    name: "espsecure",
    about: "Secure boot and flash encryption for Espressif chips: keys, signatures, digests, encrypted files",
    options: Vec::new,
    fatal_prefix: "\n",
    prepare: None,
    raises: false,
    of_chip: None,
    usage_of_chip: None,
    chain: None,
    single: None,
    commands: &[
        Entry { spec: digest_secure_bootloader::spec, run: digest_secure_bootloader::run },
        Entry { spec: signing_key::spec, run: signing_key::run },
        Entry { spec: sign_data::spec, run: sign_data::run },
        Entry { spec: verify_signature::spec, run: verify_signature::run },
        Entry { spec: extract_public_key::spec, run: extract_public_key::run },
        Entry { spec: digest_public_key::spec_rsa, run: digest_public_key::run_rsa },
        Entry { spec: digest_public_key::spec, run: digest_public_key::run },
        Entry { spec: signature_info::spec, run: signature_info::run },
        Entry { spec: digest_private_key::spec, run: digest_private_key::run },
        Entry { spec: flash_key::spec, run: flash_key::run },
        Entry { spec: flash_data::spec_decrypt, run: flash_data::decrypt },
        Entry { spec: flash_data::spec_encrypt, run: flash_data::encrypt },
        Entry { spec: debug_certificate::spec, run: debug_certificate::run },
        Entry { spec: debug_certificate::spec_digest, run: debug_certificate::digest },
    ],
    renamed: &[("digest_sbv2_public_key", "digest-sbv2-public-key"), ("signature_info_v2", "signature-info-v2")],
    shorts: &[],
};
