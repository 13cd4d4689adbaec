//! What can be asked of a burn, and why it can be refused.

use crate::mac::Mac;
/// One thing to burn.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// A field's value, as bytes with the lowest first. Bits that are set stay set.
    Field {
        /// Name or alias.
        name: String,
        /// The value; shorter than the field: the rest is 0.
        value: Vec<u8>,
    },
    /// The next bit of a field whose set bits count.
    NextBit {
        /// Name or alias.
        name: String,
    },
    /// Single bits of a block.
    Bits {
        /// Block name or alias.
        block: String,
        /// Bit numbers from the block's first bit.
        bits: Vec<u16>,
    },
    /// Data of a block as it stands in the block, without any change of byte order.
    Block {
        /// Block name or alias.
        block: String,
        /// The data.
        data: Vec<u8>,
        /// Byte at which the data begins; the rest is left alone.
        offset: usize,
    },
    /// A key with its purpose and protection.
    Key {
        /// Block name or alias.
        block: String,
        /// The key as in its file; the byte order is changed where the hardware wants it.
        key: Vec<u8>,
        /// Purpose by name.
        purpose: String,
        /// Hide the key from software, where the purpose wants it.
        read_protect: bool,
        /// Freeze the block.
        write_protect: bool,
    },
    /// A MAC address of the user's own.
    CustomMac(Mac),
    /// Hides a field or block from software, with all that share its bit.
    ReadProtect {
        /// Name or alias.
        name: String,
    },
    /// Freezes a field or block, with all that share its bit.
    WriteProtect {
        /// Name or alias.
        name: String,
    },
    /// The flash regulator's voltage, whatever the strapping pin says.
    FlashVoltage(Voltage),
}

/// What the flash regulator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voltage {
    /// 1.8 V.
    V1_8,
    /// 3.3 V.
    V3_3,
    /// Off: the flash is supplied from outside.
    Off,
}

/// Keys and data do not show themselves.
impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field { name, value } => write!(f, "Field({name}, {} bytes)", value.len()),
            Self::NextBit { name } => write!(f, "NextBit({name})"),
            Self::Bits { block, bits } => write!(f, "Bits({block}, {bits:?})"),
            Self::Block { block, data, offset } => write!(f, "Block({block}, {} bytes at {offset})", data.len()),
            Self::Key { block, key, purpose, .. } => write!(f, "Key({block}, {} bytes, {purpose})", key.len()),
            Self::CustomMac(_) => f.write_str("CustomMac"),
            Self::ReadProtect { name } => write!(f, "ReadProtect({name})"),
            Self::WriteProtect { name } => write!(f, "WriteProtect({name})"),
            Self::FlashVoltage(voltage) => write!(f, "FlashVoltage({voltage:?})"),
        }
    }
}

/// Why something cannot be burned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BurnError {
    /// No field or block of this name.
    #[error("this chip has no eFuse {0:?}")]
    Unknown(String),
    /// The value does not fit the field.
    #[error("{name}: value does not fit {bits} bits")]
    TooWide {
        /// The field.
        name: String,
        /// Its size.
        bits: u16,
    },
    /// A text that is no value.
    #[error("{0}")]
    BadValue(String),
    /// A value without a set bit burns nothing.
    #[error("{0}: burning 0 changes nothing, eFuses only go from 0 to 1")]
    Zero(String),
    /// Set bits cannot be cleared.
    #[error("{0}: bits that are already 1 cannot be cleared")]
    CannotClear(String),
    /// The field or block is frozen by WR_DIS.
    #[error("{0} is write-protected")]
    WriteProtected(String),
    /// Hidden bits cannot be checked before or after a burn.
    #[error("{0} is read-protected, what it holds cannot be seen")]
    ReadProtected(String),
    /// It has no protection bit.
    #[error("{name} cannot be {how}-protected")]
    NoProtection {
        /// Field or block.
        name: String,
        /// "read" or "write".
        how: &'static str,
    },
    /// A Reed-Solomon block is burned once as a whole.
    #[error("{0} is not empty and its Reed-Solomon coding allows one burn only")]
    ReedSolomonUsed(String),
    /// A group of a 3/4 coded block is burned once.
    #[error("{0}: a group of six bytes is not empty and its 3/4 coding allows one burn only")]
    ThreeQuartersUsed(String),
    /// No tool supports this coding.
    #[error("{0}: this chip's coding scheme is not supported")]
    Coding(String),
    /// Data or key of a wrong length.
    #[error("{name}: {found} bytes given, {wanted} are needed")]
    Length {
        /// Field or block.
        name: String,
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        wanted: usize,
    },
    /// A bit number beyond the block's end.
    #[error("{block} has no bit {bit}")]
    NoSuchBit {
        /// The block.
        block: String,
        /// The bit.
        bit: u16,
    },
    /// The block cannot hold keys.
    #[error("{0} is not a key block")]
    NotAKeyBlock(String),
    /// The chip does not know this purpose.
    #[error("this chip has no key purpose {0:?}")]
    UnknownPurpose(String),
    /// The purpose is impossible in this block.
    #[error("{block} cannot hold a key for {purpose}")]
    PurposeNotHere {
        /// The block.
        block: String,
        /// The purpose.
        purpose: String,
    },
    /// The block's purpose is already another one and frozen.
    #[error("{block} already has the purpose {has}")]
    OtherPurpose {
        /// The block.
        block: String,
        /// Its purpose.
        has: String,
    },
    /// A long key needs a second, unused block.
    #[error("a key for {0} takes two key blocks, and no second one is free")]
    NoSecondBlock(String),
    /// The field is put together from others, or belongs to the factory.
    #[error("{0} cannot be burned")]
    NotBurnable(String),
    /// A MAC address with the group bit.
    #[error("a custom MAC address must be a unicast address")]
    GroupMac,
    /// Another version of custom MAC address is burned.
    #[error("MAC_VERSION is {0}, a custom MAC address has version 1")]
    MacVersion(u32),
    /// This pin cannot be a flash pin.
    #[error("pin {0} cannot serve the flash, only 0 to 29, 32 and 33")]
    FlashPin(u32),
    /// The regulator's voltage cannot be changed to this any more.
    #[error("{0} is already burned, this flash voltage is no longer possible")]
    VoltageTaken(&'static str),
    /// The same eFuse is named twice in one request.
    #[error("{0} is named twice")]
    Twice(String),
}
