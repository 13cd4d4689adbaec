//! What the device says of its tasks.

use serde::Serialize;

/// What is known to be wrong with a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TaskState {
    /// The control block was not sane; the device replaced it.
    pub tcb_corrupted: bool,
    /// The stack was not sane; the device replaced it.
    pub stack_corrupted: bool,
}

/// Addresses that the device gives to tasks whose own it could not trust (`core_dump_port.c`).
pub(super) fn is_fake(address: u32) -> bool {
    (0x2000_0000..0x3000_0000).contains(&address) || address > 0x7fff_ffff
}
