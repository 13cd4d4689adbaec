//! What the commands ask to be burned.

use esp_model::efuse::text::{ecdsa_key, request};
use esp_model::efuse::{ActiveCoding, Block, BurnError, Field, Request, Voltage};
use esp_model::hex;
use esp_model::mac::Mac;
use esp_model::secure::block::key_digest;
use esp_model::secure::{PrivateKey, PublicKey};

use super::bench::Bench;
use super::burn::refused;
use super::values;
use crate::command::Call;
use crate::fault::Fault;
use crate::{files, text};

/// The command burns something.
pub fn burns(command: &str) -> bool {
    command.starts_with("burn-") || command.ends_with("-protect-efuse") || command == "set-flash-voltage"
}

/// Adds what a command asks for.
pub fn add(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    match call.command {
        "burn-efuse" => fields(bench, call),
        "read-protect-efuse" => protect(bench, call, true),
        "write-protect-efuse" => protect(bench, call, false),
        "burn-block-data" => data(bench, call),
        "burn-bit" => bit(bench, call),
        "burn-key" => keys(bench, call, false),
        "burn-key-digest" => keys(bench, call, true),
        "burn-custom-mac" => custom_mac(bench, call),
        _ => voltage(bench, call),
    }
}

fn put(bench: &mut Bench, request: &Request) -> Result<(), Fault> {
    bench.add(request).map_err(refused)
}

fn known(bench: &Bench, name: &str) -> Result<&'static Field, Fault> {
    bench
        .efuses
        .table
        .field(name)
        .ok_or_else(|| Fault::value("<EFUSE_NAME> <VALUE>...", format_args!("Invalid eFuse name '{name}'.")))
}

fn fields(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    let words = call.list("name_value_pairs");
    let pairs: Vec<(&str, Option<&str>)> = match words.as_slice() {
        [name] => vec![(name, None)],
        words if words.len().is_multiple_of(2) => {
            words.chunks(2).filter_map(|pair| Some((*pair.first()?, pair.get(1).copied()))).collect()
        }
        words => {
            let text = format!("The list does not have a valid pair (name value) {words:?}");
            return Err(Fault::value("<EFUSE_NAME> <VALUE>...", text));
        }
    };
    let mut lines = Vec::new();
    for (name, value) in &pairs {
        let field = known(bench, name)?;
        let before = bits(bench, field);
        values::check(&bench.efuses, field, *value)?;
        let request = request(&bench.efuses, name, *value).map_err(Fault::fatal)?;
        put(bench, &request)?;
        lines.push((field, before, bits_pending(bench, field)));
    }
    call.terminal.say("The eFuses to burn:");
    for block in
        bench.efuses.table.blocks.iter().filter(|block| lines.iter().any(|(field, ..)| field.block == block.id))
    {
        call.terminal.say(format_args!("  from BLOCK{}", block.id));
        for (field, ..) in lines.iter().filter(|(field, ..)| field.block == block.id) {
            call.terminal.say(format_args!("     - {}", field.name));
        }
    }
    call.terminal.say("\nBurning eFuses:");
    for (field, before, after) in lines {
        call.terminal.say(format_args!("    - '{}' ({}) {before} -> {after}", field.name, field.about));
    }
    Ok(())
}

fn shown(field: &Field, bytes: &[u8]) -> String {
    let length = usize::from(field.len());
    if length % 4 == 0 {
        let digits: String = hex::reversed(bytes);
        return format!("0x{}", digits.get(digits.len().saturating_sub(length / 4)..).unwrap_or_default());
    }
    let bits: String = bytes.iter().rev().map(|byte| format!("{byte:08b}")).collect();
    format!("0b{}", bits.get(bits.len().saturating_sub(length)..).unwrap_or_default())
}

fn bits(bench: &Bench, field: &Field) -> String {
    shown(field, &field.bytes(bench.efuses.block(field.block)))
}

fn bits_pending(bench: &Bench, field: &Field) -> String {
    let now = field.bytes(bench.efuses.block(field.block));
    let pending = bench.burn.pending().get(&field.block).map(|words| field.bytes(words)).unwrap_or_default();
    let both: Vec<u8> = now.iter().zip(pending).map(|(now, pending)| now | pending).collect();
    shown(field, &both)
}

