//! From bytes to instructions. The names of the tables are those of the "Xtensa Instruction Set Architecture Reference
//! Manual", chapter 7.

use super::kind::{Kind, Op, Options};

/// Constants of the branches that compare with one.
const CONSTANTS: [i32; 16] = [-1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256];
const UNSIGNED: [i32; 16] = [32768, 65536, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256];

/// The fields of a word.
struct Fields {
    word: u32,
    r: u8,
    s: u8,
    t: u8,
    op1: u32,
    op2: u32,
}

impl Fields {
    fn new(word: u32) -> Self {
        let four = |at: u32| (word >> at & 0xf) as u8;
        Self { word, r: four(12), s: four(8), t: four(4), op1: word >> 16 & 0xf, op2: word >> 20 & 0xf }
    }

    fn imm8(&self) -> i32 {
        (self.word >> 16 & 0xff) as i32
    }

    fn signed8(&self) -> i32 {
        ((self.word << 8) as i32) >> 24
    }

    fn signed12(&self) -> i32 {
        ((self.word << 8) as i32) >> 20
    }

    fn signed18(&self) -> i32 {
        ((self.word << 8) as i32) >> 14
    }

    /// With these general registers among its fields.
    fn op(&self, kind: Kind, general: &[u8], imm: i32) -> Op {
        let window = general.iter().copied().max().unwrap_or(0) / 4;
        Op { kind, r: self.r, s: self.s, t: self.t, imm, length: 3, window }
    }

    fn illegal(&self) -> Op {
        self.op(Kind::Illegal, &[], 0)
    }

    fn rst(&self, kind: Kind) -> Op {
        self.op(kind, &[self.r, self.s, self.t], 0)
    }

    fn none(&self, kind: Kind) -> Op {
        self.op(kind, &[], 0)
    }
}

/// The instruction in the low bytes of `word`. Its offset and `L32R`'s need to know how the address is aligned.
pub fn decode(word: u32, pc: u32, options: &Options) -> Op {
    let f = Fields::new(word);
    let op = match word & 0xf {
        0 | 4 if options.vector && super::pie::name(word).is_some() => return vector(word),
        0 => qrst(&f),
        1 => {
            // Relative to the next word, always backwards.
            let offset = (0xfffc_0000_u32 | (word >> 8 & 0xffff) << 2).wrapping_add((pc.wrapping_add(3)) & !3);
            f.op(Kind::L32r, &[f.t], offset.wrapping_sub(pc) as i32)
        }
        2 => lsai(&f),
        3 => lsci(&f),
        4 => super::mac16::decode(word, f.op(Kind::Illegal, &[], 0)),
        5 => {
            let kind = [Kind::Call0, Kind::Call4, Kind::Call8, Kind::Call12][f.t as usize & 3];
            let target = (pc & !3).wrapping_add((f.signed18() << 2) as u32).wrapping_add(4);
            f.op(kind, &[4 * (f.t & 3)], target.wrapping_sub(pc) as i32)
        }
        6 => si(&f),
        7 => branch(&f),
        8..=13 => narrow(&f),
        _ => return if options.vector { vector(word) } else { f.illegal() },
    };
    if present(op.kind, options) { op } else { Op { kind: Kind::Illegal, window: 0, ..op } }
}

fn vector(word: u32) -> Op {
    let length = if word & 0xf >= 0xe { 4 } else { 3 };
    let f = Fields::new(word);
    let kind = if super::pie::name(word).is_some() { Kind::Vector } else { Kind::Illegal };
    Op { length, imm: word as i32, ..f.op(kind, &[], 0) }
}

/// Whether the core has the part that the instruction belongs to.
fn present(kind: Kind, options: &Options) -> bool {
    use Kind::*;
    match kind {
        Loop | Loopnez | Loopgtz => options.loops,
        Umul | Mul | Mula | Muls | Ldinc | Lddec => options.mac16,
        S32c1i => options.s32c1i,
        Andb | Andbc | Orb | Orbc | Xorb | Any4 | All4 | Any8 | All8 | Bf | Bt | Movf | Movt => options.booleans,
        _ if (Lsi as u8..=MovtS as u8).contains(&(kind as u8)) => options.float,
        _ => true,
    }
}

