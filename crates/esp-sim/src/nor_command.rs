//! Commands of serial NOR flash (JEDEC JESD216, Winbond W25Q data sheets).

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $opcode:literal,)*) => { $($(#[$doc])* pub const $name: u8 = $opcode;)* };
}

commands! {
    WRITE_STATUS_1 = 0x01,
    PAGE_PROGRAM = 0x02,
    READ = 0x03,
    WRITE_DISABLE = 0x04,
    READ_STATUS_1 = 0x05,
    WRITE_ENABLE = 0x06,
    FAST_READ = 0x0b,
    WRITE_STATUS_3 = 0x11,
    READ_STATUS_3 = 0x15,
    SECTOR_ERASE = 0x20,
    WRITE_STATUS_2 = 0x31,
    READ_STATUS_2 = 0x35,
    DUAL_OUTPUT_READ = 0x3b,
    READ_UNIQUE_ID = 0x4b,
    /// Write enable for the volatile bits of the status registers.
    WRITE_ENABLE_VOLATILE = 0x50,
    BLOCK_ERASE_32K = 0x52,
    READ_SFDP = 0x5a,
    CHIP_ERASE = 0x60,
    ENABLE_RESET = 0x66,
    QUAD_OUTPUT_READ = 0x6b,
    READ_MANUFACTURER = 0x90,
    RESET = 0x99,
    READ_ID = 0x9f,
    /// Also the old electronic signature.
    RELEASE_POWER_DOWN = 0xab,
    POWER_DOWN = 0xb9,
    CHIP_ERASE_ALIAS = 0xc7,
    BLOCK_ERASE_64K = 0xd8,
}
