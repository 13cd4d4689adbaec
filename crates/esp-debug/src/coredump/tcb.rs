//! FreeRTOS task control blocks.

use serde::Serialize;

use crate::symbols::{Memory, StructLayout};

/// The fields of interest of a control block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tcb {
    /// The task's name. Untrusted.
    pub name: Option<String>,
    /// Present priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Priority without inheritance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_priority: Option<u32>,
    /// Bytes between the stack's base and where it stood when the task was last switched out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_used_bytes: Option<u32>,
    /// Bytes left at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_free_bytes: Option<u32>,
}

/// Offset of the name when no ELF file tells: top of stack, two list items of 20 bytes, priority, stack base.
const USUAL_NAME_AT: u32 = 52;
/// Longest name read (`configMAX_TASK_NAME_LEN` is 16 in ESP-IDF).
const NAME_LEN: u32 = 16;

impl Tcb {
    /// Reads the control block at `address` by a layout from debug information, or its name by the usual one.
    pub(crate) fn read(memory: &dyn Memory, address: u32, layout: Option<&StructLayout>) -> Self {
        let Some(layout) = layout else {
            return Self { name: name(memory, address.wrapping_add(USUAL_NAME_AT)), ..Self::default() };
        };
        let at = |member: &str| layout.members.get(member).map(|offset| address.wrapping_add(*offset));
        let field = |member: &str| at(member).and_then(|address| memory.word(address));
        let (top, base, end) = (field("pxTopOfStack"), field("pxStack"), field("pxEndOfStack"));
        Self {
            name: at("pcTaskName").and_then(|address| name(memory, address)),
            priority: field("uxPriority"),
            base_priority: field("uxBasePriority"),
            stack_used_bytes: end.zip(top).map(|(end, top)| end.abs_diff(top)),
            stack_free_bytes: base.zip(top).map(|(base, top)| base.abs_diff(top)),
        }
    }
}

fn name(memory: &dyn Memory, address: u32) -> Option<String> {
    let byte = |i: u32| memory.read(address.wrapping_add(i), 1).and_then(|bytes| bytes.first().copied());
    let bytes: Vec<u8> = (0..NAME_LEN).map_while(byte).take_while(|byte| *byte != 0).collect();
    let printable = !bytes.is_empty() && bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    printable.then(|| String::from_utf8_lossy(&bytes).into_owned())
}
