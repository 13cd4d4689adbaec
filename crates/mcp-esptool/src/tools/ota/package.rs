//! `esp_ota_package_create`: an update with all that a device or server must know of it.

use esp_model::job::Job;
use esp_model::ota::{Manifest, delta};
use esp_model::secure::{PrivateKey, PublicKey};
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::belongs;
use esp_ops::flash::files::Piece;
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct PackageCreate;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The app image.
    firmware_file: String,
    /// Version of the update (default: the app's own).
    #[schemars(extend("x-rare" = true))]
    version: Option<String>,
    /// Package folder (default: ota/VERSION).
    output_dir: Option<String>,
    /// Image that devices run now: a compressed delta from it is added.
    base_file: Option<String>,
    /// PEM file with a private key (ECDSA or RSA-3072) that signs the manifest.
    #[schemars(extend("x-rare" = true))]
    sign_key_file: Option<String>,
    /// Only check the package in output_dir; against firmware_file and base_file.
    #[serde(default)]
    verify: bool,
    /// With verify: PEM file with the public key of the manifest's signature.
    #[schemars(extend("x-rare" = true))]
    public_key_file: Option<String>,
    /// Refuse an image whose secure_version is lower.
    #[schemars(extend("x-rare" = true))]
    min_secure_version: Option<u32>,
    /// Refuse an image without a valid secure boot signature.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    require_signature: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The package's folder.
    package_dir: String,
    /// Its files.
    files: Vec<String>,
    /// The manifest.
    manifest: Map<String, Value>,
    /// Length of the delta as a part of the whole image.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta_ratio: Option<f64>,
    /// Image, delta and signature were read back and fit the manifest.
    verified: bool,
    /// What does not fit, for verify.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// Signature of the manifest: none, made, valid, invalid or not_checked.
    manifest_signature: String,
}

const FIRMWARE: &str = "firmware.bin";
const DELTA: &str = "firmware.delta";
const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";

impl Tool for PackageCreate {
    const NAME: &'static str = "esp_ota_package_create";
    const TITLE: &'static str = "Create an OTA package";
    const ABOUT: &'static str = "Create and check an OTA package: app image, manifest (chip, revisions, secure_version, \
         SHA-256), optional delta and signature. With verify, only check one.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let firmware = ctx.files.read_some(&input.firmware_file)?;
        let base = input.base_file.as_ref().map(|path| ctx.files.read_some(path)).transpose()?;
        if input.verify {
            return verify(ctx, &input, &firmware, base.as_deref());
        }
        belongs::refuse_no_app(&Piece::new(&input.firmware_file, 0, firmware.clone()))?;
        let mut manifest = Manifest::of(&firmware, "").map_err(|error| {
            ToolError::new(Code::ImageInvalid, error.to_string()).seen("file", input.firmware_file.clone())
        })?;
        manifest.version = input.version.clone().or_else(|| manifest.app_version.clone()).unwrap_or_else(|| "0".into());
        accept(&manifest, &input)?;
        let dir = match &input.output_dir {
            Some(dir) => dir.trim_end_matches('/').to_owned(),
            None => format!("ota/{}", manifest.version.replace(['/', '\\', '\0'], "_")),
        };
        let mut files = Vec::new();
        let mut write = |name: &str, bytes: &[u8]| -> Result<(), ToolError> {
            files.push(ctx.files.write(&format!("{dir}/{name}"), bytes)?.display().to_string());
            Ok(())
        };
        write(FIRMWARE, &firmware)?;
        let mut delta_ratio = None;
        if let Some(base) = &base {
            job.progress(0, 0, "making the delta");
            let delta =
                delta::make(base, &firmware).map_err(|error| ToolError::new(Code::ImageInvalid, error.to_string()))?;
            job.check()?;
            manifest = manifest.with_delta(base, &delta);
            if let Some(problem) = manifest.verify_delta(base, &delta, &firmware) {
                return Err(ToolError::new(Code::Internal, problem.to_string()));
            }
            delta_ratio = Some(delta.len() as f64 / firmware.len() as f64);
            write(DELTA, &delta)?;
        }
        let text = text_of(&manifest)?;
        let mut manifest_signature = "none";
        if let Some(path) = &input.sign_key_file {
            let signature = sign(&private_key(ctx, path)?, text.as_bytes())?;
            write(SIGNATURE, &signature)?;
            manifest_signature = "made";
        }
        // The manifest comes last: a folder without it is no package.
        write(MANIFEST, text.as_bytes())?;
        let problems: Vec<String> =
            manifest.verify(&ctx.files.read(&format!("{dir}/{FIRMWARE}"))?).iter().map(ToString::to_string).collect();
        if !problems.is_empty() {
            return Err(ToolError::new(Code::Internal, problems.join("; ")));
        }
        let package_dir = ctx.files.input(&dir)?.display().to_string();
        let manifest = object(&manifest)?;
        let manifest_signature = manifest_signature.to_owned();
        Ok(Out { package_dir, files, manifest, delta_ratio, verified: true, problems, manifest_signature })
    }

    fn summary(out: &Out) -> String {
        let field =
            |name: &str| out.manifest.get(name).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
        let verdict = if out.verified { "everything fits the manifest".to_owned() } else { out.problems.join("; ") };
        let delta = out.delta_ratio.map_or_else(String::new, |ratio| format!(", delta {:.1} %", ratio * 100.0));
        let what = format!("version {} for {}, {} bytes{delta}", field("version"), field("chip"), field("size_bytes"));
        format!("{what} in {}\n{verdict}", out.package_dir)
    }
}

