//! `parttool`: partitions of a device by name.

use clap::{Arg, Command};
use esp_model::partition::{Partition, Subtypes, type_name};

use super::target::{self, Target};
use crate::command::{Call, Entry, Face, flag, option};
use crate::esptool::session::failed;
use crate::fault::Fault;
use crate::{files, text};

/// The face.
pub static FACE: Face = Face {
    name: "parttool",
    about: "Read, write and erase partitions of a device by name",
    options: target::options,
    prepare: None,
    fatal_prefix: "",
    raises: true,
    of_chip: None,
    usage_of_chip: None,
    chain: None,
    single: None,
    commands: &[
        Entry { spec: spec_read, run: read },
        Entry { spec: spec_write, run: write },
        Entry { spec: spec_erase, run: erase },
        Entry { spec: spec_info, run: info },
    ],
    renamed: &[],
    shorts: &[],
};

fn choice() -> Vec<Arg> {
    vec![
        option("partition-name", "Its name").short('n'),
        option("partition-type", "Its type, with --partition-subtype").short('t'),
        option("partition-subtype", "Its subtype").short('s'),
        flag("partition-boot-default", "The app that is started by default").short('d'),
    ]
}

fn spec_read() -> Command {
    Command::new("read_partition")
        .about("Read a partition into a file")
        .args(choice())
        .arg(option("output", "File to write").required(true))
}

fn spec_write() -> Command {
    Command::new("write_partition")
        .about("Write a file into a partition")
        .args(choice())
        .arg(option("input", "File to read").required(true))
        .arg(flag("ignore-readonly", "Write also a partition that is marked read-only"))
}

fn spec_erase() -> Command {
    Command::new("erase_partition")
        .about("Erase a partition")
        .args(choice())
        .arg(flag("ignore-readonly", "Erase also a partition that is marked read-only"))
}

fn spec_info() -> Command {
    Command::new("get_partition_info")
        .about("Print what the table says about a partition")
        .args(choice())
        .arg(Arg::new("info").long("info").num_args(1..).help("name, type, subtype, offset, size, encrypted, readonly"))
        .arg(flag("part_list", "All partitions of the type"))
}

/// The partitions that the options name.
fn chosen(call: &Call<'_>, target: &Target) -> Result<Vec<Partition>, Fault> {
    let all = &target.table.partitions;
    let missing = || Fault::fatal("Unable to find the partition in the table");
    if let Some(name) = call.optional("partition-name") {
        return Ok(vec![target.table.find(name).cloned().ok_or_else(missing)?]);
    }
    if call.has("partition-boot-default") {
        return Ok(vec![target.default_app().cloned().ok_or_else(missing)?]);
    }
    let subtypes = Subtypes::default();
    let (Some(kind), subtype) = (call.optional("partition-type"), call.optional("partition-subtype")) else {
        return Err(Fault::Usage(
            "name a partition: --partition-name, --partition-type or --partition-boot-default".into(),
        ));
    };
    let kind_is = |partition: &Partition| {
        type_name(partition.kind) == Some(kind) || text::integer(kind) == Some(partition.kind.into())
    };
    let subtype_is = |partition: &Partition| {
        subtype.is_none_or(|name| {
            subtypes.name(partition.kind, partition.subtype) == Some(name)
                || text::integer(name) == Some(partition.subtype.into())
        })
    };
    let found: Vec<_> = all.iter().filter(|partition| kind_is(partition) && subtype_is(partition)).cloned().collect();
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

fn one(call: &Call<'_>, target: &Target) -> Result<Partition, Fault> {
    chosen(call, target)?.into_iter().next().ok_or(Fault::Exit(2))
}

/// What was done goes to standard error, as in the original: standard output is for what was asked.
fn say(call: &Call<'_>, text: impl std::fmt::Display) {
    if !call.switch("quiet") {
        call.terminal.plain_warning(text);
    }
}

fn may_change(call: &Call<'_>, partition: &Partition) -> Result<(), Fault> {
    if partition.flags().contains(&"readonly") && !call.has("ignore-readonly") {
        return Err(Fault::Fatal(format!(
            "\"{}\" partition is read-only, (use the --ignore-readonly flag to skip it)",
            partition.name
        )));
    }
    Ok(())
}

fn read(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let (partition, output) = (one(call, &target)?, call.text("output"));
    let session = target.device(call)?;
    let data = session.loader.read_flash_bytes(&session.job, partition.offset, partition.size).map_err(failed)?;
    files::write(output, &data)?;
    say(
        call,
        format_args!(
            "Read partition '{}' contents from device at offset {:#x} to file '{output}'",
            partition.name, partition.offset
        ),
    );
    target.close(call)
}

fn write(call: &Call<'_>) -> Result<(), Fault> {
    let data = files::read(call.text("input"), "--input")?;
    let mut target = Target::open(call)?;
    let partition = one(call, &target)?;
    may_change(call, &partition)?;
    if data.len() as u64 > u64::from(partition.size) {
        return Err(Fault::Fatal(format!(
            "Input file content length ({}) exceeds partition size ({})",
            data.len(),
            partition.size
        )));
    }
    let session = target.device(call)?;
    session.loader.erase_region(&session.job, partition.offset, partition.size).map_err(failed)?;
    target::write(session, &partition, data)?;
    say(
        call,
        format_args!("Written contents of file '{}' to device at offset {:#x}", call.text("input"), partition.offset),
    );
    target.close(call)
}

fn erase(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let partition = one(call, &target)?;
    may_change(call, &partition)?;
    let session = target.device(call)?;
    session.loader.erase_region(&session.job, partition.offset, partition.size).map_err(failed)?;
    say(call, format_args!("Erased partition '{}' at offset {:#x}", partition.name, partition.offset));
    target.close(call)
}

fn info(call: &Call<'_>) -> Result<(), Fault> {
    let target = Target::open(call)?;
    let mut found = chosen(call, &target)?;
    if !call.has("part_list") {
        found.truncate(1);
    }
    let given = call.list("info");
    let wanted = if given.is_empty() { vec!["offset", "size"] } else { given };
    let mut words = Vec::new();
    for partition in &found {
        for what in &wanted {
            words.push(fact(partition, what)?);
        }
    }
    call.terminal.say(words.join(" "));
    target.close_quietly();
    Ok(())
}

fn fact(partition: &Partition, what: &str) -> Result<String, Fault> {
    let flag = |name: &str| if partition.flags().contains(&name) { "True" } else { "False" }.to_string();
    Ok(match what {
        "name" => partition.name.clone(),
        "type" => partition.kind.to_string(),
        "subtype" => partition.subtype.to_string(),
        "offset" => format!("{:#x}", partition.offset),
        "size" => format!("{:#x}", partition.size),
        "encrypted" | "readonly" => flag(what),
        other => {
            return Err(Fault::value(
                "--info",
                format_args!("'{other}' is not name, type, subtype, offset, size, encrypted or readonly"),
            ));
        }
    })
}
