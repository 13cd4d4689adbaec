//! Options that several commands share.

use clap::{Arg, ArgAction};
use esp_model::chip::{self, Chip};
use esp_model::image::FlashMode;
use esp_model::image::hex::{self, Part};
use esp_model::image::merge::{self, FlashSettings, MergeError};

use crate::command::{Call, flag, option};
use crate::fault::Fault;
use crate::{files, text};

/// Frequencies of any chip, highest first.
const FREQUENCIES: [&str; 13] =
    ["80m", "64m", "60m", "48m", "40m", "32m", "30m", "26m", "24m", "20m", "16m", "15m", "12m"];
const MODES: [&str; 4] = ["qio", "qout", "dio", "dout"];
const SIZES: [&str; 12] =
    ["256KB", "512KB", "1MB", "2MB", "2MB-c1", "4MB", "4MB-c1", "8MB", "16MB", "32MB", "64MB", "128MB"];

/// Options before the command.
pub fn globals() -> Vec<Arg> {
    let chips = std::iter::once("auto").chain(chip::all().iter().map(|chip| chip.id));
    let chips = clap::builder::PossibleValuesParser::new(chips);
    let filter = Arg::new("port-filter").long("port-filter").num_args(1..).action(ArgAction::Append);
    vec![
        option("chip", "Chip").short('c').value_parser(chips).env("ESPTOOL_CHIP").default_value("auto"),
        option("port", "Port: a device, or socket://, rfc2217://, sim:// …").short('p'),
        option("baud", "Rate while data is transferred, in baud").short('b'),
        filter.help("Only ports with vid=NUMBER, pid=NUMBER, name=TEXT or serial=TEXT"),
        option("before", "Reset before connecting")
            .value_parser(["default-reset", "usb-reset", "no-reset", "no-reset-no-sync"])
            .env("ESPTOOL_BEFORE")
            .default_value("default-reset"),
        option("after", "Reset when done")
            .short('a')
            .value_parser(["hard-reset", "soft-reset", "no-reset", "no-reset-stub", "watchdog-reset"])
            .env("ESPTOOL_AFTER")
            .default_value("hard-reset"),
        flag("no-stub", "Use the ROM loader, without a stub"),
        option("stub-version", "Version of the stub").value_parser(["1", "2"]).env("ESPTOOL_STUB_VERSION").hide(true),
        flag("trace", "Show what goes over the line").short('t'),
        flag("verbose", "Show everything").short('v'),
        flag("silent", "Show errors only").short('s'),
        option("override-vddsdio", "Voltage of the flash supply (ESP32)").value_parser(["1.8V", "1.9V", "OFF"]),
        option("connect-attempts", "Attempts to connect; 0 or less: without end").env("ESPTOOL_CONNECT_ATTEMPTS"),
    ]
}

/// Whose values the flash options take beside the chips' own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FlashValues {
    /// No others.
    Plain,
    /// `keep`.
    Keep,
    /// `keep` and, for the size, `detect`.
    Detect,
}

/// `--flash-freq`, `--flash-mode`, `--flash-size`.
pub fn flash(values: FlashValues) -> Vec<Arg> {
    let keep = (values != FlashValues::Plain).then_some("keep");
    let with = |list: &[&'static str]| keep.into_iter().chain(list.iter().copied()).collect::<Vec<_>>();
    let frequency = option("flash-freq", "Flash frequency").value_parser(with(&FREQUENCIES)).env("ESPTOOL_FF");
    let mode = option("flash-mode", "Flash mode").value_parser(with(&MODES)).env("ESPTOOL_FM");
    let (frequency, mode) = match keep {
        Some(keep) => (frequency.default_value(keep), mode.default_value(keep)),
        None => (frequency, mode.default_value("qio")),
    };
    vec![frequency, mode, flash_size(values)]
}

/// `--flash-size`.
pub fn flash_size(values: FlashValues) -> Arg {
    let more: &[&'static str] = match values {
        FlashValues::Plain => &[],
        FlashValues::Keep => &["keep"],
        FlashValues::Detect => &["detect", "keep"],
    };
    let sizes: Vec<&'static str> = more.iter().chain(&SIZES).copied().collect();
    let default = if values == FlashValues::Plain { "1MB" } else { "keep" };
    option("flash-size", "Flash size").value_parser(sizes).env("ESPTOOL_FS").default_value(default)
}

/// Flash settings as given; `keep` and `detect` are none.
pub fn flash_settings(call: &Call<'_>) -> FlashSettings {
    let given = |name| call.optional(name).filter(|value| !["keep", "detect"].contains(value)).map(str::to_string);
    FlashSettings {
        mode: given("flash-mode").as_deref().and_then(FlashMode::from_name),
        size: given("flash-size"),
        frequency: given("flash-freq"),
    }
}

/// Pairs of an address and a file.
pub fn pairs() -> Arg {
    Arg::new("addr-filename").num_args(1..).required(true).value_name("ADDRESS FILE").help("Pairs of address and file")
}

/// A file at its place in flash.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its path.
    pub path: String,
    /// Address and bytes.
    pub part: Part,
}

