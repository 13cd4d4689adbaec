use super::decode::{constant_of, decode, offset_of};
use super::kind::{Kind, Op, Options};

mod cores;
mod numbers;
mod programs;
mod sweep;
mod units;

const ALL: &str = "lx6 loops mac16 s32c1i booleans float";

/// The registers that an instruction names, in the order of its text, and the number behind them.
fn operands(op: &Op, pc: u32) -> (Vec<u8>, Option<i64>) {
    use Kind::*;
    let (r, s, t) = (op.r, op.s, op.t);
    let number = Some(i64::from(op.imm));
    match op.kind {
        L8ui | L16ui | L16si | L32i | S8i | S16i | S32i | L32ai | S32ri | S32c1i | L32e | S32e | Addi | Addmi | Lsi
        | Ssi | Lsiu | Ssiu => (vec![t, s], number),
        L32r => (vec![t], Some(i64::from(pc.wrapping_add(op.imm as u32)))),
        Movi | Rsr | Wsr | Xsr => (vec![t], number),
        Mov | Nsa | Nsau | Movsp | Rer | Wer | Tlb => (vec![t, s], None),
        Neg | Abs => (vec![r, t], None),
        Slli | Sext | Clamps => (vec![r, s], number),
        Srai | Srli => (vec![r, t], number),
        Srl | Sra => (vec![r, t], None),
        Sll => (vec![r, s], None),
        Ssr | Ssl | Ssa8l | Ssa8b | Jx | Callx0 | Callx4 | Callx8 | Callx12 => (vec![s], None),
        Ssai | Rotw | J => (vec![], number),
        // The disassembler counts from the instruction; the processor from its word.
        Call0 | Call4 | Call8 | Call12 => (vec![], Some(i64::from(op.imm) + i64::from(pc & 3))),
        Extui => (vec![r, t], Some(i64::from(op.imm >> 8) + 1)),
        Entry | Beqz | Bnez | Bltz | Bgez | Loop | Loopnez | Loopgtz | Bf | Bt => (vec![s], number),
        Beqi | Bnei | Blti | Bgei | Bltui | Bgeui => (vec![s], Some(i64::from(offset_of(op.imm) as i32))),
        Bbci | Bbsi => (vec![s], number),
        Bnone | Beq | Blt | Bltu | Ball | Bbc | Bany | Bne | Bge | Bgeu | Bnall | Bbs => (vec![s, t], number),
        Any4 | All4 | Any8 | All8 => (vec![t, s], None),
        Rsil => (vec![t], Some(i64::from(s))),
        Waiti | Rfi => (vec![], Some(i64::from(s))),
        Break => (vec![], Some(if op.length == 3 { t.into() } else { s.into() })),
        Rur => (vec![r], number),
        Wur => (vec![t], number),
        RoundS | TruncS | FloorS | CeilS | FloatS | UfloatS | UtruncS => (vec![r, s], number),
        MovS | AbsS | NegS | Rfr | Wfr | Div0S | Recip0S | Sqrt0S | Rsqrt0S | Nexp01S | MksadjS | MkdadjS | AddexpS
        | AddexpmS => (vec![r, s], None),
        ConstS => (vec![r], Some(s.into())),
        Add | Addx2 | Addx4 | Addx8 | Sub | Subx2 | Subx4 | Subx8 | And | Or | Xor | Min | Max | Minu | Maxu
        | Moveqz | Movnez | Movltz | Movgez | Movf | Movt | Src | Mull | Muluh | Mulsh | Mul16u | Mul16s | Quou
        | Quos | Remu | Rems | Andb | Andbc | Orb | Orbc | Xorb | Lsx | Lsxu | Ssx | Ssxu | AddS | SubS | MulS
        | MaddS | MsubS | MaddnS | DivnS | UnS | OeqS | UeqS | OltS | UltS | OleS | UleS | MoveqzS | MovnezS
        | MovltzS | MovgezS | MovfS | MovtS => (vec![r, s, t], None),
        _ => (vec![], None),
    }
}

/// The same of a disassembler's text.
fn of_text(text: &str) -> (Vec<u8>, Option<i64>) {
    let mut registers = Vec::new();
    let mut number = None;
    for word in text.split([',', ' ']).map(|word| word.trim_start_matches("@")).filter(|word| !word.is_empty()) {
        let register = word.strip_prefix(['a', 'b', 'f', 'm']).and_then(|rest| rest.parse().ok());
        let (negative, digits) =
            word.strip_prefix('-').map_or((false, word.trim_start_matches('+')), |rest| (true, rest));
        let value = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => digits.parse::<i64>().ok(),
        };
        match (register, value) {
            (Some(register), _) => registers.push(register),
            (_, Some(value)) => number = Some(if negative { -value } else { value }),
            _ => {}
        }
    }
    (registers, number)
}

