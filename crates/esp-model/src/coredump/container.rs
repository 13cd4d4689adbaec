//! The dump header with its versions and checksums (`esp_core_dump_types.h`, `core_dump_checksum.c` of ESP-IDF).

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Check, CoreDump, CoreDumpError, Task, TaskState, binary, elf, le32, realign, registers};

/// The version word of the dump header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Version {
    /// `esp_chip_id_t` of the device.
    pub chip_id: u16,
    /// Version of the layout, major part: 0 binary, 1 ELF.
    pub major: u8,
    /// Version of the layout, minor part.
    pub minor: u8,
}

impl Version {
    /// Reads the version word: chip id in the upper half, major and minor below.
    pub fn from_word(word: u32) -> Self {
        let [minor, major, low, high] = word.to_le_bytes();
        Self { chip_id: u16::from_le_bytes([low, high]), major, minor }
    }

    /// Layout version as one number, major × 256 + minor.
    pub fn layout(self) -> u16 {
        u16::from_be_bytes([self.major, self.minor])
    }
}

/// How a dump guards its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumKind {
    /// CRC-32 as in zlib.
    Crc32,
    /// SHA-256.
    Sha256,
    /// A bare ELF core carries none.
    None,
}

impl ChecksumKind {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Sha256 => "SHA-256",
            Self::None => "no checksum",
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Crc32 => 4,
            Self::Sha256 => 32,
            Self::None => 0,
        }
    }

    /// The checksum of `bytes`, in hex.
    fn of(self, bytes: &[u8]) -> String {
        match self {
            Self::Crc32 => format!("{:08x}", crc32fast::hash(bytes)),
            Self::Sha256 => hex(&Sha256::digest(bytes)),
            Self::None => String::new(),
        }
    }

    /// A stored checksum in the same form.
    fn stored(self, bytes: &[u8]) -> String {
        match self {
            Self::Crc32 => format!("{:08x}", le32(bytes).unwrap_or_default()),
            Self::Sha256 => hex(bytes),
            Self::None => String::new(),
        }
    }
}

/// The integrity check of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checksum {
    /// Which.
    pub kind: ChecksumKind,
    /// What the dump says, in hex.
    pub stored: String,
    /// It fits. None when there is nothing to check.
    pub ok: Option<bool>,
}

impl Checksum {
    pub(super) fn none() -> Self {
        Self { kind: ChecksumKind::None, stored: String::new(), ok: None }
    }
}

/// What differs between the layouts in use.
struct Layout {
    version: u16,
    header_len: usize,
    /// Where the chip revision stands in the header.
    revision_at: Option<usize>,
    checksum: ChecksumKind,
}

/// `EspCoreDumpVersion` values that ESP-IDF has written so far.
const LAYOUTS: &[Layout] = &[
    Layout { version: 0x0001, header_len: 16, revision_at: None, checksum: ChecksumKind::Crc32 },
    Layout { version: 0x0002, header_len: 20, revision_at: None, checksum: ChecksumKind::Crc32 },
    Layout { version: 0x0003, header_len: 24, revision_at: Some(20), checksum: ChecksumKind::Crc32 },
    Layout { version: 0x0100, header_len: 20, revision_at: None, checksum: ChecksumKind::Crc32 },
    Layout { version: 0x0101, header_len: 20, revision_at: None, checksum: ChecksumKind::Sha256 },
    Layout { version: 0x0102, header_len: 24, revision_at: Some(20), checksum: ChecksumKind::Crc32 },
    Layout { version: 0x0103, header_len: 24, revision_at: Some(20), checksum: ChecksumKind::Sha256 },
    Layout { version: 0x0104, header_len: 12, revision_at: Some(8), checksum: ChecksumKind::Sha256 },
];

/// Bytes of a dump that a console may have printed: of such a one more than half may be missing.
const MOST_PRINTED: usize = 1 << 20;

/// The dump header names a layout in use; a cheap test for "is this a core dump".
pub(super) fn looks_like_dump(bytes: &[u8]) -> bool {
    let word = |at: usize| bytes.get(at..).and_then(le32);
    let (Some(total), Some(version)) = (word(0), word(4)) else { return false };
    let version = Version::from_word(version);
    LAYOUTS.iter().any(|layout| layout.version == version.layout()) && (20..0x400_0000).contains(&total)
}

/// Decodes a dump that begins with its header.
pub(super) fn decode(bytes: &[u8], check: Check) -> Result<CoreDump, CoreDumpError> {
    let word = |at: usize| {
        let have = bytes.len();
        bytes.get(at..).and_then(le32).ok_or(CoreDumpError::Cut { what: "header", need: at + 4, have })
    };
    let total = word(0)?;
    if total == u32::MAX || bytes.iter().take(64).all(|byte| *byte == 0xff) {
        return Err(CoreDumpError::Blank);
    }
    let version = Version::from_word(word(4)?);
    let layout = LAYOUTS
        .iter()
        .find(|layout| layout.version == version.layout())
        .ok_or(CoreDumpError::Version(version.layout()))?;
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    let cut = CoreDumpError::Cut { what: "dump", need: total, have: bytes.len() };
    // What a serial line lost is seldom much; a header that is wrong asks for more.
    let missing = total.saturating_sub(bytes.len());
    let tolerated = check == Check::Report && (missing <= bytes.len() || total <= MOST_PRINTED);
    if missing > 0 && tolerated {
        return with_losses(bytes, total, layout, version);
    }
    with_layout(bytes.get(..total).ok_or(cut)?, layout, version, Some(check))
}

