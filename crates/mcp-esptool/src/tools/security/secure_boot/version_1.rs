//! The ESP32's first secure boot: a symmetric key in the eFuses and the digest of the bootloader in flash.

use esp_link::flash::{Part, WriteOptions};
use esp_model::secure::boot_v1;
use esp_ops::error::{Code, FlashState};
use zeroize::Zeroizing;

use super::*;

/// Bytes of the key (ESP-IDF, "Secure Boot").
const KEY: usize = 32;
/// Longest bootloader in bytes: from its place to the usual partition table.
const LONGEST: u32 = 0x7000;

/// The key, where the file holds a raw one.
pub fn key(ctx: &Ctx, path: &str) -> Result<Option<Zeroizing<Vec<u8>>>, ToolError> {
    let bytes = Zeroizing::new(ctx.files.read_some(path)?);
    Ok((bytes.len() == KEY).then_some(bytes))
}

pub fn enable(ctx: &Ctx, job: &Job, input: &In, key: Zeroizing<Vec<u8>>) -> Result<Out, ToolError> {
    ctx.with_device(input.port.as_ref(), job, |connected| {
        let device = Device::read(connected, job)?;
        let chip = connected.loader.chip().at(connected.loader.revision().unwrap_or(0));
        let known = chip.security.secure_boot.iter().find(|boot| boot.scheme == SecureBootScheme::V1);
        let boot = known.ok_or_else(|| {
            ToolError::new(Code::NotSupportedByChip, format!("the {} has no secure boot version 1", chip.name))
        })?;
        let efuses = pipeline::read(connected, job)?;
        let mut requests = vec![Request::Field { name: boot.enable.clone(), value: vec![1] }];
        requests.splice(..0, key_request(&efuses, &key));
        let bootloader = bootloader(connected, job)?;
        let intent = Intent {
            profile: input.profile,
            encryption_wanted: input.encryption_wanted,
            token: input.confirm_token.as_deref(),
            ..Intent::default()
        };
        let prepare = |connected: &mut Connected| write_digest(connected, job, &bootloader, &key);
        let outcome = pipeline::carry_out_after(ctx, job, connected, &requests, &intent, prepare)?;
        Ok(Out { device, scheme: "v1".into(), outcome })
    })
}

/// The key's burn; none when a hidden key is there already: it is taken to be this one.
fn key_request(efuses: &Efuses, key: &[u8]) -> Option<Request> {
    let purpose = efuses.table.key_purposes.iter().find(|purpose| purpose.name == "SECURE_BOOT_V1")?;
    let block = efuses.table.blocks.iter().find(|block| purpose.blocks.contains(&block.id))?;
    efuses.readable(&block.read_protect).then(|| Request::Key {
        block: block.name.clone(),
        key: key.to_vec(),
        purpose: purpose.name.clone(),
        read_protect: true,
        write_protect: true,
    })
}

/// The bootloader image that is in flash, to its last byte.
fn bootloader(connected: &mut Connected, job: &Job) -> Result<Vec<u8>, ToolError> {
    connected.loader.attach_flash(job, None)?;
    let offset = connected.loader.chip().flash.bootloader_offset;
    let mut bytes = connected.loader.read_flash_bytes(job, offset, LONGEST)?;
    let image = esp_model::image::parse::parse(&bytes)
        .map_err(|error| ToolError::new(Code::ImageInvalid, format!("the bootloader in flash: {error}")))?;
    let length = image.data_len + image.digest().map_or(0, |digest| digest.stored.len());
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes start value, digest and bootloader, as the ROM wants them, from address 0.
fn write_digest(connected: &mut Connected, job: &Job, bootloader: &[u8], key: &[u8]) -> Result<(), ToolError> {
    let mut start = [0; boot_v1::IV];
    esp_ops::guard::confirm::random_bytes(&mut start)?;
    let file = boot_v1::digest_bootloader(bootloader, key, &start)
        .map_err(|error| ToolError::new(Code::BadKey, error.to_string()))?;
    let written = connected.loader.write_flash(job, &mut [Part::bytes(0, file)], &WriteOptions::default());
    written.map(drop).map_err(|error| ToolError::from(error).touched(FlashState::Partial))
}
