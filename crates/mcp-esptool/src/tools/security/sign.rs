//! `esp_secure_sign`: signing keys, signatures and digests for secure boot; files in, files out.

use esp_model::job::Job;
use esp_model::secure::block::key_digest;
use esp_model::secure::boot_v2::{self, Padding};
use esp_model::secure::{PrivateKey, Scheme, SecureError, boot_v1};
use esp_ops::efuse::keys;
use esp_ops::efuse::pkcs11::Module;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Sign;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Make a signing key: `scheme`, `output_file`.
    GenerateKey,
    /// Sign `input_file` with `key_files`.
    Sign,
    /// Add signatures to a signed file.
    Append,
    /// Put a signature in that was made elsewhere (an HSM): `key_files` are public keys, `signature_files` signatures.
    Attach,
    /// Verify `input_file` with `key_files`.
    Verify,
    /// List the signatures of `input_file`.
    Info,
    /// Digest of a public key, as it is burned: `key_files`, `output_file`.
    Digest,
    /// Public half of a key: `key_files`, `output_file`.
    PublicKey,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// generate_key (needs output_file), sign and append (input_file, key_files, output_file), attach (signature_files
    /// made elsewhere), verify, info, digest, public_key.
    action: Action,
    /// Secure boot version.
    #[serde(default = "two")]
    #[schemars(extend("x-rare" = true))]
    version: u8,
    /// `rsa3072`, `ecdsa192`, `ecdsa256` or `ecdsa384`.
    scheme: Option<String>,
    /// PEM files; up to three for signing.
    #[serde(default)]
    key_files: Vec<String>,
    /// Signatures made elsewhere (attach).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    signature_files: Vec<String>,
    /// Sign with the key of this label in the configured HSM (PKCS#11); key_files has its public half.
    #[schemars(extend("x-rare" = true))]
    pkcs11_key: Option<String>,
    /// The image.
    input_file: Option<String>,
    /// File to write.
    output_file: Option<String>,
}

fn two() -> u8 {
    2
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What was done.
    done: String,
    /// The file that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_file: Option<String>,
    /// Signatures of the image.
    signatures: Vec<Signature>,
    /// SHA-256 of the public key as it is burned.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_digest: Option<String>,
}

/// A signature block.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Signature {
    /// Its place, 0 to 2.
    index: usize,
    /// Its scheme.
    scheme: String,
    /// SHA-256 of its public key as it is burned.
    key_digest: String,
    /// It is a right signature of this image.
    valid: bool,
    /// It was made by one of `key_files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_given_key: Option<bool>,
}

impl Tool for Sign {
    const NAME: &'static str = "esp_secure_sign";
    const TITLE: &'static str = "Sign and verify images";
    const ABOUT: &'static str = "Make secure boot keys; sign and verify images: generate_key, sign, append, attach \
         (HSM), verify, info, digest, public_key.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _job: &Job, input: In) -> Result<Out, ToolError> {
        match input.action {
            Action::GenerateKey => generate(ctx, &input),
            Action::Sign | Action::Append => sign(ctx, &input),
            Action::Attach => attach(ctx, &input),
            Action::Verify | Action::Info => verify(ctx, &input),
            Action::Digest | Action::PublicKey => public(ctx, &input),
        }
    }

    fn summary(out: &Out) -> String {
        let valid = out.signatures.iter().filter(|signature| signature.valid).count();
        let blocks = match out.signatures.len() {
            0 => String::new(),
            count => format!(", {valid} of {count} signatures valid"),
        };
        let file = out.output_file.as_ref().map_or(String::new(), |file| format!(" → {file}"));
        format!("{}{file}{blocks}", out.done)
    }
}

fn bad(error: SecureError) -> ToolError {
    let code = match error {
        SecureError::BadSignature | SecureError::NotSignedByKey | SecureError::OtherContent(_) => {
            Code::SignatureInvalid
        }
        SecureError::Signer(_) => Code::SignerFailed,
        _ => Code::BadKey,
    };
    ToolError::new(code, error.to_string())
}

fn needed<'a>(value: &'a Option<String>, name: &str) -> Result<&'a str, ToolError> {
    value.as_deref().ok_or_else(|| ToolError::new(Code::MissingParameter, format!("{name} is needed for this action")))
}

fn only_key(input: &In) -> Result<&str, ToolError> {
    match input.key_files.as_slice() {
        [only] => Ok(only),
        _ => Err(ToolError::new(Code::MissingParameter, "exactly one of key_files is needed for this action")),
    }
}

fn out(done: &str) -> Out {
    Out { done: done.into(), output_file: None, signatures: Vec::new(), key_digest: None }
}

fn hex(bytes: &[u8]) -> String {
    esp_model::hex::encode(bytes)
}

fn generate(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let usual = if input.version == 1 { "ecdsa256" } else { "rsa3072" };
    let name = input.scheme.as_deref().unwrap_or(usual);
    let scheme = Scheme::by_name(name)
        .ok_or_else(|| ToolError::new(Code::BadParameter, format!("there is no signing scheme `{name}`")))?;
    let key = keys::with_random(|random| PrivateKey::generate(scheme, random))?;
    let pem = key.to_pem().map_err(bad)?;
    let file = keys::write_new(ctx, needed(&input.output_file, "output_file")?, pem.as_bytes())?;
    let digest = key_digest(&key.public().map_err(bad)?);
    Ok(Out { output_file: Some(file), key_digest: Some(hex(&digest)), ..out(&format!("{scheme} key made")) })
}

