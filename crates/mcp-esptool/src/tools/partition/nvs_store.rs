//! `esp_nvs`: values in the NVS of a device or a flash image, read and changed in place.

use std::fmt::Write as _;

use esp_model::job::Job;
use esp_model::nvs::{self, Change, Contents, Difference, Keys, SlotState, Step};
use esp_model::partition::{DATA, DATA_NVS, Partition};
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::flash::keep::{self, Copy, Region};
use esp_ops::guard::Risk;
use esp_ops::partition::nvs_values::{EntryOut, FindingOut, KeyFiles, Show, USUAL, changes_of, value_of};
use esp_ops::partition::nvs_write;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::nvs_help::{LISTED, nvs_of};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Nvs;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// All pairs, or those of `namespace`.
    #[default]
    List,
    /// The value of `namespace` and `key`.
    Get,
    /// Set `value` under `namespace` and `key`, or everything in `data`.
    Set,
    /// Delete `key`, or all keys of `namespace`.
    Delete,
    /// Compare with the NVS in `other`.
    Diff,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// What to do (default list).
    #[serde(default)]
    action: Action,
    /// Partition (default: nvs, or the only NVS partition).
    partition: Option<String>,
    /// Namespace.
    namespace: Option<String>,
    /// Key.
    key: Option<String>,
    /// For set: number (keeps the key's type, else i32), text, or {"type": "u16", "value": 5}; or a "file" for binary.
    value: Option<AnyValue>,
    /// For set, several: {"namespace": {"key": value}}; null deletes.
    #[schemars(extend("x-rare" = true))]
    data: Option<Map<String, Json>>,
    /// For diff: a file (NVS partition or whole flash), or a port URL.
    #[schemars(extend("x-rare" = true))]
    other: Option<String>,
    /// File with the keys of an encrypted partition.
    #[schemars(extend("x-rare" = true))]
    key_file: Option<String>,
    /// File with the 32-byte HMAC key from which they are derived.
    #[schemars(extend("x-rare" = true))]
    hmac_key_file: Option<String>,
    /// Folder for the copy of the partition that set and delete make first (default: esp-backup/MAC).
    #[schemars(extend("x-rare" = true))]
    backup_dir: Option<String>,
    /// Show passwords, keys and bytes too.
    #[schemars(extend("x-rare" = true))]
    show_values: Option<bool>,
}

/// A value in any of its forms.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct AnyValue(Json);

impl JsonSchema for AnyValue {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NvsValue".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["string", "integer", "boolean", "object"]})
    }
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// What was done.
    action: Action,
    /// The partition.
    partition: String,
    /// Its flash address.
    address: String,
    /// Its size.
    size: String,
    /// It is encrypted.
    encrypted: bool,
    /// Pairs, or what was changed or differs: the first 500.
    entries: Vec<EntryOut>,
    /// How many there are.
    entry_count: usize,
    /// Pairs that stayed as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged_count: Option<usize>,
    /// Entries of 32 bytes that are free.
    free_entries: usize,
    /// The change was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    /// Copy of the partition as it was before the change; written back by esp_flash_firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<Copy>,
    /// What is wrong with the partition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<FindingOut>,
}

