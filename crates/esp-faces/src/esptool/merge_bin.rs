//! `merge-bin`: several files as one.

use clap::Command;
use esp_model::image::hex::Part;
use esp_model::image::merge::{self, MergeError};

use super::images;
use super::options::{self, FlashValues, Piece};
use crate::command::{Call, flag, option};
use crate::fault::Fault;
use crate::{files, text};

const HEX_OUTPUT: &str =
    "https://docs.espressif.com/projects/esptool/en/latest/esptool/basic-commands.html#hex-output-format";

pub fn spec() -> Command {
    let sizes = ["256KB", "512KB", "1MB", "2MB", "4MB", "8MB", "16MB", "32MB", "64MB", "128MB"];
    Command::new("merge-bin")
        .about("Merge files with flash addresses into one")
        .arg(options::pairs())
        .arg(option("output", "File to write").short('o').required(true))
        .arg(option("format", "Format").short('f').value_parser(["raw", "uf2", "hex"]).default_value("raw"))
        .arg(option("chunk-size", "Bytes of data in each UF2 block"))
        .arg(flag("md5-disable", "No MD5 in UF2 blocks"))
        .arg(option("target-offset", "Flash address where the file begins").short('t').default_value("0"))
        .arg(option("pad-to-size", "Pad with 0xFF up to this flash size").value_parser(sizes))
        .args(options::flash(FlashValues::Keep))
}

fn number(call: &Call<'_>, name: &str) -> Result<Option<u32>, Fault> {
    let Some(value) = call.optional(name) else { return Ok(None) };
    let wrong = || Fault::value(&format!("--{name}"), format_args!("'{value}' is not a valid integer."));
    text::word(value).ok_or_else(wrong).map(Some)
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let chunk = number(call, "chunk-size")?;
    if chunk.is_some_and(|chunk| chunk % 4 != 0) {
        return Err(Fault::value("--chunk-size", "Chunk size should be a 4-byte aligned number."));
    }
    let target = number(call, "target-offset")?.unwrap_or(0);
    let mut pieces = options::own_pieces(call)?;
    let chip = options::named_chip(call)?;
    pieces.sort_by_key(|piece| piece.part.address);
    if let Some(first) = pieces.first().map(|piece| piece.part.address).filter(|first| *first < target) {
        let text = format!("Output data target offset is {target:#x}. Input data offset {first:#x} is before this.");
        return Err(Fault::Fatal(text));
    }
    let format = call.text("format");
    announce(call, chip.image.uf2_family.is_none().then_some(&chip.name), format, pieces.len());
    let flash = options::flash_settings(call);
    for piece in &mut pieces {
        if format == "uf2" {
            call.terminal.say(format_args!("Adding '{}' at {:#x}...", piece.path, piece.part.address));
        }
        images::patch(call.terminal, chip, piece, &flash)?;
    }
    let parts: Vec<Part> = pieces.into_iter().map(|Piece { part, .. }| part).collect();
    let output = call.text("output");
    let bytes = match format {
        "uf2" => merge::to_uf2(chip, &parts, chunk, !call.has("md5-disable")).map_err(refused)?,
        "hex" => merge::to_hex(&parts).into_bytes(),
        _ => {
            let pad = call.optional("pad-to-size").and_then(options::size);
            merge::raw(&parts, target, pad).map_err(refused)?.concat()
        }
    };
    files::write(output, &bytes)?;
    let ready = match format {
        "uf2" => "ready to be flashed with any ESP USB Bridge.".to_string(),
        _ => format!("ready to flash to offset {target:#x}."),
    };
    call.terminal.say(format_args!("Wrote {:#x} bytes to file '{output}', {ready}", bytes.len()));
    Ok(())
}

fn announce(call: &Call<'_>, without_family: Option<&String>, format: &str, inputs: usize) {
    match (format, without_family) {
        ("raw", _) => {
            call.terminal
                .hint("Consider using --format hex to avoid flashing unused 0xFF padding between input regions.");
        }
        ("uf2", Some(chip)) => {
            call.terminal.warn(format_args!("No UF2 family ID found for {chip}, using 0x0 as default."));
        }
        ("hex", _) if inputs == 1 => call.terminal.warn(format_args!(
            "Only one input file specified, output may include additional padding if input file was previously merged. \
             Please refer to the documentation for more information: {HEX_OUTPUT}"
        )),
        _ => {}
    }
}

fn refused(error: MergeError) -> Fault {
    Fault::fatal(error)
}
