//! `esp_elf_to_binary`: an ELF file to an image, byte for byte as `esptool elf2image`.

use esp_model::chip::{Arch, Chip};
use esp_model::image::hex::hex;
use esp_model::image::{self, Built, SecurePad, Settings};
use esp_model::job::Job;
use esp_ops::args::Number;
use esp_ops::error::ToolError;
use esp_ops::firmware::common::{Written, chip_named, mode_named, stem, word, write};
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct ElfToBinary;

/// Parameters. Those without description here have esptool's meaning and default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The linked program.
    elf_file: String,
    /// The chip: esp32, esp32c6 …
    chip_type: String,
    /// Output file (default: beside the ELF file, ending .bin).
    output_file: Option<String>,
    /// qio (default), qout, dio or dout.
    #[schemars(extend("x-rare" = true))]
    flash_mode: Option<String>,
    /// 80m, 40m, 26m or 20m (default: the chip's first setting).
    #[schemars(extend("x-rare" = true))]
    flash_freq: Option<String>,
    /// 1MB (default), 2MB, 4MB …
    flash_size: Option<String>,
    /// Image version of the ESP8266: 1 (default), 2 or 3.
    #[schemars(extend("x-rare" = true))]
    version: Option<u8>,
    /// Lowest major chip revision, for old bootloaders.
    #[schemars(extend("x-rare" = true))]
    min_rev: Option<u8>,
    /// Lowest chip revision, major × 100 + minor.
    #[schemars(extend("x-rare" = true))]
    min_rev_full: Option<u16>,
    /// Highest chip revision, major × 100 + minor.
    #[schemars(extend("x-rare" = true))]
    max_rev_full: Option<u16>,
    /// Pad for secure boot v1.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    secure_pad: bool,
    /// Pad for secure boot v2.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    secure_pad_v2: bool,
    /// Where to put the ELF's SHA-256 (default: the app description).
    #[schemars(extend("x-rare" = true))]
    elf_sha256_offset: Option<Number>,
    /// Append no SHA-256.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    dont_append_digest: bool,
    /// Use the ELF's segments instead of its sections.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    use_segments: bool,
    /// MMU page size in bytes, for chips with several (default: as the app description says).
    #[schemars(extend("x-rare" = true))]
    flash_mmu_page_size: Option<Number>,
    /// Pad the file with 0xFF to a multiple of this many bytes.
    #[schemars(extend("x-rare" = true))]
    pad_to_size: Option<Number>,
    /// Put RAM segments first, and only these in the header.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    ram_only_header: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The chip.
    chip: String,
    /// What was written.
    files: Vec<Written>,
    /// Number of segments in the header.
    segments: u8,
    /// SHA-256 of the ELF file, in hex: what the app's description names.
    elf_sha256: String,
    /// What makes it useless on the chip: the program is for another processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

impl In {
    fn settings(&self) -> Result<Settings, ToolError> {
        let pad = match (self.secure_pad, self.secure_pad_v2) {
            (_, true) => Some(SecurePad::V2),
            (true, false) => Some(SecurePad::V1),
            (false, false) => None,
        };
        let number = |name: &str, value: Option<Number>| value.map(|value| word(name, value)).transpose();
        let default = Settings::default();
        Ok(Settings {
            version: self.version.unwrap_or(default.version),
            flash_mode: self.flash_mode.as_deref().map_or(Ok(default.flash_mode), mode_named)?,
            flash_size: self.flash_size.clone().unwrap_or(default.flash_size),
            flash_frequency: self.flash_freq.clone(),
            min_rev: self.min_rev.unwrap_or(default.min_rev),
            min_rev_full: self.min_rev_full.unwrap_or(default.min_rev_full),
            max_rev_full: self.max_rev_full.unwrap_or(default.max_rev_full),
            secure_pad: pad,
            elf_sha256_offset: number("elf_sha256_offset", self.elf_sha256_offset)?,
            append_digest: !self.dont_append_digest,
            use_segments: self.use_segments,
            mmu_page_size: number("flash_mmu_page_size", self.flash_mmu_page_size)?,
            pad_to_size: number("pad_to_size", self.pad_to_size)?,
            ram_only_header: self.ram_only_header,
        })
    }
}

impl Tool for ElfToBinary {
    const NAME: &'static str = "esp_elf_to_binary";
    const TITLE: &'static str = "ELF to image";
    const ABOUT: &'static str = "Convert an ELF file to a firmware image, byte for byte as `esptool elf2image`. For \
         a complete set to flash use esp_app_prepare.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let chip = chip_named(&input.chip_type)?;
        let (elf, elf_sha256) = ctx.files.read_elf(&input.elf_file)?;
        let settings = input.settings()?;
        let built = image::build_hashed(chip, &elf, &settings, || elf_sha256)?;
        let stem = stem(&input.elf_file);
        let (files, first) = match built {
            Built::One(bytes) => {
                let path = input.output_file.unwrap_or_else(|| format!("{stem}.bin"));
                (vec![write(ctx, &path, &bytes, None)?], bytes)
            }
            Built::Split { ram, mapped } => {
                let prefix = input.output_file.unwrap_or_else(|| format!("{}-", input.elf_file));
                let mut files = vec![write(ctx, &format!("{prefix}0x00000.bin"), &ram, Some(0))?];
                if let Some((offset, bytes)) = mapped {
                    files.push(write(ctx, &format!("{prefix}{offset:#07x}.bin"), &bytes, Some(offset))?);
                }
                (files, ram)
            }
        };
        let segments = first.get(1).copied().unwrap_or(0);
        let warning = other_processor(chip, &elf);
        Ok(Out { chip: chip.id.to_owned(), files, segments, elf_sha256: hex(&elf_sha256), warning })
    }

    fn summary(out: &Out) -> String {
        let line = |file: &Written| format!("{} ({} bytes)", file.path, file.size_bytes);
        let files = out.files.iter().map(line).collect::<Vec<_>>().join(", ");
        let warning = out.warning.iter().map(|warning| format!("\nwarning: {warning}")).collect::<String>();
        format!("{} image with {}: {files}{warning}", out.chip, counted(out.segments, "segment"))
    }
}

/// esptool makes the image all the same, and so do we.
fn other_processor(chip: &Chip, elf: &[u8]) -> Option<String> {
    /// `e_machine` of an ELF file for Xtensa; the only other one that images are built of is RISC-V.
    const XTENSA: [u8; 2] = [94, 0];
    let xtensa = elf.get(18..20)? == XTENSA;
    let name = |xtensa| if xtensa { "Xtensa" } else { "RISC-V" };
    let chips = chip.arch == Arch::Xtensa;
    (xtensa != chips)
        .then(|| format!("the program is for {} processors, {} is {}", name(xtensa), chip.name, name(chips)))
}
