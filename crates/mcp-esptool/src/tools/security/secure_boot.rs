//! `esp_secure_boot_enable`: key digests, order rules and the enabling bit as one plan.

use esp_model::chip::{ChipData, SecureBoot, SecureBootScheme};
use esp_model::efuse::security::{FlashEncryptionMode, SecurityView};
use esp_model::efuse::{Block, Efuses, Request, bits};
use esp_model::job::Job;
use esp_model::secure::Scheme;
use esp_model::secure::block::key_digest;
use esp_model::secure::flash_encryption::FlashKey;
use esp_ops::args::PortUrl;
use esp_ops::efuse::keys;
use esp_ops::efuse::pipeline::{self, Intent, Outcome, Purpose};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

mod version_1;

/// The tool.
pub struct Enable;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// PEM file of the key that signed the bootloader (public half is enough); for version 1 the raw 32-byte key.
    key_file: String,
    /// Spare keys whose digests are burned too.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    spare_key_files: Vec<String>,
    /// Revoke unused key slots, so that nobody can add a key.
    #[serde(default = "yes")]
    #[schemars(extend("x-rare" = true))]
    revoke_unused: bool,
    /// Raw flash encryption key, if the flash is encrypted; the bootloader's signature is checked with it.
    #[schemars(extend("x-rare" = true))]
    flash_key_file: Option<String>,
    /// Flash encryption is planned on this chip too: it must then come first.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    encryption_wanted: bool,
    /// Rules to judge by: development or production (default).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    profile: Purpose,
    /// Token from the first call.
    confirm_token: Option<String>,
}

fn yes() -> bool {
    true
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// `v1`, `v2_rsa` or `v2_ecdsa`.
    scheme: String,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Tool for Enable {
    const NAME: &'static str = "esp_secure_boot_enable";
    const TITLE: &'static str = "Enable secure boot";
    const ABOUT: &'static str = "Enable secure boot permanently: checks that the bootloader in flash is signed by \
         the key, then burns key digests and the enable bit. The first call plans, a second with confirm_token \
         burns.";
    const RISK: Risk = Risk::Irreversible;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        if let Some(key) = version_1::key(ctx, &input.key_file)? {
            return version_1::enable(ctx, job, &input, key);
        }
        let files = std::iter::once(&input.key_file).chain(&input.spare_key_files);
        let public: Vec<_> = files.map(|path| keys::public(ctx, path)).collect::<Result<_, _>>()?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let chip = connected.loader.chip().at(connected.loader.revision().unwrap_or(0));
            let scheme = public.first().map_or(Scheme::Rsa3072, esp_model::secure::PublicKey::scheme);
            let boot = boot(chip, scheme)?;
            let digests: Vec<_> = public.iter().map(key_digest).collect();
            let mut requests = digest_requests(&efuses, &digests)?;
            let used = digests.len() as u8;
            if input.revoke_unused && boot.digests > used {
                let names = (used..boot.digests).map(|index| format!("SECURE_BOOT_KEY_REVOKE{index}"));
                let known = names.filter(|name| efuses.table.field(name).is_some());
                requests.extend(known.map(|name| Request::Field { name, value: vec![1] }));
            }
            requests.push(Request::Field { name: boot.enable.clone(), value: vec![1] });
            let flash_key = flash_key(ctx, connected, &efuses, input.flash_key_file.as_deref())?;
            let intent = Intent {
                profile: input.profile,
                encryption_wanted: input.encryption_wanted,
                flash_key: flash_key.as_ref(),
                token: input.confirm_token.as_deref(),
                ..Intent::default()
            };
            let outcome = pipeline::carry_out(ctx, job, connected, &requests, &intent)?;
            let scheme = if boot.scheme == SecureBootScheme::V2Rsa { "v2_rsa" } else { "v2_ecdsa" };
            Ok(Out { device, scheme: scheme.into(), outcome })
        })
    }

    fn summary(out: &Out) -> String {
        format!("{}\nsecure boot {}, {}", out.device, out.scheme, out.outcome.summary())
    }
}

/// The key of an encrypted flash, without which nobody can tell whether its bootloader is signed.
fn flash_key(
    ctx: &Ctx,
    connected: &Connected,
    efuses: &Efuses,
    path: Option<&str>,
) -> Result<Option<FlashKey>, ToolError> {
    let chip = connected.loader.chip();
    let data = chip.at(connected.loader.revision().unwrap_or(0));
    let encrypted = SecurityView { chip: data, efuses }.flash_encryption() != FlashEncryptionMode::Off;
    match path {
        Some(path) if encrypted => {
            let config = efuses.number("FLASH_CRYPT_CONFIG").unwrap_or(0) as u8;
            keys::flash(ctx, chip, path, config).map(Some)
        }
        None if encrypted => {
            let text = "the flash is encrypted: give flash_key_file, so that the bootloader's signature can be checked";
            Err(ToolError::new(Code::MissingParameter, text))
        }
        _ => Ok(None),
    }
}

/// The chip's secure boot for this kind of key.
fn boot(chip: &ChipData, scheme: Scheme) -> Result<&SecureBoot, ToolError> {
    let wanted = if scheme == Scheme::Rsa3072 { SecureBootScheme::V2Rsa } else { SecureBootScheme::V2Ecdsa };
    chip.security.secure_boot.iter().find(|boot| boot.scheme == wanted).ok_or_else(|| {
        ToolError::new(Code::NotSupportedByChip, format!("the {} does not boot {scheme} signatures", chip.name))
    })
}

/// Each digest goes into the first key block that is free, unless it is burned already.
fn digest_requests(efuses: &Efuses, digests: &[[u8; 32]]) -> Result<Vec<Request>, ToolError> {
    let purposes: Vec<_> = efuses.table.key_purposes.iter().filter(|purpose| purpose.digest).collect();
    let mut taken = Vec::new();
    let mut requests = Vec::new();
    for (digest, purpose) in digests.iter().zip(&purposes) {
        let free = |block: &&Block| {
            let allowed = purpose.blocks.is_empty() || purpose.blocks.contains(&block.id);
            let unused = efuses.purpose(block).is_none_or(|has| has == "USER");
            let blank = bits::is_zero(efuses.block(block.id)) || purpose.field.is_some();
            let open = efuses.writeable(block.write_protect) && efuses.readable(&block.read_protect);
            block.is_key
                && allowed
                && unused
                && blank
                && (open || purpose.field.is_some())
                && !taken.contains(&block.id)
        };
        // A digest that is there already is frozen, should a burn have been cut off before. Else from the end: the first
        // blocks are left to keys that only they can hold.
        let holds = |block: &&Block| efuses.holds_key(block, purpose, digest);
        let block = efuses.table.blocks.iter().find(holds).or_else(|| efuses.table.blocks.iter().rev().find(free));
        let block = block.ok_or_else(|| ToolError::new(Code::BurnImpossible, "no key block is free for a digest"))?;
        taken.push(block.id);
        requests.push(Request::Key {
            block: block.name.clone(),
            key: digest.to_vec(),
            purpose: purpose.name.clone(),
            read_protect: true,
            write_protect: true,
        });
    }
    if digests.len() > purposes.len() {
        return Err(ToolError::new(Code::BadParameter, format!("this chip holds {} key digests", purposes.len())));
    }
    Ok(requests)
}
