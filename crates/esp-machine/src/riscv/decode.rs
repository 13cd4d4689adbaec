//! RV32IMAC instructions, decoded to one form of eight bytes. Compressed instructions become what they stand for.

/// What an instruction does. `I` at the end: the second operand is the immediate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[rustfmt::skip]
#[allow(missing_docs)]
pub enum Kind {
    /// Not looked at yet.
    Undecoded,
    Illegal,
    Lui, Auipc, Jal, Jalr,
    Beq, Bne, Blt, Bge, Bltu, Bgeu,
    Lb, Lh, Lw, Lbu, Lhu, Sb, Sh, Sw,
    AddI, SltI, SltuI, XorI, OrI, AndI, SllI, SrlI, SraI,
    Add, Sub, Sll, Slt, Sltu, Xor, Srl, Sra, Or, And,
    Mul, Mulh, Mulhsu, Mulhu, Div, Divu, Rem, Remu,
    Fence, FenceI, Ecall, Ebreak, Mret, Wfi,
    Csrrw, Csrrs, Csrrc, CsrrwI, CsrrsI, CsrrcI,
    Lr, Sc, AmoSwap, AmoAdd, AmoXor, AmoAnd, AmoOr, AmoMin, AmoMax, AmoMinu, AmoMaxu,
    /// Bit manipulation: which one stands in the immediate.
    Bits,
    /// Single precision: the instruction itself is the immediate.
    Float, Flw, Fsw,
    /// Sets up a hardware loop: the instruction itself is the immediate.
    Loop,
    /// Several registers, or a jump by a table: the instruction itself is the immediate.
    Zc,
}

/// Where results for x0 go.
pub const SINK: u8 = 32;

/// A decoded instruction.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// Destination; [`SINK`] for x0.
    pub rd: u8,
    /// First source.
    pub rs1: u8,
    /// Second source in bits 0..5, length in bytes in bits 5..8.
    pub rs2: u8,
    /// Immediate; the instruction itself when it is illegal.
    pub imm: u32,
}

impl Op {
    /// Not looked at yet.
    pub const UNDECODED: Self = Self { kind: Kind::Undecoded, rd: SINK, rs1: 0, rs2: 0, imm: 0 };

    /// Bytes.
    #[inline(always)]
    pub fn length(self) -> u32 {
        u32::from(self.rs2 >> 5)
    }
}

pub(super) fn op(kind: Kind, rd: u32, rs1: u32, rs2: u32, imm: u32, length: u8) -> Op {
    let rd = if rd & 31 == 0 { SINK } else { (rd & 31) as u8 };
    Op { kind, rd, rs1: (rs1 & 31) as u8, rs2: (rs2 & 31) as u8 | length << 5, imm }
}

/// The instruction is 4 bytes long.
pub fn is_long(half: u16) -> bool {
    half & 3 == 3
}

/// Bits `low..low + count`.
fn bits(word: u32, low: u32, count: u32) -> u32 {
    word >> low & ((1 << count) - 1)
}

/// The lowest `count` bits with their sign.
fn signed(value: u32, count: u32) -> u32 {
    ((value << (32 - count)) as i32 >> (32 - count)) as u32
}