/// The name by which the instruction is kept here.
fn kept_name(name: &str) -> String {
    let plain = name.strip_suffix(".n").unwrap_or(name);
    let plain = plain
        .split_once('.')
        .filter(|(head, _)| matches!(*head, "rsr" | "wsr" | "xsr" | "rur" | "wur"))
        .map_or(plain, |(head, _)| head);
    // A disassembler's other names for the forms that change the base register.
    match plain {
        "lsip" => "lsiu".into(),
        "ssip" => "ssiu".into(),
        "lsxp" => "lsxu".into(),
        "ssxp" => "ssxu".into(),
        "ill" => "illegal".into(),
        _ => {
            let group = plain.split('.').next().unwrap_or(plain);
            let mac = matches!(group, "umul" | "mul" | "mula" | "muls") && plain.matches('.').count() >= 2;
            if mac { group.into() } else { plain.replace('.', "") }
        }
    }
}

#[test]
fn instructions_are_named_as_an_independent_disassembler_names_them() {
    let options = Options::new(ALL);
    let mut wrong = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in include_str!("tests/decode.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut hex = || u32::from_str_radix(columns.next().unwrap(), 16).unwrap();
        let (pc, word, length) = (hex(), hex(), hex());
        let (name, text) = (columns.next().unwrap(), columns.next().unwrap_or(""));
        // Known to the disassembler, absent in these cores: memory protection's TLBs, the second chip's GPIO.
        if name.contains("gpio") || name.ends_with("tlb") {
            continue;
        }
        let op = decode(word, pc, &options);
        let ours = format!("{:?}", op.kind).to_lowercase();
        seen.insert(op.kind as u8);
        let same_name = ours == kept_name(name) && u32::from(op.length) == length;
        let (registers, number) = operands(&op, pc);
        let mut theirs = of_text(text);
        if matches!(op.kind, Kind::Rsr | Kind::Wsr | Kind::Xsr) {
            theirs.0.truncate(1);
        }
        // A disassembler names a special register instead of its number.
        let numbered = number.is_none() || theirs.1.is_none() || number == theirs.1;
        let same = matches!(op.kind, Kind::Umul | Kind::Mul | Kind::Mula | Kind::Muls | Kind::Ldinc | Kind::Lddec)
            || (registers == theirs.0 && numbered);
        if !same_name || !same {
            wrong.push(format!("{line}: {ours} {registers:?} {number:?}"));
        }
        if matches!(op.kind, Kind::Beqi | Kind::Bltui) {
            let constant = text.split(',').nth(1).unwrap().trim();
            assert_eq!(of_text(constant).1, Some(i64::from(constant_of(op.imm))), "{line}");
        }
    }
    assert!(wrong.is_empty(), "{} of them: {:#?}", wrong.len(), &wrong[..wrong.len().min(60)]);
    assert!(seen.len() > 150, "{}", seen.len());
}

#[test]
fn parts_that_a_core_does_not_have_are_illegal() {
    let bare = Options::new("lx7");
    // LOOP, MUL.AA.LL, S32C1I, ANDB, ADD.S.
    for word in [0x00_8876, 0x74_0034, 0x00_e222, 0x02_0000, 0x0a_0000] {
        assert_ne!(decode(word, 0, &Options::new(ALL)).kind, Kind::Illegal, "{word:#x}");
        assert_eq!(decode(word, 0, &bare).kind, Kind::Illegal, "{word:#x}");
    }
}

#[test]
fn vector_instructions_have_names() {
    let options = Options::new("lx7 vector");
    assert_eq!(super::pie::name(0x25_0804), Some("ee.zero.accx"));
    assert_eq!(super::pie::name(0x83_0004), Some("ee.vld.128.ip"));
    assert_eq!(decode(0x83_0004, 0, &options).kind, Kind::Vector);
    assert_eq!(decode(0x8000_000e, 0, &options).length, 4);
    assert_eq!(decode(0x83_0004, 0, &Options::new(ALL)).kind, Kind::Illegal);
}

/// A program that meets a vector instruction says which one; an operating system that keeps the unit off is told so.
#[test]
fn a_vector_instruction_is_named_and_ends_in_its_exception() {
    use crate::machine::{Config, Machine};
    for (word, name) in [(0x25_0804u32, "ee.zero.accx"), (0x83_0004, "ee.vld.128.ip")] {
        for (enabled, cause) in [(0xffu32, 0), (1, 35)] {
            let mut machine = Machine::new(Config::new("esp32s3", 1 << 20).unwrap()).unwrap();
            let code = 0x4038_0000;
            // WSR.CPENABLE a4, then the instruction.
            machine.poke(code, &[0x40, 0xe0, 0x13]);
            machine.poke(code + 3, &word.to_le_bytes()[..3]);
            machine.cores[0].get_mut().set_register(5, enabled);
            machine.cores[0].get_mut().set_register(73, 0);
            machine.cores[0].get_mut().set_pc(code);
            let Machine { soc, cores, .. } = &mut machine;
            cores[0].get_mut().run(soc, 2);
            let crate::cpu::Core::Xtensa(core) = &machine.cores[0] else { panic!() };
            assert_eq!((core.cause, core.epc[1]), (cause, code + 3), "{name}");
            let told: Vec<_> = machine.take_events().into_iter().map(|event| format!("{:?}", event.what)).collect();
            assert_eq!(told.iter().any(|what| what.contains(name)), cause == 0, "{told:?}");
        }
    }
}
