//! The windowed ABI of Xtensa (ISA reference manual, "Windowed Register Option", window overflow handlers).
//!
//! A callee's stack pointer S has the caller's a0–a3 saved at S−16. A call8 or call12 caller's a4–a7 (a4–a11) are
//! saved below the stack pointer of *its* caller, at P−32 (P−48). The upper two bits of a0 say which call it was.

use super::unwind::{FoundBy, Frame, MAX_FRAMES, Memory};
use esp_model::coredump::Registers;

/// The chain of callers from the windows spilled to the stack.
pub(super) fn unwind(start: &Registers, memory: &dyn Memory) -> Vec<Frame> {
    let region = region(start.pc);
    let mut frame = Frame::innermost(start);
    let mut frames = Vec::new();
    loop {
        let next = caller(&frame, region, memory);
        frame.cfa = next.as_ref().and_then(|next| next.register(1));
        let sp = frame.register(1);
        frames.push(frame);
        match next {
            // A stack that does not grow towards its base is no chain.
            Some(next) if frames.len() < MAX_FRAMES && next.register(1) > sp => frame = next,
            _ => return frames,
        }
    }
}

/// The upper two address bits are not in a return address: they are those of the code.
fn region(pc: u32) -> u32 {
    if pc >> 30 == 0 { 0x4000_0000 } else { pc & 0xc000_0000 }
}

fn caller(frame: &Frame, region: u32, memory: &dyn Memory) -> Option<Frame> {
    let (a0, sp) = (frame.register(0)?, frame.register(1)?);
    let pc = (a0 & 0x3fff_ffff) | region;
    if a0 & 0x3fff_ffff == 0 {
        return None;
    }
    let mut registers: Vec<Option<u32>> =
        (0..4).map(|i| memory.word(sp.wrapping_sub(16).wrapping_add(i * 4))).collect();
    let own_sp = registers.get(1).copied().flatten()?;
    // How far this call rotated the window: 4, 8 or 12 registers.
    let window = a0 >> 30;
    let extra = (window.saturating_sub(1)) * 4;
    // The stack pointer of the caller's caller, saved below the caller's own stack pointer.
    let above = memory.word(own_sp.wrapping_sub(12));
    for i in 0..extra {
        let base = above.map(|above| above.wrapping_sub(16 + extra * 4));
        registers.push(base.and_then(|base| memory.word(base.wrapping_add(i * 4))));
    }
    registers.resize(16, None);
    Some(Frame { pc, registers, cfa: None, found: FoundBy::Window, first: false })
}
