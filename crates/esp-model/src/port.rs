//! Where bytes go: a serial line, a socket, a pseudo terminal or a simulated chip.

use std::io;
use std::time::Duration;

/// One line to a device. Time belongs to the port: under the simulator a second of sleep costs nothing.
///
/// All calls block. `read` is the only one that waits for the device.
pub trait Port: Send {
    /// Writes all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reads what is there, waiting at most `wait` for the first byte. `Ok(0)` means nothing came in time.
    ///
    /// An error means the line is gone (unplugged, closed by the peer).
    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize>;

    /// Sets both modem lines at once. `true` asserts a line, that is: pulls its pin low.
    ///
    /// `ErrorKind::Unsupported` when the line carries none (a socket, a pseudo terminal).
    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()>;

    /// Changes the line rate, in baud. A line without a rate accepts any.
    fn set_baud(&mut self, baud: u32) -> io::Result<()>;

    /// The present line rate, in baud.
    fn baud(&self) -> u32;

    /// Lets `time` pass on this port's clock.
    fn sleep(&mut self, time: Duration);

    /// This port's clock: time since it was opened.
    fn now(&self) -> Duration;

    /// What is known of the line without asking the device.
    fn info(&self) -> PortInfo;

    /// Holds the line in the break state for `time`.
    ///
    /// `ErrorKind::Unsupported` when the line cannot.
    fn send_break(&mut self, _time: Duration) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this line cannot send a break"))
    }

    /// Opens the line again after the device left the bus (built-in USB re-enumerates at reset).
    ///
    /// The default does nothing: most lines stay.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<P: Port + ?Sized> Port for Box<P> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).write(bytes)
    }
    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        (**self).read(buf, wait)
    }
    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        (**self).set_lines(dtr, rts)
    }
    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        (**self).set_baud(baud)
    }
    fn baud(&self) -> u32 {
        (**self).baud()
    }
    fn sleep(&mut self, time: Duration) {
        (**self).sleep(time);
    }
    fn now(&self) -> Duration {
        (**self).now()
    }
    fn info(&self) -> PortInfo {
        (**self).info()
    }
    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        (**self).send_break(time)
    }
    fn reopen(&mut self) -> io::Result<()> {
        (**self).reopen()
    }
}

/// What a line can carry and who is behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortInfo {
    /// The port's URL as the user would type it.
    pub url: String,
    /// USB vendor and product id, where the line is a USB device.
    pub usb: Option<(u16, u16)>,
    /// DTR and RTS reach the device.
    pub modem_lines: bool,
    /// The device behind it is simulated or emulated.
    pub is_virtual: bool,
}

/// USB vendor id of Espressif.
pub const ESPRESSIF_VID: u16 = 0x303a;
/// USB product id of the built-in USB-Serial/JTAG unit (ESP-IDF, `usb_serial_jtag`).
pub const USB_SERIAL_JTAG_PID: u16 = 0x1001;

impl PortInfo {
    /// The line is the chip's own USB-Serial/JTAG unit.
    pub fn is_usb_serial_jtag(&self) -> bool {
        self.usb == Some((ESPRESSIF_VID, USB_SERIAL_JTAG_PID))
    }
}
