//! Status registers of flash parts, decoded by maker.
//!
//! Bit layouts from the makers' data sheets (W25Q32JV, GD25Q32E, MX25L3233F, IS25LP032, EN25QH32, N25Q032); which maker
//! keeps its quad enable bit where also from ESP-IDF, `bootloader_flash/src/flash_qio_mode.c`.

use serde::Serialize;

use super::jedec::JedecId;

/// What a bit stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Busy,
    WriteEnable,
    /// A block protect bit; together they name the protected part.
    Protect,
    /// Turns the meaning of the block protect bits round.
    Complement,
    /// Chooses where protection begins or how fine it is; alone it protects nothing.
    Shape,
    QuadEnable,
    /// Locks the status registers; the first one stands in register 1.
    Lock,
    Other,
}

/// A named bit: number, name, role.
type Bit = (u8, &'static str, Role);

/// A register: the opcode that reads it, and its bits.
#[derive(Debug)]
struct Register {
    opcode: u8,
    bits: &'static [Bit],
}

/// Parts whose registers look alike.
#[derive(Debug)]
pub struct Family {
    /// A name for it.
    pub name: &'static str,
    /// Manufacturer and memory types; no types: all.
    makers: &'static [(u8, &'static [u8])],
    registers: &'static [Register],
    /// All of these block protect bits set mean that everything is protected.
    all: u8,
}

use Role::{Busy, Complement, Lock, Other, Protect, QuadEnable, Shape, WriteEnable};

const SR2: Register = Register {
    opcode: 0x35,
    bits: &[
        (0, "SRP1", Lock),
        (1, "QE", QuadEnable),
        (3, "LB1", Other),
        (4, "LB2", Other),
        (5, "LB3", Other),
        (6, "CMP", Complement),
        (7, "SUS", Other),
    ],
};

/// Families by maker; the last one stands for the makers that are not named, as ESP-IDF's bootloader takes them too.
static FAMILIES: [Family; 6] = [
    Family {
        name: "Winbond",
        makers: &[(0xef, &[])],
        registers: &[
            Register {
                opcode: 0x05,
                bits: &[
                    (0, "BUSY", Busy),
                    (1, "WEL", WriteEnable),
                    (2, "BP0", Protect),
                    (3, "BP1", Protect),
                    (4, "BP2", Protect),
                    (5, "TB", Shape),
                    (6, "SEC", Shape),
                    (7, "SRP0", Lock),
                ],
            },
            SR2,
            Register {
                opcode: 0x15,
                bits: &[(2, "WPS", Other), (5, "DRV0", Other), (6, "DRV1", Other), (7, "HOLD/RST", Other)],
            },
        ],
        all: 0b0001_1100,
    },
    Family {
        name: "Macronix, ISSI",
        makers: &[(0xc2, &[]), (0x9d, &[])],
        registers: &[Register {
            opcode: 0x05,
            bits: &[
                (0, "WIP", Busy),
                (1, "WEL", WriteEnable),
                (2, "BP0", Protect),
                (3, "BP1", Protect),
                (4, "BP2", Protect),
                (5, "BP3", Protect),
                (6, "QE", QuadEnable),
                (7, "SRWD", Lock),
            ],
        }],
        all: 0b0011_1100,
    },
    Family {
        name: "EON",
        makers: &[(0x1c, &[])],
        registers: &[Register {
            opcode: 0x05,
            bits: &[
                (0, "WIP", Busy),
                (1, "WEL", WriteEnable),
                (2, "BP0", Protect),
                (3, "BP1", Protect),
                (4, "BP2", Protect),
                (5, "BP3", Protect),
                // Turns the pins WP and HOLD into data lines.
                (6, "WHDIS", QuadEnable),
                (7, "SRP", Lock),
            ],
        }],
        all: 0b0011_1100,
    },
    Family {
        name: "Micron",
        makers: &[(0x20, &[0xba, 0xbb])],
        registers: &[Register {
            opcode: 0x05,
            bits: &[
                (0, "WIP", Busy),
                (1, "WEL", WriteEnable),
                (2, "BP0", Protect),
                (3, "BP1", Protect),
                (4, "BP2", Protect),
                (5, "TB", Shape),
                (6, "BP3", Protect),
                (7, "SRWD", Lock),
            ],
        }],
        all: 0b0101_1100,
    },
    Family {
        // Its quad enable bit can be seen in OTP mode only.
        name: "XMC XM25QU64A",
        makers: &[(0x20, &[0x38])],
        registers: &[Register {
            opcode: 0x05,
            bits: &[
                (0, "WIP", Busy),
                (1, "WEL", WriteEnable),
                (2, "BP0", Protect),
                (3, "BP1", Protect),
                (4, "BP2", Protect),
                (5, "BP3", Protect),
                (7, "SRP", Lock),
            ],
        }],
        all: 0b0011_1100,
    },
    Family {
        name: "GigaDevice and alike",
        makers: &[
            (0xc8, &[]),
            (0x51, &[]),
            (0x68, &[]),
            (0x85, &[]),
            (0x0b, &[]),
            (0x20, &[]),
            (0xcd, &[]),
            (0xba, &[]),
            (0x5e, &[]),
            (0x25, &[]),
            (0xa1, &[]),
        ],
        registers: &[
            Register {
                opcode: 0x05,
                bits: &[
                    (0, "WIP", Busy),
                    (1, "WEL", WriteEnable),
                    (2, "BP0", Protect),
                    (3, "BP1", Protect),
                    (4, "BP2", Protect),
                    (5, "BP3", Shape),
                    (6, "BP4", Shape),
                    (7, "SRP0", Lock),
                ],
            },
            SR2,
        ],
        all: 0b0001_1100,
    },
];

