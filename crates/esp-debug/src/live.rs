//! A stopped device: what of its memory has been read, its backtrace, FreeRTOS tasks.
//!
//! Memory is asked for as it is needed: [`Seen`] notes what it lacks, its owner reads that from the device and asks again.

use std::cell::RefCell;
use std::collections::BTreeSet;

use esp_model::chip::Arch;
use esp_model::coredump::{Registers, saved_registers};

use crate::coredump::{TaskReport, task_report};
use crate::symbols::{Memory, Program, StructLayout, Unwinder};

/// Tasks that are listed at most.
const MOST_TASKS: usize = 64;
/// Length of a saved register frame, at least.
const FRAME: usize = 160;

/// Memory that has been read.
#[derive(Debug, Default)]
pub struct Seen {
    parts: Vec<(u32, Vec<u8>)>,
    missed: RefCell<BTreeSet<(u32, usize)>>,
}

impl Memory for Seen {
    fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        let found = part(&self.parts, address, len);
        if found.is_none() {
            self.missed.borrow_mut().insert((address, len));
        }
        found
    }
}

impl Seen {
    /// What was read from the device.
    pub fn add(&mut self, address: u32, bytes: Vec<u8>) {
        self.parts.push((address, bytes));
    }

    /// What was asked for and is not there, since the last call.
    pub fn take_missed(&mut self) -> Vec<(u32, usize)> {
        std::mem::take(self.missed.get_mut()).into_iter().collect()
    }
}

fn part(parts: &[(u32, Vec<u8>)], address: u32, len: usize) -> Option<&[u8]> {
    parts.iter().find_map(|(start, bytes)| {
        let at = usize::try_from(address.checked_sub(*start)?).ok()?;
        bytes.get(at..at.checked_add(len)?)
    })
}

/// Memory as it were if an Xtensa core had saved all its register windows to the stack, as a backtrace expects.
pub struct Spilled<'m> {
    windows: Vec<(u32, Vec<u8>)>,
    memory: &'m dyn Memory,
}

impl Memory for Spilled<'_> {
    fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        part(&self.windows, address, len).or_else(|| self.memory.read(address, len))
    }
}

impl<'m> Spilled<'m> {
    /// From all 64 registers, WINDOWBASE and WINDOWSTART.
    pub fn new(registers: &[u32], base: u32, start: u32, memory: &'m dyn Memory) -> Self {
        let register =
            |window: u32, number: u32| registers.get((window * 4 + number) as usize % 64).copied().unwrap_or(0);
        let mut made = Self { windows: Vec::new(), memory };
        let mut window = base & 15;
        loop {
            let caller = (1..4).map(|distance| window.wrapping_sub(distance) & 15).find(|at| start >> at & 1 != 0);
            let Some(caller) = caller.filter(|caller| *caller != base & 15 && made.windows.len() < 32) else {
                return made;
            };
            let words =
                |count: std::ops::Range<u32>| count.flat_map(|number| register(caller, number).to_le_bytes()).collect();
            made.windows.push((register(window, 1).wrapping_sub(16), words(0..4)));
            let extra = (window.wrapping_sub(caller) & 15).saturating_sub(1) * 4;
            // What a call8 or call12 has left of its caller's registers lies below the stack pointer of the one above.
            if extra > 0
                && let Some(above) = made.word(register(caller, 1).wrapping_sub(12))
            {
                made.windows.push((above.wrapping_sub(16 + extra * 4), words(4..4 + extra)));
            }
            window = caller;
        }
    }
}

/// A FreeRTOS task.
#[derive(Debug, Clone)]
pub struct LiveTask {
    /// running, ready, blocked, suspended or ended.
    pub state: &'static str,
    /// The core that runs it.
    pub core: Option<usize>,
    /// What is known of it.
    pub report: TaskReport,
}

