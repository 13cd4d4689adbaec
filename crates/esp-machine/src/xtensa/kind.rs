//! Names of the instructions, and the form in which they are kept.

/// What an instruction does. Narrow forms (`L32I.N`) are kept as what they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[rustfmt::skip]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Kind {
    /// Not looked at yet.
    Undecoded,
    /// No instruction of this core.
    Illegal,
    // Memory.
    L8ui, L16ui, L16si, L32i, S8i, S16i, S32i, L32r, L32ai, S32ri, S32c1i, L32e, S32e, S32nb,
    // Arithmetic and logic.
    Movi, Mov, Add, Addx2, Addx4, Addx8, Sub, Subx2, Subx4, Subx8, Addi, Addmi, Neg, Abs, And, Or, Xor,
    Min, Max, Minu, Maxu, Sext, Clamps, Nsa, Nsau, Salt, Saltu, Moveqz, Movnez, Movltz, Movgez, Movf, Movt,
    Slli, Srai, Srli, Src, Srl, Sll, Sra, Ssr, Ssl, Ssa8l, Ssa8b, Ssai, Extui,
    Mull, Muluh, Mulsh, Mul16u, Mul16s, Quou, Quos, Remu, Rems,
    // Jumps.
    J, Jx, Call0, Call4, Call8, Call12, Callx0, Callx4, Callx8, Callx12, Ret, Retw, Entry, Movsp, Rotw,
    Beqz, Bnez, Bltz, Bgez, Beqi, Bnei, Blti, Bgei, Bltui, Bgeui, Bnone, Beq, Blt, Bltu, Ball, Bbc, Bbci,
    Bany, Bne, Bge, Bgeu, Bnall, Bbs, Bbsi, Bf, Bt, Loop, Loopnez, Loopgtz,
    // Booleans.
    Andb, Andbc, Orb, Orbc, Xorb, Any4, All4, Any8, All8,
    // The core itself.
    Nop, Isync, Rsync, Esync, Dsync, Excw, Memw, Extw, Cache, Tlb,
    Rfe, Rfde, Rfwo, Rfwu, Rfi, Break, Syscall, Simcall, Rsil, Waiti,
    Rsr, Wsr, Xsr, Rur, Wur, Rer, Wer,
    // 16-bit multiplier with accumulator; `r` says what its operands are, see `mac16`.
    Umul, Mul, Mula, Muls, Ldinc, Lddec,
    // Single precision.
    Lsi, Ssi, Lsiu, Ssiu, Lsx, Lsxu, Ssx, Ssxu,
    AddS, SubS, MulS, MaddS, MsubS, MaddnS, DivnS, RoundS, TruncS, FloorS, CeilS, FloatS, UfloatS, UtruncS,
    MovS, AbsS, ConstS, Rfr, Wfr, NegS, Div0S, Recip0S, Sqrt0S, Rsqrt0S, Nexp01S, MksadjS, MkdadjS,
    AddexpS, AddexpmS, UnS, OeqS, UeqS, OltS, UltS, OleS, UleS,
    MoveqzS, MovnezS, MovltzS, MovgezS, MovfS, MovtS,
    /// A vector instruction (PIE), known by name only; see `pie`.
    Vector,
}

/// A decoded instruction. The register fields stand at their usual places, whatever their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// Bits 15…12.
    pub r: u8,
    /// Bits 11…8.
    pub s: u8,
    /// Bits 7…4.
    pub t: u8,
    /// A number: offset, constant, target of a jump relative to the instruction.
    pub imm: i32,
    /// Bytes.
    pub length: u8,
    /// The highest register it names, in fours: these must be free in the register file.
    pub window: u8,
}

impl Op {
    /// Not looked at yet.
    pub const UNDECODED: Self = Self { kind: Kind::Undecoded, r: 0, s: 0, t: 0, imm: 0, length: 0, window: 0 };
}

/// Optional parts of a core.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Zero-overhead loops.
    pub loops: bool,
    /// 16-bit multiplier with accumulator.
    pub mac16: bool,
    /// Compare and store.
    pub s32c1i: bool,
    /// Booleans.
    pub booleans: bool,
    /// Single precision.
    pub float: bool,
    /// Vector instructions.
    pub vector: bool,
}

impl Options {
    /// From the instruction set as chip data names it: `lx6` or `lx7` and the names of its optional parts.
    pub fn new(isa: &str) -> Self {
        let has = |name| isa.split_whitespace().any(|word| word == name);
        Self {
            loops: has("loops"),
            mac16: has("mac16"),
            s32c1i: has("s32c1i"),
            booleans: has("booleans"),
            float: has("float"),
            vector: has("vector"),
        }
    }
}