/// How much of the part refuses programs and erases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Nothing.
    None,
    /// Some of it.
    Part,
    /// All of it.
    All,
    /// The registers read as all ones: either nothing answers or they are damaged.
    Unknown,
}

/// What may change the status registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterLock {
    /// Any write status command.
    Open,
    /// Only while the pin WP is high.
    Pin,
    /// Nothing until the next power-up.
    UntilPowerUp,
    /// Nothing, ever.
    Permanent,
}

/// A named bit and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Register, counted from 1.
    pub register: u8,
    /// Bit number.
    pub bit: u8,
    /// The data sheet's name.
    pub name: &'static str,
    /// The bit is 1.
    pub set: bool,
}

/// Decoded registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// All named bits.
    pub fields: Vec<Field>,
    /// A program or erase is under way.
    pub busy: bool,
    /// The next program or erase would be carried out.
    pub write_enabled: bool,
    /// Four data lines are switched on; `None` where this part has no such bit or does not show it.
    pub quad_enable: Option<bool>,
    /// What the block protect bits say.
    pub protection: Protection,
    /// Who may change the registers.
    pub lock: RegisterLock,
}

impl Family {
    /// The family of a part, and whether its maker is known to belong to it.
    pub fn of(id: JedecId) -> (&'static Self, bool) {
        let fits = |family: &&Family| {
            let mut makers = family.makers.iter();
            makers.any(|(maker, kinds)| *maker == id.manufacturer && (kinds.is_empty() || kinds.contains(&id.kind)))
        };
        match FAMILIES.iter().find(fits) {
            Some(family) => (family, true),
            None => (&FAMILIES[FAMILIES.len() - 1], false),
        }
    }

    /// The opcodes that read the registers, register 1 first.
    pub fn opcodes(&self) -> impl Iterator<Item = u8> {
        self.registers.iter().map(|register| register.opcode)
    }

    /// What the registers' values mean, register 1 first.
    pub fn decode(&self, values: &[u8]) -> Status {
        let mut status = Status {
            fields: Vec::new(),
            busy: false,
            write_enabled: false,
            quad_enable: None,
            protection: Protection::None,
            lock: RegisterLock::Open,
        };
        let (mut protect, mut complement, mut locks) = (0u8, false, 0u8);
        for (index, (register, value)) in self.registers.iter().zip(values).enumerate() {
            for &(bit, name, role) in register.bits {
                let set = value >> bit & 1 == 1;
                status.fields.push(Field { register: index as u8 + 1, bit, name, set });
                match role {
                    Role::Busy => status.busy = set,
                    Role::WriteEnable => status.write_enabled = set,
                    Role::QuadEnable => status.quad_enable = Some(set),
                    Role::Protect => protect |= u8::from(set) << bit,
                    Role::Complement => complement = set,
                    Role::Lock => locks |= u8::from(set) << index,
                    Role::Shape | Role::Other => {}
                }
            }
        }
        let (none, all) = (protect == 0, protect == self.all);
        status.protection = match values.first() {
            None | Some(0xff) => Protection::Unknown,
            _ if (none && !complement) || (all && complement) => Protection::None,
            _ if all || none => Protection::All,
            _ => Protection::Part,
        };
        status.lock = match locks {
            0 => RegisterLock::Open,
            1 => RegisterLock::Pin,
            2 => RegisterLock::UntilPowerUp,
            _ => RegisterLock::Permanent,
        };
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(id: u32, values: &[u8]) -> Status {
        Family::of(JedecId::from_word(id)).0.decode(values)
    }

    #[test]
    fn makers_keep_their_quad_bit_in_different_places() {
        assert_eq!(decode(0x16_40_ef, &[0, 2, 0]).quad_enable, Some(true));
        assert_eq!(decode(0x16_40_c8, &[0x40, 0]).quad_enable, Some(false));
        assert_eq!(decode(0x16_20_c2, &[0x40]).quad_enable, Some(true));
        assert_eq!(decode(0x16_40_9d, &[0]).quad_enable, Some(false));
        assert_eq!(decode(0x16_ba_20, &[0x40]).quad_enable, None);
        assert_eq!(decode(0x17_38_20, &[0x40]).quad_enable, None);
        assert_eq!(decode(0x16_40_20, &[0, 2]).quad_enable, Some(true));
    }

    #[test]
    fn protection_and_locks_are_named() {
        let winbond = |values: &[u8]| decode(0x16_40_ef, values);
        assert_eq!(winbond(&[0, 0, 0]).protection, Protection::None);
        assert_eq!(winbond(&[0x04, 0, 0]).protection, Protection::Part);
        assert_eq!(winbond(&[0x1c, 0, 0]).protection, Protection::All);
        assert_eq!(winbond(&[0, 0x40, 0]).protection, Protection::All);
        assert_eq!(winbond(&[0x60, 0, 0]).protection, Protection::None, "TB and SEC alone protect nothing");
        assert_eq!(winbond(&[0xff, 0xff, 0xff]).protection, Protection::Unknown);
        assert_eq!(winbond(&[0x80, 0, 0]).lock, RegisterLock::Pin);
        assert_eq!(winbond(&[0, 1, 0]).lock, RegisterLock::UntilPowerUp);
        assert_eq!(winbond(&[0x80, 1, 0]).lock, RegisterLock::Permanent);
        assert_eq!((winbond(&[3, 0, 0]).busy, winbond(&[3, 0, 0]).write_enabled), (true, true));
    }

    #[test]
    fn unknown_makers_are_taken_as_the_bootloader_takes_them() {
        let (family, known) = Family::of(JedecId::from_word(0x16_40_77));
        assert_eq!((family.name, known), ("GigaDevice and alike", false));
        assert_eq!(family.opcodes().collect::<Vec<_>>(), [0x05, 0x35]);
    }
}
