//! The registers as GDB sees them: their numbers, and what the target describes of itself.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use gdbstub::arch::{Arch, RegId, Registers};

/// RV32 and Xtensa alike: 32-bit registers by number.
#[derive(Debug)]
pub enum Words {}

impl Arch for Words {
    type Usize = u32;
    type Registers = File;
    type BreakpointKind = usize;
    type RegId = Number;
}

/// A register's number.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub usize);

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        Some((Self(id), NonZeroUsize::new(4)))
    }
}

/// The registers that go in one packet, from number 0 on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct File(pub Vec<u32>);

impl Registers for File {
    type ProgramCounter = u32;

    fn pc(&self) -> u32 {
        0 // The stub does not ask.
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().flat_map(|word| word.to_le_bytes()).for_each(|byte| write_byte(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (words, rest) = bytes.as_chunks::<4>();
        self.0 = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        if rest.is_empty() { Ok(()) } else { Err(()) }
    }
}

/// General registers by their names in the ABI.
const RISCV: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2",
    "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];
/// Control and status registers that are shown.
const CSRS: [(&str, usize); 9] = [
    ("mstatus", 0x300),
    ("misa", 0x301),
    ("mie", 0x304),
    ("mtvec", 0x305),
    ("mscratch", 0x340),
    ("mepc", 0x341),
    ("mcause", 0x342),
    ("mtval", 0x343),
    ("mhartid", 0xf14),
];

/// How many registers go in one packet. GDB asks for the others one by one.
pub fn in_one_packet(riscv: bool) -> usize {
    // Xtensa: up to PS. What stands behind it differs between cores, and so between builds of GDB.
    if riscv { 33 } else { 74 }
}

/// The target's description. GDB for Xtensa takes no registers from it, only the architecture.
pub fn description(riscv: bool) -> String {
    let mut xml =
        String::from("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">");
    if !riscv {
        return xml + "<architecture>xtensa</architecture></target>";
    }
    xml += "<architecture>riscv:rv32</architecture><feature name=\"org.gnu.gdb.riscv.cpu\">";
    let mut register = |name: &str, number: usize, kind: &str| {
        let _ = write!(xml, "<reg name=\"{name}\" bitsize=\"32\" regnum=\"{number}\" type=\"{kind}\"/>");
    };
    for (number, name) in RISCV.iter().enumerate() {
        register(name, number, if matches!(*name, "sp" | "gp" | "tp") { "data_ptr" } else { "int" });
    }
    register("pc", 32, "code_ptr");
    xml += "</feature><feature name=\"org.gnu.gdb.riscv.csr\">";
    for (name, number) in CSRS {
        let _ = write!(xml, "<reg name=\"{name}\" bitsize=\"32\" regnum=\"{}\" group=\"csr\"/>", 65 + number);
    }
    xml + "</feature></target>"
}
