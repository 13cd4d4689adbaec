//! Panic texts of real crashes: made from the core dumps of the corpus as the panic handlers print them, explained
//! with the ELF file, and compared with the backtrace that GDB gave for the same crash.

use std::fmt::Write as _;
use std::time::Duration;

use esp_model::chip::Arch;
use esp_model::console::{Decoder, Event, Panic, explain};
use esp_model::coredump::{Check, CoreDump, Task, analyse};
use esp_model::symbols::Program;
use libtest_mimic::Trial;

use crate::coredump::dumps;
use crate::reference::{Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("console: panic texts lead to the same functions and lines as the core dump", panics)]
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