fn qrst(f: &Fields) -> Op {
    match f.op1 {
        0 => rst0(f),
        1 => rst1(f),
        2 => rst2(f),
        3 => rst3(f),
        4 | 5 => {
            let shift = i32::from(f.s) | ((f.op1 as i32) & 1) << 4;
            // Shift, and above it the mask's width less one.
            f.op(Kind::Extui, &[f.r, f.t], shift | (f.op2 as i32) << 8)
        }
        8 => {
            let kind = match f.op2 {
                0 => Kind::Lsx,
                1 => Kind::Lsxu,
                4 => Kind::Ssx,
                5 => Kind::Ssxu,
                _ => Kind::Illegal,
            };
            f.op(kind, &[f.s, f.t], 0)
        }
        9 => {
            let kind = match f.op2 {
                0 => Kind::L32e,
                4 => Kind::S32e,
                5 => return f.op(Kind::S32nb, &[f.s, f.t], i32::from(f.r) << 2),
                _ => Kind::Illegal,
            };
            f.op(kind, &[f.s, f.t], (i32::from(f.r) << 2) - 64)
        }
        10 => fp0(f),
        11 => fp1(f),
        _ => f.illegal(),
    }
}

fn rst0(f: &Fields) -> Op {
    use Kind::*;
    match f.op2 {
        0 => st0(f),
        1 => f.rst(And),
        2 => f.rst(Or),
        3 => f.rst(Xor),
        4 => st1(f),
        5 => match f.r {
            3..=7 | 11..=15 => f.op(Tlb, &[f.s, f.t], 0),
            _ => f.illegal(),
        },
        6 => match f.s {
            0 => f.op(Neg, &[f.r, f.t], 0),
            1 => f.op(Abs, &[f.r, f.t], 0),
            _ => f.illegal(),
        },
        7 => f.illegal(),
        index => f.rst([Add, Addx2, Addx4, Addx8, Sub, Subx2, Subx4, Subx8][index as usize & 7]),
    }
}

fn st0(f: &Fields) -> Op {
    use Kind::*;
    let (m, n) = (f.t >> 2, f.t & 3);
    match f.r {
        0 => match (m, n) {
            (2, 0) => f.none(Ret),
            (2, 1) => f.none(Retw),
            (2, 2) => f.op(Jx, &[f.s], 0),
            (3, n) => f.op([Callx0, Callx4, Callx8, Callx12][n as usize & 3], &[f.s, 4 * n], 0),
            _ => f.illegal(),
        },
        1 => f.op(Movsp, &[f.s, f.t], 0),
        2 => f.none(match f.t {
            0 => Isync,
            1 => Rsync,
            2 => Esync,
            3 => Dsync,
            8 => Excw,
            12 => Memw,
            13 => Extw,
            15 => Nop,
            _ => Illegal,
        }),
        3 => f.none(match (f.t, f.s) {
            (0, 0) => Rfe,
            (0, 2) => Rfde,
            (0, 4) => Rfwo,
            (0, 5) => Rfwu,
            (1, _) => Rfi,
            _ => Illegal,
        }),
        4 => f.none(Break),
        5 => f.none(match f.s {
            0 => Syscall,
            1 => Simcall,
            _ => Illegal,
        }),
        6 => f.op(Rsil, &[f.t], 0),
        7 => f.none(Waiti),
        8 => f.none(Any4),
        9 => f.none(All4),
        10 => f.none(Any8),
        11 => f.none(All8),
        _ => f.illegal(),
    }
}

fn st1(f: &Fields) -> Op {
    use Kind::*;
    match f.r {
        0 => f.op(Ssr, &[f.s], 0),
        1 => f.op(Ssl, &[f.s], 0),
        2 => f.op(Ssa8l, &[f.s], 0),
        3 => f.op(Ssa8b, &[f.s], 0),
        4 => f.op(Ssai, &[], i32::from(f.s) | i32::from(f.t & 1) << 4),
        6 => f.op(Rer, &[f.s, f.t], 0),
        7 => f.op(Wer, &[f.s, f.t], 0),
        8 => f.op(Rotw, &[], (i32::from(f.t) << 28) >> 28),
        14 => f.op(Nsa, &[f.s, f.t], 0),
        15 => f.op(Nsau, &[f.s, f.t], 0),
        _ => f.illegal(),
    }
}