fn protect(bench: &mut Bench, call: &Call<'_>, read: bool) -> Result<(), Fault> {
    let (names, terminal) = (call.list("efuse_name"), call.terminal);
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|other| other == name) {
            return Err(Fault::Fatal(format!("Found repeated {name} in the list.")));
        }
        let field = known(bench, name)?;
        let (how, done) = if read {
            ("read", !bench.efuses.readable(&field.read_protect))
        } else {
            ("write", !bench.efuses.writeable(field.write_protect))
        };
        if done && (read || field.write_protect.is_some()) {
            terminal.say(format_args!("Efuse {} is already {how} protected.", field.name));
            continue;
        }
        if read {
            must_stay_readable(bench, call, field)?;
        }
        let (name, shares) = (field.name.clone(), shares(bench, field, read));
        let request = if read { Request::ReadProtect { name } } else { Request::WriteProtect { name } };
        bench.add(&request).map_err(|error| match error {
            BurnError::WriteProtected(_) => {
                let register = if read { "RD_DIS" } else { "WR_DIS" };
                let text = format!(
                    "This eFuse cannot be {how}-disabled due to the {register} field being already write-disabled"
                );
                Fault::Fatal(text)
            }
            error => refused(error),
        })?;
        let plural = if shares.len() > 1 { "s" } else { "" };
        terminal.say(format_args!("Permanently {how}-disabling eFuse{plural} {}", shares.join(", ")));
    }
    Ok(())
}

/// Digests that the ROM compares must stay readable.
fn must_stay_readable(bench: &Bench, call: &Call<'_>, field: &Field) -> Result<(), Fault> {
    let efuses = &bench.efuses;
    let stop = || Fault::Fatal(format!("{} must be readable, stop this operation!", field.name));
    // The key block of the smallest chip holds a digest unless it is one long key.
    if efuses.number("XTS_KEY_LENGTH_256") == Some(0) && field.name == "BLOCK_KEY0" {
        return Err(stop());
    }
    if field.name == "BLOCK2" && efuses.number("ABS_DONE_0") == Some(0) && bench.revision() >= 300 {
        if efuses.is_set("ABS_DONE_1") {
            let text = "Secure Boot V2 is on (ABS_DONE_1 = True), BLOCK2 must be readable, stop this operation!";
            return Err(Fault::fatal(text));
        }
        call.terminal.say("If Secure Boot V2 is used, BLOCK2 must be readable, please stop this operation!");
    }
    let table = bench.efuses.table;
    let block = table.block(field.block).filter(|block| block.is_key && block.purpose_field.is_some());
    let purpose = block.and_then(|block| bench.efuses.purpose(block));
    let hides = purpose.and_then(|name| table.purpose(&name).map(|purpose| purpose.read_protect));
    if hides == Some(false) {
        return Err(stop());
    }
    Ok(())
}

/// The fields that share a protection bit.
fn shares(bench: &Bench, field: &Field, read: bool) -> Vec<String> {
    let same = |other: &&Field| match read {
        true => !field.read_protect.is_empty() && other.read_protect == field.read_protect,
        false => field.write_protect.is_some() && other.write_protect == field.write_protect,
    };
    bench.efuses.table.fields.iter().filter(same).filter(|field| field.shown).map(|field| field.name.clone()).collect()
}

fn block_named(bench: &Bench, name: &str) -> Result<&'static Block, Fault> {
    let is_it = |block: &&Block| block.name == name || block.aliases.iter().any(|alias| alias == name);
    let found = bench.efuses.table.blocks.iter().find(is_it);
    found.ok_or_else(|| Fault::value("BLOCK", format_args!("'{name}' is not a block of this chip.")))
}

fn groups<'a>(words: &[&'a str], of: usize) -> Result<Vec<Vec<&'a str>>, Fault> {
    if !words.len().is_multiple_of(of) {
        let text = format!("Expected multiple of {of} values, got {} (values: {words:?})", words.len());
        return Err(Fault::Usage(text));
    }
    Ok(words.chunks(of).map(<[&str]>::to_vec).collect())
}

fn data(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    let pairs = groups(&call.list("block_datafile"), 2)?;
    let value = call.text("offset");
    let offset = text::integer(value)
        .ok_or_else(|| Fault::value("--offset", format_args!("'{value}' is not a valid integer.")))?
        as usize;
    if offset > 0 && pairs.len() > 1 {
        return Err(Fault::fatal(
            "The 'offset' option is not applicable when a few blocks are passed. With 'offset', should only one block be used.",
        ));
    }
    let repeated =
        |(index, pair): (usize, &Vec<&str>)| pairs.iter().take(index).any(|other| other.first() == pair.first());
    if pairs.iter().enumerate().any(repeated) {
        return Err(Fault::fatal("Found repeated blocks in the list."));
    }
    for pair in &pairs {
        let [name, path] = pair.as_slice() else { continue };
        let block = block_named(bench, name)?;
        let data = files::read(path, "BLOCK DATAFILE")?;
        let size = bench.efuses.capacity(block);
        if offset >= size {
            return Err(Fault::Fatal(format!("Invalid offset: the block{} only holds {size} bytes.", block.id)));
        }
        if offset + data.len() > size || offset == 0 && data.len() != size {
            let id = block.id;
            return Err(Fault::Fatal(format!(
                "Data does not fit: the block{id} size is {size} bytes, data file is {} bytes, offset {offset}.",
                data.len() + offset
            )));
        }
        let mut whole = vec![0; offset];
        whole.extend_from_slice(&data);
        whole.resize(size, 0);
        let (id, shown) = (block.id, super::dump::names(block).0);
        let bytes = hex::joined(&whole, " ");
        call.terminal
            .say(format_args!("[{id:02}] {shown:20} size={:02} bytes, offset={offset:02} -> [{bytes}]", whole.len()));
        put(bench, &Request::Block { block: block.name.clone(), data, offset })?;
    }
    Ok(())
}

