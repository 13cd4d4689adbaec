//! Firmware into flash: check, compare, write what differs, verify.

use esp_link::Mode;
use esp_link::flash::{Compress, Part, SECTOR, WriteOptions};
use esp_model::chip;
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Call;
use crate::args::{FileForFlash, PortUrl};
use crate::error::{Code, FlashState, ToolError};
use crate::firmware::app_set;
use crate::flash::files::{self, Piece, PieceView};
use crate::flash::header::{self, SizeChoice, SizeWord, Wanted};
use crate::flash::project::{self, Project};
use crate::flash::{belongs, checks, region};
use crate::session::device::Connected;
use crate::session::identity::Device;

/// What is written, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[allow(missing_docs, reason = "the type brings the description")]
    pub port: Option<PortUrl>,
    /// Files with their address or partition name: raw, image, ELF, Intel HEX, UF2.
    pub files: Option<Vec<FileForFlash>>,
    /// Instead of files: a build folder (ESP-IDF, Zephyr, Arduino, PlatformIO, Rust), flash_args, manifest.json of ESP Web
    /// Tools or an ELF file; manifest.json#esp32c3 picks a build.
    pub project: Option<String>,
    /// Rewrite every sector, even those that already match.
    #[serde(default)]
    pub all: bool,
    /// Flash size (default: detected); needed in secure download mode. It is also set in the header of a bootloader
    /// that is written, as `detect` does; `keep` (default) leaves the header as the file or the build has it.
    pub flash_size: Option<SizeChoice>,
    /// Mode for the bootloader header: qio, qout, dio, dout or keep (default).
    #[schemars(extend("x-rare" = true))]
    pub flash_mode: Option<String>,
    /// Frequency for the bootloader header ("80m"), or keep (default).
    #[schemars(extend("x-rare" = true))]
    pub flash_freq: Option<String>,
    /// false disables compression.
    #[schemars(extend("x-rare" = true))]
    pub compress: Option<bool>,
    /// Let the chip encrypt with its own key (flash encryption is on); the result cannot be verified.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    pub encrypt: bool,
    /// Write also what does not belong there; an app at the bootloader address, a misplaced merged file, a damaged
    /// image, a web page.
    #[serde(default)]
    pub accept_wrong_place: bool,
    /// Reset into the application afterwards.
    #[serde(default)]
    pub run: bool,
}

impl Request {
    /// A write with nothing special about it.
    pub fn plain(port: Option<PortUrl>, files: Option<Vec<FileForFlash>>, project: Option<String>) -> Self {
        Self {
            port,
            files,
            project,
            all: false,
            flash_size: None,
            flash_mode: None,
            flash_freq: None,
            compress: None,
            encrypt: false,
            accept_wrong_place: false,
            run: false,
        }
    }
}

/// What an app says of itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AppOut {
    /// Project.
    pub name: String,
    /// Version.
    pub version: String,
    /// SHA-256 of its ELF file, in hex.
    pub elf_sha256: String,
}

impl AppOut {
    /// The app among the pieces, the first by address.
    fn of(pieces: &[Piece]) -> Option<Self> {
        let app = pieces.iter().find_map(|piece| piece.image()?.app_desc())?;
        let elf_sha256 = app.elf_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { name: app.project_name, version: app.version, elf_sha256 })
    }
}

/// What a write did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Written {
    #[serde(flatten)]
    /// The device.
    pub device: Device,
    /// Kind of the project: ESP-IDF, Zephyr, Arduino, PlatformIO or ELF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The app that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppOut>,
    /// Size of the flash.
    pub flash_size_bytes: u32,
    /// What stands out without being wrong.
    pub notes: Vec<String>,
    /// What was written where.
    pub files: Vec<PieceView>,
    /// Bytes of flash that were written, in whole sectors.
    pub written_bytes: u64,
    /// Bytes of flash that were right already.
    pub skipped_bytes: u64,
    /// Bytes of data that went over the line.
    pub sent_bytes: u64,
    /// Bytes that were blank and only erased.
    pub erased_bytes: u64,
    /// Everything was compared by MD5 on the chip afterwards; false where the loader cannot.
    pub verified: bool,
    /// Times a transfer began again after a fault of the line.
    pub restarts: u32,
    /// Seconds for comparing.
    pub compare_s: f64,
    /// Seconds for erasing, sending and programming.
    pub write_s: f64,
    /// Seconds for verifying.
    pub verify_s: f64,
}

