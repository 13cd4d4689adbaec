//! What a partition holds.

use esp_model::boot::FlashRead;
use esp_model::fs;
use esp_model::image::{self, kind};
use esp_model::job::Job;
use esp_model::nvs;
use esp_model::partition::otadata::{Otadata, Rules};
use esp_model::partition::{self, Partition, Subtypes, Table};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ToolError;
use crate::partition::rows::RowOut;
use crate::session::device::Connected;
use crate::words::counted;

/// A partition and what it holds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Content {
    #[serde(flatten)]
    /// The row of the table.
    pub row: RowOut,
    /// blank, app, nvs, otadata, file_system, encrypted, core_dump, unknown …
    pub content: String,
    /// More about it: an app's version, an NVS partition's entries, the slot that otadata selects.
    pub about: String,
}

/// How much of a partition is looked at: enough for headers, NVS and otadata.
const LOOK: u32 = 0x1_0000;

/// What a partition holds.
pub fn content(
    connected: &mut Connected,
    job: &Job,
    partition: &Partition,
    table: &Table,
    flash_size: u32,
) -> Result<Content, ToolError> {
    let row = RowOut::new(partition, &Subtypes::default());
    let word = |content: &str, about: String| Content { row: row.clone(), content: content.into(), about };
    if partition.end() > u64::from(flash_size) || partition.size == 0 {
        return Ok(word("unknown", "it lies beyond the end of the flash".into()));
    }
    let app = partition.kind == partition::APP;
    let look = if app { 0x1000 } else { LOOK };
    let bytes = connected.loader.read_flash_bytes(job, partition.offset, partition.size.min(look))?;
    let whole = bytes.len() as u32 == partition.size;
    let nvs = partition.kind == partition::DATA && partition.subtype == partition::DATA_NVS;
    let otadata = partition.kind == partition::DATA && partition.subtype == partition::DATA_OTA;
    let file_system = fs::peek(&bytes, partition.size as usize).filter(|_| partition.kind == partition::DATA && !nvs);
    if let Some(kind) = file_system {
        return Ok(word("file_system", format!("{}; esp_filesystem_extract lists its files", kind.name())));
    }
    Ok(match kind::recognise(&bytes) {
        _ if otadata => {
            let slots = table.ota_slots().len() as u32;
            let factory = table.find_kind(partition::APP, partition::APP_FACTORY).is_some();
            let data = Otadata::read(&bytes);
            let decision = data.decide(Rules { slots, factory, rollback: false });
            let states = data.entries.map(|entry| format!("{} ({})", entry.sequence, entry.state.name()));
            word("otadata", format!("selects {:?}; sequences {}", decision.choice, states.join(", ")))
        }
        kind::Kind::Blank if whole => word("blank", String::new()),
        kind::Kind::Blank => word("blank", format!("the first {} KB are blank", bytes.len() / 1024)),
        kind::Kind::Image if app => word("app", app_about(&bytes)),
        _ if nvs => {
            let contents = nvs::read(&bytes);
            let worst = contents.worst().map_or_else(String::new, |finding| format!("; {finding}"));
            let kind = if contents.entries.is_empty() && !worst.is_empty() { "unknown" } else { "nvs" };
            let part = if whole { "" } else { " in the part that was read" };
            let free = contents.count(nvs::SlotState::Empty);
            word(kind, format!("{}{part}, room for {free} more{worst}", counted(contents.entries.len(), "entry")))
        }
        kind::Kind::Encrypted => word("encrypted", "bytes without structure: encrypted or compressed".into()),
        kind::Kind::CoreDump => word("core_dump", "esp_core_dump_analyze reads it".into()),
        other => word(&format!("{other:?}").to_lowercase(), String::new()),
    })
}

/// What the first sector of an app tells.
fn app_about(bytes: &[u8]) -> String {
    let mut head = [0; image::AppDesc::LEN];
    let app = bytes.read(32, &mut head).then(|| image::AppDesc::decode(&head)).flatten();
    let chip = image::detect(bytes).map(|chip| chip.name.clone()).unwrap_or_default();
    match app {
        Some(app) => format!("{} {} for {chip}, ESP-IDF {}", app.project_name, app.version, app.idf_version),
        None => format!("an image for {chip} without a description"),
    }
}
