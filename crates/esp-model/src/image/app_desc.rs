//! The descriptions that ESP-IDF puts at the start of an app (`esp_app_desc_t`) and of a bootloader
//! (`esp_bootloader_desc_t`).

use serde::Serialize;

/// What an app says about itself, 256 bytes at the start of its first data segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppDesc {
    /// For anti-rollback: the bootloader refuses an app below the eFuse's value.
    pub secure_version: u32,
    /// The app's version.
    pub version: String,
    /// The project's name.
    pub project_name: String,
    /// Compile time.
    pub time: String,
    /// Compile date.
    pub date: String,
    /// ESP-IDF's version.
    pub idf_version: String,
    /// SHA-256 of the ELF file; zeros when it was not filled in.
    pub elf_sha256: [u8; 32],
    /// Lowest eFuse block revision, major × 100 + minor.
    pub min_efuse_blk_rev: u16,
    /// Highest eFuse block revision, major × 100 + minor.
    pub max_efuse_blk_rev: u16,
    /// MMU page size as a power of two; 0: not told (before ESP-IDF 5.4).
    pub mmu_page_log2: u8,
}

impl AppDesc {
    /// Bytes of it.
    pub const LEN: usize = 256;
    /// Its first word.
    pub const MAGIC: u32 = 0xabcd_5432;
    /// Where the ELF's SHA-256 stands in it.
    pub const ELF_SHA256_OFFSET: usize = 144;

    /// Reads it from the first bytes of a segment; None without its magic word or with too few bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        if word(bytes, 0)? != Self::MAGIC {
            return None;
        }
        Some(Self {
            secure_version: word(bytes, 4)?,
            version: text(bytes, 16, 32),
            project_name: text(bytes, 48, 32),
            time: text(bytes, 80, 16),
            date: text(bytes, 96, 16),
            idf_version: text(bytes, 112, 32),
            elf_sha256: *bytes.get(Self::ELF_SHA256_OFFSET..)?.first_chunk()?,
            min_efuse_blk_rev: half(bytes, 176)?,
            max_efuse_blk_rev: half(bytes, 178)?,
            mmu_page_log2: *bytes.get(180)?,
        })
    }

    /// MMU page size in bytes, when the app tells one that can be.
    pub fn mmu_page_size(&self) -> Option<u32> {
        1u32.checked_shl(u32::from(self.mmu_page_log2)).filter(|size| *size >= 1024)
    }
}

/// What a second-stage bootloader says about itself, 80 bytes at the start of a data segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootDesc {
    /// The bootloader's version, from its project configuration.
    pub version: u32,
    /// ESP-IDF's version.
    pub idf_version: String,
    /// Compile date and time.
    pub date_time: String,
}

impl BootDesc {
    /// Bytes of it.
    pub const LEN: usize = 80;
    /// Its first byte.
    pub const MAGIC: u8 = 0x50;

    /// Reads it from the first bytes of a segment; None without its magic byte or with too few bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        (*bytes.first()? == Self::MAGIC).then_some(())?;
        Some(Self { version: word(bytes, 4)?, idf_version: text(bytes, 8, 32), date_time: text(bytes, 40, 24) })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

/// A text field: zeros are filling.
fn text(bytes: &[u8], at: usize, len: usize) -> String {
    let field = bytes.get(at..at + len).unwrap_or_default();
    String::from_utf8_lossy(field).chars().filter(|c| *c != '\0').collect()
}
