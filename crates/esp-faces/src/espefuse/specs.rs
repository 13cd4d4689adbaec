//! The arguments of each command.

use clap::{Arg, ArgAction, Command};
use esp_model::chip::Chip;
use esp_model::efuse::Block;

use crate::command::{flag, option, place};

fn many(name: &'static str, shown: &'static str) -> Arg {
    Arg::new(name).num_args(1..).required(true).value_name(shown)
}

fn force() -> Arg {
    flag("force-write-always", "Burn also what seems to be burned or protected")
}

fn token() -> Arg {
    flag("show-token", "Show what is to be burned as a token")
}

fn key_options(command: Command) -> Command {
    command
        .arg(flag("no-write-protect", "Do not freeze the key"))
        .arg(flag("no-read-protect", "Do not hide the key"))
        .arg(flag("no-protect-key", "Neither freeze nor hide the key"))
        .arg(flag("show-sensitive-info", "Show the keys"))
        .arg(force())
        .arg(token())
}

pub fn burn_efuse() -> Command {
    Command::new("burn-efuse")
        .about("Burn fields: pairs of name and value")
        .arg(many("name_value_pairs", "EFUSE_NAME VALUE"))
        .arg(flag("force", "Burn also what does not fit other fields"))
        .arg(token())
}

pub fn read_protect() -> Command {
    Command::new("read-protect-efuse")
        .about("Hide fields or blocks from software")
        .arg(many("efuse_name", "EFUSE_NAME"))
        .arg(token())
}

pub fn write_protect() -> Command {
    Command::new("write-protect-efuse")
        .about("Freeze fields or blocks")
        .arg(many("efuse_name", "EFUSE_NAME"))
        .arg(token())
}

pub fn burn_block_data() -> Command {
    Command::new("burn-block-data")
        .about("Burn data that is not a key: pairs of block and file")
        .arg(many("block_datafile", "BLOCK DATAFILE"))
        .arg(option("offset", "First byte").short('o').default_value("0"))
        .arg(force())
        .arg(token())
}

pub fn burn_bit() -> Command {
    Command::new("burn-bit")
        .about("Burn single bits of a block")
        .arg(place("block", "Block"))
        .arg(many("bit_number", "BIT"))
        .arg(force())
        .arg(token())
}

pub fn burn_key() -> Command {
    let names =
        many("keys", "BLOCK KEYFILE KEYPURPOSE").help("Triples; on a chip without purposes pairs of block and file");
    key_options(Command::new("burn-key").about("Burn keys").arg(names))
}

pub fn burn_key_digest() -> Command {
    let names = many("keys", "BLOCK KEYFILE KEYPURPOSE").help("Triples; on a chip without purposes one file");
    key_options(Command::new("burn-key-digest").about("Burn digests of public keys").arg(names))
}

pub fn burn_custom_mac() -> Command {
    Command::new("burn-custom-mac")
        .about("Burn a MAC address of your own")
        .arg(place("mac", "Address"))
        .arg(force())
        .arg(token())
}

pub fn get_custom_mac() -> Command {
    Command::new("get-custom-mac").about("Print the MAC address of your own")
}

pub fn set_flash_voltage() -> Command {
    Command::new("set-flash-voltage")
        .about("Set the voltage of the flash for good")
        .arg(place("voltage", "Voltage").value_parser(["1.8V", "3.3V", "OFF"]))
        .arg(token())
}

pub fn dump() -> Command {
    Command::new("dump")
        .about("Print all blocks")
        .arg(option("format", "Form").value_parser(["default", "split", "joint", "token"]).default_value("default"))
        .arg(option("file-name", "File to write"))
}

pub fn summary() -> Command {
    Command::new("summary")
        .about("Print the fields")
        .arg(Arg::new("efuses_to_show").num_args(0..).action(ArgAction::Append).value_name("EFUSE_NAME"))
        .arg(option("format", "Form").value_parser(["summary", "json", "value_only"]).default_value("summary"))
        .arg(flag("active", "Only fields that are not 0"))
        .arg(option("file", "File to write"))
}

pub fn check_error() -> Command {
    Command::new("check-error").about("Look for coding errors").arg(flag("recovery", "Burn blocks with errors again"))
}

pub fn adc_info() -> Command {
    Command::new("adc-info").about("Print the calibration of ADC and temperature sensor")
}

/// What the commands for keys take: purposes are named where the chip has them, and a block where it has several.
pub fn usage(command: &str, chip: &Chip) -> Option<&'static str> {
    let table = chip.efuse();
    let several = table.blocks.iter().filter(|block| block.is_key).count() > 1;
    // Purposes with a number are named; those of the first chips follow from the block.
    let unnamed = table.key_purposes.iter().all(|purpose| purpose.value.is_none());
    match (command, unnamed) {
        ("burn-key", true) => Some("[<BLOCK> <KEYFILE>] ..."),
        ("burn-key-digest", unnamed) if unnamed || !several => Some("KEYFILE"),
        ("burn-key" | "burn-key-digest", _) => Some("[<BLOCK> <KEYFILE> <KEYPURPOSE>] ..."),
        _ => None,
    }
}

/// Blocks and purposes of the chip, for commands that name them.
pub fn of_chip(command: &str, chip: &Chip) -> Option<String> {
    let table = chip.efuse();
    let of_keys = command.starts_with("burn-key");
    if !of_keys && !["burn-block-data", "burn-bit"].contains(&command) {
        return None;
    }
    let names = |block: &Block| std::iter::once(block.name.clone()).chain(block.aliases.clone()).collect::<Vec<_>>();
    let blocks = table.blocks.iter().filter(|block| !of_keys || block.is_key).flat_map(names);
    let mut text = format!("\nBlocks of {}: {}", chip.name, blocks.collect::<Vec<_>>().join(", "));
    if of_keys && !table.key_purposes.is_empty() {
        let custom = ["CUSTOM_n", "CUSTOM_DIGEST_n", "CUSTOM_MAX", "CUSTOM_DIGEST_MAX"];
        let custom = if table.custom_purposes { custom.as_slice() } else { &[] };
        let purposes = table.key_purposes.iter().map(|purpose| purpose.name.as_str()).chain(custom.iter().copied());
        text.push_str(&format!("\nPurposes: {}", purposes.collect::<Vec<_>>().join(", ")));
    }
    Some(text)
}
