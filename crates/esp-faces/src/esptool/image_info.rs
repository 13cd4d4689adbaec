//! `image-info`: what an image says about itself.

use clap::Command;
use esp_model::chip::{self, Chip, ImageFormat};
use esp_model::hex;
use esp_model::image::parse::parse_for;
use esp_model::image::{AppDesc, BootDesc, Extended, Image, Layout, detect};

use super::images::{not_an_image, title_name};
use super::options;
use crate::command::{Call, place};
use crate::fault::Fault;
use crate::terminal::Terminal;

pub fn spec() -> Command {
    Command::new("image-info").about("Print what a firmware image says about itself").arg(place("filename", "Image"))
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (terminal, given) = (call.terminal, options::optional_chip(call));
    let parts = options::parts(call.text("filename"))?;
    if let [only] = parts.as_slice() {
        let chip = chip_of(&only.data, given)?;
        terminal.say(format_args!("Image size: {} bytes", only.data.len()));
        if given.is_none() {
            terminal.say(format_args!("Detected image type: {}", chip.name.to_uppercase()));
        }
        return describe(terminal, chip, &only.data);
    }
    terminal.say("Merged binary image detected. Processing each file individually.");
    let (count, mut known) = (parts.len(), given);
    for (index, part) in parts.iter().enumerate() {
        let at = part.address;
        let line = format!("Processing file {}/{count}, offset: {at:#x}, size: {} bytes", index + 1, part.data.len());
        let rule = "=".repeat(line.len());
        terminal.say(format_args!("\n{rule}\n{line}\n{rule}"));
        match chip_of(&part.data, known) {
            Ok(chip) => {
                if index == 0 && known.is_none() {
                    terminal.say(format_args!("Detected image type: {}", chip.name.to_uppercase()));
                    known = Some(chip);
                }
                describe(terminal, chip, &part.data)?;
            }
            Err(Fault::Fatal(text)) => {
                terminal.error(format_args!("Error processing file {}/{count}: {text}", index + 1));
                terminal.error("Probably not a valid firmware image (e.g. partition table).");
            }
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// The chip that an image is for: the named one, once the first byte is an image's, or the one it names.
fn chip_of(data: &[u8], given: Option<&'static Chip>) -> Result<&'static Chip, Fault> {
    match (detect(data), given) {
        (Err(error @ (esp_model::image::ParseError::Empty | esp_model::image::ParseError::Magic(_))), _) => {
            Err(not_an_image(&error))
        }
        (_, Some(chip)) => Ok(chip),
        (found, None) => found.map_err(|error| not_an_image(&error)),
    }
}

fn heading(terminal: &Terminal, title: &str) {
    terminal.say(format_args!("{title}\n{}", "=".repeat(title.len())));
}

fn describe(terminal: &Terminal, chip: &'static Chip, data: &[u8]) -> Result<(), Fault> {
    let image = parse_for(chip, data).map_err(|error| not_an_image(&error))?;
    let name = title_name(chip);
    terminal.say("");
    heading(terminal, &format!("{name} Image Header"));
    header(terminal, &image);
    if let Some(extended) = &image.extended {
        terminal.say("");
        heading(terminal, &format!("{name} Extended Image Header"));
        extended_header(terminal, extended);
    }
    terminal.say("");
    heading(terminal, "Segments Information");
    terminal.say("Segment   Length   Load addr   File offs  Memory types");
    terminal.say("-------  -------  ----------  ----------  ------------");
    for (index, segment) in image.segments.iter().enumerate() {
        let (length, at) = (segment.data.len(), segment.offset);
        let regions = segment.regions(chip).join(", ");
        terminal.say(format_args!("{index:7}  {length:#07x}  {:#010x}  {at:#010x}  {regions}", segment.addr));
    }
    terminal.say("");
    heading(terminal, &format!("{name} Image Footer"));
    footer(terminal, &image);
    match (image.app_desc_segment(), image.app_desc(), image.boot_desc()) {
        (Some(_), Some(app), _) => application(terminal, chip, &app),
        (None, _, Some(boot)) => bootloader(terminal, &boot),
        _ => {}
    }
    Ok(())
}

fn header(terminal: &Terminal, image: &Image<'_>) {
    let version = if image.layout == Layout::V2 { 2 } else { 1 };
    terminal.say(format_args!("Image version: {version}"));
    match image.header.entry {
        0 => terminal.say("Entry point not set"),
        entry => terminal.say(format_args!("Entry point: {entry:#8x}")),
    }
    terminal.say(format_args!("Segments: {}", image.segments.len()));
    let (chip, header) = (image.chip, &image.header);
    match header.size_name(chip) {
        Some(size) => terminal.say(format_args!("Flash size: {size}")),
        None => terminal.warn(format_args!("Invalid flash size ({:#02x})", header.flash_size_freq & 0xf0)),
    }
    match header.frequency_name(chip) {
        Some(frequency) => terminal.say(format_args!("Flash freq: {frequency}")),
        None => terminal.warn(format_args!("Invalid flash frequency ({:#02x})", header.flash_size_freq & 0x0f)),
    }
    match header.mode() {
        Some(mode) => terminal.say(format_args!("Flash mode: {}", mode.name().to_uppercase())),
        None => terminal.warn(format_args!("Invalid flash mode ({})", header.flash_mode)),
    }
}

fn extended_header(terminal: &Terminal, extended: &Extended) {
    let disabled = if extended.wp_pin == Extended::WP_PIN_DISABLED { " (disabled)" } else { "" };
    terminal.say(format_args!("WP pin: {:#02x}{disabled}", extended.wp_pin));
    let [first, second, third] = extended.drive;
    let (clk, q, d) = (first & 0xf, first >> 4, second & 0xf);
    let (cs, hd, wp) = (second >> 4, third & 0xf, third >> 4);
    let pins = format!(
        "clk_drv: {clk:#02x}, q_drv: {q:#02x}, d_drv: {d:#02x}, cs0_drv: {cs:#02x}, hd_drv: {hd:#02x}, wp_drv: {wp:#02x}"
    );
    terminal.say(format_args!("Flash pins drive settings: {pins}"));
    let chip = chip::by_chip_id(extended.chip_id).map_or("Unknown ID", |chip| &chip.name);
    terminal.say(format_args!("Chip ID: {} ({chip})", extended.chip_id));
    let revision = |number: u16| format!("v{}.{}", number / 100, number % 100);
    let (min, max) = (revision(extended.min_rev_full), revision(extended.max_rev_full));
    terminal.say(format_args!("Minimal chip revision: {min}, (legacy min_rev = {})", extended.min_rev));
    terminal.say(format_args!("Maximal chip revision: {max}"));
}

fn footer(terminal: &Terminal, image: &Image<'_>) {
    let (stored, computed) = (image.checksum, image.computed_checksum());
    let valid = if stored == computed { "valid".into() } else { format!("invalid - calculated {computed:#04x}") };
    terminal.say(format_args!("Checksum: {stored:#04x} ({valid})"));
    if let Some(digest) = image.digest() {
        let valid = if digest.is_valid() { "valid" } else { "invalid" };
        terminal.say(format_args!("Validation hash: {} ({valid})", hex::encode(digest.computed)));
    }
}

fn application(terminal: &Terminal, chip: &Chip, app: &AppDesc) {
    terminal.say("");
    heading(terminal, "Application Information");
    terminal.say(format_args!("Project name: {}", app.project_name));
    terminal.say(format_args!("App version: {}", app.version));
    terminal.say(format_args!("Compile time: {} {}", app.date, app.time));
    terminal.say(format_args!("ELF file SHA256: {}", hex::encode(app.elf_sha256)));
    terminal.say(format_args!("ESP-IDF: {}", app.idf_version));
    let revision = |number: u16| format!("{}.{}", number / 100, number % 100);
    terminal.say(format_args!("Minimal eFuse block revision: {}", revision(app.min_efuse_blk_rev)));
    terminal.say(format_args!("Maximal eFuse block revision: {}", revision(app.max_efuse_blk_rev)));
    if let Some(size) = app.mmu_page_size().filter(|_| chip.image.format != ImageFormat::Esp8266) {
        terminal.say(format_args!("MMU page size: {} KB", size / 1024));
    }
    terminal.say(format_args!("Secure version: {}", app.secure_version));
}

fn bootloader(terminal: &Terminal, boot: &BootDesc) {
    terminal.say("");
    heading(terminal, "Bootloader Information");
    terminal.say(format_args!("Bootloader version: {}", boot.version));
    terminal.say(format_args!("ESP-IDF: {}", boot.idf_version));
    terminal.say(format_args!("Compile time: {}", boot.date_time));
}
