//! `esp_encryption_enable` and `esp_flash_encryption_configure`: the flash encryption workflow as one plan.

use esp_link::flash::{Compress, Part, WriteOptions};
use esp_model::chip::{ChipData, FlashCipher, FlashEncryption};
use esp_model::efuse::lint::FlashContent;
use esp_model::efuse::security::SecurityView;
use esp_model::efuse::{Block, Efuses, Request, bits};
use esp_model::job::Job;
use esp_model::secure::SECTOR;
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_ops::args::{FileAt, PortUrl};
use esp_ops::efuse::keys;
use esp_ops::efuse::pipeline::{self, Intent, Outcome, Purpose};
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// `esp_encryption_enable`.
pub struct Enable;
/// `esp_flash_encryption_configure`.
pub struct Configure;

/// How final it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Can be turned off again, and the loader still encrypts.
    #[default]
    Development,
    /// For ever.
    Release,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnableIn {
    port: Option<PortUrl>,
    /// File with the raw key (esp_flash_encrypt action=generate_key makes one).
    key_file: String,
    /// All plain images that boot needs, with their addresses; they are encrypted and written before anything is
    /// burned.
    files: Vec<FileAt>,
    /// Development or release.
    #[serde(default)]
    mode: Mode,
    /// Token from the first call.
    confirm_token: Option<String>,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureIn {
    port: Option<PortUrl>,
    /// Development or release.
    #[serde(default)]
    mode: Mode,
    /// The bootloader in flash encrypts everything at its first start; with a key the chip generates.
    #[serde(default)]
    encrypts_at_boot: bool,
    /// From the first call's result.
    confirm_token: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Development or release.
    mode: Mode,
    /// Bytes of encrypted images that were written.
    written_bytes: u64,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Tool for Enable {
    const NAME: &'static str = "esp_encryption_enable";
    const TITLE: &'static str = "Enable flash encryption with a key";
    const ABOUT: &'static str = "Enable flash encryption with a key YOU supply. The first call plans; with \
         confirm_token it writes the images encrypted, burns the key and turns encryption on.";
    const RISK: Risk = Risk::Irreversible;
    const LONG: bool = true;
    type In = EnableIn;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: EnableIn) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let revision = connected.loader.revision().unwrap_or(0);
            let (chip, data) = (connected.loader.chip(), connected.loader.chip().at(revision));
            let encryption = encryption(data)?;
            covers_bootloader(data, &input.files)?;
            let key = keys::raw(ctx, &input.key_file)?;
            let cipher = keys::flash(ctx, chip, &input.key_file, 0xf)?;
            let mut requests = Vec::new();
            match (SecurityView { chip: data, efuses: &efuses }).hidden_flash_key() {
                Some(place) => is_key_of_flash(job, connected, &cipher, &place)?,
                None => requests.push(key_request(&efuses, encryption, &key)?),
            }
            requests.extend(turn_on(&efuses, encryption, input.mode));
            let (mut parts, mut images) = (Vec::new(), Vec::new());
            for file in &input.files {
                let address = file.address.as_u32();
                let address =
                    address.ok_or_else(|| ToolError::new(Code::AddressOutOfRange, "address beyond 32 bits"))?;
                let plain = ctx.files.read_some(&file.path)?;
                let bytes = keys::with_random(|random| cipher.encrypt_padded(address.into(), &plain, random))?;
                parts.push(Part::bytes(address, bytes));
                images.push((address, plain));
            }
            let mut written_bytes = 0;
            let token = input.confirm_token.as_deref();
            let flash = Some(FlashContent::Encrypted);
            let intent = Intent { profile: profile(input.mode), flash, token, images, ..Intent::default() };
            // Confirmed: the images first, then the bits.
            let outcome = pipeline::carry_out_after(ctx, job, connected, &requests, &intent, |connected| {
                written_bytes = write(job, connected, &mut parts)?;
                Ok(())
            })?;
            Ok(Out { device, mode: input.mode, written_bytes, outcome })
        })
    }

    fn summary(out: &Out) -> String {
        summary(out)
    }
}

impl Tool for Configure {
    const NAME: &'static str = "esp_flash_encryption_configure";
    const TITLE: &'static str = "Configure flash encryption";
    const ABOUT: &'static str = "Make flash encryption permanent (mode release), or turn it on with a key the CHIP \
         generates at first boot. The first call plans, a second with confirm_token burns.";
    const RISK: Risk = Risk::Irreversible;
    type In = ConfigureIn;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: ConfigureIn) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let data = connected.loader.chip().at(connected.loader.revision().unwrap_or(0));
            let requests = turn_on(&efuses, encryption(data)?, input.mode);
            let flash = input.encrypts_at_boot.then_some(FlashContent::EncryptsAtBoot);
            let token = input.confirm_token.as_deref();
            let intent = Intent { profile: profile(input.mode), flash, token, ..Intent::default() };
            let outcome = pipeline::carry_out(ctx, job, connected, &requests, &intent)?;
            Ok(Out { device, mode: input.mode, written_bytes: 0, outcome })
        })
    }

    fn summary(out: &Out) -> String {
        summary(out)
    }
}

fn summary(out: &Out) -> String {
    format!("{}\nflash encryption, {:?} mode, {}", out.device, out.mode, out.outcome.summary())
}

fn profile(mode: Mode) -> Purpose {
    match mode {
        Mode::Development => Purpose::Development,
        Mode::Release => Purpose::Production,
    }
}

