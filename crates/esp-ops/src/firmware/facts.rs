//! What is in firmware files, in the form that results show.

use esp_model::chip::Chip;
use esp_model::image::elf::Elf;
use esp_model::image::elf_chip;
use esp_model::image::hex::{Part, hex};
use esp_model::image::kind::{self, FlashLayout, Kind};
use esp_model::image::{self, Image, checks};
use esp_model::partition::{self, Partition, Subtypes, TABLE_LENGTH, Table};
use schemars::JsonSchema;
use serde::Serialize;

use crate::firmware::common::{Signature, signature};
use crate::partition::rows::RowOut;

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// Where: image, bootloader, partition table, the name of a partition.
    pub part: String,
    /// What it is.
    pub what: String,
    /// The chip does not start with it.
    pub prevents_boot: bool,
}

/// A segment.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SegmentFacts {
    /// Load address; 0 is padding.
    pub address: u32,
    /// Its length.
    pub size_bytes: u32,
    /// Where its header stands in the file.
    pub file_offset: u64,
    /// Memory regions that hold its address.
    pub regions: Vec<String>,
}

/// A signature block of secure boot v2.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BlockFacts {
    /// Its place: 0, 1 or 2.
    pub index: u8,
    /// RSA-3072, ECDSA P-192, P-256 or P-384.
    pub scheme: String,
    /// It was made for these bytes.
    pub fits_content: bool,
    /// The signature holds under the key in the block.
    pub authentic: bool,
    /// SHA-256 of the public key, as it is burned to eFuse, in hex.
    pub key_digest: String,
}

/// An app's description of itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AppFacts {
    /// The project.
    pub project_name: String,
    /// Its version.
    pub version: String,
    /// Compile date and time.
    pub compiled: String,
    /// ESP-IDF's version.
    pub idf_version: String,
    /// SHA-256 of the ELF file, in hex.
    pub elf_sha256: String,
    /// For anti-rollback.
    pub secure_version: u32,
    /// Lowest eFuse block revision, major × 100 + minor.
    pub min_efuse_block_revision: u16,
    /// Highest eFuse block revision, major × 100 + minor.
    pub max_efuse_block_revision: u16,
    /// MMU page size, where the app tells it.
    pub mmu_page_bytes: Option<u32>,
}

/// What an ELF file holds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ElfFacts {
    /// Where the program starts.
    pub entry: u32,
    /// The chip it is linked for, told by its addresses and the paths in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// Sections with contents.
    pub sections: u32,
    /// Their bytes.
    pub loaded_bytes: u64,
    /// The app's description, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppFacts>,
}

/// What an ELF file holds.
pub fn elf_facts(elf: &Elf<'_>) -> ElfFacts {
    let described = elf.sections.iter().find_map(|section| image::AppDesc::decode(section.data));
    ElfFacts {
        entry: elf.entry,
        chip: elf_chip::of(elf).map(|chip| chip.id.to_owned()),
        sections: elf.sections.len() as u32,
        loaded_bytes: elf.sections.iter().map(|section| section.data.len() as u64).sum(),
        app: described.map(app_facts),
    }
}

/// A bootloader's description of itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BootFacts {
    /// Its version.
    pub version: u32,
    /// ESP-IDF's version.
    pub idf_version: String,
    /// Compile date and time.
    pub compiled: String,
}

