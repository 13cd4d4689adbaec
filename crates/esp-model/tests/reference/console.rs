//! Panic texts of real crashes: made from the core dumps of the corpus as the panic handlers print them, explained
//! with the ELF file, and compared with the backtrace that GDB gave for the same crash.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use esp_debug::coredump::analyse;
use esp_debug::panic::explain;
use esp_debug::symbols::Program;
use esp_model::chip::Arch;
use esp_model::console::{Decoder, Event, Panic};
use esp_model::coredump::{Check, CoreDump, Task};
use libtest_mimic::Trial;

use crate::coredump::dumps;
use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("console: panic texts lead to the same functions and lines as the core dump", panics),
        trial("console: the stack of an ESP8266 names its callers", call0),
        trial("console: registers and stack are those of esp-idf-panic-decoder", panic_decoder),
    ]
}

fn printed(dump: &CoreDump, task: &Task, backtrace: &[String]) -> String {
    let mut text = String::from("\r\nabort() was called at PC 0x400d66b9 on core 0\r\nCore  0 register dump:\r\n");
    for (i, (name, value)) in task.registers.named().enumerate() {
        let name = match (dump.arch, name) {
            (Arch::Riscv, "pc") => "MEPC".into(),
            (_, "s0") => "S0/FP".into(),
            (_, name) => name.to_uppercase(),
        };
        let _ = write!(text, "{name:<8}: {value:#010x}  {}", if i % 4 == 3 { "\r\n" } else { "" });
    }
    text.push_str("\r\n");
    if dump.arch == Arch::Xtensa {
        let _ = writeln!(text, "\r\nBacktrace: {}\r", backtrace.join(" "));
    } else if let Some((start, len)) = task.stack {
        text.push_str("\r\nStack memory:\r\n");
        for line in (task.registers.sp()..start + len).step_by(32) {
            let words = (0..8).filter_map(|i| dump.word(line + i * 4)).map(|word| format!("{word:#010x}"));
            let _ = writeln!(text, "{line:08x}: {}\r", words.collect::<Vec<_>>().join(" "));
        }
    }
    text.push_str("\r\n\r\nELF file SHA256: 0011223344\r\n\r\nRebooting...\r\n");
    text
}

fn panics() -> Result<(), Stop> {
    for (name, bytes, elf) in dumps()? {
        let dump = CoreDump::parse(&bytes, Check::Enforce)?;
        let program = Program::parse(&elf)?;
        let analysis = analyse(&dump, Some(&program), None)?;
        let Some(task) = dump.tasks.first() else { return fail("no task") };
        let theirs: Vec<_> = analysis.tasks[0].backtrace.iter().collect();
        let mut pairs: Vec<String> = theirs.iter().map(|frame| format!("{}:0x3ffb0000", frame.pc)).collect();
        pairs.dedup();
        let text = printed(&dump, task, &pairs);
        let mut decoder = Decoder::new(None);
        for piece in text.as_bytes().chunks(17) {
            decoder.feed(Duration::ZERO, piece);
        }
        decoder.finish();
        let found: Option<&Panic> =
            decoder.events().iter().find_map(|e| if let Event::Panic(panic) = e { Some(&**panic) } else { None });
        let Some(panic) = found else { return fail(format!("{name}: no panic in {text}")) };
        let ours = explain(panic, &program).backtrace;
        // Without the chip's ROM range the doubtful frames into the ROM are left out.
        let known = |function: Option<&String>| function.is_some();
        let ours: Vec<_> = ours
            .iter()
            .map(|f| f.location.clone())
            .filter(|at| known(at.as_ref().and_then(|at| at.function.as_ref())))
            .collect();
        let theirs: Vec<_> = theirs
            .iter()
            .map(|f| f.location.clone())
            .filter(|at| known(at.as_ref().and_then(|at| at.function.as_ref())))
            .collect();
        if ours != theirs || ours.len() < 6 {
            return fail(format!("{name}: ours {ours:#?}, theirs {theirs:#?}"));
        }
    }
    Ok(())
}

/// Reads texts as JSON; writes registers, stack address and stack of those that it can read.
const PANIC_DECODER: &str = "\
import json, sys
from esp_idf_panic_decoder.gdb_panic_server import parse_idf_riscv_panic_output as parse
out = []
for text in json.load(sys.stdin):
    try:
        info = parse(text)
        out.append([info.regs, info.stack_base_addr, info.stack_data.hex()])
    except Exception as error:
        out.append(None)
json.dump(out, sys.stdout)
";

type Decoded = (std::collections::BTreeMap<String, u32>, u32, String);

