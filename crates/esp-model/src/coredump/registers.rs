//! Registers as notes and stacks carry them.

use super::le32;
use crate::chip::Arch;

/// The registers of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    /// Instruction set.
    pub arch: Arch,
    /// Program counter.
    pub pc: u32,
    /// General registers by number: `a0`–`a15` of Xtensa, `x0`–`x31` of RISC-V.
    pub general: Vec<u32>,
    /// The others, by name.
    pub special: Vec<(&'static str, u32)>,
}

/// Names of the RISC-V registers x0–x31 in the calling convention.
pub const RISCV_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2",
    "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];
/// Names of the Xtensa address registers of a window.
pub const XTENSA_NAMES: [&str; 16] =
    ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "a11", "a12", "a13", "a14", "a15"];

impl Registers {
    /// The stack pointer.
    pub fn sp(&self) -> u32 {
        let number = if self.arch == Arch::Xtensa { 1 } else { 2 };
        self.general.get(number).copied().unwrap_or_default()
    }

    /// All registers by name, program counter first, without the constant zero.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        let names: &[&'static str] = if self.arch == Arch::Xtensa { &XTENSA_NAMES } else { &RISCV_NAMES };
        let general = names.iter().copied().zip(self.general.iter().copied()).filter(|(name, _)| *name != "zero");
        [("pc", self.pc)].into_iter().chain(self.special.iter().copied()).chain(general)
    }
}

/// Offset of the registers in `prstatus`, both architectures.
const PRSTATUS_REGISTERS: usize = 72;
/// Offset of the process id, which carries the task handle.
const PRSTATUS_PID: usize = 24;

/// Task handle and registers from a `prstatus` note.
pub(super) fn from_prstatus(arch: Arch, note: &[u8]) -> Option<(u32, Registers)> {
    let tcb = le32(note.get(PRSTATUS_PID..)?)?;
    let words: Vec<u32> = note.get(PRSTATUS_REGISTERS..)?.chunks_exact(4).filter_map(le32).collect();
    let word = |at: usize| words.get(at).copied();
    let registers = match arch {
        Arch::Riscv => riscv(&words)?,
        // `xtensa_elf_gregset_t`: pc, ps, lbeg, lend, lcount, sar, windowstart, windowbase, …, ar from word 64.
        Arch::Xtensa => {
            let base = usize::try_from(word(7)?).ok().filter(|base| *base < 16).unwrap_or(0) * 4;
            let general = (0..16).map(|i| word(64 + (base + i) % 64)).collect::<Option<Vec<u32>>>()?;
            let special = [("lbeg", 2), ("lend", 3), ("lcount", 4), ("sar", 5), ("ps", 1)]
                .into_iter()
                .map(|(name, at)| Some((name, word(at)?)))
                .collect::<Option<Vec<_>>>()?;
            Registers { arch, pc: word(0)?, general, special }
        }
    };
    Some((tcb, registers))
}

fn riscv(words: &[u32]) -> Option<Registers> {
    let words = words.get(..32)?;
    let mut general = words.to_vec();
    let pc = std::mem::replace(general.first_mut()?, 0);
    Some(Registers { arch: Arch::Riscv, pc, general, special: Vec::new() })
}

/// The registers of a task that does not run, from the frame on top of its stack.
pub fn saved_registers(arch: Arch, stack: &[u8]) -> Option<Registers> {
    from_stack(arch, stack).map(|frame| frame.registers)
}