fn sign(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let data = ctx.files.read_some(needed(&input.input_file, "input_file")?)?;
    if let Some(label) = &input.pkcs11_key {
        return sign_in_hsm(ctx, input, &data, label);
    }
    let private: Vec<_> = input.key_files.iter().map(|path| keys::private(ctx, path)).collect::<Result<_, _>>()?;
    let signed = match (input.version, private.as_slice()) {
        (1, [only]) => boot_v1::sign(&data, only).map_err(bad)?,
        (1, _) => return Err(ToolError::new(Code::BadParameter, "version 1 takes exactly one key")),
        _ if input.action == Action::Append => keys::with_random(|random| boot_v2::append(&data, &private, random))?,
        _ => keys::with_random(|random| boot_v2::sign(&data, &private, Padding::Sector, random))?,
    };
    finish(ctx, input, &signed, "signed")
}

fn sign_in_hsm(ctx: &Ctx, input: &In, data: &[u8], label: &str) -> Result<Out, ToolError> {
    if (input.version, input.action) != (2, Action::Sign) {
        return Err(ToolError::new(Code::BadParameter, "an HSM signs for version 2, the first signature of an image"));
    }
    let key = keys::public(ctx, only_key(input)?)?;
    let module = Module::of(ctx)?;
    let signer = |digest: &[u8]| module.sign(label, key.scheme(), digest);
    let signed = boot_v2::sign_with(data, &key, Padding::Sector, signer).map_err(bad)?;
    finish(ctx, input, &signed, "signed by the HSM")
}

fn attach(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let data = ctx.files.read_some(needed(&input.input_file, "input_file")?)?;
    if input.key_files.len() != input.signature_files.len() || input.key_files.is_empty() {
        return Err(ToolError::new(Code::MissingParameter, "give one public key for each signature"));
    }
    let pairs = input.key_files.iter().zip(&input.signature_files);
    let pair = |(key, signature): (&String, &String)| Ok((keys::public(ctx, key)?, ctx.files.read_some(signature)?));
    let pairs: Vec<_> = pairs.map(pair).collect::<Result<_, ToolError>>()?;
    let signed = match (input.version, pairs.as_slice()) {
        (1, [(key, signature)]) => boot_v1::attach(&data, key, signature).map_err(bad)?,
        (1, _) => return Err(ToolError::new(Code::BadParameter, "version 1 takes exactly one key")),
        _ => boot_v2::attach(&data, &pairs).map_err(bad)?,
    };
    finish(ctx, input, &signed, "signature attached")
}

fn finish(ctx: &Ctx, input: &In, signed: &[u8], done: &str) -> Result<Out, ToolError> {
    let path = match &input.output_file {
        Some(path) => path,
        None => needed(&input.input_file, "input_file")?,
    };
    let file = ctx.files.write(path, signed)?.display().to_string();
    let signatures = if input.version == 1 { Vec::new() } else { list(ctx, signed, &[])? };
    Ok(Out { output_file: Some(file), signatures, ..out(done) })
}

fn verify(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let data = ctx.files.read_some(needed(&input.input_file, "input_file")?)?;
    if input.version == 1 {
        boot_v1::verify(&data, &keys::public(ctx, only_key(input)?)?).map_err(bad)?;
        return Ok(out("the signature is valid"));
    }
    let signatures = list(ctx, &data, &input.key_files)?;
    if input.action == Action::Info {
        return Ok(Out { signatures, ..out("signatures listed") });
    }
    if input.key_files.is_empty() {
        return Err(ToolError::new(Code::MissingParameter, "key_files is needed to verify"));
    }
    for path in &input.key_files {
        boot_v2::verify(&data, &keys::public(ctx, path)?, Padding::Sector).map_err(bad)?;
    }
    Ok(Out { signatures, ..out("signed by every given key") })
}

fn list(ctx: &Ctx, image: &[u8], key_files: &[String]) -> Result<Vec<Signature>, ToolError> {
    let digests: Vec<_> =
        key_files.iter().map(|path| Ok(key_digest(&keys::public(ctx, path)?))).collect::<Result<_, ToolError>>()?;
    let signature = |one: &boot_v2::Checked| Signature {
        index: one.index,
        scheme: one.block.scheme().to_string(),
        key_digest: hex(&one.block.key_digest()),
        valid: one.is_valid(),
        by_given_key: (!digests.is_empty()).then(|| digests.contains(&one.block.key_digest())),
    };
    Ok(boot_v2::check(image).map_err(bad)?.iter().map(signature).collect())
}

fn public(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let key = keys::public(ctx, only_key(input)?)?;
    let digest = key_digest(&key);
    let (bytes, done) = match input.action {
        Action::Digest => (digest.to_vec(), "digest written"),
        _ if input.version == 1 => (boot_v1::raw_public_key(&key).map_err(bad)?.to_vec(), "public key written"),
        _ => (key.to_pem().map_err(bad)?.into_bytes(), "public key written"),
    };
    let file = match &input.output_file {
        Some(path) => Some(ctx.files.write(path, &bytes)?.display().to_string()),
        None => None,
    };
    Ok(Out { output_file: file, key_digest: Some(hex(&digest)), ..out(done) })
}
