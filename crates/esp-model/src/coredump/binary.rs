//! The older binary layout: tasks with control block and stack, then memory segments (`core_dump_binary.c`).

use super::registers::{self, StackFrame};
use super::task::{TaskState, is_fake};
use super::{Checksum, CoreDump, CoreDumpError, Format, Segment, Task, Version, le32};
use crate::chip::{self, Arch};

/// The counts in the dump header.
pub(super) struct Header {
    pub tasks: u32,
    pub tcb_len: u32,
    pub segments: u32,
}

/// Most tasks a dump may have: far above any real device, so that a damaged count costs no memory.
const MAX_TASKS: u32 = 4096;
/// ESP-IDF saves no stack above this size (`COREDUMP_MAX_TASK_STACK_SIZE`).
const MAX_STACK: u32 = 64 << 10;

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: u32, what: &'static str) -> Result<&'a [u8], CoreDumpError> {
        let need = usize::try_from(len).unwrap_or(usize::MAX);
        let cut = CoreDumpError::Cut { what, need, have: self.0.len() };
        let (head, tail) = self.0.split_at_checked(need).ok_or(cut)?;
        self.0 = tail;
        Ok(head)
    }

    fn word(&mut self, what: &'static str) -> Result<u32, CoreDumpError> {
        self.take(4, what).map(|bytes| le32(bytes).unwrap_or_default())
    }

    /// Skips to the next multiple of four of what was taken.
    fn align(&mut self, taken: u32) {
        let pad = usize::try_from(taken.wrapping_neg() & 3).unwrap_or(0);
        self.0 = self.0.get(pad..).unwrap_or_default();
    }
}

/// Decodes the part between header and checksum.
pub(super) fn decode(
    body: &[u8],
    header: &Header,
    checksum: Checksum,
    version: Version,
    chip_revision: Option<u32>,
) -> Result<CoreDump, CoreDumpError> {
    if header.tasks == 0 || header.tasks > MAX_TASKS {
        return Err(CoreDumpError::Malformed("task count"));
    }
    let arch = chip::by_chip_id(version.chip_id).map_or(Arch::Xtensa, |chip| chip.arch);
    let mut cursor = Cursor(body);
    let (mut tasks, mut segments, mut exception) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..header.tasks {
        let tcb = cursor.word("task header")?;
        let (top, end) = (cursor.word("task header")?, cursor.word("task header")?);
        let (start, len) = (top.min(end), top.abs_diff(end));
        if len > MAX_STACK {
            return Err(CoreDumpError::Malformed("stack above 64 KiB"));
        }
        let control = cursor.take(header.tcb_len, "task control block")?;
        let stack = cursor.take(len, "task stack")?;
        cursor.align(12 + header.tcb_len + len);
        if top > end {
            return Err(CoreDumpError::Malformed("stack that grows up"));
        }
        let StackFrame { registers, exception: extra } = registers::from_stack(arch, stack)
            .ok_or(CoreDumpError::Malformed("stack too small for its register frame"))?;
        if index == 0 {
            exception = extra;
        }
        let state = TaskState { tcb_corrupted: is_fake(tcb), stack_corrupted: is_fake(start) };
        if !state.tcb_corrupted {
            segments.push(Segment { address: tcb, bytes: control.to_vec() });
        }
        segments.push(Segment { address: start, bytes: stack.to_vec() });
        tasks.push(Task { tcb, registers, stack: Some((start, len)), state });
    }
    for _ in 0..header.segments {
        let (address, len) = (cursor.word("memory segment")?, cursor.word("memory segment")?);
        segments.push(Segment { address, bytes: cursor.take(len, "memory segment")?.to_vec() });
    }
    Ok(CoreDump {
        format: Format::Binary,
        version: Some(version),
        arch,
        chip_revision,
        checksum,
        app_sha256: None,
        panic_details: None,
        crashed_task: tasks.first().map(|task| task.tcb),
        in_isr: None,
        exception,
        tasks,
        segments,
        damage: Vec::new(),
    })
}