/// Lists of the scheduler by their variables, and what a task in one is.
const LISTS: [(&str, &str); 6] = [
    ("pxReadyTasksLists", "ready"),
    ("xPendingReadyList", "ready"),
    ("xDelayedTaskList1", "blocked"),
    ("xDelayedTaskList2", "blocked"),
    ("xSuspendedTaskList", "suspended"),
    ("xTasksWaitingTermination", "ended"),
];
/// `sizeof (List_t)`, and offsets in it and in its items, without integrity checks.
const LIST: u32 = 20;
const END: u32 = 8;
const NEXT: u32 = 4;
const OWNER: u32 = 12;

/// All tasks by the scheduler's lists; `None` without FreeRTOS in the ELF file. `running` has the registers of each core.
pub fn tasks(program: &Program<'_>, running: &[Registers], unwinder: &Unwinder<'_, '_>) -> Option<Vec<LiveTask>> {
    let memory = unwinder.memory;
    let (current, size) = program.address_of("pxCurrentTCBs").or_else(|| program.address_of("pxCurrentTCB"))?;
    let cores = running.len().min((size / 4).max(1) as usize);
    let layout = program.struct_layout("tskTaskControlBlock", "vTaskSwitchContext");
    let mut found: Vec<LiveTask> = Vec::new();
    for (core, registers) in running.iter().enumerate().take(cores) {
        if let Some(tcb) = memory.word(current + 4 * core as u32).filter(|tcb| *tcb != 0) {
            let report = task_report(tcb, registers, layout.as_ref(), unwinder);
            found.push(LiveTask { state: "running", core: Some(core), report });
        }
    }
    let mut seen: BTreeSet<u32> = (0..cores).filter_map(|core| memory.word(current + 4 * core as u32)).collect();
    for (name, state) in LISTS {
        let Some((address, size)) = program.address_of(name) else { continue };
        for list in (0..(size / LIST).max(1)).map(|index| address + index * LIST) {
            for tcb in members(memory, list) {
                if seen.insert(tcb) && found.len() < MOST_TASKS {
                    found.push(waiting(tcb, state, program.arch(), layout.as_ref(), unwinder));
                }
            }
        }
    }
    Some(found)
}

fn members(memory: &dyn Memory, list: u32) -> Vec<u32> {
    let end = list + END;
    let mut item = memory.word(end + NEXT);
    let mut found = Vec::new();
    while let Some(at) = item.filter(|at| *at != 0 && *at != end && found.len() < MOST_TASKS) {
        found.extend(memory.word(at.wrapping_add(OWNER)).filter(|tcb| *tcb != 0));
        item = memory.word(at.wrapping_add(NEXT));
    }
    found
}

/// A task that does not run: its registers lie on its stack.
fn waiting(
    tcb: u32,
    state: &'static str,
    arch: Arch,
    layout: Option<&StructLayout>,
    unwinder: &Unwinder<'_, '_>,
) -> LiveTask {
    let saved = unwinder.memory.word(tcb).and_then(|top| unwinder.memory.read(top, FRAME));
    let registers = saved.and_then(|stack| saved_registers(arch, stack));
    let unknown = || Registers { arch, pc: 0, general: Vec::new(), special: Vec::new() };
    let known = registers.is_some();
    let mut report = task_report(tcb, &registers.unwrap_or_else(unknown), layout, unwinder);
    if !known {
        report.backtrace.clear();
        report.registers.clear();
    }
    LiveTask { state, core: None, report }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_in_the_register_file_are_seen_as_if_saved_to_the_stack() {
        let seen = Seen::default();
        // Window 2 was called by call8 from window 0: a0, a1 of each.
        let mut registers = vec![0; 64];
        (registers[8], registers[9]) = (0x8000_1234, 0x3ffb_1000);
        (registers[0], registers[1], registers[4]) = (0x8000_2345, 0x3ffb_1040, 7);
        let spilled = Spilled::new(&registers, 2, 0b101, &seen);
        assert_eq!(spilled.word(0x3ffb_0ff0), Some(0x8000_2345));
        assert_eq!(spilled.word(0x3ffb_0ff4), Some(0x3ffb_1040));
        assert_eq!(spilled.word(0x3ffb_0000), None);
        drop(spilled);
        let mut seen = seen;
        assert!(seen.take_missed().contains(&(0x3ffb_1034, 4)), "the caller's caller is asked for");
    }
}
