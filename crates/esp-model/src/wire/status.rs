//! The status bytes at the end of a reply.

/// Outcome of a command as the loader reports it: a flag and a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// 0 for success, anything else for failure.
    pub failed: u8,
    /// Reason, see [`Status::reason`]; 0 on success.
    pub code: u8,
}

impl Status {
    /// Success.
    pub const OK: Self = Self { failed: 0, code: 0 };
    /// "Received message is invalid": an unknown or forbidden command, or wrong parameters.
    pub const INVALID: Self = Self::error(0x05);
    /// The command was understood but could not be carried out.
    pub const FAILED: Self = Self::error(0x06);
    /// The data block's checksum is wrong.
    pub const BAD_CRC: Self = Self::error(0x07);
    /// The flash write failed: what was read back differs.
    pub const FLASH_WRITE: Self = Self::error(0x08);
    /// The flash read failed.
    pub const FLASH_READ: Self = Self::error(0x09);
    /// The flash read was longer than the loader allows.
    pub const FLASH_READ_LENGTH: Self = Self::error(0x0a);
    /// The compressed data does not inflate.
    pub const DEFLATE: Self = Self::error(0x0b);

    /// A failure with reason `code`.
    pub const fn error(code: u8) -> Self {
        Self { failed: 1, code }
    }

    /// The command succeeded.
    pub fn is_ok(self) -> bool {
        self.failed == 0
    }

    /// What the reason code means: ROM codes 0x05..0x0b and the stub's 0xc0..0xff.
    ///
    /// Source: "Serial Protocol", status bytes; esp-flasher-stub `command_handler.h`.
    pub fn reason(self) -> &'static str {
        match self.code {
            0x00 => "undefined",
            0x01 => "the input parameter is invalid",
            0x02 => "out of memory in the loader",
            0x03 => "sending the message failed",
            0x04 => "receiving the message failed",
            0x05 => "the message is invalid or the command is not supported here",
            0x06 => "the command could not be carried out",
            0x07 => "the checksum of the data block is wrong",
            0x08 => "flash write error: the data read back differs",
            0x09 => "flash read error",
            0x0a => "the read is longer than the loader allows",
            0x0b => "the compressed data is damaged",
            0x63 | 0x64 => "the flash parameters do not fit the request",
            0xc0 => "the stub could not change the baud rate",
            0xc1 => "the stub found wrong data length",
            0xc2 => "the data block does not fit",
            0xc3 => "the flash address or length is not aligned",
            0xc4 => "not in flash download mode",
            0xc5 => "the compressed data is damaged",
            0xc6 => "there is more data than announced",
            0xc7 => "there is less data than announced",
            0xff => "the command is not implemented in the stub",
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