impl Tool for Nvs {
    const NAME: &'static str = "esp_nvs";
    const TITLE: &'static str = "Read and change NVS values";
    const ABOUT: &'static str = "List, get, set, delete or compare NVS key-value pairs (Wi-Fi credentials, \
         settings) on a device or flash image. Other entries stay untouched. Secrets are masked.";
    const RISK: Risk = Risk::Writes;
    const LEAST_RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn risk(input: &In) -> Risk {
        match input.action {
            Action::Set | Action::Delete => Risk::Writes,
            Action::List | Action::Get | Action::Diff => Risk::Reads,
        }
    }

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let keys = KeyFiles { keys: input.key_file.as_deref(), hmac: input.hmac_key_file.as_deref() }.read(ctx)?;
        let other = match input.action {
            Action::Diff => Some(other(ctx, job, &input, keys.as_ref())?),
            _ => None,
        };
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let store = Store::read(connected, job, input.partition.as_deref(), keys.as_ref())?;
            let show = Show::of(input.show_values);
            let mut out = store.out(device, &input);
            match (&other, input.action) {
                (Some(other), _) => out.differences(&nvs::diff(&store.contents, other), show),
                (None, Action::Set | Action::Delete) => {
                    let changes = changes(ctx, &input, &store.contents)?;
                    let steps = store.steps(&changes, keys.as_ref())?;
                    // A flash image is a file already, and its change goes to a copy unless asked otherwise.
                    if !steps.is_empty() && connected.image.is_none() {
                        let folder = keep::folder(&out.device, input.backup_dir.as_deref());
                        out.copy = Some(store.copy(ctx, &folder)?);
                    }
                    let after = store.change(connected, job, &changes, &steps, keys.as_ref())?;
                    out.differences(&nvs::diff(&store.contents, &after), show);
                    out.unchanged_count = Some(after.entries.len() - out.changed_count());
                    out.free_entries = free_entries(&after);
                    out.verified = Some(true);
                }
                (None, _) => out.list(&input, &store.contents)?,
            }
            Ok(out)
        })
    }

    fn summary(out: &Out) -> String {
        let Out { device, partition, address, size, entry_count, .. } = out;
        let what = match out.action {
            Action::List | Action::Get => counted(entry_count, "entry"),
            Action::Diff => counted(entry_count, "difference"),
            Action::Set | Action::Delete if *entry_count == 0 => {
                "nothing to change: all values are there already".into()
            }
            Action::Set | Action::Delete => format!(
                "{}, read back; {} unchanged",
                counted(entry_count, "change"),
                counted(out.unchanged_count.unwrap_or(0), "other entry")
            ),
        };
        let mut text = format!("{device}\n{partition} at {address}, {size} bytes: {what}");
        if let Some(copy) = &out.copy {
            let _ = write!(
                text,
                "\nundo: esp_flash_firmware files=[{{\"path\": \"{}\", \"address\": \"{address}\"}}]",
                copy.file
            );
        }
        for finding in out.findings.iter().filter(|finding| finding.severity != "note").take(2) {
            let _ = write!(text, "\n{}: {}", finding.severity, finding.text);
        }
        text
    }
}

/// A partition as it is now.
struct Store {
    region: Region,
    bytes: Vec<u8>,
    contents: Contents,
    encrypted: bool,
}

impl Store {
    fn read(connected: &mut Connected, job: &Job, name: Option<&str>, keys: Option<&Keys>) -> Result<Self, ToolError> {
        connected.must_read_flash()?;
        let found = partition(connected, job, name)?;
        if found.flags().contains(&"encrypted") && connected.is_encrypted(job)? {
            let text = format!("partition `{}` is encrypted with the chip's flash key", found.name);
            return Err(ToolError::new(Code::EncryptionActive, text)
                .next("read it with esp_flash_read, decrypt it with esp_flash_encrypt action=decrypt and its key"));
        }
        let bytes = connected.loader.read_flash_bytes(job, found.offset, found.size)?;
        let contents = read(&bytes, keys);
        if contents.findings.contains(&nvs::Finding::Unreadable) {
            let text = format!(
                "no entry of partition `{}` is readable: it is encrypted, or the key is another one",
                found.name
            );
            return Err(ToolError::new(Code::NvsDamaged, text)
                .next("give key_file (64 bytes of NVS keys, or the nvs_keys partition) or hmac_key_file"));
        }
        let region = Region { name: found.name, address: found.offset, size: found.size };
        Ok(Self { region, bytes, contents, encrypted: keys.is_some() })
    }

    /// What has to be programmed for these changes.
    fn steps(&self, changes: &[Change], keys: Option<&Keys>) -> Result<Vec<Step>, ToolError> {
        nvs::change(&self.bytes, changes, keys).map_err(|error| match error {
            nvs::NvsError::Damaged(finding) => ToolError::new(Code::NvsDamaged, format!("not changed: {finding}"))
                .next("let the device boot once, which repairs what was cut off; or erase the partition with esp_flash_erase"),
            error => error.into(),
        })
    }

