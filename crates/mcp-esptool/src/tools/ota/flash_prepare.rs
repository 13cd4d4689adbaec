//! `esp_ota_flash_prepare`: an update into the slot that is not in use, otadata set; also status, switch and rollback.

use esp_model::job::Job;
use esp_model::partition::otadata::{self, Choice, Decision, Entry, Otadata, Rules, State};
use esp_model::partition::{self, Partition, Table};
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::partition::on_device;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct FlashPrepare;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Write firmware_file into the slot that is not in use and select it.
    #[default]
    Write,
    /// Only tell slots and otadata.
    Status,
    /// Select `slot` without writing an app.
    Switch,
    /// Go back to the app that was selected before.
    Rollback,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// What to do (default write).
    #[serde(default)]
    action: Action,
    /// App image, for write.
    firmware_file: Option<String>,
    /// Slot number, for write and switch (default for write: the unused one).
    slot: Option<u32>,
    /// State written to otadata: undefined (default), new (the bootloader then waits for the app's confirmation, if it was
    /// built with rollback) or valid.
    #[schemars(extend("x-rare" = true))]
    state: Option<StateIn>,
    /// Flash address of the partition table (default 0x8000).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
}

/// States that can be written.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateIn {
    /// Not followed.
    Undefined,
    /// To be confirmed by the app.
    New,
    /// Confirmed.
    Valid,
}

impl From<StateIn> for State {
    fn from(state: StateIn) -> Self {
        match state {
            StateIn::Undefined => Self::Undefined,
            StateIn::New => Self::New,
            StateIn::Valid => Self::Valid,
        }
    }
}

/// One entry of otadata.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EntryOut {
    /// Sequence number; left out when blank.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u32>,
    /// State of the app; `blank` for an entry that was never written.
    state: String,
    /// The CRC fits; false when blank.
    crc_ok: bool,
    /// The slot that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
}

/// A slot.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SlotOut {
    /// Name of the partition.
    name: String,
    /// Number of the slot; left out for factory.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
    /// Flash address.
    offset: u32,
    /// Size.
    size_bytes: u32,
    /// Version of the app in it; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// For anti-rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_version: Option<u32>,
    /// The bootloader starts this one first.
    selected: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// What was done.
    action: Action,
    /// Slots, after it.
    slots: Vec<SlotOut>,
    /// otadata, after it.
    otadata: Vec<EntryOut>,
    /// Partition that was selected before.
    before: String,
    /// Partition that is selected now.
    selected: String,
    /// The app was written to this partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// Everything written was compared on the chip.
    verified: bool,
}

impl Tool for FlashPrepare {
    const NAME: &'static str = "esp_ota_flash_prepare";
    const TITLE: &'static str = "Prepare an OTA update";
    const ABOUT: &'static str = "Write an app into the unused OTA slot and select it in otadata, keeping rollback \
         possible. Also slot status, switch and rollback.";
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let offset = esp_ops::args::table_offset(input.table_offset)?;
        let app = match (input.action, &input.firmware_file) {
            (Action::Write, Some(path)) => Some(ctx.files.read_some(path)?),
            (Action::Write, None) => return Err(ToolError::new(Code::MissingParameter, "write needs firmware_file")),
            _ => None,
        };
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            if input.action != Action::Status {
                on_device::refuse_encrypted(connected, job)?;
            }
            let table = on_device::read(connected, job, offset)?.into_table(offset)?;
            let mut slots = Slots::read(connected, job, table)?;
            let before = slots.name_of(slots.decision().choice);
            let (mut written, mut verified) = (None, true);
            let target = slots.target(&input)?;
            if let Some((slot, state)) = target {
                let after = slots.after(slot, state, input.action)?;
                let mut parts = Vec::new();
                if let Some(app) = app {
                    let partition = slots.partition(slot)?.clone();
                    check_version(connected, job, &app)?;
                    let name = input.firmware_file.as_deref().unwrap_or_default();
                    esp_ops::flash::belongs::check_update(name, &app, connected, partition.size)?;
                    written = Some(partition.name.clone());
                    parts.push((partition.offset, app));
                }
                // The app first: while otadata is not written, the device still starts the old one.
                if !parts.is_empty() {
                    verified &= on_device::write(connected, job, parts)?;
                }
                for (index, entry) in after.entries.iter().enumerate() {
                    if *entry != slots.data.entries[index] {
                        let mut sector = entry.bytes().to_vec();
                        sector.resize(otadata::COPY, 0xff);
                        let place = slots.place + (index * otadata::COPY) as u32;
                        verified &= on_device::write(connected, job, vec![(place, sector)])?;
                    }
                }
                slots = Slots::read(connected, job, slots.table)?;
            }
            let selected = slots.name_of(slots.decision().choice);
            let (entries, list) = (slots.entries(), slots.list(connected, job)?);
            Ok(Out { device, action: input.action, slots: list, otadata: entries, before, selected, written, verified })
        })
    }

    fn summary(out: &Out) -> String {
        let written = out.written.as_ref().map_or_else(String::new, |name| format!("app written to {name}; "));
        let selected = match (out.action, out.before == out.selected) {
            (Action::Status, _) if out.otadata.iter().all(|entry| !entry.crc_ok) => {
                format!("no entry of otadata is valid: the bootloader starts {} by default", out.selected)
            }
            (Action::Status, _) => format!("selected: {}", out.selected),
            (_, true) => format!("selected, as before: {}", out.selected),
            (_, false) => format!("selected: {} (before: {})", out.selected, out.before),
        };
        format!("{}\n{written}{selected}", out.device)
    }
}

/// Table and otadata of a device.
struct Slots {
    table: Table,
    /// Flash address of otadata.
    place: u32,
    data: Otadata,
}

