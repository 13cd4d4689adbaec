//! Status registers of flash parts, decoded by maker. The layouts are data: `status.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::jedec::JedecId;

/// What a bit stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Busy,
    WriteEnable,
    /// A block protect bit; together they name the protected part.
    Protect,
    /// Turns the meaning of the block protect bits round.
    Complement,
    QuadEnable,
    /// Locks the status registers; the first one stands in register 1.
    Lock,
    Other,
}

/// A named bit.
#[derive(Debug)]
struct Bit {
    number: u8,
    name: String,
    role: Role,
}

/// A register: the opcode that reads it, and its bits.
#[derive(Debug)]
struct Register {
    opcode: u8,
    bits: Vec<Bit>,
}

/// Parts whose registers look alike.
#[derive(Debug)]
pub struct Family {
    /// A name for it.
    pub name: String,
    makers: Vec<Maker>,
    registers: Vec<Register>,
    /// All of these block protect bits set mean that everything is protected.
    all: u8,
}

/// A manufacturer and its memory types; no types: all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Maker {
    id: u8,
    #[serde(default)]
    kinds: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    roles: BTreeMap<Role, Vec<String>>,
    family: Vec<FamilyData>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyData {
    name: String,
    makers: Vec<Maker>,
    registers: Vec<RegisterData>,
    #[serde(default)]
    shape: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterData {
    opcode: u8,
    bits: String,
}

/// All families; the last one stands for the makers that are not named.
fn families() -> &'static [Family] {
    static FAMILIES: OnceLock<Vec<Family>> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        // A test reads the file: it is always valid.
        let data: Option<Data> = toml::from_str(include_str!("status.toml")).ok();
        data.map(|data| data.family.into_iter().map(|family| Family::new(family, &data.roles)).collect())
            .unwrap_or_default()
    })
}

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
    fn new(data: FamilyData, roles: &BTreeMap<Role, Vec<String>>) -> Self {
        let role = |name: &String| match roles.iter().find(|(_, names)| names.contains(name)) {
            Some((role, _)) if !data.shape.contains(name) => *role,
            _ => Role::Other,
        };
        let bit = |(number, name): (u8, &str)| {
            let name = name.to_owned();
            (name != "-").then(|| Bit { number, role: role(&name), name })
        };
        let register = |register: &RegisterData| Register {
            opcode: register.opcode,
            bits: (0..8).zip(register.bits.split_whitespace()).filter_map(bit).collect(),
        };
        let registers: Vec<Register> = data.registers.iter().map(register).collect();
        let protect = registers.iter().flat_map(|register| &register.bits).filter(|bit| bit.role == Role::Protect);
        let all = protect.fold(0, |all, bit| all | 1 << bit.number);
        Self { name: data.name, makers: data.makers, registers, all }
    }

    /// The family of a part, and whether its maker is known to belong to it.
    pub fn of(id: JedecId) -> (&'static Self, bool) {
        static NONE: Family = Family { name: String::new(), makers: Vec::new(), registers: Vec::new(), all: 0 };
        let fits =
            |maker: &Maker| maker.id == id.manufacturer && (maker.kinds.is_empty() || maker.kinds.contains(&id.kind));
        let found = families().iter().find(|family| family.makers.iter().any(fits));
        (found.or(families().last()).unwrap_or(&NONE), found.is_some())
    }

    /// The opcodes that read the registers, register 1 first.
    pub fn opcodes(&self) -> impl Iterator<Item = u8> {
        self.registers.iter().map(|register| register.opcode)
    }

    /// What the registers' values mean, register 1 first.
    pub fn decode(&'static self, values: &[u8]) -> Status {
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
            for Bit { number, name, role } in &register.bits {
                let (bit, set) = (*number, value >> number & 1 == 1);
                status.fields.push(Field { register: index as u8 + 1, bit, name, set });
                match role {
                    Role::Busy => status.busy = set,
                    Role::WriteEnable => status.write_enabled = set,
                    Role::QuadEnable => status.quad_enable = Some(set),
                    Role::Protect => protect |= u8::from(set) << bit,
                    Role::Complement => complement = set,
                    Role::Lock => locks |= u8::from(set) << index,
                    Role::Other => {}
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
    fn the_data_is_whole() {
        assert_eq!(families().len(), 6);
        for family in families() {
            assert!(family.registers.iter().all(|register| register.bits.len() >= 4), "{}", family.name);
            let has = |role| family.registers.iter().any(|register| register.bits.iter().any(|bit| bit.role == role));
            assert!(has(Role::Busy) && has(Role::WriteEnable) && has(Role::Lock), "{}", family.name);
        }
        let all = |id| Family::of(JedecId::from_word(id)).0.all;
        assert_eq!([all(0x16_40_ef), all(0x16_20_c2), all(0x16_ba_20), all(0x16_40_c8)], [0x1c, 0x3c, 0x5c, 0x1c]);
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
        assert_eq!((family.name.as_str(), known), ("GigaDevice and alike", false));
        assert_eq!(family.opcodes().collect::<Vec<_>>(), [0x05, 0x35]);
    }
}