/// Checks, compares, writes what differs, verifies.
pub fn run(ctx: &Call, job: &Job, input: &Request) -> Result<Written, ToolError> {
    let (pieces, project) = gather(ctx, job, input)?;
    let mut out =
        ctx.with_device(input.port.as_ref(), job, |connected| write(ctx, job, connected, input, pieces, &project))?;
    if input.run && out.device.is_image() {
        out.notes.push("a flash image does not run: see esp_boot_check".into());
    } else if input.run {
        let (_lease, mut connected) = ctx.take_device(input.port.as_ref(), job)?;
        connected.loader.hard_reset()?;
        out.notes.push("reset sent; start not checked (esp_run_firmware with capture_s records the console)".into());
    }
    Ok(out)
}

fn gather(ctx: &Call, job: &Job, input: &Request) -> Result<(Vec<Piece>, Project), ToolError> {
    let (mut pieces, project) = match (&input.files, &input.project) {
        (Some(files), None) => {
            let files = region::addressed(ctx, job, input.port.as_ref(), files)?;
            (files::load(ctx, &files)?, Project::default())
        }
        (None, Some(path)) => {
            let chip = || ctx.with_device(input.port.as_ref(), job, |connected| Ok(connected.loader.chip().id));
            let mut project = project::read(ctx, &project::for_chip(ctx, path, chip)?)?;
            let mut pieces = if project.files.is_empty() { Vec::new() } else { files::load(ctx, &project.files)? };
            pieces.append(&mut project.made);
            (pieces, project)
        }
        _ => return Err(ToolError::new(Code::MissingParameter, "give either `files` or `project`")),
    };
    files::no_overlap(&mut pieces)?;
    Ok((pieces, project))
}

/// What becomes known with the chip: images of linked programs, and what they need beside them.
fn complete(
    ctx: &Call,
    job: &Job,
    connected: &mut Connected,
    mut pieces: Vec<Piece>,
    project: &Project,
    flash_size: u32,
) -> Result<Vec<Piece>, ToolError> {
    let chip = connected.loader.chip();
    if let Some(elf) = &project.elf {
        pieces = app_set::for_flash(ctx, job, chip, elf, flash_size, connected.loader.revision())?;
    }
    checks::convert(chip, flash_size, &mut pieces)?;
    files::no_overlap(&mut pieces)?;
    Ok(pieces)
}

fn write(
    ctx: &Call,
    job: &Job,
    connected: &mut Connected,
    input: &Request,
    pieces: Vec<Piece>,
    project: &Project,
) -> Result<Written, ToolError> {
    // Read in this session, just before the first write: another device may be on the port by now.
    let identified = connected.known_identity(job)?;
    let device = Device::of(connected, identified.as_ref());
    let chip = connected.loader.chip();
    let other = |wanted: &&str| chip::by_name(wanted).is_none_or(|wanted| wanted.id != chip.id);
    if let Some(wanted) = project.chip.as_deref().filter(other) {
        return Err(ToolError::new(
            Code::ChipMismatch,
            format!("the project is for {wanted}, the chip is {}", chip.name),
        ));
    }
    let wanted_size = input.flash_size.and_then(SizeChoice::bytes);
    let flash_size = connected.loader.attach_flash(job, wanted_size)?;
    let mut pieces = complete(ctx, job, connected, pieces, project, flash_size)?;
    let mut notes = header::apply(&mut pieces, chip, flash_size, &wanted_header(input, chip).or(&project.settings))?;
    files::check_images(&pieces, chip, connected.revision(), flash_size)?;
    if !input.accept_wrong_place {
        belongs::check(&pieces, chip, None)?;
    }
    match input.encrypt {
        true => must_encrypt(connected, job)?,
        false => refuse_plain_on_encrypted(connected, &pieces, job)?,
    }
    notes.extend(checks::device(connected, job, &pieces, flash_size, input.accept_wrong_place)?);
    let compress = match input.compress {
        Some(false) => Compress::Never,
        _ => Compress::Auto,
    };
    let options = WriteOptions { compress, all: input.all, flash_size: wanted_size, encrypt: input.encrypt };
    let mut parts: Vec<Part> = pieces.iter().map(Piece::part).collect();
    let report = connected
        .loader
        .write_flash(job, &mut parts, &options)
        .map_err(|error| ToolError::from(error).touched(FlashState::Partial))?;
    notes.extend(uncompared(connected));
    notes.extend(pieces.iter().filter_map(|piece| taken_along(connected, piece)));
    let outdated = pieces.iter().filter(|piece| piece.is_outdated());
    notes.extend(outdated.map(|piece| format!("`{}` is newer now than what was written", piece.path)));
    Ok(Written {
        device,
        project: Some(project.kind.to_owned()).filter(|kind| !kind.is_empty()),
        app: AppOut::of(&pieces),
        flash_size_bytes: flash_size,
        notes,
        files: pieces.iter().map(Piece::view).collect(),
        written_bytes: report.written_bytes,
        skipped_bytes: report.skipped_bytes,
        sent_bytes: report.sent_bytes,
        erased_bytes: report.erased_bytes,
        verified: report.verified,
        restarts: report.restarts,
        compare_s: report.compare_s,
        write_s: report.write_s,
        verify_s: report.verify_s,
    })
}