/// What the frame on top of a saved stack says.
pub(super) struct StackFrame {
    pub registers: Registers,
    pub exception: Vec<(&'static str, u32)>,
}

/// The register frame at the start of a saved stack (binary dumps carry no notes).
///
/// Layouts: `XtExcFrame` and `XtSolFrame` of `xtensa_context.h`, `RvExcFrame` of `rvruntime-frames.h`.
pub(super) fn from_stack(arch: Arch, stack: &[u8]) -> Option<StackFrame> {
    let words: Vec<u32> = stack.chunks_exact(4).take(40).filter_map(le32).collect();
    let word = |at: usize| words.get(at).copied();
    if arch == Arch::Riscv {
        let extra = [("mstatus", 32), ("mtvec", 33), ("mcause", 34), ("mtval", 35), ("mhartid", 36)];
        let exception = extra.into_iter().filter_map(|(name, at)| Some((name, word(at)?))).collect();
        return Some(StackFrame { registers: riscv(&words)?, exception });
    }
    if words.len() < 25 {
        return None;
    }
    let (pc, mut ps) = (word(1)?, word(2)?);
    // A solicited switch (exit word 0) saves a0–a3 only; the rest was spilled by then.
    if word(0)? == 0 {
        let mut general = words.get(4..8)?.to_vec();
        general.resize(16, 0);
        let registers = Registers { arch, pc, general, special: vec![("ps", ps)] };
        return Some(StackFrame { registers, exception: vec![] });
    }
    // With user mode set, EXCM hides that the code uses windows.
    if ps & 0x20 != 0 {
        ps &= !0x10;
    }
    let special = vec![("lbeg", word(22)?), ("lend", word(23)?), ("lcount", word(24)?), ("sar", word(19)?), ("ps", ps)];
    let registers = Registers { arch, pc, general: words.get(3..19)?.to_vec(), special };
    Some(StackFrame { registers, exception: vec![("exccause", word(20)?), ("excvaddr", word(21)?)] })
}

/// Exception registers from the pairs (id, value) in the extra note; ids are Xtensa special register numbers.
pub(super) fn xtensa_exception(words: &[u32]) -> Vec<(&'static str, u32)> {
    const NAMES: [(u32, &str); 15] = [
        (232, "exccause"),
        (238, "excvaddr"),
        (177, "epc1"),
        (178, "epc2"),
        (179, "epc3"),
        (180, "epc4"),
        (181, "epc5"),
        (182, "epc6"),
        (183, "epc7"),
        (194, "eps2"),
        (195, "eps3"),
        (196, "eps4"),
        (197, "eps5"),
        (198, "eps6"),
        (199, "eps7"),
    ];
    let pairs: Vec<(u32, u32)> =
        words.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect();
    // Dumps converted from the binary layout number the first two 0 and 1.
    let first =
        |id: u32, at: usize| pairs.iter().find(|(found, _)| *found == id).or(pairs.get(at)).map(|(_, value)| *value);
    let mut found: Vec<(&'static str, u32)> = [("exccause", first(232, 0)), ("excvaddr", first(238, 1))]
        .into_iter()
        .filter_map(|(n, v)| Some((n, v?)))
        .collect();
    for (id, name) in NAMES.into_iter().skip(2) {
        found.extend(pairs.iter().skip(2).find(|(at, _)| *at == id).map(|(_, value)| (name, *value)));
    }
    found
}

/// What an exception cause means, as the architecture manuals and ESP-IDF's panic handler name it.
pub fn cause_name(arch: Arch, cause: u32) -> &'static str {
    let table: &[(u32, &str)] = match arch {
        Arch::Xtensa => XTENSA_CAUSES,
        Arch::Riscv => RISCV_CAUSES,
    };
    table.iter().find(|(number, _)| *number == cause).map_or("unknown", |(_, name)| name)
}

/// EXCCAUSE: Xtensa ISA reference manual, table "Exception Causes"; 64 and up are ESP-IDF's panic reasons.
const XTENSA_CAUSES: &[(u32, &str)] = &[
    (0, "IllegalInstruction"),
    (1, "Syscall"),
    (2, "InstructionFetchError"),
    (3, "LoadStoreError"),
    (4, "Level1Interrupt"),
    (5, "Alloca"),
    (6, "IntegerDivideByZero"),
    (8, "Privileged"),
    (9, "LoadStoreAlignment"),
    (12, "InstrPIFDataError"),
    (13, "LoadStorePIFDataError"),
    (14, "InstrPIFAddrError"),
    (15, "LoadStorePIFAddrError"),
    (16, "InstTLBMiss"),
    (17, "InstTLBMultiHit"),
    (18, "InstFetchPrivilege"),
    (20, "InstFetchProhibited"),
    (24, "LoadStoreTLBMiss"),
    (25, "LoadStoreTLBMultiHit"),
    (26, "LoadStorePrivilege"),
    (28, "LoadProhibited"),
    (29, "StoreProhibited"),
    (32, "Coprocessor0Disabled"),
    (33, "Coprocessor1Disabled"),
    (34, "Coprocessor2Disabled"),
    (35, "Coprocessor3Disabled"),
    (36, "Coprocessor4Disabled"),
    (37, "Coprocessor5Disabled"),
    (38, "Coprocessor6Disabled"),
    (39, "Coprocessor7Disabled"),
    (64, "UnknownException"),
    (65, "DebugException"),
    (66, "DoubleException"),
    (67, "KernelException"),
    (68, "CoprocessorException"),
    (69, "InterruptWatchdogCpu0"),
    (70, "InterruptWatchdogCpu1"),
    (71, "CacheDisabledAccess"),
    (0xffff, "InvalidCause"),
];

/// `mcause` without the interrupt bit: RISC-V privileged architecture, table of exception codes.
const RISCV_CAUSES: &[(u32, &str)] = &[
    (0, "InstructionAddressMisaligned"),
    (1, "InstructionAccessFault"),
    (2, "IllegalInstruction"),
    (3, "Breakpoint"),
    (4, "LoadAddressMisaligned"),
    (5, "LoadAccessFault"),
    (6, "StoreAddressMisaligned"),
    (7, "StoreAccessFault"),
    (8, "EnvironmentCallFromUser"),
    (9, "EnvironmentCallFromSupervisor"),
    (11, "EnvironmentCallFromMachine"),
    (12, "InstructionPageFault"),
    (13, "LoadPageFault"),
    (15, "StorePageFault"),
];