    /// Keeps the partition as it is now in a file. The name holds the content's hash: an earlier copy is never overwritten.
    fn copy(&self, ctx: &Ctx, folder: &str) -> Result<Copy, ToolError> {
        let Region { name, address, size } = &self.region;
        let hash = esp_model::hex::encode(Sha256::digest(&self.bytes));
        let short = hash.get(..8).unwrap_or(&hash);
        let path = format!("{folder}/{address:06x}-{}-{short}.bin", name.replace(['/', '\\', '\0'], "_"));
        let file = ctx.files.keep(&path, &self.bytes)?.display().to_string();
        Ok(Copy { region: name.clone(), address: *address, size_bytes: *size, file })
    }

    /// Makes the changes and reads the partition back.
    fn change(
        &self,
        connected: &mut Connected,
        job: &Job,
        changes: &[Change],
        steps: &[Step],
        keys: Option<&Keys>,
    ) -> Result<Contents, ToolError> {
        let after = nvs_write::apply(connected, job, &self.region, &self.bytes, steps)?;
        let contents = read(&after, keys);
        for change in changes {
            let Change::Set { namespace, key, value } = change else { continue };
            if contents.get(namespace, key) != Some(value) {
                let text = format!("{namespace}/{key} does not read back as it was written");
                return Err(ToolError::new(Code::VerifyFailed, text).touched(FlashState::Written));
            }
        }
        Ok(contents)
    }

    fn out(&self, device: Device, input: &In) -> Out {
        Out {
            device,
            action: input.action,
            partition: self.region.name.clone(),
            address: format!("{:#x}", self.region.address),
            size: format!("{:#x}", self.region.size),
            encrypted: self.encrypted,
            entries: Vec::new(),
            entry_count: 0,
            unchanged_count: None,
            free_entries: free_entries(&self.contents),
            verified: None,
            copy: None,
            findings: self.contents.findings.iter().map(FindingOut::new).collect(),
        }
    }
}

impl Out {
    fn differences(&mut self, differences: &[Difference], show: Show) {
        self.entry_count = differences.len();
        self.entries = differences.iter().take(LISTED).map(|difference| EntryOut::of(difference, show)).collect();
    }

    /// Pairs that are there now and were not, or not with this value.
    fn changed_count(&self) -> usize {
        self.entries.iter().filter(|entry| entry.change.as_deref() != Some("removed")).count()
    }