impl Slots {
    fn read(connected: &mut Connected, job: &Job, table: Table) -> Result<Self, ToolError> {
        let otadata = table.find_kind(partition::DATA, partition::DATA_OTA).filter(|_| !table.ota_slots().is_empty());
        let Some(otadata) = otadata else {
            let text = "the partition table has no OTA slots or no otadata";
            return Err(ToolError::new(Code::NoOtaLayout, text));
        };
        let place = otadata.offset;
        let bytes = connected.loader.read_flash_bytes(job, place, otadata::LENGTH as u32)?;
        Ok(Self { data: Otadata::read(&bytes), place, table })
    }

    fn count(&self) -> u32 {
        self.table.ota_slots().len() as u32
    }

    fn decision(&self) -> Decision {
        let factory = self.table.find_kind(partition::APP, partition::APP_FACTORY).is_some();
        self.data.decide(Rules { slots: self.count(), factory, rollback: false })
    }

    fn partition(&self, slot: u32) -> Result<&Partition, ToolError> {
        let found = self.table.partitions.iter().find(|p| p.ota_slot().map(u32::from) == Some(slot));
        found.ok_or_else(|| ToolError::new(Code::UnknownPartition, format!("there is no slot ota_{slot}")))
    }

    fn name_of(&self, choice: Choice) -> String {
        let partition = match choice {
            Choice::Factory => self.table.find_kind(partition::APP, partition::APP_FACTORY),
            Choice::Slot(slot) => self.partition(slot).ok(),
        };
        partition.map_or_else(|| "none".into(), |partition| partition.name.clone())
    }

    /// The slot to be selected and its state.
    fn target(&self, input: &In) -> Result<Option<(u32, State)>, ToolError> {
        let state = input.state.map_or(State::Undefined, State::from);
        let current = match self.decision().choice {
            Choice::Slot(slot) => Some(slot),
            Choice::Factory => None,
        };
        let slot = match input.action {
            Action::Status => return Ok(None),
            Action::Switch => input.slot.ok_or_else(|| ToolError::new(Code::MissingParameter, "switch needs slot"))?,
            Action::Write => {
                let slot = input.slot.unwrap_or(current.map_or(0, |current| (current + 1) % self.count()));
                if Some(slot) == current {
                    let text = format!("ota_{slot} is in use: writing it would leave no app to go back to");
                    return Err(ToolError::new(Code::SlotInUse, text));
                }
                slot
            }
            Action::Rollback => {
                let active = self.data.active(Entry::is_valid);
                let other = active.and_then(|active| self.data.entries.get(1 - active));
                let slot = other.filter(|entry| entry.is_valid()).and_then(|entry| entry.slot(self.count()));
                slot.ok_or_else(|| {
                    ToolError::new(Code::NothingToDo, "otadata has no other valid entry to go back to").next(
                        "esp_ota_flash_prepare action=status shows the slots; action=switch slot=N selects another app",
                    )
                })?
            }
        };
        self.partition(slot)?;
        Ok(Some((slot, state)))
    }

    /// otadata that selects the slot. A rollback marks the present entry as rejected, as the app would.
    fn after(&self, slot: u32, state: State, action: Action) -> Result<Otadata, ToolError> {
        if let (Action::Rollback, Some(active)) = (action, self.data.active(Entry::is_valid)) {
            let mut after = self.data;
            if let Some(entry) = after.entries.get_mut(active) {
                entry.state = State::Invalid;
            }
            return Ok(after);
        }
        let switched = self.data.switch_to(slot, self.count(), state);
        switched.ok_or_else(|| ToolError::new(Code::UnknownPartition, format!("slot {slot} cannot be selected")))
    }

    fn entries(&self) -> Vec<EntryOut> {
        let out = |entry: &Entry| EntryOut {
            sequence: Some(entry.sequence).filter(|_| !entry.is_blank()),
            state: if entry.is_blank() { "blank" } else { entry.state.name() }.into(),
            crc_ok: entry.crc_ok(),
            slot: entry.slot(self.count()).filter(|_| entry.is_valid()),
        };
        self.data.entries.iter().map(out).collect()
    }

    fn list(&self, connected: &mut Connected, job: &Job) -> Result<Vec<SlotOut>, ToolError> {
        let selected = self.name_of(self.decision().choice);
        let mut out = Vec::new();
        for partition in self.table.partitions.iter().filter(|partition| partition.kind == partition::APP) {
            let head = connected.loader.read_flash_bytes(job, partition.offset, 288)?;
            let app = esp_model::image::AppDesc::decode(head.get(32..).unwrap_or_default());
            out.push(SlotOut {
                name: partition.name.clone(),
                slot: partition.ota_slot().map(u32::from),
                offset: partition.offset,
                size_bytes: partition.size,
                version: app.as_ref().map(|app| app.version.clone()),
                secure_version: app.as_ref().map(|app| app.secure_version),
                selected: partition.name == selected,
            });
        }
        Ok(out)
    }
}

/// The eFuses may demand a newer app (anti-rollback).
fn check_version(connected: &mut Connected, job: &Job, app: &[u8]) -> Result<(), ToolError> {
    let Some(burned) = connected.efuse_number("SECURE_VERSION", job)?.map(u32::count_ones).filter(|bits| *bits > 0)
    else {
        return Ok(());
    };
    let version =
        esp_model::image::parse(app).ok().and_then(|image| image.app_desc()).map_or(0, |app| app.secure_version);
    if version < burned {
        let text = format!("the app's secure_version {version} is below {burned}, which is burned into the eFuses");
        return Err(ToolError::new(Code::ImageRefused, text));
    }
    Ok(())
}
