//! Where an address lies: what PC, EXCVADDR and MTVAL of a crash tell.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::Panic;
use crate::chip::{self, Arch, Chip, Region};
use crate::coredump::cause_name;

/// Below this an address is a null pointer with the offset of a member or an element.
pub const NULL_END: u32 = 0x1000;

/// ROMs are up to this long; the regions of image segments name only their first part.
const ROM_SPAN: u32 = 0x6_0000;

/// A word that marks memory in use, free or never written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// The word.
    word: u32,
    /// What wrote it.
    meaning: String,
}

fn marks() -> &'static [Mark] {
    #[derive(Deserialize)]
    struct File {
        mark: Vec<Mark>,
    }
    static MARKS: OnceLock<Vec<Mark>> = OnceLock::new();
    MARKS.get_or_init(|| {
        toml::from_str::<File>(include_str!("../../console/marks.toml")).map(|file| file.mark).unwrap_or_default()
    })
}

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Zero, or a little behind it.
    Null,
    /// A word that marks memory, taken for an address.
    Mark,
    /// Flash that is mapped into the address space.
    Flash,
    /// The chip's ROM.
    Rom,
    /// Memory on the chip.
    Ram,
    /// Memory that sleeps with the chip.
    Rtc,
    /// External memory.
    Psram,
    /// A register.
    Peripheral,
    /// Nothing that a program of this chip uses.
    Elsewhere,
    /// The chip is not known.
    Unknown,
}

impl Place {
    /// Its word in the decoder's facts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Mark => "mark",
            Self::Flash => "flash",
            Self::Rom => "rom",
            Self::Ram => "ram",
            Self::Rtc => "rtc",
            Self::Psram => "psram",
            Self::Peripheral => "peripheral",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        }
    }
}

/// The place of an address on a chip.
pub fn place(chip: Option<&Chip>, address: u32) -> Place {
    if address < NULL_END {
        return Place::Null;
    }
    if marks().iter().any(|mark| mark.word == address) {
        return Place::Mark;
    }
    let Some(chip) = chip else {
        // Some words are no address on any chip, as those of a text.
        let is_nowhere = |chip: &Chip| matches!(place(Some(chip), address), Place::Elsewhere | Place::Unknown);
        return if chip::all().iter().all(is_nowhere) { Place::Elsewhere } else { Place::Unknown };
    };
    let inside = |range: &[u32; 2]| (range[0]..range[1]).contains(&address);
    if inside(&chip.image.irom) || inside(&chip.image.drom) {
        return Place::Flash;
    }
    let covers = |region: &&Region| (region.start..region.end).contains(&address);
    let of = |region: &Region| match region.name.as_str() {
        // The first chip's ROM is called as its mapped flash, which is told by the ranges above.
        "IROM_MASK" | "DROM_MASK" | "IROM" => Some(Place::Rom),
        "EXTRAM_DATA" => Some(Place::Psram),
        name if name.starts_with("RTC_") => Some(Place::Rtc),
        "DRAM" | "IRAM" | "DIRAM_DRAM" | "DIRAM_IRAM" | "CACHE_PRO" | "CACHE_APP" | "BYTE_ACCESSIBLE" => {
            Some(Place::Ram)
        }
        _ => None,
    };
    let found: Vec<Place> = chip.memory.iter().filter(covers).filter_map(of).collect();
    let order = [Place::Rom, Place::Rtc, Place::Psram, Place::Ram];
    if let Some(place) = order.into_iter().find(|place| found.contains(place)) {
        return place;
    }
    let rom = chip.memory.iter().find(|region| region.name == "IROM_MASK").map(|region| region.start);
    if rom.is_some_and(|start| address.wrapping_sub(start) < ROM_SPAN) {
        return Place::Rom;
    }
    let page = address & !0xfff;
    if chip.registers().registers.iter().any(|register| register.address & !0xfff == page) {
        return Place::Peripheral;
    }
    // Without a word about its ROM the chip's map is not whole.
    let whole = chip.memory.iter().any(|region| matches!(region.name.as_str(), "IROM_MASK" | "CACHE_PRO"));
    if whole { Place::Elsewhere } else { Place::Unknown }
}

/// One number of a crash in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Number {
    /// The register.
    pub register: String,
    /// Its value.
    pub value: u32,
    /// What it tells.
    pub meaning: String,
    /// It is an address of data.
    #[serde(skip)]
    pub has_address: bool,
}

