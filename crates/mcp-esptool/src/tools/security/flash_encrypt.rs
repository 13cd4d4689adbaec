//! `esp_flash_encrypt`: images encrypted on this computer, into files or onto a device.

use esp_link::flash::{Compress, Part, WriteOptions};
use esp_model::chip::{self, Chip};
use esp_model::job::Job;
use esp_model::secure::flash_encryption::{Direction, FULL_TWEAK, KeyKind};
use esp_ops::args::{FileAt, PortUrl};
use esp_ops::efuse::keys;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Encrypt;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Plain files to encrypted ones.
    #[default]
    Encrypt,
    /// Encrypted files to plain ones.
    Decrypt,
    /// Make a key of `key_bits` bits in `key_file`.
    GenerateKey,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// encrypt (default) and decrypt need files, generate_key writes key_file.
    #[serde(default)]
    action: Action,
    /// Device to write the encrypted files to (default: files only).
    port: Option<PortUrl>,
    /// The chip, if no port is given.
    chip: Option<String>,
    /// File with the raw flash encryption key (generate_key makes it).
    key_file: String,
    /// Files with their flash addresses.
    #[serde(default)]
    files: Vec<FileAt>,
    /// Output folder; .enc or .plain is added to each name.
    output_dir: Option<String>,
    /// eFuse FLASH_CRYPT_CONFIG of chips that have it.
    #[serde(default = "full")]
    #[schemars(extend("x-rare" = true))]
    flash_crypt_config: u8,
    /// Length of a new key in bits: 128, 192, 256 or 512.
    #[serde(default = "bits")]
    #[schemars(extend("x-rare" = true))]
    key_bits: u16,
}

fn full() -> u8 {
    FULL_TWEAK
}

fn bits() -> u16 {
    256
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What was done.
    done: String,
    /// The device that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// Files that were made.
    output_files: Vec<String>,
    /// Bytes written to the device.
    written_bytes: u64,
}

impl Tool for Encrypt {
    const NAME: &'static str = "esp_flash_encrypt";
    const TITLE: &'static str = "Encrypt for flash";
    const ABOUT: &'static str = "Encrypt or decrypt image FILES as the chip's flash encryption does, or make a key. \
         Burns nothing; with port it writes the encrypted files.";
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if input.action == Action::GenerateKey {
            return generate(ctx, &input);
        }
        if input.files.is_empty() {
            return Err(ToolError::new(Code::MissingParameter, "files is needed"));
        }
        match (&input.port, &input.chip) {
            (None, Some(name)) => {
                let chip = chip::by_name(name)
                    .ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`")))?;
                let results = convert(ctx, chip, &input)?;
                save(ctx, &input, &results)
            }
            (Some(_), _) => ctx.with_device(input.port.as_ref(), job, |connected| {
                let device = Device::read(connected, job)?;
                let results = convert(ctx, connected.loader.chip(), &input)?;
                let mut out = save(ctx, &input, &results)?;
                if input.action == Action::Encrypt {
                    let mut parts: Vec<_> = results.iter().map(|(at, bytes)| Part::bytes(*at, bytes.clone())).collect();
                    // Every byte as it is: encrypted data does not compress, and blank sectors are data too.
                    let options = WriteOptions { compress: Compress::Never, ..WriteOptions::default() };
                    let report = connected.loader.write_flash(job, &mut parts, &options);
                    let report = report.map_err(|error| ToolError::from(error).touched(FlashState::Partial))?;
                    out.written_bytes = report.written_bytes;
                    out.done = "encrypted and written".into();
                }
                out.device = Some(device);
                Ok(out)
            }),
            (None, None) => {
                Err(ToolError::new(Code::MissingParameter, "give port or chip: the algorithm depends on it"))
            }
        }
    }

    fn summary(out: &Out) -> String {
        format!(
            "{}: {}, {} bytes written to a device",
            out.done,
            counted(out.output_files.len(), "file"),
            out.written_bytes
        )
    }
}

fn generate(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let kind = match input.key_bits {
        128 => KeyKind::Xts128Derived,
        192 => KeyKind::Esp32Coded,
        256 => KeyKind::Bits256,
        512 => KeyKind::Xts256,
        other => {
            return Err(ToolError::new(Code::BadParameter, format!("{other} bits: 128, 192, 256 or 512 are possible")));
        }
    };
    let key = keys::with_random(|random| Ok(kind.generate(random)))?;
    let file = keys::write_new(ctx, &input.key_file, &key)?;
    Ok(Out { done: "key made".into(), device: None, output_files: vec![file], written_bytes: 0 })
}

fn convert(ctx: &Ctx, chip: &Chip, input: &In) -> Result<Vec<(u32, Vec<u8>)>, ToolError> {
    let key = keys::flash(ctx, chip, &input.key_file, input.flash_crypt_config)?;
    let convert = |file: &FileAt| {
        let beyond = || ToolError::new(Code::AddressOutOfRange, format!("`{}`: address is beyond 32 bits", file.path));
        let address = file.address.as_u32().ok_or_else(beyond)?;
        let mut bytes = ctx.files.read_some(&file.path)?;
        let failed = |error: esp_model::secure::SecureError| {
            ToolError::new(Code::NotAligned, format!("`{}`: {error}", file.path))
        };
        if input.action == Action::Encrypt {
            bytes = keys::with_random(|random| key.encrypt_padded(address.into(), &bytes, random))?;
        } else {
            key.apply(Direction::Decrypt, address.into(), &mut bytes).map_err(failed)?;
        }
        Ok((address, bytes))
    };
    input.files.iter().map(convert).collect()
}

fn save(ctx: &Ctx, input: &In, results: &[(u32, Vec<u8>)]) -> Result<Out, ToolError> {
    let mut output_files = Vec::new();
    let end = if input.action == Action::Encrypt { "enc" } else { "plain" };
    for (file, (_, bytes)) in input.files.iter().zip(results) {
        let Some(dir) = &input.output_dir else { continue };
        let name = file.path.rsplit(['/', '\\']).next().unwrap_or("file");
        output_files.push(ctx.files.write(&format!("{dir}/{name}.{end}"), bytes)?.display().to_string());
    }
    let done = if input.action == Action::Encrypt { "encrypted" } else { "decrypted" };
    Ok(Out { done: done.into(), device: None, output_files, written_bytes: 0 })
}