/// What an image says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImageFacts {
    /// The chip it is for.
    pub chip: String,
    /// Image version: 2 for an ESP8266 image with a leading mapped segment, else 1.
    pub version: u8,
    /// Where the program starts.
    pub entry: u32,
    /// Flash mode, or the code when it has no name.
    pub flash_mode: String,
    /// Flash size, or the code when it has no name.
    pub flash_size: String,
    /// Flash frequency, or the code when it has no name.
    pub flash_freq: String,
    /// Segments in file order.
    pub segments: Vec<SegmentFacts>,
    /// The checksum in the file.
    pub checksum: u8,
    /// It fits.
    pub checksum_valid: bool,
    /// SHA-256 that the bytes give, in hex, when the image has one.
    pub sha256: Option<String>,
    /// The SHA-256 in the file is the same.
    pub sha256_valid: Option<bool>,
    /// Pin that drives WP; 238 (0xEE): none.
    pub wp_pin: Option<u8>,
    /// Lowest major revision, for old bootloaders.
    pub min_rev: Option<u8>,
    /// Lowest revision, major × 100 + minor.
    pub min_rev_full: Option<u16>,
    /// Highest revision, major × 100 + minor.
    pub max_rev_full: Option<u16>,
    /// The app's description.
    pub app: Option<AppFacts>,
    /// The bootloader's description.
    pub bootloader: Option<BootFacts>,
    /// none, secure_boot_v1 or secure_boot_v2.
    pub signed: String,
    /// Signature blocks of secure boot v2.
    pub signature_blocks: Vec<BlockFacts>,
    /// Bytes of the image with its SHA-256.
    pub image_bytes: u64,
    /// Bytes behind it: signatures, filling.
    pub trailing_bytes: u64,
}

/// Reads what an image says.
pub fn image_facts(image: &Image<'_>, bytes: &[u8]) -> ImageFacts {
    let chip = image.chip;
    let segment = |segment: &image::Segment<'_>| SegmentFacts {
        address: segment.addr,
        size_bytes: segment.data.len() as u32,
        file_offset: segment.offset as u64,
        regions: segment.regions(chip).into_iter().map(str::to_owned).collect(),
    };
    let code = |code: u8| format!("unknown ({code:#04x})");
    let header = &image.header;
    let named = |name: Option<&str>, of: u8| name.map_or_else(|| code(of), str::to_owned);
    let (signed, signature_blocks) = match signature(image, bytes) {
        None => ("none", Vec::new()),
        Some(Signature::V1) => ("secure_boot_v1", Vec::new()),
        Some(Signature::V2(blocks)) => ("secure_boot_v2", blocks.iter().map(block_facts).collect()),
    };
    ImageFacts {
        chip: chip.id.to_owned(),
        version: if image.layout == image::Layout::V2 { 2 } else { 1 },
        entry: header.entry,
        flash_mode: named(header.mode().map(image::FlashMode::name), header.flash_mode),
        flash_size: named(header.size_name(chip), header.flash_size_freq & 0xf0),
        flash_freq: named(header.frequency_name(chip), header.flash_size_freq & 0x0f),
        segments: image.segments.iter().map(segment).collect(),
        checksum: image.checksum,
        checksum_valid: image.checksum == image.computed_checksum(),
        sha256: image.digest().map(|digest| hex(&digest.computed)),
        sha256_valid: image.digest().map(|digest| digest.is_valid()),
        wp_pin: image.extended.map(|extended| extended.wp_pin),
        min_rev: image.extended.map(|extended| extended.min_rev),
        min_rev_full: image.extended.map(|extended| extended.min_rev_full),
        max_rev_full: image.extended.map(|extended| extended.max_rev_full),
        app: image.app_desc().map(app_facts),
        bootloader: image.boot_desc().map(|desc| BootFacts {
            version: desc.version,
            idf_version: desc.idf_version,
            compiled: desc.date_time,
        }),
        signed: signed.to_owned(),
        signature_blocks,
        image_bytes: image.len() as u64,
        trailing_bytes: image.trailer().len() as u64,
    }
}

fn app_facts(desc: image::AppDesc) -> AppFacts {
    let page = desc.mmu_page_size().filter(|_| desc.mmu_page_log2 != 0);
    AppFacts {
        project_name: desc.project_name,
        version: desc.version,
        compiled: format!("{} {}", desc.date, desc.time).trim().to_owned(),
        idf_version: desc.idf_version,
        elf_sha256: hex(&desc.elf_sha256),
        secure_version: desc.secure_version,
        min_efuse_block_revision: desc.min_efuse_blk_rev,
        max_efuse_block_revision: desc.max_efuse_blk_rev,
        mmu_page_bytes: page,
    }
}