/// The registers that tell most, each in words.
pub fn numbers(panic: &Panic, chip: Option<&Chip>) -> Vec<Number> {
    let mut found = Vec::new();
    let mut tell = |register: &str, value: u32, meaning: String| {
        let has_address = matches!(register, "EXCVADDR" | "MTVAL" | "excvaddr" | "mtval");
        found.push(Number { register: register.to_owned(), value, meaning, has_address });
    };
    if let Some((name, pc)) = panic.register(&["PC", "MEPC", "EPC1"]) {
        tell(name, pc, format!("instruction {}", where_code_lies(chip, pc)));
    }
    if let Some((name, address)) = panic.register(&["EXCVADDR", "MTVAL"]).filter(|_| panic.has_address()) {
        tell(name, address, format!("address used: {}", where_data_lies(chip, address)));
    }
    if let Some((name, cause)) = panic.register(&["EXCCAUSE", "MCAUSE"]) {
        let arch = if name.eq_ignore_ascii_case("MCAUSE") { Arch::Riscv } else { Arch::Xtensa };
        tell(name, cause, format!("cause: {}", cause_name(arch, cause)));
    }
    if let Some((name, sp)) = panic.register(&["SP", "A1"]) {
        let place = place(chip, sp);
        let wrong = matches!(
            place,
            Place::Null | Place::Mark | Place::Flash | Place::Rom | Place::Peripheral | Place::Elsewhere
        );
        if wrong {
            tell(name, sp, format!("the stack pointer is no place for a stack: {}", where_data_lies(chip, sp)));
        }
    }
    found
}

fn where_code_lies(chip: Option<&Chip>, address: u32) -> String {
    match place(chip, address) {
        Place::Null => "at a null pointer: a function pointer or return address was 0".into(),
        Place::Mark => format!("at a mark word ({})", meaning(address)),
        Place::Flash => "in code in flash".into(),
        Place::Rom => "in the chip's ROM".into(),
        Place::Ram => "in RAM".into(),
        Place::Rtc => "in RTC memory".into(),
        Place::Psram => "in external memory".into(),
        Place::Peripheral => "at a register: no code lies there".into(),
        Place::Elsewhere => "where no code lies".into(),
        Place::Unknown if chip.is_some() => "outside of this chip's flash and RAM: in its ROM, or nowhere".into(),
        Place::Unknown => "address; the chip is not known: give chip".into(),
    }
}

fn where_data_lies(chip: Option<&Chip>, address: u32) -> String {
    match place(chip, address) {
        Place::Null if address == 0 => "a null pointer".into(),
        Place::Null => {
            format!("a null pointer, {address} bytes behind it: a member or element of something that is not there")
        }
        Place::Mark => format!("a mark word used as a pointer ({})", meaning(address)),
        Place::Flash => "mapped flash: it can be read only, as words where it is code".into(),
        Place::Rom => "the chip's ROM".into(),
        Place::Ram => "RAM on the chip".into(),
        Place::Rtc => "RTC memory".into(),
        Place::Psram => "external memory".into(),
        Place::Peripheral => "a register of a peripheral".into(),
        Place::Elsewhere => "no memory of the chip: a wild pointer".into(),
        Place::Unknown if chip.is_some() => "outside of this chip's flash and RAM".into(),
        Place::Unknown => "the chip is not known: give chip".into(),
    }
}

fn meaning(word: u32) -> &'static str {
    marks().iter().find(|mark| mark.word == word).map_or("", |mark| mark.meaning.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::by_name;

    #[test]
    fn marks_are_read() {
        assert!(marks().len() > 5);
        assert_eq!(place(None, 0xa5a5_a5a5), Place::Mark);
    }

    #[test]
    fn addresses_of_chips_are_told_apart() {
        for (chip, address, want) in [
            ("esp32", 0x400d_1234, Place::Flash),
            ("esp32", 0x4008_1234, Place::Ram),
            ("esp32", 0x4000_7d54, Place::Rom),
            ("esp32", 0x3ffb_1234, Place::Ram),
            ("esp32", 0x3f80_1234, Place::Psram),
            ("esp32", 0x3ff4_0014, Place::Peripheral),
            ("esp32", 0x0000_0014, Place::Null),
            ("esp32", 0x9000_0000, Place::Elsewhere),
            ("esp32s3", 0x4200_a4d1, Place::Flash),
            ("esp32s3", 0x4004_54d5, Place::Rom),
            ("esp32s3", 0x9004_54d5, Place::Elsewhere),
            ("esp32c3", 0x4038_0000, Place::Ram),
            ("esp32c3", 0x3c0f_0020, Place::Flash),
            ("esp32c6", 0x4200_0020, Place::Flash),
            ("esp32c6", 0x4081_0f50, Place::Ram),
            ("esp8266", 0x4020_1100, Place::Flash),
            ("esp8266", 0x3fff_fdf0, Place::Ram),
        ] {
            assert_eq!(place(by_name(chip), address), want, "{chip} {address:#x}");
        }
    }
}