/// Decodes a dump of which some bytes are missing, at its end or where lines of a console were lost.
fn with_losses(bytes: &[u8], total: usize, layout: &Layout, version: Version) -> Result<CoreDump, CoreDumpError> {
    let missing = total - bytes.len();
    let placed = (layout.version >= 0x0100).then(|| realign::realigned(bytes, layout.header_len, total)).flatten();
    let Some(placed) = placed else {
        let found = with_layout(&[bytes, &vec![0; missing]].concat(), layout, version, None)?;
        let lost = format!("{missing} bytes are missing, taken to be the last: they are zeros");
        return Ok(CoreDump { damage: vec![lost], ..found });
    };
    let mut dump = with_layout(&placed.bytes, layout, version, None)?;
    // Where a note's content was lost, its task has no handle; its registers lie on its stack too.
    dump.tasks.retain(|task| task.tcb != 0);
    let found = from_stacks(&dump);
    let again = found.len();
    for task in found {
        let at = if dump.crashed_task == Some(task.tcb) { 0 } else { dump.tasks.len() };
        dump.tasks.insert(at, task);
    }
    let lost = |from: u32, to: u32| placed.memory.iter().any(|(low, high)| *low < to && from < *high);
    let blocks: Vec<(u32, u32)> =
        dump.segments.iter().map(|one| (one.address, u32::try_from(one.bytes.len()).unwrap_or_default())).collect();
    for task in &mut dump.tasks {
        let block = blocks.iter().find(|(address, _)| *address == task.tcb);
        task.state.tcb_corrupted |= block.is_none_or(|(start, len)| lost(*start, start.wrapping_add(*len)));
        task.state.stack_corrupted |= task.stack.is_none_or(|(start, len)| lost(start, start.wrapping_add(len)));
    }
    dump.damage.push(format!("{missing} bytes are missing (lines were lost): what could not be placed is zeros"));
    dump.damage
        .extend(placed.lost.iter().map(|(from, to)| format!("zeros from byte {from:#x} to {to:#x} of the dump")));
    if again > 0 {
        dump.damage.push(format!("the registers of {again} of the tasks are those on their stacks"));
    }
    Ok(dump)
}

/// Tasks of which only control block and stack are left, one behind the other in the dump.
pub(super) fn from_stacks(dump: &CoreDump) -> Vec<Task> {
    let new = |tcb: u32| dump.tasks.iter().all(|task| task.tcb != tcb);
    let pairs = dump.segments.windows(2).filter_map(|pair| match pair {
        [block, stack] if new(block.address) && le32(&block.bytes) == Some(stack.address) => Some((block, stack)),
        _ => None,
    });
    pairs
        .filter_map(|(block, stack)| {
            let registers = registers::from_stack(dump.arch, &stack.bytes)?.registers;
            let len = u32::try_from(stack.bytes.len()).ok()?;
            Some(Task { tcb: block.address, registers, stack: Some((stack.address, len)), state: TaskState::default() })
        })
        .collect()
}

/// Decodes a whole dump of a known layout; without a check one of which parts are known to be missing.
fn with_layout(
    dump: &[u8],
    layout: &Layout,
    version: Version,
    check: Option<Check>,
) -> Result<CoreDump, CoreDumpError> {
    let word = |at: usize| {
        let have = dump.len();
        dump.get(at..).and_then(le32).ok_or(CoreDumpError::Cut { what: "header", need: at + 4, have })
    };
    let total = dump.len();
    let overhead = layout.header_len + layout.checksum.len();
    if total < overhead {
        return Err(CoreDumpError::Malformed("length below header and checksum"));
    }
    let (guarded, stored) = dump.split_at(total - layout.checksum.len());
    let body = guarded.get(layout.header_len..).unwrap_or_default();

    let (stored, computed) = (layout.checksum.stored(stored), layout.checksum.of(guarded));
    let ok = stored == computed;
    if !ok && check == Some(Check::Enforce) {
        return Err(CoreDumpError::Checksum { kind: layout.checksum, stored, computed });
    }
    let checksum = Checksum { kind: layout.checksum, stored, ok: Some(ok) };
    let revision = layout.revision_at.map(word).transpose()?;
    if layout.version >= 0x0100 {
        return elf::decode(body, checksum, Some(version), revision, check.is_some());
    }
    let segments = if layout.header_len >= 20 { word(16)? } else { 0 };
    let header = binary::Header { tasks: word(8)?, tcb_len: word(12)?, segments };
    binary::decode(body, &header, checksum, version, revision)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    crate::hex::encode(bytes)
}
