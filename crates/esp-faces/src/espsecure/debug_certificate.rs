//! `generate-sdc-certificate` and `digest-sdc-public-key`: Secure Debug Certificates.

use std::fs;
use std::path::Path;

use clap::Command;
use esp_model::mac::Mac;
use esp_model::secure::debug_certificate::{self, COUNTERS, DEVICE_FILE, Device, Permissions};
use esp_model::secure::{PrivateKey, PublicKey, Scheme, SecureError};

use super::{hsm, keys, permissions};
use crate::command::{Call, flag, option};
use crate::fault::Fault;
use crate::{files, text};

pub fn spec() -> Command {
    Command::new("generate-sdc-certificate")
        .about("Make a certificate that opens a device's debug interfaces")
        .arg(option("keyfile", "Private key (ECDSA P-256) in PEM format").short('k'))
        .arg(option("output", "File to write").short('o').default_value("sdc_cert.bin"))
        .args(hsm::options())
        .arg(option("pub-key", "Public half of the key in the hardware security module"))
        .arg(flag("enable-jtag", "Open JTAG"))
        .arg(flag("enable-download-reuse", "Let download mode be used again"))
        .arg(flag("enable-force-spi-boot", "Start from flash whatever the straps say"))
        .arg(option("mac", "The device's base MAC address, or a .bin or .hex file with it"))
        .arg(option("sdc-session-counter", "The device's counter: 0, 1, 3 or 7").default_value("0"))
        .arg(option("chip-info", "What the device said about itself: 64 bytes"))
        .arg(option("usc", "Permissions as a JSON file, which counts more than --enable-…"))
        .arg(flag("verbose", "There is nothing more to say"))
}

