//! The serial loader protocol, written once for both ends: the client encodes requests and decodes replies,
//! the simulator does the reverse.
//!
//! Source: Espressif's "Serial Protocol" page of the esptool documentation, and the stub's sources
//! (esp-flasher-stub, MIT OR Apache-2.0).

pub mod reply;
pub mod request;
pub mod slip;
pub mod status;
mod table;

pub use reply::Reply;
pub use request::{Begin, Command, RegWrite, Request, SpiParams};
pub use status::Status;

/// Start value of the 8-bit XOR checksum over a data block.
pub const CHECKSUM_SEED: u8 = 0xef;

/// XOR of all bytes of a data block, from [`CHECKSUM_SEED`].
pub fn checksum(data: &[u8]) -> u8 {
    data.iter().fold(CHECKSUM_SEED, |sum, byte| sum ^ byte)
}

/// Payload of a SYNC request: `07 07 12 20` and 32 times `55`.
pub fn sync_payload() -> Vec<u8> {
    let mut payload = vec![0x07, 0x07, 0x12, 0x20];
    payload.resize(36, 0x55);
    payload
}

/// What a freshly started stub says in a frame of its own.
pub const STUB_GREETING: &[u8] = b"OHAI";