fn accept(manifest: &Manifest, input: &In) -> Result<(), ToolError> {
    let refused = |text: String| Err(ToolError::new(Code::ImageRefused, text));
    if let Some(least) = input.min_secure_version.filter(|least| manifest.secure_version < *least) {
        return refused(format!("the app's secure_version {} is below {least}", manifest.secure_version));
    }
    let signed = matches!(manifest.signature.scheme.as_str(), "v2_rsa" | "v2_ecdsa");
    if input.require_signature && !signed {
        return refused(format!("the app's secure boot signature is {}", manifest.signature.scheme));
    }
    Ok(())
}

fn verify(ctx: &Ctx, input: &In, firmware: &[u8], base: Option<&[u8]>) -> Result<Out, ToolError> {
    let dir =
        input.output_dir.as_deref().ok_or_else(|| ToolError::new(Code::MissingParameter, "verify needs output_dir"))?;
    let dir = dir.trim_end_matches('/');
    let text = ctx.files.read_text(&format!("{dir}/{MANIFEST}"))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| ToolError::new(Code::FileDamaged, format!("`{dir}/{MANIFEST}`: {error}")))?;
    let mut problems: Vec<String> = manifest.verify(firmware).iter().map(ToString::to_string).collect();
    if let Some(base) = base {
        let delta = ctx.files.read_some(&format!("{dir}/{DELTA}"))?;
        problems.extend(manifest.verify_delta(base, &delta, firmware).map(|problem| problem.to_string()));
    }
    if let Err(error) = accept(&manifest, input) {
        problems.push(error.message);
    }
    let signature = ctx.files.read(&format!("{dir}/{SIGNATURE}")).ok();
    let state = match (&signature, &input.public_key_file) {
        (Some(signature), Some(path)) => {
            let key = PublicKey::from_pem(&ctx.files.read_text(path)?)
                .map_err(|error| ToolError::new(Code::KeyInvalid, error.to_string()))?;
            let digest = Sha256::digest(text.as_bytes());
            if key.verify(&digest, signature) { "valid" } else { "invalid" }
        }
        (Some(_), None) => "not_checked",
        (None, Some(_)) => "invalid",
        (None, None) => "none",
    };
    if state == "invalid" {
        problems.push("the manifest's signature is not valid".into());
    }
    let delta_ratio = manifest.delta.as_ref().map(|delta| delta.size_bytes as f64 / manifest.size_bytes.max(1) as f64);
    Ok(Out {
        package_dir: ctx.files.input(dir)?.display().to_string(),
        files: Vec::new(),
        manifest: object(&manifest)?,
        delta_ratio,
        verified: problems.is_empty(),
        problems,
        manifest_signature: state.into(),
    })
}

fn private_key(ctx: &Ctx, path: &str) -> Result<PrivateKey, ToolError> {
    PrivateKey::from_pem(&ctx.files.read_text(path)?)
        .map_err(|error| ToolError::new(Code::KeyInvalid, error.to_string()))
}

fn sign(key: &PrivateKey, text: &[u8]) -> Result<Vec<u8>, ToolError> {
    let digest = Sha256::digest(text);
    let signed = esp_ops::random::with(|random| key.sign(&digest, random))?;
    signed.map_err(|error| ToolError::new(Code::KeyInvalid, error.to_string()))
}

fn text_of(manifest: &Manifest) -> Result<String, ToolError> {
    serde_json::to_string_pretty(manifest)
        .map(|text| text + "\n")
        .map_err(|error| ToolError::new(Code::Internal, error.to_string()))
}

fn object(manifest: &Manifest) -> Result<Map<String, Value>, ToolError> {
    match serde_json::to_value(manifest) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(ToolError::new(Code::Internal, "the manifest is not an object")),
    }
}