/// Decodes an instruction of 4 bytes.
pub fn long(word: u32) -> Op {
    use Kind::*;
    let (rd, rs1, rs2) = (bits(word, 7, 5), bits(word, 15, 5), bits(word, 20, 5));
    let (funct3, funct7) = (bits(word, 12, 3), bits(word, 25, 7));
    let imm_i = (word as i32 >> 20) as u32;
    let imm_s = signed(bits(word, 25, 7) << 5 | bits(word, 7, 5), 12);
    let imm_b =
        signed(bits(word, 31, 1) << 12 | bits(word, 7, 1) << 11 | bits(word, 25, 6) << 5 | bits(word, 8, 4) << 1, 13);
    let imm_j = signed(
        bits(word, 31, 1) << 20 | bits(word, 12, 8) << 12 | bits(word, 20, 1) << 11 | bits(word, 21, 10) << 1,
        21,
    );
    let illegal = op(Illegal, 0, 0, 0, word, 4);
    let make = |kind: Option<Kind>, imm: u32| kind.map_or(illegal, |kind| op(kind, rd, rs1, rs2, imm, 4));
    match word & 0x7f {
        0x37 => make(Some(Lui), word & 0xffff_f000),
        0x17 => make(Some(Auipc), word & 0xffff_f000),
        0x6f => make(Some(Jal), imm_j),
        0x67 => make((funct3 == 0).then_some(Jalr), imm_i),
        0x63 => {
            make(pick(funct3, &[Some(Beq), Some(Bne), None, None, Some(Blt), Some(Bge), Some(Bltu), Some(Bgeu)]), imm_b)
        }
        0x03 => make(pick(funct3, &[Some(Lb), Some(Lh), Some(Lw), None, Some(Lbu), Some(Lhu)]), imm_i),
        0x23 => make(pick(funct3, &[Some(Sb), Some(Sh), Some(Sw)]), imm_s),
        0x13 => make(immediate(funct3, funct7), if funct3 & 3 == 1 { rs2 } else { imm_i }),
        0x33 => make(register(funct3, funct7), 0),
        0x0f => make(pick(funct3, &[Some(Fence), Some(FenceI)]), 0),
        0x73 => make(system(word, funct3), bits(word, 20, 12)),
        0x2f => make(if funct3 == 2 { atomic(funct7 >> 2, rs2) } else { None }, 0),
        _ => illegal,
    }
}

fn pick(index: u32, table: &[Option<Kind>]) -> Option<Kind> {
    table.get(index as usize).copied().flatten()
}

fn immediate(funct3: u32, funct7: u32) -> Option<Kind> {
    use Kind::*;
    match (funct3, funct7) {
        (1, 0) => Some(SllI),
        (5, 0) => Some(SrlI),
        (5, 0x20) => Some(SraI),
        (1 | 5, _) => None,
        _ => pick(funct3, &[Some(AddI), None, Some(SltI), Some(SltuI), Some(XorI), None, Some(OrI), Some(AndI)]),
    }
}

fn register(funct3: u32, funct7: u32) -> Option<Kind> {
    use Kind::*;
    match funct7 {
        0 => pick(funct3, &[Some(Add), Some(Sll), Some(Slt), Some(Sltu), Some(Xor), Some(Srl), Some(Or), Some(And)]),
        1 => pick(
            funct3,
            &[Some(Mul), Some(Mulh), Some(Mulhsu), Some(Mulhu), Some(Div), Some(Divu), Some(Rem), Some(Remu)],
        ),
        0x20 => pick(funct3, &[Some(Sub), None, None, None, None, Some(Sra)]),
        _ => None,
    }
}

fn system(word: u32, funct3: u32) -> Option<Kind> {
    use Kind::*;
    match (word, funct3) {
        (0x0000_0073, _) => Some(Ecall),
        (0x0010_0073, _) => Some(Ebreak),
        (0x3020_0073, _) => Some(Mret),
        (0x1050_0073, _) => Some(Wfi),
        _ => {
            pick(funct3, &[None, Some(Csrrw), Some(Csrrs), Some(Csrrc), None, Some(CsrrwI), Some(CsrrsI), Some(CsrrcI)])
        }
    }
}

fn atomic(funct5: u32, rs2: u32) -> Option<Kind> {
    use Kind::*;
    Some(match funct5 {
        0x00 => AmoAdd,
        0x01 => AmoSwap,
        0x02 if rs2 == 0 => Lr,
        0x03 => Sc,
        0x04 => AmoXor,
        0x08 => AmoOr,
        0x0c => AmoAnd,
        0x10 => AmoMin,
        0x14 => AmoMax,
        0x18 => AmoMinu,
        0x1c => AmoMaxu,
        _ => return None,
    })
}