fn rst1(f: &Fields) -> Op {
    use Kind::*;
    let high = ((f.op2 as i32) & 1) << 4;
    match f.op2 {
        0 | 1 => f.op(Slli, &[f.r, f.s], 32 - (i32::from(f.t) | high)),
        2 | 3 => f.op(Srai, &[f.r, f.t], i32::from(f.s) | high),
        4 => f.op(Srli, &[f.r, f.t], i32::from(f.s)),
        6 => f.op(Xsr, &[f.t], i32::from(f.r) << 4 | i32::from(f.s)),
        8 => f.rst(Src),
        9 => f.op(Srl, &[f.r, f.t], 0),
        10 => f.op(Sll, &[f.r, f.s], 0),
        11 => f.op(Sra, &[f.r, f.t], 0),
        12 => f.rst(Mul16u),
        13 => f.rst(Mul16s),
        _ => f.illegal(),
    }
}

fn rst2(f: &Fields) -> Op {
    use Kind::*;
    match f.op2 {
        index @ 0..=4 => f.none([Andb, Andbc, Orb, Orbc, Xorb][index as usize]),
        6 => f.rst(Saltu),
        7 => f.rst(Salt),
        8 => f.rst(Mull),
        10 => f.rst(Muluh),
        11 => f.rst(Mulsh),
        12 => f.rst(Quou),
        13 => f.rst(Quos),
        14 => f.rst(Remu),
        15 => f.rst(Rems),
        _ => f.illegal(),
    }
}

fn rst3(f: &Fields) -> Op {
    use Kind::*;
    let special = i32::from(f.r) << 4 | i32::from(f.s);
    match f.op2 {
        0 => f.op(Rsr, &[f.t], special),
        1 => f.op(Wsr, &[f.t], special),
        2 => f.op(Sext, &[f.r, f.s], i32::from(f.t) + 7),
        3 => f.op(Clamps, &[f.r, f.s], i32::from(f.t) + 7),
        12 => f.op(Movf, &[f.r, f.s], 0),
        13 => f.op(Movt, &[f.r, f.s], 0),
        14 => f.op(Rur, &[f.r], i32::from(f.s) << 4 | i32::from(f.t)),
        15 => f.op(Wur, &[f.t], special),
        index => f.rst([Min, Max, Minu, Maxu, Moveqz, Movnez, Movltz, Movgez][index as usize - 4]),
    }
}

fn fp0(f: &Fields) -> Op {
    use Kind::*;
    let scale = i32::from(f.t);
    match f.op2 {
        0 => f.none(AddS),
        1 => f.none(SubS),
        2 => f.none(MulS),
        4 => f.none(MaddS),
        5 => f.none(MsubS),
        6 => f.none(MaddnS),
        7 => f.none(DivnS),
        8 => f.op(RoundS, &[f.r], scale),
        9 => f.op(TruncS, &[f.r], scale),
        10 => f.op(FloorS, &[f.r], scale),
        11 => f.op(CeilS, &[f.r], scale),
        12 => f.op(FloatS, &[f.s], scale),
        13 => f.op(UfloatS, &[f.s], scale),
        14 => f.op(UtruncS, &[f.r], scale),
        15 => match f.t {
            4 => f.op(Rfr, &[f.r], 0),
            5 => f.op(Wfr, &[f.s], 0),
            index => f.none(
                [
                    MovS, AbsS, Illegal, ConstS, Illegal, Illegal, NegS, Div0S, Recip0S, Sqrt0S, Rsqrt0S, Nexp01S,
                    MksadjS, MkdadjS, AddexpS, AddexpmS,
                ][index as usize & 15],
            ),
        },
        _ => f.illegal(),
    }
}

fn fp1(f: &Fields) -> Op {
    use Kind::*;
    match f.op2 {
        index @ 1..=7 => f.none([UnS, OeqS, UeqS, OltS, UltS, OleS, UleS][index as usize - 1]),
        index @ 8..=11 => f.op([MoveqzS, MovnezS, MovltzS, MovgezS][index as usize - 8], &[f.t], 0),
        12 => f.none(MovfS),
        13 => f.none(MovtS),
        _ => f.illegal(),
    }
}

fn lsai(f: &Fields) -> Op {
    use Kind::*;
    let with = |kind, scale: u32| f.op(kind, &[f.s, f.t], f.imm8() << scale);
    match f.r {
        0 => with(L8ui, 0),
        1 => with(L16ui, 1),
        2 => with(L32i, 2),
        4 => with(S8i, 0),
        5 => with(S16i, 1),
        6 => with(S32i, 2),
        7 => f.op(Cache, &[f.s], f.imm8() << 2),
        9 => with(L16si, 1),
        10 => f.op(Movi, &[f.t], ((i32::from(f.s) << 28) >> 20) | f.imm8()),
        11 => with(L32ai, 2),
        12 => f.op(Addi, &[f.s, f.t], f.signed8()),
        13 => f.op(Addmi, &[f.s, f.t], f.signed8() << 8),
        14 => with(S32c1i, 2),
        15 => with(S32ri, 2),
        _ => f.illegal(),
    }
}

