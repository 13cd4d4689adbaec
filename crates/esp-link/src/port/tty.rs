//! The few terminal requests that no crate offers safely: both modem lines in one, and the low-latency flag.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, Setter, ioctl};

/// Request numbers: `asm-generic/ioctls.h` on Linux, `sys/ttycom.h` on macOS and the BSDs (`_IOR('t', 106, int)`,
/// `_IOW('t', 109, int)`).
#[cfg(any(target_os = "linux", target_os = "android"))]
mod number {
    use super::Opcode;
    pub const TIOCMGET: Opcode = 0x5415;
    pub const TIOCMSET: Opcode = 0x5418;
    pub const TIOCGSERIAL: Opcode = 0x541e;
    pub const TIOCSSERIAL: Opcode = 0x541f;
}
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod number {
    use super::Opcode;
    pub const TIOCMGET: Opcode = 0x4004_746a;
    pub const TIOCMSET: Opcode = 0x8004_746d;
}

/// Bits of the modem line word, the same on Linux, macOS and the BSDs.
const TIOCM_DTR: c_int = 0x002;
const TIOCM_RTS: c_int = 0x004;

fn modem_bits(tty: impl AsFd) -> io::Result<c_int> {
    // SAFETY: TIOCMGET writes one int.
    Ok(unsafe { ioctl(tty, Getter::<{ number::TIOCMGET }, c_int>::new()) }?)
}

/// The line has modem lines: a pseudo terminal has none.
pub(super) fn has_modem_lines(tty: impl AsFd) -> bool {
    modem_bits(tty).is_ok()
}

/// Sets DTR and RTS in one request, so that the auto-reset circuit sees no state in between.
pub(super) fn set_modem_lines(tty: impl AsFd, dtr: bool, rts: bool) -> io::Result<()> {
    let mut bits = modem_bits(&tty)?;
    for (bit, on) in [(TIOCM_DTR, dtr), (TIOCM_RTS, rts)] {
        bits = if on { bits | bit } else { bits & !bit };
    }
    // SAFETY: TIOCMSET reads one int.
    Ok(unsafe { ioctl(tty, Setter::<{ number::TIOCMSET }, c_int>::new(bits)) }?)
}

/// `struct serial_struct` of `linux/serial.h`.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[repr(C)]
#[derive(Clone, Copy)]
struct SerialStruct {
    head: [c_int; 4],
    flags: c_int,
    xmit_fifo_size: c_int,
    custom_divisor: c_int,
    baud_base: c_int,
    close_delay: u16,
    io_type: u8,
    reserved: u8,
    hub6: c_int,
    closing_wait: [u16; 2],
    iomem_base: usize,
    iomem_reg_shift: u16,
    port_high: u32,
    iomap_base: usize,
}

/// Asks the driver to hand over bytes at once. An FTDI bridge otherwise holds them back for 16 ms.
///
/// Any user of the port may set this flag (`ASYNC_LOW_LATENCY` of `linux/tty_flags.h`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn set_low_latency(tty: impl AsFd) -> io::Result<()> {
    const ASYNC_LOW_LATENCY: c_int = 1 << 13;
    // SAFETY: TIOCGSERIAL writes one serial_struct, TIOCSSERIAL reads one.
    unsafe {
        let mut settings = ioctl(&tty, Getter::<{ number::TIOCGSERIAL }, SerialStruct>::new())?;
        settings.flags |= ASYNC_LOW_LATENCY;
        Ok(ioctl(tty, Setter::<{ number::TIOCSSERIAL }, SerialStruct>::new(settings))?)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn set_low_latency(_: impl AsFd) -> io::Result<()> {
    Ok(())
}