fn bit(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    let block = block_named(bench, call.text("block"))?;
    let size = bench.efuses.capacity(block) * 8;
    let mut bits = Vec::new();
    for word in call.list("bit_number") {
        let number =
            text::integer(word).ok_or_else(|| Fault::value("BIT", format_args!("'{word}' is not a valid integer.")))?;
        let number = u16::try_from(number).ok().filter(|number| usize::from(*number) < size);
        bits.push(
            number
                .ok_or_else(|| Fault::Fatal(format!("{} has bit_number in [0..{}]", call.text("block"), size - 1)))?,
        );
    }
    call.terminal.say(format_args!(
        "bit_number:   [{:03}]........................................................[0]",
        size - 1
    ));
    let mut bytes = vec![0u8; size / 8];
    for bit in &bits {
        if let Some(byte) = bytes.get_mut(usize::from(bit / 8)) {
            *byte |= 1 << (bit % 8);
        }
    }
    let digits: String = hex::reversed(&bytes);
    call.terminal.say(format_args!("BLOCK{:>2}   : 0x{digits}", block.id));
    put(bench, &Request::Bits { block: block.name.clone(), bits })
}

/// Keys and digests. A chip without purposes takes them from the block's name.
fn keys(bench: &mut Bench, call: &Call<'_>, digest: bool) -> Result<(), Fault> {
    let words = call.list("keys");
    let purposes = bench.efuses.table.blocks.iter().any(|block| block.purpose_field.is_some());
    let pathless = digest && words.len() == 1;
    let wide = !pathless && purposes
        || bench.efuses.table.key_purposes.iter().any(|purpose| purpose.digest)
            && words.len().is_multiple_of(3)
            && !is_path_pair(&words);
    let triples: Vec<(String, String, String)> = match (wide, digest) {
        (true, _) => groups(&words, 3)?.into_iter().filter_map(triple).collect(),
        (false, true) => words.iter().map(|path| old_digest(bench, path)).collect(),
        (false, false) => groups(&words, 2)?.into_iter().filter_map(pair).collect(),
    };
    if !call.has("show-sensitive-info") && !call.switch("debug") {
        call.terminal.say("Sensitive data will be hidden (see --show-sensitive-info)");
    }
    call.terminal.say("Burn keys to blocks:");
    for (index, (block, path, purpose)) in triples.iter().enumerate() {
        let before = triples.iter().take(index).find(|(other, ..)| other == block);
        let added = key(bench, call, (block, path, purpose), digest);
        added.map_err(|fault| match before {
            // What is in the block's one half already leaves no room for it.
            Some((_, _, other)) => Fault::Fatal(format!("These keypurposes are incompatible ['{other}', '{purpose}']")),
            None => fault,
        })?;
    }
    Ok(())
}

/// Blocks and files by turns: the form of a chip without purposes.
fn is_path_pair(words: &[&str]) -> bool {
    words.len().is_multiple_of(2) && words.iter().step_by(2).all(|word| !word.contains('/') && !word.contains('.'))
}

fn triple(words: Vec<&str>) -> Option<(String, String, String)> {
    let [block, path, purpose] = words.as_slice() else { return None };
    Some(((*block).into(), (*path).into(), (*purpose).into()))
}

/// The purposes of the oldest chip's key blocks, by their names.
fn pair(words: Vec<&str>) -> Option<(String, String, String)> {
    let [block, path] = words.as_slice() else { return None };
    // Only the names of uses change the byte order; a block's name takes the key as it is.
    let (block, purpose) = match *block {
        "secure_boot_v1" => ("BLOCK2", "SECURE_BOOT_V1"),
        "secure_boot_v2" => ("BLOCK2", "SECURE_BOOT_V2_DIGEST"),
        "flash_encryption" => ("BLOCK1", "FLASH_ENCRYPTION"),
        block => (block, "USER"),
    };
    Some((block.into(), (*path).into(), purpose.into()))
}

