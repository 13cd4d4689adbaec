//! `nvs_partition_gen`: NVS images from CSV, encrypted or not.

use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use esp_model::nvs::{self, Keys, Version};
use esp_model::secure::nvs_keys;

use crate::command::{Call, Entry, Face, flag, option, place};
use crate::fault::Fault;
use crate::{files, text};

/// The face.
pub static FACE: Face = Face {
    name: "nvs_partition_gen",
    about: "Make, encrypt and decrypt NVS partition images",
    options: Vec::new,
    prepare: None,
    fatal_prefix: "",
    chain: None,
    single: None,
    commands: &[
        Entry { spec: spec_generate, run: generate },
        Entry { spec: spec_key, run: generate_key },
        Entry { spec: spec_encrypt, run: encrypt },
        Entry { spec: spec_decrypt, run: decrypt },
    ],
    renamed: &[("generate_key", "generate-key")],
    shorts: &[],
};

fn folder() -> Arg {
    option("outdir", "Folder for the files")
}

fn version() -> Arg {
    option("version", "Version of the format").value_parser(["1", "2"]).default_value("2")
}

fn hmac() -> Vec<Arg> {
    vec![
        flag("key_protect_hmac", "Derive the keys from an HMAC key"),
        flag("kp_hmac_keygen", "Make the HMAC key"),
        option("kp_hmac_keyfile", "Name of the HMAC key file"),
        option("kp_hmac_inputkey", "File with the HMAC key"),
    ]
}

fn spec_generate() -> Command {
    Command::new("generate")
        .about("Make an image")
        .arg(place("input", "CSV file"))
        .arg(place("output", "File to write"))
        .arg(place("size", "Bytes"))
        .arg(version())
        .arg(folder())
}

fn spec_key() -> Command {
    Command::new("generate-key").about("Make keys").arg(option("keyfile", "File to write")).args(hmac()).arg(folder())
}

fn spec_encrypt() -> Command {
    Command::new("encrypt")
        .about("Make an encrypted image")
        .arg(place("input", "CSV file"))
        .arg(place("output", "File to write"))
        .arg(place("size", "Bytes"))
        .arg(version())
        .arg(flag("keygen", "Make the keys"))
        .arg(option("keyfile", "Name of the key file"))
        .arg(option("inputkey", "File with the keys"))
        .args(hmac())
        .arg(folder())
}

fn spec_decrypt() -> Command {
    Command::new("decrypt")
        .about("Decrypt an image")
        .arg(place("input", "Encrypted image"))
        .arg(place("key", "File with the keys"))
        .arg(place("output", "File to write"))
        .arg(folder())
}

/// A path below `--outdir`.
fn output(call: &Call<'_>, name: &str) -> Result<String, Fault> {
    let path = match call.optional("outdir") {
        Some(folder) => Path::new(folder).join(name),
        None => PathBuf::from(name),
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(path.display().to_string())
}

fn image(call: &Call<'_>, keys: Option<&Keys>) -> Result<Vec<u8>, Fault> {
    let path = call.text("input");
    let csv = files::read(path, "input")?;
    let given = call.text("size");
    let size = text::integer(given).ok_or_else(|| Fault::value("size", format_args!("'{given}' is not a number")))?;
    let version = if call.text("version") == "1" { Version::V1 } else { Version::V2 };
    let blobs = if version == Version::V2 { "Enabled" } else { "Disabled" };
    let number = call.text("version");
    call.terminal.say(format_args!("\nCreating NVS binary with version: V{number} - Multipage Blob Support {blobs}\n"));
    let base = Path::new(path).parent().unwrap_or(Path::new("")).to_path_buf();
    // Files that rows name are looked for in the working folder, then beside the CSV.
    let mut read = |name: &str| {
        std::fs::read(name).or_else(|_| std::fs::read(base.join(name))).map_err(|error| format!("{name}: {error}"))
    };
    nvs::generate(&[&csv], size, version, keys, &mut read).map_err(|error| failed(call, error))
}

/// This tool prints the reason alone and ends with 1.
fn failed(call: &Call<'_>, error: impl std::fmt::Display) -> Fault {
    call.terminal.plain_warning(error);
    Fault::Exit(1)
}

fn generate(call: &Call<'_>) -> Result<(), Fault> {
    let image = image(call, None)?;
    let path = output(call, call.text("output"))?;
    files::write(&path, &image)?;
    call.terminal.say(format_args!("Created NVS binary: ===> {path}"));
    Ok(())
}

fn random(bytes: &mut [u8]) {
    crate::espsecure::random(bytes);
}

/// The HMAC key that the keys are derived from, made or read.
fn hmac_key(call: &Call<'_>) -> Result<Option<Vec<u8>>, Fault> {
    if !call.has("key_protect_hmac") {
        return Ok(None);
    }
    if let Some(path) = call.optional("kp_hmac_inputkey") {
        return files::read(path, "--kp_hmac_inputkey").map(Some);
    }
    if !call.has("kp_hmac_keygen") {
        return Err(failed(call, "--key_protect_hmac needs --kp_hmac_keygen or --kp_hmac_inputkey"));
    }
    let mut key = vec![0; 32];
    random(&mut key);
    let path = output(call, &format!("keys/{}", call.optional("kp_hmac_keyfile").unwrap_or("hmac-keys.bin")))?;
    files::write_secret(&path, &key)?;
    call.terminal.say(format_args!("Created HMAC keys: ===> {path}"));
    Ok(Some(key))
}

fn new_keys(call: &Call<'_>) -> Result<nvs_keys::NvsKeys, Fault> {
    let keys = match hmac_key(call)? {
        Some(key) => nvs_keys::from_hmac_key(&key).map_err(|error| failed(call, error))?,
        None => nvs_keys::generate(&mut random),
    };
    let path = output(call, &format!("keys/{}", call.optional("keyfile").unwrap_or("keys.bin")))?;
    files::write_secret(&path, &nvs_keys::to_partition(&keys))?;
    call.terminal.say(format_args!("Created encryption keys: ===> {path}"));
    Ok(keys)
}

fn generate_key(call: &Call<'_>) -> Result<(), Fault> {
    new_keys(call).map(drop)
}

fn keys_in(call: &Call<'_>, path: &str) -> Result<nvs_keys::NvsKeys, Fault> {
    let bytes = files::read(path, "key")?;
    nvs_keys::from_partition(&bytes).ok_or_else(|| failed(call, format_args!("{path} holds no NVS keys")))
}

fn encrypt(call: &Call<'_>) -> Result<(), Fault> {
    let keys = match call.optional("inputkey") {
        Some(path) => keys_in(call, path)?,
        None if call.has("keygen") || call.has("key_protect_hmac") => new_keys(call)?,
        None => return Err(failed(call, "--keygen or --inputkey argument needed.")),
    };
    let keys = Keys::from_bytes(keys.as_slice()).map_err(|error| failed(call, error))?;
    let image = image(call, Some(&keys))?;
    let path = output(call, call.text("output"))?;
    files::write(&path, &image)?;
    call.terminal.say(format_args!("Created NVS encrypted binary: ===> {path}"));
    Ok(())
}

fn decrypt(call: &Call<'_>) -> Result<(), Fault> {
    let image = files::read(call.text("input"), "input")?;
    let keys = keys_in(call, call.text("key"))?;
    let keys = Keys::from_bytes(keys.as_slice()).map_err(|error| failed(call, error))?;
    let path = output(call, call.text("output"))?;
    files::write(&path, &nvs::decrypt(&image, &keys))?;
    call.terminal.say(format_args!("Created NVS decrypted binary: ===> {path}"));
    Ok(())
}