const PAIRS: &str = "<address> <filename>...";

/// Reads pairs of address and file; Intel HEX files bring their own addresses.
pub fn pieces(words: &[&str], name: &str) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::new();
    for pair in words.chunks(2) {
        let [address, path] = pair else {
            let text = "Must be pairs of an address and the binary filename to write there.";
            return Err(Fault::value(name, text));
        };
        let at = text::word(address);
        let at = at.ok_or_else(|| Fault::value(name, format_args!("Address \"{address}\" must be a number.")))?;
        let data = files::read(path, name)?;
        let found = merge::parts_of(at, data).map_err(|error| Fault::Fatal(format!("'{path}': {error}")))?;
        pieces.extend(found.into_iter().map(|part| Piece { path: path.to_string(), part }));
    }
    no_overlap(&pieces, name)?;
    Ok(pieces)
}

/// The pairs of the command's own argument.
pub fn own_pieces(call: &Call<'_>) -> Result<Vec<Piece>, Fault> {
    pieces(&call.list("addr-filename"), PAIRS)
}

/// Two files must not share a sector.
fn no_overlap(pieces: &[Piece], name: &str) -> Result<(), Fault> {
    let mut sorted: Vec<&Piece> = pieces.iter().collect();
    sorted.sort_by_key(|piece| piece.part.address);
    let parts: Vec<Part> = sorted.iter().map(|piece| piece.part.clone()).collect();
    match merge::check_overlap(&parts) {
        Err(MergeError::Overlap { address, .. }) => {
            let path = sorted.iter().find(|piece| piece.part.address == address).map_or("", |piece| &piece.path);
            Err(Fault::value(name, format_args!("Detected overlap at address: {address:#x} for file: {path}.")))
        }
        _ => Ok(()),
    }
}

/// The chip that must be named.
pub fn named_chip(call: &Call<'_>) -> Result<&'static Chip, Fault> {
    optional_chip(call).ok_or_else(|| {
        let known: Vec<_> = chip::all().iter().map(|chip| chip.id).collect();
        Fault::Fatal(format!("Specify the --chip argument (choose from {}).", known.join(", ")))
    })
}

/// The chip, when one is named.
pub fn optional_chip(call: &Call<'_>) -> Option<&'static Chip> {
    chip::by_name(call.option("chip").unwrap_or("auto"))
}

/// A size with `KB`, `MB`, `B` or nothing behind it.
pub fn size(text: &str) -> Option<u32> {
    let upper = text.to_uppercase();
    let (digits, unit) = match upper.strip_suffix("MB") {
        Some(digits) => (digits, 1 << 20),
        None => {
            upper.strip_suffix("KB").map_or((upper.strip_suffix('B').unwrap_or(&upper), 1), |digits| (digits, 1 << 10))
        }
    };
    text::integer(digits).and_then(|number| u32::try_from(number * unit).ok())
}

/// A file for a command that takes one: Intel HEX is unpacked.
pub fn parts(path: &str) -> Result<Vec<Part>, Fault> {
    let data = files::read(path, "FILENAME")?;
    if !hex::is_hex(&data) {
        return Ok(vec![Part { address: 0, data }]);
    }
    hex::read(&data).map_err(|error| Fault::Fatal(format!("'{path}': {error}")))
}
