//! ELF files for tests, without a compiler.

/// A minimal ELF file: named sections with load address and contents.
pub fn elf(sections: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0u8; 52];
    let mut names = vec![0u8];
    let mut table: Vec<[u32; 10]> = vec![[0; 10]];
    for (name, addr, data) in sections {
        let (offset, len) = (out.len() as u32, data.len() as u32);
        table.push([names.len() as u32, 1, 2, *addr, offset, len, 0, 0, 4, 0]);
        names.extend(name.bytes().chain([0]));
        out.extend(data);
    }
    table.push([0, 3, 0, 0, out.len() as u32, names.len() as u32, 0, 0, 1, 0]);
    out.extend(&names);
    let at = out.len() as u32;
    table.iter().flatten().for_each(|word| out.extend(word.to_le_bytes()));
    let count = table.len() as u16;
    let mut head = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0".to_vec();
    [1, 0x4038_0000, 0, at, 0u32].iter().for_each(|word| head.extend(word.to_le_bytes()));
    [52, 32, 0, 40, count, count - 1].iter().for_each(|half: &u16| head.extend(half.to_le_bytes()));
    out[..52].copy_from_slice(&head);
    out
}