fn lsci(f: &Fields) -> Op {
    let kind = match f.r {
        0 => Kind::Lsi,
        4 => Kind::Ssi,
        8 => Kind::Lsiu,
        12 => Kind::Ssiu,
        _ => return f.illegal(),
    };
    f.op(kind, &[f.s], f.imm8() << 2)
}

fn si(f: &Fields) -> Op {
    use Kind::*;
    let m = f.t as usize >> 2;
    match f.t & 3 {
        0 => f.op(J, &[], f.signed18() + 4),
        1 => f.op([Beqz, Bnez, Bltz, Bgez][m], &[f.s], f.signed12() + 4),
        2 => constant(f, [Beqi, Bnei, Blti, Bgei][m], &CONSTANTS),
        _ => match (m, f.r) {
            (0, _) => f.op(Entry, &[f.s], (f.word >> 12 & 0xfff) as i32 * 8),
            (1, 0) => f.op(Bf, &[], f.signed8() + 4),
            (1, 1) => f.op(Bt, &[], f.signed8() + 4),
            (1, 8) => f.op(Loop, &[f.s], f.imm8() + 4),
            (1, 9) => f.op(Loopnez, &[f.s], f.imm8() + 4),
            (1, 10) => f.op(Loopgtz, &[f.s], f.imm8() + 4),
            (2, _) => constant(f, Bltui, &UNSIGNED),
            (3, _) => constant(f, Bgeui, &UNSIGNED),
            _ => f.illegal(),
        },
    }
}

/// A branch that compares with a constant: the offset in the low 16 bits of `imm`, the constant's place in the table in
/// `r`; `constant_of` gives its value.
fn constant(f: &Fields, kind: Kind, table: &[i32; 16]) -> Op {
    let value = table[f.r as usize & 15];
    f.op(kind, &[f.s], value << 9 | (f.signed8() + 4) & 0x1ff)
}

/// The constant that a branch of [`constant`] compares with.
#[inline(always)]
pub fn constant_of(imm: i32) -> i32 {
    imm >> 9
}

/// Its target, relative to the instruction.
#[inline(always)]
pub fn offset_of(imm: i32) -> u32 {
    ((imm << 23) >> 23) as u32
}

fn branch(f: &Fields) -> Op {
    use Kind::*;
    let offset = f.signed8() + 4;
    match f.r {
        6 | 7 | 14 | 15 => {
            // The bit's number takes the place of the second register.
            let kind = if f.r < 8 { Bbci } else { Bbsi };
            Op { t: f.t | (f.r & 1) << 4, ..f.op(kind, &[f.s], offset) }
        }
        index => {
            let kinds = [
                Bnone, Beq, Blt, Bltu, Ball, Bbc, Illegal, Illegal, Bany, Bne, Bge, Bgeu, Bnall, Bbs, Illegal, Illegal,
            ];
            f.op(kinds[index as usize & 15], &[f.s, f.t], offset)
        }
    }
}

fn narrow(f: &Fields) -> Op {
    use Kind::*;
    let op = match f.word & 0xf {
        8 => f.op(L32i, &[f.s, f.t], i32::from(f.r) << 2),
        9 => f.op(S32i, &[f.s, f.t], i32::from(f.r) << 2),
        10 => f.rst(Add),
        11 => {
            let value = if f.t == 0 { -1 } else { i32::from(f.t) };
            // As ADDI: the result goes to `t`.
            Op { t: f.r, ..f.op(Addi, &[f.r, f.s], value) }
        }
        12 if f.t & 8 == 0 => {
            let value = i32::from(f.r) | i32::from(f.t & 7) << 4;
            Op { t: f.s, ..f.op(Movi, &[f.s], if value >= 96 { value - 128 } else { value }) }
        }
        12 => {
            let offset = i32::from(f.r) | i32::from(f.t & 3) << 4;
            f.op(if f.t & 4 == 0 { Beqz } else { Bnez }, &[f.s], offset + 4)
        }
        _ => match (f.r, f.t) {
            (0, _) => f.op(Mov, &[f.s, f.t], 0),
            (15, 0) => f.none(Ret),
            (15, 1) => f.none(Retw),
            (15, 2) => f.none(Break),
            (15, 3) => f.none(Nop),
            _ => f.illegal(),
        },
    };
    Op { length: 2, ..op }
}
