//! `gen_esp32part`: partition tables between their CSV and binary forms.

use std::io::{self, Read, Write};

use clap::{Arg, Command};
use esp_model::partition::{Options, SecureBoot, Table, TableError};

use crate::command::{Call, Entry, Face, flag, option, place};
use crate::fault::Fault;
use crate::{files, text};

/// The face.
pub static FACE: Face = Face {
    name: "gen_esp32part",
    about: "Convert partition tables between CSV and binary",
    options: Vec::new,
    prepare: None,
    fatal_prefix: "",
    raises: false,
    of_chip: None,
    usage_of_chip: None,
    chain: None,
    single: Some(Entry { spec, run }),
    commands: &[],
    renamed: &[],
    shorts: &[],
};

/// Sizes that `--flash-size` takes, in MB.
const SIZES: [&str; 8] = ["1MB", "2MB", "4MB", "8MB", "16MB", "32MB", "64MB", "128MB"];

/// Options about the table that several tools share.
pub fn table_options() -> Vec<Arg> {
    vec![
        option("primary-bootloader-offset", "Flash offset of the bootloader"),
        option("recovery-bootloader-offset", "Flash offset of the recovery bootloader"),
        Arg::new("extra-partition-subtypes").long("extra-partition-subtypes").num_args(0..).help("TYPE, NAME, NUMBER"),
    ]
}

fn spec() -> Command {
    Command::new("gen_esp32part")
        .arg(option("flash-size", "Size of the flash").value_parser(SIZES))
        .arg(flag("disable-md5sum", "Write no MD5"))
        .arg(flag("no-verify", "Do not check the table"))
        .arg(flag("verify", "Check the table (the default)").short('v'))
        .arg(flag("quiet", "No messages").short('q'))
        .arg(option("offset", "Flash offset of the table").short('o').default_value("0x8000"))
        .arg(
            option("secure", "Secure boot version")
                .num_args(0..=1)
                .default_missing_value("v1")
                .value_parser(["v1", "v2"]),
        )
        .args(table_options())
        .arg(place("input", "CSV or binary file, - for standard input"))
        .arg(Arg::new("output").default_value("-").help("File to write, - for standard output"))
}

/// The options about the table, as they were given.
pub struct Given {
    offset: u32,
    primary: Option<u32>,
    recovery: Option<u32>,
    subtypes: Vec<String>,
}

impl Given {
    /// Reads them; `offset` is the option with the table's place.
    pub fn read(call: &Call<'_>, offset: &str) -> Result<Self, Fault> {
        let number = |name: &str| match call.optional(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => text::word(value)
                .map(Some)
                .ok_or_else(|| Fault::value(&format!("--{name}"), format_args!("'{value}' is not a number"))),
        };
        Ok(Self {
            offset: number(offset)?.unwrap_or(0x8000),
            primary: number("primary-bootloader-offset")?,
            recovery: number("recovery-bootloader-offset")?,
            subtypes: call.list("extra-partition-subtypes").into_iter().map(str::to_string).collect(),
        })
    }

    /// The same for reading a table.
    pub fn options(&self) -> Result<Options<'_>, Fault> {
        let mut options = Options {
            table_offset: self.offset,
            primary_bootloader: self.primary,
            recovery_bootloader: self.recovery,
            ..Options::default()
        };
        options.subtypes.add(self.subtypes.iter().map(String::as_str)).map_err(Fault::fatal)?;
        Ok(options)
    }

    /// Where the table is, in bytes.
    pub fn offset(&self) -> u32 {
        self.offset
    }
}

fn run(call: &Call<'_>) -> Result<(), Fault> {
    let say = |text: &str| {
        if !call.has("quiet") {
            call.terminal.plain_warning(text);
        }
    };
    let given = Given::read(call, "offset")?;
    let variable = |name: &str| std::env::var(name).ok();
    let megabytes = call.optional("flash-size").and_then(|size| size.strip_suffix("MB")?.parse::<u64>().ok());
    let options = Options {
        md5: !call.has("disable-md5sum"),
        secure: call.optional("secure").map(|version| if version == "v2" { SecureBoot::V2 } else { SecureBoot::V1 }),
        flash_size: megabytes.unwrap_or(0) << 20,
        verify: !call.has("no-verify"),
        variables: &variable,
        ..given.options()?
    };
    let bytes = input(call.text("input"))?;
    let binary = Table::is_binary(&bytes);
    say(if binary { "Parsing binary partition input..." } else { "Parsing CSV input..." });
    if options.verify {
        say("Verifying table...");
    }
    let table = Table::read(&bytes, &options).map_err(|error| refused(call, &error))?;
    for warning in table.warnings(&options) {
        call.terminal.plain_warning(format_args!("WARNING: {warning}"));
    }
    let output = match binary {
        true => table.to_csv(false, &options.subtypes).into_bytes(),
        false => table.to_binary(options.md5).map_err(|error| refused(call, &error))?,
    };
    match call.text("output") {
        "-" => Ok(io::stdout().lock().write_all(&output)?),
        path => files::write(path, &output),
    }
}

fn input(path: &str) -> Result<Vec<u8>, Fault> {
    if path != "-" {
        return files::read(path, "input");
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// This tool prints the reason alone.
fn refused(call: &Call<'_>, error: &TableError) -> Fault {
    call.terminal.plain_warning(error);
    Fault::Exit(2)
}
