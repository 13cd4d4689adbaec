//! `nvs_partition_gen`: NVS images from CSV, encrypted or not. Texts and exit codes are those of esp-idf-nvs-partition-gen
//! 0.3.0.

use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use esp_model::nvs::{self, Keys, NvsError, Version};
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
    raises: false,
    of_chip: None,
    usage_of_chip: None,
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

/// What names a file that the tool takes.
const ENDING: &str = ".bin";
/// Sectors of NVS.
const SECTOR: u64 = 4096;
/// The smallest partition that applications can write to.
const WRITABLE: u64 = 3 * SECTOR;
/// Exit code after a row of the CSV file that cannot be taken: -2.
const BAD_ROW: u8 = 254;

fn folder() -> Arg {
    option("outdir", "Folder for the files (default: the current one)")
}

fn version() -> Arg {
    option("version", "Version of the format").value_parser(["1", "2"]).default_value("2")
}

/// CSV files, the file to write, its size: the parser cannot tell where the first list ends.
fn words() -> Arg {
    Arg::new("words")
        .num_args(3..)
        .required(true)
        .value_names(["INPUT", "OUTPUT", "SIZE"])
        .help("CSV files, image, bytes")
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
    Command::new("generate").about("Make an image").arg(words()).arg(version()).arg(folder())
}

fn spec_key() -> Command {
    Command::new("generate-key").about("Make keys").arg(option("keyfile", "File to write")).args(hmac()).arg(folder())
}

fn spec_encrypt() -> Command {
    Command::new("encrypt")
        .about("Make an encrypted image")
        .arg(words())
        .arg(version())
        .arg(flag("keygen", "Make the keys").conflicts_with("inputkey"))
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

/// This tool prints the reason alone and ends with 1.
fn failed(call: &Call<'_>, error: impl std::fmt::Display) -> Fault {
    call.terminal.error(error);
    Fault::Exit(1)
}

fn ends_right(call: &Call<'_>, path: &str) -> Result<(), Fault> {
    let ending = Path::new(path).extension().is_some_and(|end| end.to_string_lossy().contains("bin"));
    if ending { Ok(()) } else { Err(failed(call, format_args!("`{path}`. Only `{ENDING}` extension allowed."))) }
}

/// The folder that `--outdir` names.
fn output_folder(call: &Call<'_>) -> Result<PathBuf, Fault> {
    match call.optional("outdir") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(std::env::current_dir()?),
    }
}

/// A path below a folder, which is made when it is missing.
fn target(call: &Call<'_>, folder: &Path, name: &str) -> Result<String, Fault> {
    if Path::new(name).is_absolute() && call.optional("outdir").is_some() {
        call.terminal.warn(format_args!("`{name}` ==> absolute path given so outdir is ignored for this file."));
    }
    let path = folder.join(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(path.display().to_string())
}

/// CSV files, output and size.
struct Given<'a> {
    inputs: Vec<&'a str>,
    output: &'a str,
    size: u64,
}

impl<'a> Given<'a> {
    fn read(call: &'a Call<'_>) -> Result<Self, Fault> {
        let words = call.list("words");
        let [inputs @ .., output, size] = words.as_slice() else { return Err(Fault::Exit(2)) };
        let bytes =
            text::integer(size).ok_or_else(|| Fault::value("size", format_args!("'{size}' is not a number")))?;
        if bytes % SECTOR != 0 {
            return Err(failed(call, "Size of partition must be multiple of 4096"));
        }
        if bytes < SECTOR {
            let text =
                "Minimum partition size for read/write NVS is 0x3000 bytes and for read-only NVS is 0x1000 bytes.";
            return Err(failed(call, text));
        }
        Ok(Self { inputs: inputs.to_vec(), output, size: bytes })
    }

    /// A partition of this size can only be read.
    fn warn(&self, call: &Call<'_>) {
        if self.size < WRITABLE {
            call.terminal.warn(
                "Minimum partition size for read/write NVS is 0x3000 bytes. Partitions smaller than this must be flagged \
                 as \"readonly\" in the partition table CSV.",
            );
        }
    }
}

fn image(call: &Call<'_>, given: &Given<'_>, keys: Option<&Keys>) -> Result<(), Fault> {
    let path = target(call, &output_folder(call)?, given.output)?;
    let version = if call.text("version") == "1" { Version::V1 } else { Version::V2 };
    let blobs = if version == Version::V2 { "Enabled" } else { "Disabled" };
    let number = call.text("version");
    call.terminal.say(format_args!("\nCreating NVS binary with version: V{number} - Multipage Blob Support {blobs}"));
    let texts = given.inputs.iter().map(|path| read(call, path)).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    // Files that rows name are looked for in the working folder, then beside the CSV.
    let mut read = |name: &str| {
        let beside = given.inputs.iter().filter_map(|input| Path::new(input).parent()).map(|folder| folder.join(name));
        let found = std::iter::once(PathBuf::from(name)).chain(beside).find(|path| path.is_file());
        std::fs::read(found.as_deref().unwrap_or(Path::new(name))).map_err(|error| format!("{name}: {error}"))
    };
    let made = nvs::generate(&texts, given.size, version, keys, &mut read);
    let image = made.map_err(|error| match error {
        NvsError::Row { .. } => {
            call.terminal.error(&error);
            call.terminal.warn("NVS binary not created...");
            Fault::Exit(BAD_ROW)
        }
        error => failed(call, error),
    })?;
    files::write(&path, &image)?;
    call.terminal.say(format_args!("\nCreated NVS binary: ===> {path}"));
    Ok(())
}