/// A digest's place on a chip with only one.
fn old_digest(bench: &Bench, path: &str) -> (String, String, String) {
    let (block, purpose) = match bench.efuses.table.purpose("SECURE_BOOT_DIGEST") {
        Some(_) => ("BLOCK_KEY0", "SECURE_BOOT_DIGEST"),
        None => ("BLOCK2", "SECURE_BOOT_V2_DIGEST"),
    };
    (block.into(), path.into(), purpose.into())
}

fn key(
    bench: &mut Bench,
    call: &Call<'_>,
    (block, path, purpose): (&str, &str, &str),
    digest: bool,
) -> Result<(), Fault> {
    let block = block_named(bench, block)?;
    let data = files::read(path, "BLOCK KEYFILE KEYPURPOSE")?;
    let pem = String::from_utf8_lossy(&data);
    if digest && bench.efuses.coding(block) == ActiveCoding::ThreeQuarters {
        return Err(Fault::fatal("burn-key-digest only works with 'None' coding scheme"));
    }
    let bytes = if digest {
        let key = PublicKey::from_pem(&pem).map_err(|error| Fault::Fatal(format!("{path}: {error}")))?;
        key_digest(&key).to_vec()
    } else if purpose.starts_with("ECDSA_KEY") && pem.contains("-BEGIN ") {
        let key = PrivateKey::from_pem(&pem).map_err(|error| Fault::Fatal(format!("{path}: {error}")))?;
        ecdsa_key(key.scalar().unwrap_or_default())
    } else {
        data
    };
    let name = super::dump::names(block).0;
    let open = digest || call.has("show-sensitive-info") || call.switch("debug");
    let shown = if open { hex::joined(&bytes, " ") } else { vec!["??"; bytes.len()].join(" ") };
    call.terminal.say(format_args!(" - {name} -> [{shown}]"));
    let request = Request::Key {
        block: block.name.clone(),
        key: bytes,
        purpose: purpose.into(),
        read_protect: !call.has("no-read-protect") && !call.has("no-protect-key"),
        write_protect: !call.has("no-write-protect") && !call.has("no-protect-key"),
    };
    bench.add(&request).map_err(|error| match error {
        BurnError::Length { found, wanted, .. } => Fault::Fatal(format!(
            "Incorrect key file size {found}. Key file must be {wanted} bytes ({} bits) of raw binary key data.",
            wanted * 8
        )),
        error => refused(error),
    })?;
    if call.has("no-read-protect") {
        call.terminal.say("\tKey is left unprotected as per --no-read-protect argument.");
    }
    if call.has("no-write-protect") {
        call.terminal.say("\tKey is left unprotected as per --no-write-protect argument.");
    }
    Ok(())
}

/// The address of one's own that the chip has.
fn present_mac(bench: &Bench) -> Option<Mac> {
    let shown = bench.efuses.value(bench.efuses.table.field("CUSTOM_MAC")?).value.to_string();
    shown.split_whitespace().next()?.parse().ok()
}

fn custom_mac(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    let wrong = || Fault::fatal("MAC Address needs to be a 6-byte hexadecimal format separated by colons (:)!");
    let address: Mac = call.text("mac").parse().map_err(|_| wrong())?;
    bench.add(&Request::CustomMac(address)).map_err(|error| match (error, present_mac(bench)) {
        (BurnError::CannotClear(_), Some(now)) => {
            let both: Vec<u8> = now.0.iter().zip(address.0).map(|(now, new)| now | new).collect();
            let value = hex::reversed(&both);
            Fault::Fatal(format!("New value contains some bits that cannot be cleared (value will be 0x{value})"))
        }
        (error, _) => refused(error),
    })?;
    let bytes: String = hex::encode(address.reversed());
    call.terminal.say(format_args!("    - 'CUSTOM_MAC' (Custom MAC address) -> 0x{bytes}"));
    Ok(())
}

fn voltage(bench: &mut Bench, call: &Call<'_>) -> Result<(), Fault> {
    let supply = if bench.efuses.table.field("XPD_SDIO_FORCE").is_some() { "VDD_SDIO" } else { "VDD_SPI" };
    let (voltage, done) = match call.text("voltage") {
        "1.8V" => (Voltage::V1_8, format!("Set internal flash voltage regulator ({supply}) to 1.8V.")),
        "3.3V" => (Voltage::V3_3, format!("Enable internal flash voltage regulator ({supply}) to 3.3V.")),
        _ => (Voltage::Off, format!("Disable internal flash voltage regulator ({supply}).")),
    };
    bench.add(&Request::FlashVoltage(voltage)).map_err(|error| match error {
        BurnError::Unknown(_) => Fault::fatal("set_flash_voltage is not supported for this chip"),
        error => refused(error),
    })?;
    call.terminal.say(done);
    Ok(())
}
