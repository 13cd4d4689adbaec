//! `esp_factory_reset`: user data goes, identity and calibration stay.

use esp_ledger::{State, Unit};
use esp_link::flash::{Part, WriteOptions};
use esp_model::job::Job;
use esp_model::nvs::{self, Builder};
use esp_model::partition::{self, Partition, Table};
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::keep::{self, Copy, Region};
use esp_ops::guard::Risk;
use esp_ops::partition::nvs_values::FACTORY_DATA;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;
use esp_factory::prepared::Prepared;

/// The tool.
pub struct FactoryReset;

/// Data partitions that a reset clears: otadata, NVS, core dump, undefined, FAT, SPIFFS, LittleFS.
const CLEARED: [u8; 7] = [
    partition::DATA_OTA,
    partition::DATA_NVS,
    partition::DATA_COREDUMP,
    partition::DATA_UNDEFINED,
    partition::DATA_FAT,
    partition::DATA_SPIFFS,
    partition::DATA_LITTLEFS,
];

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// The recipe that the unit was made by; its data partitions are restored, its NVS partitions stay.
    config: Option<String>,
    /// Further partitions that stay, by name.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    keep: Vec<String>,
    /// Folder for the copies (default: esp-backup/MAC).
    #[schemars(extend("x-rare" = true))]
    backup_dir: Option<String>,
    /// Clear without copies.
    #[serde(default)]
    no_backup: bool,
}

/// A partition and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {
    /// Its name.
    partition: String,
    /// erased, restored (from the recipe), reduced (identity and calibration stay) or kept.
    how: String,
    /// Why it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// All data partitions.
    partitions: Vec<Done>,
    /// Copies that were made before.
    copies: Vec<Copy>,
}

/// What is to be done with a partition.
enum Act {
    Keep(&'static str),
    Erase,
    Write(&'static str, Vec<u8>),
}

impl Tool for FactoryReset {
    const NAME: &'static str = "esp_factory_reset";
    const TITLE: &'static str = "Factory reset";
    const ABOUT: &'static str = "Clear otadata, NVS, file systems and core dumps, after copying them; applications, \
         identity, certificates and calibration stay.";
    const RISK: Risk = Risk::Destroys;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let recipe = input.config.as_deref().map(|path| Prepared::load(&ctx.station(), path)?.checked()).transpose()?;
        let ctx = &recipe.as_ref().map_or_else(|| ctx.clone(), |recipe| ctx.with_pins(recipe.pins.clone()));
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            connected.loader.attach_flash(job, None)?;
            let table = keep::table(connected, job, None)?.map(|found| found.table);
            let table =
                table.ok_or_else(|| ToolError::new(Code::NoPartitionTable, "there is no partition table at 0x8000"))?;
            let mut plan = Vec::new();
            for found in table.partitions.iter().filter(|found| found.kind != partition::APP) {
                plan.push((found, act(ctx, job, connected, &device, &table, found, &input, recipe.as_ref())?));
            }
            let dir = keep::folder(&device, input.backup_dir.as_deref());
            let cleared = plan.iter().filter(|(_, act)| !input.no_backup && !matches!(act, Act::Keep(_)));
            let regions = cleared.map(|(p, _)| Region { name: p.name.clone(), address: p.offset, size: p.size });
            let copies = keep::copy(ctx, job, connected, &regions.collect::<Vec<_>>(), &dir)?;
            let mut partitions = Vec::new();
            for (found, act) in plan {
                partitions.push(carry_out(job, connected, found, act)?);
            }
            Ok(Out { device, partitions, copies })
        })
    }

    fn summary(out: &Out) -> String {
        let named = |kept: bool| {
            let names = out.partitions.iter().filter(|done| (done.how == "kept") == kept);
            names.map(|done| format!("{} {}", done.partition, done.how)).collect::<Vec<_>>().join(", ")
        };
        format!("{}\n{}; {}; {}", out.device, named(false), named(true), counted(out.copies.len(), "copy"))
    }
}

