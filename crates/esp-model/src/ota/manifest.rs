//! The manifest of an OTA package.

use serde::{Deserialize, Serialize};

use super::{delta, sha256_hex};
use crate::chip::{Chip, ImageFormat, SecureBootScheme};
use crate::image::{self, ParseError};
use crate::secure::boot_v2;

/// Name and version of the manifest's form.
pub const FORMAT: &str = "esp-ota-package/1";

/// What an update is, and for which devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Version of the update.
    pub version: String,
    /// Project that the app names.
    pub project: Option<String>,
    /// Version that the app names.
    pub app_version: Option<String>,
    /// ESP-IDF version that the app names.
    pub idf_version: Option<String>,
    /// Chip, as in `esp32c6`.
    pub chip: String,
    /// Lowest chip revision, major × 100 + minor.
    pub min_revision: u16,
    /// Highest chip revision, major × 100 + minor; none: any.
    pub max_revision: Option<u16>,
    /// For anti-rollback: devices with a higher number refuse the update.
    pub secure_version: u32,
    /// Length of the image file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the image file.
    pub sha256: String,
    /// SHA-256 of the ELF file that the app names.
    pub elf_sha256: Option<String>,
    /// Secure boot signature.
    pub signature: SignatureFacts,
    /// Delta from an older image.
    pub delta: Option<DeltaFacts>,
}

/// Secure boot signature of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFacts {
    /// `none`, `v2_rsa`, `v2_ecdsa`; `invalid` when there is one that does not fit.
    pub scheme: String,
    /// SHA-256 of each signing key that fits, as it is burned into eFuses.
    pub key_digests: Vec<String>,
}

/// A delta that belongs to a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaFacts {
    /// Length of the delta in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the delta.
    pub sha256: String,
    /// Length of the image that it is applied to.
    pub base_size_bytes: u64,
    /// SHA-256 of the image that it is applied to.
    pub base_sha256: String,
}

/// Why no package is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not an image.
    #[error(transparent)]
    Image(#[from] ParseError),
    /// The checksum is wrong.
    #[error("the image's checksum is {stored:#04x}, its bytes give {computed:#04x}")]
    Checksum {
        /// In the image.
        stored: u8,
        /// Of its bytes.
        computed: u8,
    },
    /// The hash is wrong.
    #[error("the image's SHA-256 does not fit its bytes")]
    Hash,
    /// A bootloader or another program that no slot can hold.
    #[error("the image is not an app: it has no app description")]
    NotAnApp,
}

/// What does not fit the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another form.
    #[error("the manifest's form is {0:?}, not {FORMAT:?}")]
    Format(String),
    /// A field says something else than the image.
    #[error("{field} is {said} in the manifest, {found} in the image")]
    Field {
        /// Its name.
        field: &'static str,
        /// In the manifest.
        said: String,
        /// In the image.
        found: String,
    },
    /// The image is not usable.
    #[error("the image cannot be used: {0}")]
    Image(ManifestError),
    /// The delta is not the one named.
    #[error("the delta is not the one that the manifest names")]
    Delta,
    /// The delta does not give the image.
    #[error("the delta does not give the image: {0}")]
    Apply(String),
}

impl Manifest {
    /// Reads the facts of an image. A delta is added with [`Self::with_delta`].
    pub fn of(image: &[u8], version: &str) -> Result<Self, ManifestError> {
        let parsed = image::parse(image)?;
        let (stored, computed) = (parsed.checksum, parsed.computed_checksum());
        if stored != computed {
            return Err(ManifestError::Checksum { stored, computed });
        }
        if parsed.digest().is_some_and(|digest| !digest.is_valid()) {
            return Err(ManifestError::Hash);
        }
        let app = parsed.app_desc();
        if app.is_none() && parsed.chip.image.format == ImageFormat::Esp32 {
            return Err(ManifestError::NotAnApp);
        }
        let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let max = parsed.extended.map_or(0, |extended| extended.max_rev_full);
        Ok(Self {
            format: FORMAT.into(),
            version: version.into(),
            project: app.as_ref().and_then(|app| named(&app.project_name)),
            app_version: app.as_ref().and_then(|app| named(&app.version)),
            idf_version: app.as_ref().and_then(|app| named(&app.idf_version)),
            chip: parsed.chip.id.into(),
            min_revision: parsed.extended.map_or(0, |extended| extended.min_rev_full),
            max_revision: Some(max).filter(|max| !matches!(*max, 0 | u16::MAX)),
            secure_version: app.as_ref().map_or(0, |app| app.secure_version),
            size_bytes: image.len() as u64,
            sha256: sha256_hex(image),
            elf_sha256: app.as_ref().map(|app| crate::hex::encode(app.elf_sha256)),
            signature: signature(parsed.chip, image),
            delta: None,
        })
    }

