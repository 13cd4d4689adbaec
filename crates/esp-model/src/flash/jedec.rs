//! JEDEC identification (opcode 0x9F): manufacturer, type, capacity.

/// The three bytes of a JEDEC id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JedecId {
    /// Manufacturer (JEP106, first bank).
    pub manufacturer: u8,
    /// Memory type.
    pub kind: u8,
    /// Capacity code.
    pub capacity: u8,
}

impl JedecId {
    /// From the register value of a 24-bit read: the manufacturer stands in the lowest byte.
    pub fn from_word(word: u32) -> Self {
        let [manufacturer, kind, capacity, _] = word.to_le_bytes();
        Self { manufacturer, kind, capacity }
    }

    /// Nothing answered: all ones or all zeros.
    pub fn is_absent(self) -> bool {
        matches!((self.manufacturer, self.kind, self.capacity), (0xff, 0xff, 0xff) | (0, 0, 0))
    }

    /// Size in bytes that the capacity code stands for.
    ///
    /// Most makers use the power of two (0x16 = 4 MB); some start again at 0x20 (64 MB) or 0x32 (256 KB).
    /// Source: data sheets as collected in esptool's documentation and flashrom's `flashchips`.
    pub fn size(self) -> Option<u32> {
        match self.capacity {
            code @ 0x12..=0x1c => Some(1 << code),
            code @ 0x20..=0x22 => Some(1 << (code - 6)),
            code @ 0x32..=0x3a => Some(1 << (code - 0x20)),
            _ => None,
        }
    }

    /// The maker's name, for the makers that are met on ESP boards.
    pub fn manufacturer_name(self) -> Option<&'static str> {
        Some(match self.manufacturer {
            0x01 => "Spansion",
            0x0b => "XTX",
            0x1c => "EON",
            0x1f => "Adesto/Atmel",
            0x20 => "XMC/Micron",
            0x25 | 0x5e => "Zbit",
            0x46 => "Fudan",
            0x51 => "GigaDevice",
            0x68 => "Boya",
            0x85 => "Puya",
            0x8c => "ESMT",
            0x9d => "ISSI",
            0xa1 => "Fudan Micro",
            0xba => "Zetta",
            0xbf => "Microchip/SST",
            0xc2 => "Macronix",
            0xc4 => "Giantec",
            0xc8 => "GigaDevice",
            0xcd => "TH",
            0xe0 => "PARAGON",
            0xef => "Winbond",
            _ => return None,
        })
    }
}

impl std::fmt::Display for JedecId {
    /// `ef4016`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}{:02x}{:02x}", self.manufacturer, self.kind, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_capacity_code() {
        let size = |word| JedecId::from_word(word).size();
        assert_eq!(size(0x16_40_ef), Some(4 << 20));
        assert_eq!(size(0x19_40_ef), Some(32 << 20));
        assert_eq!(size(0x20_ba_20), Some(64 << 20));
        assert_eq!(size(0x36_60_c8), Some(4 << 20));
        assert_eq!(size(0xff_ff_ff), None);
        assert!(JedecId::from_word(0xff_ff_ff).is_absent());
        assert_eq!(JedecId::from_word(0x16_40_ef).to_string(), "ef4016");
    }
}