fn block_facts(checked: &esp_model::secure::boot_v2::Checked) -> BlockFacts {
    BlockFacts {
        index: checked.index as u8,
        scheme: format!("{:?}", checked.block.scheme()),
        fits_content: checked.content_fits,
        authentic: checked.authentic,
        key_digest: hex(&checked.block.key_digest()),
    }
}

/// What would keep an image from starting.
pub fn image_problems(part: &str, image: &Image<'_>, meant: Option<&Chip>) -> Vec<Problem> {
    let problem = |finding: checks::Finding| Problem {
        part: part.to_owned(),
        prevents_boot: finding.prevents_boot(),
        what: finding.to_string(),
    };
    checks::check(image, meant).into_iter().map(problem).collect()
}

/// A row of a partition table.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PartitionFacts {
    /// Its name.
    pub name: String,
    /// app, data, or the number of another type.
    pub r#type: String,
    /// factory, ota_0, nvs …, or the number of another subtype.
    pub subtype: String,
    /// Flash address.
    pub address: u32,
    /// Its length.
    pub size_bytes: u32,
    /// encrypted, readonly.
    pub flags: Vec<String>,
    /// What its bytes are, when the file holds them.
    pub content: Option<String>,
}

/// A row as it stands, without contents.
pub fn partition_facts(partition: &Partition) -> PartitionFacts {
    let row = RowOut::new(partition, &Subtypes::default());
    PartitionFacts {
        name: partition.name.clone(),
        r#type: row.kind,
        subtype: row.subtype,
        address: partition.offset,
        size_bytes: partition.size,
        flags: row.flags,
        content: None,
    }
}

/// The name of a kind as results show it.
pub fn kind_name(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The table of a merged file.
pub fn table_of(layout: &FlashLayout, bytes: &[u8]) -> Option<Table> {
    let end = (layout.table + TABLE_LENGTH).min(bytes.len());
    Table::from_binary(bytes.get(layout.table..end)?, true).ok()
}

/// The bytes of a partition in a merged file; shorter than the partition when the file ends in it.
pub fn partition_bytes<'a>(layout: &FlashLayout, bytes: &'a [u8], partition: &Partition) -> &'a [u8] {
    let start = (partition.offset.saturating_sub(layout.base())) as usize;
    let rest = bytes.get(start..).unwrap_or_default();
    rest.get(..partition.size as usize).unwrap_or(rest)
}

/// The parts of a merged file: bootloader, table, and what each partition holds without its filling.
pub fn flash_parts(layout: &FlashLayout, bytes: &[u8]) -> Vec<(String, Part)> {
    let mut parts = Vec::new();
    let base = layout.base();
    let mut add = |name: &str, at: usize, data: &[u8]| {
        let used = data.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
        // An image's own last bytes may be 0xFF.
        let image = image::parse(data).map_or(0, |image| image.len());
        let data = data.get(..used.max(image)).unwrap_or_default();
        if !data.is_empty() {
            parts.push((name.to_owned(), Part { address: base + at as u32, data: data.to_vec() }));
        }
    };
    let boot_end = layout.table.max(layout.bootloader);
    add("bootloader", layout.bootloader, bytes.get(layout.bootloader..boot_end).unwrap_or_default());
    let table_end = (layout.table + partition::TABLE_SECTOR as usize).min(bytes.len());
    add("partition-table", layout.table, bytes.get(layout.table..table_end).unwrap_or_default());
    for partition in table_of(layout, bytes).iter().flat_map(|table| &table.partitions) {
        let at = partition.offset.saturating_sub(base) as usize;
        if at >= table_end {
            add(&safe_name(&partition.name), at, partition_bytes(layout, bytes, partition));
        }
    }
    parts
}

/// A partition's name as part of a file name.
fn safe_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect()
}

/// What a partition's bytes are.
pub fn content_kind(data: &[u8]) -> String {
    kind_name(kind::recognise(data))
}