/// Panic texts of all RISC-V chips, as the tool takes them: without prefixes.
fn panic_decoder() -> Result<(), Stop> {
    let text = |pc: u32, sp: u32| {
        let mut text = format!(
            "Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.\n\nCore  0 register dump:\n\
             MEPC    : {pc:#010x}  RA      : {:#010x}  SP      : {sp:#010x}  GP      : 0x3fc8b600  \n\
             TP      : 0x3fc91f90  T0      : 0x4005890e  T1      : 0x00000001  T2      : 0x00000002  \n\
             S0/FP   : 0x00000003  S1      : 0x00000004  A0      : 0x00000005  A1      : 0x00000006  \n\
             MSTATUS : 0x00001881  MTVEC   : 0x40380001  MCAUSE  : 0x00000005  MTVAL   : 0x00000014  \n\
             MHARTID : 0x00000000  \n\nStack memory:\n",
            pc + 16
        );
        for row in 0..6 {
            let words: Vec<String> = (0..8).map(|i| format!("{:#010x}", pc.wrapping_mul(row * 8 + i + 1))).collect();
            let _ = writeln!(text, "{:08x}: {}", sp + row * 32, words.join(" "));
        }
        text + "\n\n\nELF file SHA256: 1b43c5e74f2da138\n\nRebooting...\n"
    };
    let places = [
        (0x4200_1234, 0x3fc9_1f60),
        (0x4038_0698, 0x3fca_0000),
        (0x4200_8a12, 0x4081_0f50),
        (0x4000_1234, 0x4ff1_1f60),
    ];
    let texts: Vec<String> = places.iter().map(|(pc, sp)| text(*pc, *sp)).collect();
    let input = reference::scratch("console").join("texts.json");
    std::fs::write(&input, serde_json::to_vec(&texts)?)?;
    let mut python = Command::new(reference::tool("python")?);
    python.args(["-c", PANIC_DECODER]).stdin(std::fs::File::open(&input)?);
    let theirs: Vec<Option<Decoded>> = serde_json::from_slice(&reference::run(&mut python)?.stdout)?;
    for (text, theirs) in texts.iter().zip(theirs) {
        let Some((registers, base, stack)) = theirs else { return fail(format!("they read nothing of {text}")) };
        let mut decoder = Decoder::new(None);
        decoder.feed(Duration::ZERO, text.as_bytes());
        decoder.finish();
        let Some(Event::Panic(panic)) = decoder.events().first() else { return fail("no panic") };
        let ours: std::collections::BTreeMap<String, u32> = panic.registers.iter().cloned().collect();
        let words = panic.stack.iter().flat_map(|(_, words)| words.iter().flat_map(|word| word.to_le_bytes()));
        let bytes: String = words.map(|byte| format!("{byte:02x}")).collect();
        if ours != registers || panic.stack.first().map(|(at, _)| *at) != Some(base) || bytes != stack {
            return fail(format!("ours {ours:x?}, theirs {registers:x?}; stack {bytes} and {stack}"));
        }
    }
    Ok(())
}

/// A crash text with return addresses that objdump shows behind calls, among words that are none.
fn call0() -> Result<(), Stop> {
    let elf = reference::corpus()?.join("build/rtos-8266/hello-world.elf");
    let mut objdump = Command::new("xtensa-lx106-elf-objdump");
    objdump.args(["-d", "--no-show-raw-insn", "-j", ".flash.text"]).arg(&elf);
    let Ok(output) = objdump.output() else {
        return reference::missing("xtensa-lx106-elf-objdump is not installed (package binutils-xtensa-lx106)".into());
    };
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let call = |line: &str| {
        let (address, rest) = line.split_once(':')?;
        let is_call = rest.split_whitespace().next().is_some_and(|word| word == "call0" || word == "callx0");
        is_call.then(|| u32::from_str_radix(address.trim(), 16).ok())?
    };
    let calls: Vec<u32> = listing.lines().filter_map(call).collect();
    let bytes = std::fs::read(&elf)?;
    let program = Program::parse(&bytes)?;
    let chosen: Vec<u32> = calls.iter().copied().step_by(calls.len() / 40 + 1).collect();
    let mut text =
        format!("Fatal exception 28(LoadProhibitedCause):\nepc1={:#010x}, epc2=0x00000000\n>>>stack>>>\n", chosen[0]);
    for (row, call) in chosen.iter().enumerate() {
        // A call itself, data and blank words lead nowhere.
        let _ = writeln!(text, "{:08x}:  3ffe8000 {:08x} {call:08x} 00000000", 0x3fff_e000 + row * 16, call + 3);
    }
    text.push_str("<<<stack<<<\n");
    let mut decoder = Decoder::new(None);
    decoder.feed(Duration::ZERO, text.as_bytes());
    decoder.finish();
    let Some(Event::Panic(panic)) = decoder.events().first() else { return fail("no panic") };
    let explained = explain(panic, &program).backtrace;
    let mut found: Vec<&str> = explained.iter().map(|frame| frame.pc.as_str()).collect();
    found.dedup();
    let want: Vec<String> =
        std::iter::once(chosen[0]).chain(chosen.iter().map(|call| call + 3)).map(|pc| format!("{pc:#010x}")).collect();
    let named =
        explained.iter().filter(|frame| frame.location.as_ref().is_some_and(|at| at.function.is_some())).count();
    // An instruction before a call may be one too.
    let missing: Vec<_> = want.iter().filter(|pc| !found.contains(&pc.as_str())).collect();
    if !missing.is_empty() || found.len() > want.len() + 4 || named < want.len() {
        return fail(format!("{} calls, {} found, {named} named, missing {missing:?}", want.len(), found.len()));
    }
    Ok(())
}