#[allow(clippy::too_many_arguments)]
fn act(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    device: &Device,
    table: &Table,
    found: &Partition,
    input: &In,
    recipe: Option<&Prepared>,
) -> Result<Act, ToolError> {
    if input.keep.contains(&found.name) {
        return Ok(Act::Keep("it was named"));
    }
    if found.kind != partition::DATA || !CLEARED.contains(&found.subtype) {
        return Ok(Act::Keep("credentials, calibration or data of a kind that is not known"));
    }
    if found.readonly {
        return Ok(Act::Keep("it is read-only"));
    }
    if let Some((_, bytes, _)) = recipe.and_then(|recipe| recipe.data.iter().find(|(name, ..)| *name == found.name)) {
        return Ok(Act::Write("restored", bytes.as_ref().clone()));
    }
    let made_by_recipe = recipe.is_some_and(|recipe| recipe.recipe.nvs.iter().any(|nvs| nvs.partition == found.name));
    if found.name == FACTORY_DATA || made_by_recipe {
        return Ok(Act::Keep("factory data"));
    }
    let has_factory_app = table.find_kind(partition::APP, partition::APP_FACTORY).is_some();
    match found.subtype {
        partition::DATA_OTA if !has_factory_app => {
            Ok(Act::Keep("there is no factory application: the present one goes on"))
        }
        partition::DATA_NVS => reduced(ctx, job, connected, device, found),
        _ => Ok(Act::Erase),
    }
}

/// An NVS partition without user data: namespaces with an identity that the ledger issued to this unit stay, and so
/// does the radio's calibration.
fn reduced(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    device: &Device,
    found: &Partition,
) -> Result<Act, ToolError> {
    let bytes = connected.loader.read_flash_bytes(job, found.offset, found.size)?;
    if bytes.iter().all(|byte| *byte == 0xff) {
        return Ok(Act::Keep("it is blank"));
    }
    let contents = nvs::read(&bytes);
    let mut issued: Vec<String> = Vec::new();
    if let Some(mac) = &device.mac {
        let own = ctx.app.desk.with(|ledger| ledger.of_unit(&Unit::new(&mac.to_string())))?;
        issued.extend(own.into_iter().filter(|one| one.state != State::Void).map(|one| one.value));
    }
    let is_issued = |value: &nvs::Value| match value {
        nvs::Value::Text(text) => issued.contains(text),
        nvs::Value::Blob(bytes) => issued.contains(&esp_model::hex::joined(bytes, ":")),
        _ => false,
    };
    let stays = |namespace: &str| {
        let mut own = contents.entries.iter().filter(|entry| *entry.namespace == *namespace);
        namespace == "phy" || own.any(|entry| is_issued(&entry.value))
    };
    let kept: Vec<&nvs::Entry> = contents.entries.iter().filter(|entry| stays(&entry.namespace)).collect();
    if kept.is_empty() {
        return Ok(Act::Erase);
    }
    let mut builder = Builder::new(found.size.into(), contents.version(), None)?;
    for entry in kept {
        let bad = |error: nvs::ValueError| {
            ToolError::new(Code::NvsInvalid, format!("{}/{}: {error}", entry.namespace, entry.key))
        };
        let index = builder.namespace(&entry.namespace).map_err(bad)?;
        builder.entry(index, &entry.key, &entry.value).map_err(bad)?;
    }
    let mut image = builder.finish();
    image.resize(found.size as usize, 0xff);
    Ok(Act::Write("reduced", image))
}

fn carry_out(job: &Job, connected: &mut Connected, found: &Partition, act: Act) -> Result<Done, ToolError> {
    let partial = |error: esp_link::LoaderError| ToolError::from(error).touched(FlashState::Partial);
    let done = |how: &str, why: Option<&str>| Done {
        partition: found.name.clone(),
        how: how.into(),
        why: why.map(str::to_owned),
    };
    match act {
        Act::Keep(why) => Ok(done("kept", Some(why))),
        Act::Erase => {
            connected.loader.erase_region(job, found.offset, found.size).map_err(partial)?;
            Ok(done("erased", None))
        }
        Act::Write(how, mut bytes) => {
            bytes.resize((found.size as usize).max(bytes.len()), 0xff);
            let mut parts = [Part::bytes(found.offset, bytes)];
            connected.loader.write_flash(job, &mut parts, &WriteOptions::default()).map_err(partial)?;
            Ok(done(how, None))
        }
    }
}