/// Decodes an instruction of 2 bytes.
pub fn short(half: u16) -> Op {
    use Kind::*;
    let word = u32::from(half);
    let b = |low, count| bits(word, low, count);
    let (full, low, high) = (b(7, 5), b(2, 3) + 8, b(7, 3) + 8);
    let second = b(2, 5);
    let imm6 = signed(b(12, 1) << 5 | second, 6);
    let illegal = op(Illegal, 0, 0, 0, word, 2);
    let make = |kind, rd, rs1, rs2, imm| op(kind, rd, rs1, rs2, imm, 2);
    let jump = signed(
        b(12, 1) << 11
            | b(8, 1) << 10
            | b(9, 2) << 8
            | b(6, 1) << 7
            | b(7, 1) << 6
            | b(2, 1) << 5
            | b(11, 1) << 4
            | b(3, 3) << 1,
        12,
    );
    let branch = signed(b(12, 1) << 8 | b(5, 2) << 6 | b(2, 1) << 5 | b(10, 2) << 3 | b(3, 2) << 1, 9);
    match (word & 3, b(13, 3)) {
        (0, 0) => {
            let imm = b(7, 4) << 6 | b(11, 2) << 4 | b(5, 1) << 3 | b(6, 1) << 2;
            if imm == 0 { illegal } else { make(AddI, low, 2, 0, imm) }
        }
        (0, 2) => make(Lw, low, high, 0, b(5, 1) << 6 | b(10, 3) << 3 | b(6, 1) << 2),
        (0, 6) => make(Sw, 0, high, low, b(5, 1) << 6 | b(10, 3) << 3 | b(6, 1) << 2),
        (1, 0) => make(AddI, full, full, 0, imm6),
        (1, 1) => make(Jal, 1, 0, 0, jump),
        (1, 2) => make(AddI, full, 0, 0, imm6),
        (1, 3) if full == 2 => {
            let imm = signed(b(12, 1) << 9 | b(3, 2) << 7 | b(5, 1) << 6 | b(2, 1) << 5 | b(6, 1) << 4, 10);
            if imm == 0 { illegal } else { make(AddI, 2, 2, 0, imm) }
        }
        (1, 3) => {
            if imm6 == 0 {
                illegal
            } else {
                make(Lui, full, 0, 0, imm6 << 12)
            }
        }
        (1, 4) => {
            arithmetic(word, high, low, imm6).map_or(illegal, |(kind, rs2, imm)| make(kind, high, high, rs2, imm))
        }
        (1, 5) => make(Jal, 0, 0, 0, jump),
        (1, 6) => make(Beq, 0, high, 0, branch),
        (1, 7) => make(Bne, 0, high, 0, branch),
        (2, 0) if b(12, 1) == 0 => make(SllI, full, full, 0, second),
        (2, 2) if full != 0 => make(Lw, full, 2, 0, b(2, 2) << 6 | b(12, 1) << 5 | b(4, 3) << 2),
        (2, 4) => match (b(12, 1), full, second) {
            (0, 0, 0) => illegal,
            (0, _, 0) => make(Jalr, 0, full, 0, 0),
            (0, _, _) => make(Add, full, 0, second, 0),
            (_, 0, 0) => make(Ebreak, 0, 0, 0, 0),
            (_, _, 0) => make(Jalr, 1, full, 0, 0),
            (_, _, _) => make(Add, full, full, second, 0),
        },
        (2, 6) => make(Sw, 0, 2, second, b(7, 2) << 6 | b(9, 4) << 2),
        _ => illegal,
    }
}

/// The quarter with shifts, AND and register arithmetic: kind, second source, immediate.
fn arithmetic(word: u32, _high: u32, low: u32, imm6: u32) -> Option<(Kind, u32, u32)> {
    use Kind::*;
    let amount = bits(word, 2, 5);
    let wide = bits(word, 12, 1) != 0;
    Some(match (bits(word, 10, 2), wide, bits(word, 5, 2)) {
        (0, false, _) => (SrlI, 0, amount),
        (1, false, _) => (SraI, 0, amount),
        (2, _, _) => (AndI, 0, imm6),
        (3, false, 0) => (Sub, low, 0),
        (3, false, 1) => (Xor, low, 0),
        (3, false, 2) => (Or, low, 0),
        (3, false, 3) => (And, low, 0),
        _ => return None,
    })
}