fn encryption(data: &ChipData) -> Result<&FlashEncryption, ToolError> {
    let none = || ToolError::new(Code::NotSupportedByChip, format!("the {} has no flash encryption", data.name));
    data.security.flash_encryption.as_ref().ok_or_else(none)
}

/// Without its bootloader encrypted, the chip would not boot.
fn covers_bootloader(data: &ChipData, files: &[FileAt]) -> Result<(), ToolError> {
    let offset = u64::from(data.flash.bootloader_offset);
    if files.iter().any(|file| file.address.0 == offset) {
        return Ok(());
    }
    let text = format!("no file for the bootloader at {offset:#x}: plain, it would not boot any more");
    Err(ToolError::new(Code::WrongBootloaderOffset, text))
}

fn write(job: &Job, connected: &mut Connected, parts: &mut [Part]) -> Result<u64, ToolError> {
    let options = WriteOptions { compress: Compress::Never, ..WriteOptions::default() };
    let report = connected.loader.write_flash(job, parts, &options);
    Ok(report.map_err(|error| ToolError::from(error).touched(FlashState::Partial))?.written_bytes)
}

/// The key that is burned cannot be seen any more; what it encrypted can.
fn is_key_of_flash(job: &Job, connected: &mut Connected, key: &FlashKey, place: &str) -> Result<(), ToolError> {
    let offset = connected.loader.chip().flash.bootloader_offset;
    let mut bytes = connected.loader.read_flash_bytes(job, offset, SECTOR as u32)?;
    let decrypted = key.apply(Direction::Decrypt, offset.into(), &mut bytes);
    if decrypted.is_ok() && esp_model::image::detect(&bytes).is_ok() {
        return Ok(());
    }
    let text = format!("a hidden key is in {place} already, and what is in flash was not encrypted with the given key");
    Err(ToolError::new(Code::BadKey, text))
}

/// The key into the block that holds it already (a burn was cut off), else the first that is free for it; hidden and
/// frozen.
fn key_request(efuses: &Efuses, encryption: &FlashEncryption, key: &[u8]) -> Result<Request, ToolError> {
    let purpose = match (encryption.cipher, key.len()) {
        (FlashCipher::Esp32Aes, 24 | 32) => "FLASH_ENCRYPTION",
        (FlashCipher::XtsAes, 16) => "XTS_AES_128_KEY_DERIVED_FROM_128_EFUSE_BITS",
        (FlashCipher::XtsAes, 32) => "XTS_AES_128_KEY",
        (FlashCipher::XtsAes, 64) => "XTS_AES_256_KEY",
        (_, len) => return Err(ToolError::new(Code::BadKey, format!("a key of {len} bytes does not fit this chip"))),
    };
    let known = efuses.table.key_purposes.iter().find(|one| one.name == purpose);
    let known = known.ok_or_else(|| ToolError::new(Code::BadKey, format!("this chip takes no {purpose}")))?;
    // A long key is judged by its first half.
    let first = known.split.first().and_then(|half| efuses.table.key_purposes.iter().find(|one| one.name == *half));
    let allowed = &first.unwrap_or(known).blocks;
    let free = |block: &&Block| {
        let allowed = allowed.is_empty() || allowed.contains(&block.id);
        let unused = efuses.purpose(block).is_none_or(|has| has == "USER");
        let open = efuses.writeable(block.write_protect) && efuses.readable(&block.read_protect);
        block.is_key && allowed && unused && open && bits::is_zero(efuses.block(block.id))
    };
    let part = if known.split.is_empty() { key } else { key.get(..key.len() / 2).unwrap_or_default() };
    let holds = |block: &&Block| efuses.holds_key(block, first.unwrap_or(known), part);
    let blocks = &efuses.table.blocks;
    let block = blocks.iter().find(holds).or_else(|| blocks.iter().find(free));
    let block = block.ok_or_else(|| ToolError::new(Code::BurnImpossible, "no key block is free for the key"))?;
    Ok(Request::Key {
        block: block.name.clone(),
        key: key.to_vec(),
        purpose: purpose.into(),
        read_protect: true,
        write_protect: true,
    })
}

/// Fields that close the loader's ways round encryption, as ESP-IDF's bootloader burns them in release mode.
const RELEASE: [&str; 7] = [
    "DIS_DOWNLOAD_MANUAL_ENCRYPT",
    "DIS_DOWNLOAD_ICACHE",
    "DIS_DOWNLOAD_DCACHE",
    "DIS_DIRECT_BOOT",
    "DISABLE_DL_ENCRYPT",
    "DISABLE_DL_DECRYPT",
    "DISABLE_DL_CACHE",
];

fn turn_on(efuses: &Efuses, encryption: &FlashEncryption, mode: Mode) -> Vec<Request> {
    let set = |name: &str, value: Vec<u8>| Request::Field { name: name.into(), value };
    let mut requests = Vec::new();
    if efuses.number("FLASH_CRYPT_CONFIG") == Some(0) {
        requests.push(set("FLASH_CRYPT_CONFIG", vec![0xf]));
    }
    let len = efuses.table.field(&encryption.count).map_or(1, |field| field.len());
    let all = ((1u32 << len.min(31)) - 1) as u8;
    match mode {
        Mode::Release => {
            let known = RELEASE.into_iter().filter(|name| efuses.table.field(name).is_some());
            requests.extend(known.map(|name| set(name, vec![1])));
            requests.push(set(&encryption.count, vec![all]));
        }
        Mode::Development => {
            let on = efuses.number(&encryption.count).is_some_and(|count| count.count_ones() % 2 == 1);
            requests.extend((!on).then(|| Request::NextBit { name: encryption.count.clone() }));
        }
    }
    requests
}