fn generate(call: &Call<'_>) -> Result<(), Fault> {
    let given = Given::read(call)?;
    given.warn(call);
    ends_right(call, given.output)?;
    image(call, &given, None)
}

fn random(bytes: &mut [u8]) {
    crate::espsecure::random(bytes);
}

/// The HMAC key that the keys are derived from, made or read.
fn hmac_key(call: &Call<'_>, folder: &Path, keyfile: &str) -> Result<Option<Vec<u8>>, Fault> {
    if !call.has("key_protect_hmac") {
        return Ok(None);
    }
    if !call.has("kp_hmac_keygen") {
        return match call.optional("kp_hmac_inputkey") {
            Some(path) => read(call, path).map(Some),
            None => Err(failed(call, "HMAC Key input file (HMAC-based encryption scheme) missing!")),
        };
    }
    let mut key = vec![0; 32];
    random(&mut key);
    let usual = format!("hmac-{keyfile}");
    let path = key_path(call, folder, call.optional("kp_hmac_keyfile").unwrap_or(&usual))?;
    files::write_secret(&path, &key)?;
    Ok(Some(key))
}

/// A key file's path; `.bin` is added where there is no ending.
fn key_path(call: &Call<'_>, folder: &Path, name: &str) -> Result<String, Fault> {
    if Path::new(name).extension().is_none() {
        return target(call, folder, &format!("{name}{ENDING}"));
    }
    ends_right(call, name)?;
    target(call, folder, name)
}

fn new_keys(call: &Call<'_>) -> Result<nvs_keys::NvsKeys, Fault> {
    let folder = output_folder(call)?.join("keys");
    let dated = jiff::Timestamp::now().strftime("keys-%m-%d_%H-%M.bin").to_string();
    let name = call.optional("keyfile").unwrap_or(&dated);
    let path = key_path(call, &folder, name)?;
    let keys = match hmac_key(call, &folder, name)? {
        Some(key) => nvs_keys::from_hmac_key(&key).map_err(|error| failed(call, error))?,
        None => nvs_keys::generate(&mut random),
    };
    files::write_secret(&path, &nvs_keys::to_partition(&keys))?;
    call.terminal.say(format_args!("\nCreated encryption keys: ===>  {path}"));
    Ok(keys)
}

fn generate_key(call: &Call<'_>) -> Result<(), Fault> {
    new_keys(call).map(drop)
}

/// A file's bytes; this tool ends with 1 when there is none.
fn read(call: &Call<'_>, path: &str) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| failed(call, format_args!("'{path}': {}", files::reason(&error))))
}

/// The first 64 bytes of a file.
fn keys_in(call: &Call<'_>, path: &str) -> Result<Keys, Fault> {
    let bytes = read(call, path)?;
    Keys::from_bytes(&bytes).map_err(|error| failed(call, error))
}

fn encrypt(call: &Call<'_>) -> Result<(), Fault> {
    let given = Given::read(call)?;
    let (makes, input) = (call.has("keygen"), call.optional("inputkey"));
    given.warn(call);
    match (makes, input) {
        (false, None) => return Err(failed(call, "--keygen or --inputkey argument needed.")),
        (false, Some(_)) if call.optional("keyfile").is_some() => {
            call.terminal.warn("--inputkey argument is given. --keyfile argument will be ignored...");
        }
        _ => {}
    }
    if let Some(path) = input {
        ends_right(call, path)?;
    }
    let keys = input.map(|path| keys_in(call, path)).transpose()?;
    // The size is looked at once more with the image.
    given.warn(call);
    ends_right(call, given.output)?;
    let keys = match keys {
        Some(keys) => keys,
        None => Keys::from_bytes(new_keys(call)?.as_slice()).map_err(|error| failed(call, error))?,
    };
    image(call, &given, Some(&keys))
}

fn decrypt(call: &Call<'_>) -> Result<(), Fault> {
    for name in ["input", "key", "output"] {
        ends_right(call, call.text(name))?;
    }
    let keys = keys_in(call, call.text("key"))?;
    let path = target(call, &output_folder(call)?, call.text("output"))?;
    let image = read(call, call.text("input"))?;
    files::write(&path, &nvs::decrypt(&image, &keys))?;
    call.terminal.say(format_args!("\nCreated NVS decrypted binary: ===> {path}"));
    Ok(())
}