    /// Adds what identifies a delta from `base`.
    pub fn with_delta(mut self, base: &[u8], delta: &[u8]) -> Self {
        self.delta = Some(DeltaFacts {
            size_bytes: delta.len() as u64,
            sha256: sha256_hex(delta),
            base_size_bytes: base.len() as u64,
            base_sha256: sha256_hex(base),
        });
        self
    }

    /// Everything in which image and manifest differ.
    pub fn verify(&self, image: &[u8]) -> Vec<Mismatch> {
        if self.format != FORMAT {
            return vec![Mismatch::Format(self.format.clone())];
        }
        let fresh = match Self::of(image, &self.version) {
            Ok(fresh) => fresh,
            Err(error) => return vec![Mismatch::Image(error)],
        };
        let mut out = Vec::new();
        let mut compare = |field, said: &dyn std::fmt::Debug, found: &dyn std::fmt::Debug| {
            let (said, found) = (format!("{said:?}"), format!("{found:?}"));
            if said != found {
                out.push(Mismatch::Field { field, said, found });
            }
        };
        compare("size_bytes", &self.size_bytes, &fresh.size_bytes);
        compare("sha256", &self.sha256, &fresh.sha256);
        compare("chip", &self.chip, &fresh.chip);
        compare("project", &self.project, &fresh.project);
        compare("app_version", &self.app_version, &fresh.app_version);
        compare("min_revision", &self.min_revision, &fresh.min_revision);
        compare("max_revision", &self.max_revision, &fresh.max_revision);
        compare("secure_version", &self.secure_version, &fresh.secure_version);
        compare("elf_sha256", &self.elf_sha256, &fresh.elf_sha256);
        compare("signature", &self.signature, &fresh.signature);
        out
    }

    /// The delta is the one named, and applied to `base` it gives `image`.
    pub fn verify_delta(&self, base: &[u8], delta: &[u8], image: &[u8]) -> Option<Mismatch> {
        let named = self
            .delta
            .as_ref()
            .is_some_and(|facts| facts.sha256 == sha256_hex(delta) && facts.base_sha256 == sha256_hex(base));
        if !named {
            return Some(Mismatch::Delta);
        }
        match delta::apply(base, delta) {
            Ok(out) if out == image => None,
            Ok(_) => Some(Mismatch::Apply("the result is another image".into())),
            Err(error) => Some(Mismatch::Apply(error.to_string())),
        }
    }
}

fn signature(chip: &Chip, image: &[u8]) -> SignatureFacts {
    let blocks = boot_v2::check(image).unwrap_or_default();
    let v2 = chip.security.secure_boot.iter().any(|boot| boot.scheme != SecureBootScheme::V1);
    if blocks.is_empty() || !v2 {
        return SignatureFacts { scheme: "none".into(), ..SignatureFacts::default() };
    }
    let valid: Vec<_> = blocks.iter().filter(|checked| checked.is_valid()).collect();
    let scheme = match valid.first() {
        None => "invalid",
        Some(checked) if checked.block.scheme() == crate::secure::Scheme::Rsa3072 => "v2_rsa",
        Some(_) => "v2_ecdsa",
    };
    let hex = |digest: [u8; 32]| crate::hex::encode(digest);
    let key_digests = valid.iter().map(|checked| hex(checked.block.key_digest())).collect();
    SignatureFacts { scheme: scheme.into(), key_digests }
}
