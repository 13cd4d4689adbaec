//! Lines of addresses, where the linker discarded functions.
//!
//! A discarded function's sequence begins at address 0, and newer RISC-V toolchains end it with an address below its last
//! row. `gimli` passes over that end, so that `addr2line` joins the sequence with the next one and loses its lines.

use gimli::{IncompleteLineProgram, LineInstruction, LineRow, UnitRef};

use super::Slice;

/// Index of the file and line that a line program has for an address. Every end of a sequence counts.
pub(super) fn row_at(program: IncompleteLineProgram<Slice<'_>>, address: u64) -> Option<(u64, u32)> {
    let header = program.header().clone();
    let mut program = program;
    let mut instructions = header.instructions();
    let mut row = LineRow::new(&header);
    // The row that covers the address so far: it counts when the sequence goes on beyond the address.
    let mut covering: Option<(u64, u32)> = None;
    let mut last = None;
    while let Ok(Some(instruction)) = instructions.next_instruction(&header) {
        let ends = matches!(instruction, LineInstruction::EndSequence);
        let Ok(emitted) = row.execute(instruction, &mut program) else { return None };
        if !emitted {
            continue;
        }
        let at = row.address();
        let grows = last.is_none_or(|last| at >= last);
        if grows && at > address && covering.is_some() {
            return covering;
        }
        let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
        match line {
            _ if ends => (covering, last) = (None, None),
            Some(line) if grows && at <= address => (covering, last) = (Some((row.file_index(), line)), Some(at)),
            _ if grows => last = Some(at),
            _ => {}
        }
        row.reset(&header);
    }
    None
}

/// File and line of an address by the line program of its unit.
pub(super) fn place(unit: UnitRef<'_, Slice<'_>>, address: u32) -> Option<(String, u32)> {
    let program = unit.line_program.clone()?;
    let header = program.header().clone();
    let (file, line) = row_at(program, address.into())?;
    let file = header.file(file)?;
    let text = |value| unit.attr_string(value).ok().map(|text| text.to_string_lossy().into_owned());
    let mut path = unit.comp_dir.map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
    let mut push = |part: String| {
        if part.starts_with('/') || path.is_empty() {
            path = part;
        } else {
            path = format!("{}/{part}", path.trim_end_matches('/'));
        }
    };
    // Directory 0 is the unit's own.
    if file.directory_index() != 0 {
        push(text(file.directory(&header)?)?);
    }
    push(text(file.path_name())?);
    Some((path, line))
}

#[cfg(test)]
mod tests {
    use gimli::{DebugLine, DebugLineOffset, LittleEndian};

    use super::*;

    /// A line program of DWARF 4 with one file and these opcodes.
    fn program(opcodes: &[u8]) -> Vec<u8> {
        let mut header = vec![1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
        header.extend(b"\0main.c\0\0\0\0\0");
        let mut out = vec![4, 0];
        out.extend((header.len() as u32).to_le_bytes());
        out.extend(header);
        out.extend(opcodes);
        [&(out.len() as u32).to_le_bytes()[..], &out].concat()
    }

    fn set_address(address: u32) -> Vec<u8> {
        [&[0, 5, 2][..], &address.to_le_bytes()].concat()
    }

    fn line(bytes: &[u8], address: u64) -> Option<u32> {
        let section = DebugLine::new(bytes, LittleEndian);
        let program = section.program(DebugLineOffset(0), 4, None, None).unwrap();
        row_at(program, address).map(|(_, line)| line)
    }

    /// Advance the line by so many (63 at most, in one byte), make a row.
    fn row(lines: u8) -> [u8; 3] {
        [3, lines, 1]
    }

    const END: [u8; 3] = [0, 1, 1];

    #[test]
    fn lines_behind_a_discarded_function_are_found() {
        let opcodes = [
            // Discarded: from 0 up, its end below its last row.
            &set_address(0)[..],
            &row(9),
            &set_address(8),
            &row(1),
            &set_address(2),
            &END,
            &set_address(0x4000_e5e0),
            &row(50),
            &set_address(0x4000_e5e8),
            &row(1),
            &set_address(0x4000_e600),
            &END,
        ]
        .concat();
        let bytes = program(&opcodes);
        assert_eq!(line(&bytes, 0x4000_e5e0), Some(51));
        assert_eq!(line(&bytes, 0x4000_e5e8), Some(52));
        assert_eq!(line(&bytes, 0x4000_e5fe), Some(52));
        assert_eq!(line(&bytes, 0x4000_e600), None);
        assert_eq!(line(&bytes, 0x4000_e5d0), None);
    }
}