pub fn spec_digest() -> Command {
    Command::new("digest-sdc-public-key")
        .about("Write the digest of a certificate's key, as it is burned")
        .arg(option("keyfile", "Private key (ECDSA P-256) in PEM format").short('k'))
        .arg(option("pub-key", "Public key in PEM format"))
        .args(hsm::options())
        .arg(option("output", "File to write").short('o').default_value("sdc_pub_key_digest.bin"))
        .arg(flag("verbose", "There is nothing more to say"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let output = call.text("output");
    let keyfile = check_options(call)?;
    for input in ["keyfile", "chip-info", "usc", "pub-key", "hsm-config"].iter().filter_map(|name| call.optional(name))
    {
        files::distinct(input, output)?;
    }
    let flags = Permissions {
        jtag: call.has("enable-jtag"),
        download_reuse: call.has("enable-download-reuse"),
        force_spi_boot: call.has("enable-force-spi-boot"),
    };
    let opened = match call.optional("usc") {
        Some(path) => permissions::of_file(path, flags)?,
        None => flags,
    };
    let device = device(call)?;
    let made = match keyfile {
        Some(path) => {
            debug_certificate::sign(opened, &device, &private(path)?, &mut keys::random).map_err(Fault::fatal)?
        }
        None => by_hsm(call, opened, &device)?,
    };
    write(output, &made)?;
    let size = made.len();
    call.terminal
        .say(format_args!("\nSDC certificate generated successfully: \"{output}\"\nCertificate size: {size} bytes"));
    call.terminal.say(match permissions::names(opened).as_slice() {
        [] => "No additional features enabled (default security configuration)".into(),
        names => format!("Enabled features: {}", names.join(", ")),
    });
    Ok(())
}

/// The key file, unless a hardware security module has the key.
fn check_options<'a>(call: &'a Call<'_>) -> Result<Option<&'a str>, Fault> {
    let keyfile = call.optional("keyfile");
    hsm::check(call)?;
    if keyfile.is_some() && call.has("hsm") {
        return Err(Fault::Usage("Options --keyfile and --hsm cannot be used together.".into()));
    }
    if keyfile.is_none() && !call.has("hsm") {
        let text = "Either --keyfile or --hsm with --hsm-config must be provided";
        return Err(Fault::value("--keyfile or --hsm", text));
    }
    if keyfile.is_some() && call.optional("pub-key").is_some() {
        call.terminal.warn(
            "Public key file is ignored when private key file is provided. Public key will be derived from the private key.",
        );
    }
    let counted = text::integer(call.text("sdc-session-counter")) != Some(0);
    match (call.optional("chip-info"), call.optional("mac")) {
        (Some(_), mac) if mac.is_some() || counted => {
            call.terminal.warn("--mac and --sdc-session-counter are ignored when --chip-info is provided");
        }
        (None, None) => return Err(Fault::value("--mac", "--mac is required when --chip-info is not provided")),
        _ => {}
    }
    Ok(keyfile)
}

fn device(call: &Call<'_>) -> Result<Device, Fault> {
    if let Some(path) = call.optional("chip-info") {
        let bytes = files::read(path, "--chip-info")?;
        return Device::from_file(&bytes).ok_or_else(|| {
            let size = bytes.len();
            Fault::Fatal(format!(
                "Invalid chip_info file size: expected {DEVICE_FILE} bytes (32 bytes chip_info + 32 bytes nonce), got {size} bytes."
            ))
        });
    }
    let mac = mac(call.text("mac"))?;
    let given = call.text("sdc-session-counter");
    let counter = text::integer(given).and_then(|number| u8::try_from(number).ok());
    let counter = counter.filter(|counter| COUNTERS.contains(counter)).ok_or_else(|| {
        let text = "Invalid SDC session counter value: expected one of 0, 1, 3, 7 (its three eFuse bits are burned one \
                    after the other)";
        Fault::Fatal(format!("{text}, got {given}"))
    })?;
    let mut nonce = [0; 32];
    keys::random(&mut nonce);
    Ok(Device::new(mac, counter, nonce))
}

/// An address as text with or without separators, or in a `.bin` or `.hex` file.
fn mac(given: &str) -> Result<[u8; 6], Fault> {
    let path = Path::new(given);
    let extension = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_file = path.exists();
    if is_file && extension == "bin" {
        let bytes = files::read(given, "--mac")?;
        return bytes.as_slice().try_into().map_err(|_| {
            let size = bytes.len();
            Fault::Fatal(format!("Invalid MAC file size: '{given}' contains {size} bytes, expected 6 bytes"))
        });
    }
    let (source, content) = match is_file && extension == "hex" {
        true => (format!("MAC hex file '{given}' contains"), fs::read_to_string(path)?),
        false => ("MAC hex string has".to_string(), given.to_string()),
    };
    let digits: String = content.chars().filter(|letter| !letter.is_whitespace() && !":-".contains(*letter)).collect();
    let count = digits.chars().count();
    if count != 12 {
        return Err(Fault::Fatal(format!("{source} {count} hex characters, expected 12 hex characters")));
    }
    let mac = digits.parse::<Mac>().map(|mac| mac.0);
    mac.map_err(|_| Fault::fatal("Invalid MAC hex format: must contain valid hex characters"))
}

fn private(path: &str) -> Result<PrivateKey, Fault> {
    let text = String::from_utf8_lossy(&files::read(path, "--keyfile' / '-k")?).into_owned();
    let key = PrivateKey::from_pem(&text).map_err(wrong_key)?;
    right_scheme(key.scheme()).map(|()| key)
}

fn public(path: &str, option: &str) -> Result<PublicKey, Fault> {
    let text = String::from_utf8_lossy(&files::read(path, option)?).into_owned();
    let key = PublicKey::from_pem(&text).map_err(wrong_key)?;
    right_scheme(key.scheme()).map(|()| key)
}

fn wrong_key(error: SecureError) -> Fault {
    match error {
        SecureError::RsaSize { .. } => not_rsa(),
        error => Fault::fatal(format_args!("Error loading key: {error}")),
    }
}

fn not_rsa() -> Fault {
    Fault::fatal("SDC certificates only support ECDSA P-256 keys, not RSA keys.")
}

fn right_scheme(scheme: Scheme) -> Result<(), Fault> {
    match scheme {
        Scheme::EcdsaP256 => Ok(()),
        Scheme::Rsa3072 => Err(not_rsa()),
        other => Err(Fault::Fatal(format!("SDC certificates only support ECDSA P-256 (SECP256R1), not {other}"))),
    }
}

fn by_hsm(call: &Call<'_>, opened: Permissions, device: &Device) -> Result<Vec<u8>, Fault> {
    let settings = hsm::settings(call)?;
    let key = match call.optional("pub-key") {
        Some(path) => public(path, "--pub-key")?,
        None => hsm::public_key(call, &settings)?,
    };
    right_scheme(key.scheme())?;
    let signature = hsm::sign(call, &settings, &key, &debug_certificate::message(opened, device))?;
    debug_certificate::assemble(opened, device, &key, &signature).map_err(Fault::fatal)
}

pub fn digest(call: &Call<'_>) -> Result<(), Fault> {
    let places = "--keyfile/--pub-key/--hsm";
    let given = [call.optional("keyfile").is_some(), call.optional("pub-key").is_some(), call.has("hsm")];
    match given.iter().filter(|given| **given).count() {
        0 => return Err(Fault::value(places, "One of --keyfile, --pub-key, or --hsm must be provided")),
        1 => {}
        _ => return Err(Fault::value(places, "Only one of --keyfile, --pub-key, or --hsm can be provided")),
    }
    hsm::check(call)?;
    let key = match (call.optional("keyfile"), call.optional("pub-key")) {
        (Some(path), _) => public(path, "--keyfile' / '-k")?,
        (None, Some(path)) => public(path, "--pub-key")?,
        (None, None) => hsm::public_key(call, &hsm::settings(call)?)?,
    };
    right_scheme(key.scheme())?;
    let digest = debug_certificate::key_digest(&key).map_err(Fault::fatal)?;
    let output = call.text("output");
    write(output, &digest)?;
    call.terminal.say(format_args!(
        "\nSDC public key digest generated successfully: \"{output}\"\nDigest size: {} bytes\nThis digest must be burned \
         to the device eFuse using 'espefuse burn-key <BLOCK> <digest_file> SDC_KEY_DIGEST'.",
        digest.len()
    ));
    Ok(())
}

/// Writes a file, and makes its folder.
fn write(path: &str, bytes: &[u8]) -> Result<(), Fault> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder)?;
    }
    files::write(path, bytes)
}
