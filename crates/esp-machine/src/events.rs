//! What goes into a machine and what comes out of it, each with its virtual time.

use std::collections::BTreeMap;

/// What comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes on a UART's receive line. They arrive one by one, at the line's rate.
    Uart {
        /// The UART's number.
        port: u8,
        /// What is sent.
        bytes: Vec<u8>,
    },
    /// Bytes on the USB-Serial-JTAG port.
    Usb(Vec<u8>),
    /// A pin is driven to a level; `None` lets go of it.
    Pin {
        /// GPIO number.
        number: u8,
        /// High or low.
        level: Option<bool>,
    },
    /// A device is on an I2C bus, or its registers hold something else now.
    I2cDevice {
        /// The controller's number.
        bus: u8,
        /// Its address, 7 bits.
        address: u8,
        /// Bytes by the register that they begin at.
        registers: BTreeMap<u8, Vec<u8>>,
    },
    /// A channel of an ADC shows this from now on.
    Adc {
        /// The unit, from 1 on.
        unit: u8,
        /// Its channel.
        channel: u8,
        /// What a conversion gives, 12 bits.
        value: u16,
    },
    /// A device is on an SPI bus.
    SpiDevice {
        /// The controller's number.
        bus: u8,
        /// What it is.
        device: crate::spi_bus::Device,
    },
    /// The reset pin is pulled.
    Reset,
    /// Power goes and comes again.
    PowerCut,
    /// Power goes in the middle of this write or erase of the flash, counted from now, and comes again.
    CutAtFlashWrite(u32),
}

/// What a machine shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    /// A byte on a UART's transmit line.
    Uart {
        /// The UART's number.
        port: u8,
        /// The byte.
        byte: u8,
    },
    /// A byte on the USB-Serial-JTAG port.
    Usb(u8),
    /// A pin that the chip drives has changed.
    Pin {
        /// GPIO number.
        number: u8,
        /// Its level.
        level: bool,
    },
    /// Something has passed on an I2C bus.
    I2c {
        /// The controller's number.
        bus: u8,
        /// What.
        message: crate::i2c_bus::Message,
    },
    /// A transfer on an SPI bus.
    Spi {
        /// The controller's number.
        bus: u8,
        /// What the controller has sent, command and address included.
        sent: Vec<u8>,
        /// What it has received.
        received: Vec<u8>,
    },
    /// A PWM channel puts out something else now.
    Pwm {
        /// The channel.
        channel: u8,
        /// Thousandths of a hertz; 0 for a level that stays.
        millihertz: u64,
        /// Steps of a period that the output is high.
        duty: u32,
        /// Steps of a period.
        full: u32,
    },
    /// The chip or its processor starts anew.
    Reset {
        /// The cause as the chip's register holds it.
        cause: u32,
        /// Where the processor was.
        pc: u32,
    },
    /// A program polls the radio, which is not there, and goes on doing so.
    RadioNotEmulated {
        /// The register.
        address: u32,
        /// Its name, when the register files know it.
        name: String,
        /// Where the processor was.
        pc: u32,
        /// By the setting it was given the values that it waits for.
        let_through: bool,
    },
    /// A register that nothing models was touched for the first time.
    Unmodelled {
        /// Its address.
        address: u32,
        /// Its name, when the register files know it.
        name: String,
        /// Where the processor was.
        pc: u32,
        /// A store.
        write: bool,
    },
}

/// One of them with its time in picoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// Since power-on.
    pub time: u64,
    /// What has happened.
    pub what: What,
}
