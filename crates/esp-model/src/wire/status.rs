//! The status bytes at the end of a reply.

/// Outcome of a command as the loader reports it: two bytes.
///
/// The ROM sends a flag (1 for failure) and a reason. The stub sends its reason in the first byte and 0 in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// 0 for success, anything else for failure.
    pub failed: u8,
    /// Reason given by a ROM, see [`Status::reason`]; 0 on success and from the stub.
    pub code: u8,
}

impl Status {
    /// Success.
    pub const OK: Self = Self { failed: 0, code: 0 };
    /// ROM: "received message is invalid": an unknown or forbidden command, or wrong parameters.
    pub const INVALID: Self = Self::error(0x05);
    /// ROM: the command was understood but could not be carried out.
    pub const FAILED: Self = Self::error(0x06);
    /// ROM: the data block's checksum is wrong.
    pub const BAD_CRC: Self = Self::error(0x07);
    /// ROM: the flash write failed: what was read back differs.
    pub const FLASH_WRITE: Self = Self::error(0x08);
    /// ROM: the flash read failed.
    pub const FLASH_READ: Self = Self::error(0x09);
    /// ROM: the flash read was longer than the loader allows.
    pub const FLASH_READ_LENGTH: Self = Self::error(0x0a);
    /// ROM: the compressed data does not inflate.
    pub const DEFLATE: Self = Self::error(0x0b);

    /// Stub: a packet or parameter has the wrong length.
    pub const BAD_LENGTH: Self = Self::stub(0xc0);
    /// Stub: the data block's checksum is wrong.
    pub const BAD_CHECKSUM: Self = Self::stub(0xc1);
    /// Stub: an unknown command.
    pub const STUB_INVALID: Self = Self::stub(0xc3);
    /// Stub: the flash operation failed.
    pub const SPI_FAILED: Self = Self::stub(0xc4);
    /// Stub: a block came without a begin.
    pub const NOT_IN_FLASH_MODE: Self = Self::stub(0xc6);
    /// Stub: the compressed data does not inflate.
    pub const STUB_INFLATE: Self = Self::stub(0xc7);
    /// Stub: more data than announced.
    pub const TOO_MUCH_DATA: Self = Self::stub(0xc9);
    /// Stub: the command is not implemented on this chip.
    pub const NOT_IMPLEMENTED: Self = Self::stub(0xff);

    /// A failure with a ROM's reason.
    pub const fn error(code: u8) -> Self {
        Self { failed: 1, code }
    }

    /// A failure with the stub's reason.
    pub const fn stub(reason: u8) -> Self {
        Self { failed: reason, code: 0 }
    }

    /// The command succeeded.
    pub fn is_ok(self) -> bool {
        self.failed == 0
    }

    /// What the reason means: ROM codes 0x01..0x0b and the stub's 0xc0..0xff.
    ///
    /// Source: "Serial Protocol", status bytes; esp-flasher-stub `commands.h`, `esp_response_code`.
    pub fn reason(self) -> &'static str {
        match (self.failed, self.code) {
            (0xc0, _) => "the stub found a wrong data length",
            (0xc1, _) => "the stub found a wrong checksum",
            (0xc2, _) => "the block size is wrong",
            (0xc3, _) => "the command is not known to the stub",
            (0xc4, _) => "the flash operation failed",
            (0xc5, _) => "the flash could not be unlocked",
            (0xc6, _) => "not in flash download mode",
            (0xc7, _) => "the compressed data is damaged",
            (0xc8, _) => "there is less data than announced",
            (0xc9, _) => "there is more data than announced",
            (0xca, _) => "the NAND flash program failed",
            (0xcb, _) => "the NAND flash erase failed",
            (0xff, _) => "the command is not implemented in the stub for this chip",
            (_, 0x00) => "undefined",
            (_, 0x01) => "the input parameter is invalid",
            (_, 0x02) => "out of memory in the loader",
            (_, 0x03) => "sending the message failed",
            (_, 0x04) => "receiving the message failed",
            (_, 0x05) => "the message is invalid or the command is not supported here",
            (_, 0x06) => "the command could not be carried out",
            (_, 0x07) => "the checksum of the data block is wrong",
            (_, 0x08) => "flash write error: the data read back differs",
            (_, 0x09) => "flash read error",
            (_, 0x0a) => "the read is longer than the loader allows",
            (_, 0x0b) => "the compressed data is damaged",
            (_, 0x63 | 0x64) => "the flash parameters do not fit the request",
            _ => "unknown reason",
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_ok() {
            f.write_str("ok")
        } else {
            write!(f, "{:02x}{:02x}: {}", self.failed, self.code, self.reason())
        }
    }
}