/// A ROM that cannot read flash: what that means for what was just written.
fn uncompared(connected: &Connected) -> Option<String> {
    let loader = &connected.loader;
    (!loader.can_verify() && loader.mode() == Mode::Rom).then(|| {
        format!(
            "the ROM loader of {} cannot read flash: everything was sent, nothing was compared before or after; a flasher \
             stub (setting stub_dir) can",
            loader.chip().name
        )
    })
}

/// A sector behind a piece that the ROM erases with it.
fn taken_along(connected: &Connected, piece: &Piece) -> Option<String> {
    let start = piece.address / SECTOR * SECTOR;
    let length = u32::try_from(piece.end() - u64::from(start)).ok()?.next_multiple_of(SECTOR);
    let behind = u64::from(start) + u64::from(length);
    (connected.loader.erase_reach(start, length) > length)
        .then(|| format!("the ROM loader may have erased the sector behind `{}` too, at {behind:#x}", piece.path))
}

/// What the caller wants in the bootloader's header.
fn wanted_header(input: &Request, chip: &chip::Chip) -> Wanted {
    let size = input.flash_size.map(|choice| match choice {
        SizeChoice::Bytes(number) => header::name_of(chip, number.0).unwrap_or_else(|| format!("{:#x}", number.0)),
        SizeChoice::Word(SizeWord::Detect) => String::from("detect"),
        SizeChoice::Word(SizeWord::Keep) => String::from("keep"),
    });
    Wanted { mode: input.flash_mode.clone(), size, frequency: input.flash_freq.clone() }
}

/// The chip encrypts by itself only with flash encryption on, and while its loader may.
fn must_encrypt(connected: &mut Connected, job: &Job) -> Result<(), ToolError> {
    let chip = connected.loader.chip();
    let Some(encryption) = &chip.security.flash_encryption else {
        return Err(ToolError::new(Code::NotSupportedByChip, format!("{} does not encrypt its flash", chip.name)));
    };
    if !connected.is_encrypted(job)? {
        return Err(ToolError::new(Code::EncryptionInactive, "flash encryption is off"));
    }
    // In secure download mode the eFuse cannot be read: the loader refuses by itself.
    let closed = encryption.no_manual_encrypt.as_deref().filter(|_| connected.loader.mode() != Mode::SecureDownload);
    match closed {
        Some(name) if connected.efuse_number(name, job)?.is_some_and(|bits| bits != 0) => {
            let text = format!("{name} is burned: the loader does not encrypt any more");
            Err(ToolError::new(Code::EncryptionActive, text).next("encrypt on this computer with esp_flash_encrypt"))
        }
        _ => Ok(()),
    }
}

/// With flash encryption on, a plain image or table does not boot any more; what is encrypted does not look like one.
fn refuse_plain_on_encrypted(connected: &mut Connected, pieces: &[Piece], job: &Job) -> Result<(), ToolError> {
    if !connected.is_encrypted(job)? {
        return Ok(());
    }
    let is_plain = |piece: &&Piece| piece.image().is_some() || esp_model::partition::Table::is_binary(piece.head());
    match pieces.iter().find(is_plain) {
        Some(piece) => {
            let text = format!("flash encryption is on and `{}` is not encrypted", piece.path);
            let mode = if connected.loader.mode() == Mode::SecureDownload { "secure download" } else { "normal" };
            Err(ToolError::new(Code::EncryptionActive, text).seen("download_mode", mode).touched(FlashState::Unchanged))
        }
        None => Ok(()),
    }
}
