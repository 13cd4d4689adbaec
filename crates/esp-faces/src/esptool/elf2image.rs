//! `elf2image`: an ELF file to an image.

use clap::Command;
use esp_model::chip::{Chip, ImageFormat};
use esp_model::flash::SECTOR;
use esp_model::image::build::build_noted;
use esp_model::image::elf;
use esp_model::image::{BuildError, Built, FlashMode, Notes, PageSource, SecurePad, Settings};
use sha2::{Digest, Sha256};

use super::images::title_name;
use super::options::{self, FlashValues};
use crate::command::{Call, flag, option, place};
use crate::fault::Fault;
use crate::terminal::Terminal;
use crate::{files, text};

pub fn spec() -> Command {
    Command::new("elf2image")
        .about("Make a firmware image from an ELF file")
        .arg(place("filename", "ELF file"))
        .arg(option("output", "File to write; for images of version 1 of the ESP8266 a prefix").short('o'))
        .arg(
            option("version", "Version of an ESP8266 image")
                .short('e')
                .value_parser(["1", "2", "3"])
                .default_value("1"),
        )
        .arg(option("min-rev", "Lowest chip revision, major only").short('r').default_value("0").hide(true))
        .arg(option("min-rev-full", "Lowest chip revision, major × 100 + minor").default_value("0"))
        .arg(option("max-rev-full", "Highest chip revision, major × 100 + minor").default_value("65535"))
        .arg(flag("secure-pad", "Pad for secure boot V1"))
        .arg(flag("secure-pad-v2", "Pad for secure boot V2"))
        .arg(option("elf-sha256-offset", "Where to put the ELF file's SHA-256"))
        .arg(flag("dont-append-digest", "Do not append the image's SHA-256"))
        .arg(flag("use-segments", "Take the ELF file's segments instead of its sections"))
        .arg(option("flash-mmu-page-size", "MMU page size").value_parser(["64KB", "32KB", "16KB", "8KB"]))
        .arg(option("pad-to-size", "Pad the file to a multiple of this size"))
        .arg(flag("ram-only-header", "Count only RAM segments in the header; appends no SHA-256"))
        .args(options::flash(FlashValues::Plain))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let chip = options::named_chip(call)?;
    let (path, terminal) = (call.text("filename"), call.terminal);
    let elf_file = files::read(path, "FILENAME")?;
    let settings = settings(call)?;
    let name = title_name(chip);
    terminal.say(format_args!("Creating {name} image..."));
    let built = build_noted(chip, &elf_file, &settings, || Sha256::digest(&elf_file).into());
    let (built, notes) = built.map_err(|error| refused(chip, &error))?;
    for kind in elf::unknown_sections(&elf_file) {
        terminal.warn(format_args!("Unknown section type {kind:#04x} in ELF file"));
    }
    say_notes(terminal, notes);
    if settings.ram_only_header {
        let text = "Image has only RAM segments visible. ROM segments are hidden and SHA256 digest is not appended.";
        terminal.say(text);
    }
    let merged = notes.sections.saturating_sub(notes.segments);
    if merged > 0 {
        terminal.say(format_args!("Merged {merged} ELF section{}.", if merged > 1 { "s" } else { "" }));
    }
    terminal.say(format_args!("Successfully created {name} image."));
    save(chip, path, call.optional("output"), (settings.version, notes), built)
}

fn settings(call: &Call<'_>) -> Result<Settings, Fault> {
    let number = |name: &'static str, most: u64| {
        let value = call.text(name);
        let number = text::integer(value).filter(|number| *number <= most);
        number.ok_or_else(|| {
            Fault::value(&format!("--{name}"), format_args!("{value} is not in the range 0<=x<={most}."))
        })
    };
    let pad = match (call.has("secure-pad-v2"), call.has("secure-pad")) {
        (true, _) => Some(SecurePad::V2),
        (false, true) => Some(SecurePad::V1),
        (false, false) => None,
    };
    let bytes = |name: &'static str| match call.optional(name) {
        None => Ok(None),
        Some(value) => options::size(value).map(Some).ok_or_else(|| Fault::Fatal(format!("Unknown size {value}"))),
    };
    let offset =
        call.optional("elf-sha256-offset").map(|_| number("elf-sha256-offset", u32::MAX.into())).transpose()?;
    Ok(Settings {
        version: number("version", 3)? as u8,
        flash_mode: FlashMode::from_name(call.text("flash-mode")).unwrap_or(FlashMode::Qio),
        flash_size: call.text("flash-size").into(),
        flash_frequency: call.optional("flash-freq").map(str::to_string),
        min_rev: number("min-rev", 255)? as u8,
        min_rev_full: number("min-rev-full", 65535)? as u16,
        max_rev_full: number("max-rev-full", 65535)? as u16,
        secure_pad: pad,
        elf_sha256_offset: offset.map(|offset| offset as u32),
        append_digest: !call.has("dont-append-digest"),
        use_segments: call.has("use-segments"),
        mmu_page_size: bytes("flash-mmu-page-size")?,
        pad_to_size: bytes("pad-to-size")?,
        ram_only_header: call.has("ram-only-header"),
    })
}

fn say_notes(terminal: &Terminal, notes: Notes) {
    match notes.page {
        PageSource::Known => {}
        PageSource::Guessed(size) => {
            terminal.say(format_args!("MMU page size not specified, set to {} KB", size / 1024));
        }
        PageSource::Unaligned => terminal.warn(
            "App description segment is not aligned to MMU page size, probably linker script issue or wrong MMU page \
             size. Try to set MMU page size parameter manually.",
        ),
    }
}

/// The texts by which build scripts know some of the reasons.
fn refused(chip: &Chip, error: &BuildError) -> Fault {
    Fault::Fatal(match error {
        BuildError::TooManySegments(count) => {
            format!("Invalid segment count {count} (max 16). Usually this indicates a linker script problem.")
        }
        BuildError::Sha256(at, _) => {
            format!("Contents of segment at SHA256 digest offset {at:#x} are not all zero. Refusing to overwrite.")
        }
        BuildError::Frequency { asked, possible, .. } => {
            format!("Flash frequency '{asked}' is not supported by {} (supported frequencies: {possible})", chip.name)
        }
        BuildError::Size { asked, possible, .. } => {
            format!("Flash size '{asked}' is not supported by {} (supported sizes: {possible})", chip.name)
        }
        error => error.to_string(),
    })
}

fn save(
    chip: &Chip,
    input: &str,
    output: Option<&str>,
    (version, notes): (u8, Notes),
    built: Built,
) -> Result<(), Fault> {
    let stem = match input.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => stem,
        _ => input,
    };
    match built {
        Built::One(bytes) => {
            let two = chip.image.format == ImageFormat::Esp8266 && version == 2;
            let sector = notes.mapped_at.unwrap_or(0) / SECTOR * SECTOR;
            let default = if two { format!("{stem}-{sector:#07x}.bin") } else { format!("{stem}.bin") };
            files::write(output.unwrap_or(&default), &bytes)
        }
        Built::Split { ram, mapped } => {
            let default = format!("{input}-");
            let prefix = output.unwrap_or(&default);
            files::write(&format!("{prefix}0x00000.bin"), &ram)?;
            match mapped {
                Some((offset, bytes)) => files::write(&format!("{prefix}{offset:#07x}.bin"), &bytes),
                None => Ok(()),
            }
        }
    }
}