    fn list(&mut self, input: &In, contents: &Contents) -> Result<(), ToolError> {
        let show = Show::of(input.show_values);
        let wanted = |entry: &&nvs::Entry| {
            input.namespace.as_ref().is_none_or(|name| *entry.namespace == **name)
                && input.key.as_ref().is_none_or(|key| entry.key == *key)
        };
        let found: Vec<_> = contents.entries.iter().filter(wanted).collect();
        if found.is_empty() && (input.namespace.is_some() || input.key.is_some()) {
            let name =
                [input.namespace.as_deref(), input.key.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("/");
            let known = contents.entries.iter().map(|entry| format!("{}/{}", entry.namespace, entry.key));
            let known = known.take(40).collect::<Vec<_>>().join(", ");
            return Err(ToolError::new(
                Code::NvsKeyMissing,
                format!("there is no `{name}` in partition `{}`", self.partition),
            )
            .seen("entries", known));
        }
        self.entry_count = found.len();
        self.entries = found.into_iter().take(LISTED).map(|entry| EntryOut::new(entry, show)).collect();
        Ok(())
    }
}

fn read(bytes: &[u8], keys: Option<&Keys>) -> Contents {
    match keys {
        Some(keys) => nvs::read(&nvs::decrypt(bytes, keys)),
        None => nvs::read(bytes),
    }
}

fn free_entries(contents: &Contents) -> usize {
    let blank = contents.pages.iter().filter(|page| page.blank).count();
    // One page stays free for the device to collect erased entries into.
    contents.count(SlotState::Empty) + blank.saturating_sub(1) * nvs::ENTRIES
}

/// The NVS partition of this name; without a name `nvs`, or the only one.
fn partition(connected: &mut Connected, job: &Job, name: Option<&str>) -> Result<Partition, ToolError> {
    connected.loader.attach_flash(job, None)?;
    let table = keep::table(connected, job, None)?.map(|found| found.table);
    let table = table.ok_or_else(|| ToolError::new(Code::NoPartitionTable, "there is no partition table in flash"))?;
    let all: Vec<&Partition> =
        table.partitions.iter().filter(|one| (one.kind, one.subtype) == (DATA, DATA_NVS)).collect();
    let found = match (name, all.as_slice()) {
        (Some(name), _) => all.iter().find(|one| one.name == name),
        (None, [only]) => Some(only),
        (None, _) => all.iter().find(|one| one.name == USUAL),
    };
    let known = all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
    found.map(|found| (*found).clone()).ok_or_else(|| {
        let text = match name {
            Some(name) => format!("there is no NVS partition `{name}`"),
            None => format!("the table has {} NVS partitions and none is named nvs", all.len()),
        };
        ToolError::new(Code::UnknownPartition, text).seen("nvs_partitions", known)
    })
}

/// What is to be changed.
fn changes(ctx: &Ctx, input: &In, contents: &Contents) -> Result<Vec<Change>, ToolError> {
    let missing = |what: &str| ToolError::new(Code::MissingParameter, format!("{what} is missing"));
    if let Some(data) = input.data.as_ref().filter(|_| input.action == Action::Set) {
        return changes_of(ctx, data);
    }
    let namespace = input.namespace.clone().ok_or_else(|| missing("namespace"))?;
    if input.action == Action::Delete {
        let there = |entry: &nvs::Entry| {
            *entry.namespace == *namespace && input.key.as_ref().is_none_or(|key| entry.key == *key)
        };
        if !contents.entries.iter().any(there) {
            let what = input.key.as_ref().map_or(namespace.clone(), |key| format!("{namespace}/{key}"));
            return Err(ToolError::new(Code::NvsKeyMissing, format!("there is no `{what}`: nothing was deleted")));
        }
        return Ok(vec![Change::Remove { namespace, key: input.key.clone() }]);
    }
    let key = input.key.clone().ok_or_else(|| missing("key (or data)"))?;
    let AnyValue(json) = input.value.as_ref().ok_or_else(|| missing("value"))?;
    let old = contents.get(&namespace, &key);
    let json = as_before(json, old);
    let value = value_of(ctx, &namespace, &key, &json)?;
    Ok(vec![Change::Set { namespace, key, value }])
}

/// A bare number takes the type of the value that it replaces: the app looks for that one.
fn as_before(json: &Json, old: Option<&nvs::Value>) -> Json {
    let bare = json.is_number() || json.as_str().is_some_and(|text| text.parse::<i128>().is_ok());
    match old.filter(|old| old.number().is_some() && bare) {
        Some(old) => serde_json::json!({"type": old.type_name(), "value": json}),
        None => json.clone(),
    }
}

/// The NVS to compare with: from a file, or from another device or image.
fn other(ctx: &Ctx, job: &Job, input: &In, keys: Option<&Keys>) -> Result<Contents, ToolError> {
    let name = input.other.as_deref();
    let name = name.ok_or_else(|| ToolError::new(Code::MissingParameter, "other is missing: a file or a port URL"))?;
    if ctx.files.input(name).is_ok() {
        return Ok(read(&nvs_of(ctx.files.read_some(name)?)?, keys));
    }
    let port: PortUrl = name.parse()?;
    let store =
        ctx.with_device(Some(&port), job, |connected| Store::read(connected, job, input.partition.as_deref(), keys))?;
    Ok(store.contents)
}
