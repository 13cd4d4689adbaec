//! Behaviour of blocks, one type per IP.

mod adc;
mod aes;
mod aes_gcm;
mod cores;
mod dma;
mod ds;
mod ecc;
mod ecdsa;
mod efuse;
mod encryptor;
mod flash;
mod frc;
mod gdma;
mod gpio;
mod hmac;
mod i2c;
mod ledc;
mod misc;
mod mmu;
mod pcnt;
mod rmt;
mod rsa;
mod rsa_first;
mod rtc;
mod secure_boot;
mod sha;
mod sha_words;
mod spi;
mod systimer;
mod systimer_single;
mod timer_group;
mod uart;
mod usb;
mod watchdog;

use crate::chip::{Board, Peripheral};
use crate::device::Device;

/// Picoseconds in a second.
pub const SECOND: u64 = 1_000_000_000_000;

type Make = fn(&'static Board, &'static Peripheral) -> Box<dyn Device>;

/// By the name in the data.
const KINDS: &[(&str, Make)] = &[
    ("uart", |board, it| Box::new(uart::Uart::new(board, it))),
    ("spi_flash", |_, it| Box::new(flash::SpiFlash::new(it))),
    ("sha_words", |_, it| Box::new(sha_words::Sha::new(it))),
    ("second_core", |board, it| Box::new(cores::SecondCore::new(board, it))),
    ("systimer", |_, it| Box::new(systimer::Systimer::new(it))),
    ("systimer_single", |_, it| Box::new(systimer_single::SystimerSingle::new(it))),
    ("timer_group", |board, it| Box::new(timer_group::TimerGroup::new(board, it))),
    ("rmt", |board, it| Box::new(rmt::Rmt::new(board, it))),
    ("rtc", |board, it| Box::new(rtc::Rtc::new(board, it))),
    ("efuse", |_, it| Box::new(efuse::EfuseController::new(it))),
    ("rsa", |_, it| Box::new(rsa::Rsa::new(it))),
    ("rsa_first", |_, it| Box::new(rsa_first::Rsa::new(it))),
    ("sha", |board, it| Box::new(sha::Sha::new(board, it))),
    ("aes", |board, it| Box::new(aes::Aes::new(board, it))),
    ("aes_first", |_, _| Box::new(aes::First)),
    ("hmac", |_, it| Box::new(hmac::Hmac::new(it))),
    ("ds", |_, it| Box::new(ds::DigitalSignature::new(it))),
    ("ecc", |_, it| Box::new(ecc::Ecc::new(it))),
    ("ecdsa", |_, it| Box::new(ecdsa::Ecdsa::new(it))),
    ("secure_boot", |board, _| Box::new(secure_boot::SecureBoot::new(board))),
    ("encryptor", |board, it| Box::new(encryptor::Xts::new(board, it))),
    ("encryptor_first", |board, _| Box::new(encryptor::First(board))),
    ("frc", |_, it| Box::new(frc::Frc::new(it))),
    ("regi2c", |_, it| Box::new(misc::AnalogBus::new(it))),
    ("random", |_, it| Box::new(misc::Random::new(it))),
    ("clock_counter", |_, it| Box::new(misc::Counter::new(it))),
    ("usb_serial_jtag", |_, it| Box::new(usb::UsbSerialJtag::new(it))),
    ("gpio", |board, it| Box::new(gpio::Gpio::new(board, it))),
    ("i2c", |_, it| Box::new(i2c::I2c::new(it))),
    ("adc", |board, it| Box::new(adc::Adc::new(board, it))),
    ("adc_rtc", |board, it| Box::new(adc::RtcAdc::new(board, it))),
    ("ledc", |board, it| Box::new(ledc::Ledc::new(board, it))),
    ("spi", |board, it| Box::new(spi::Spi::new(board, it))),
    ("gdma", |board, it| Box::new(gdma::Gdma::new(board, it))),
    ("pcnt", |board, it| Box::new(pcnt::Pcnt::new(board, it))),
    ("mmu_table", |_, _| Box::new(mmu::MmuTable)),
];

/// The behaviour with that name is there, or needs none.
pub fn known(ip: &str) -> bool {
    ip == "plain" || KINDS.iter().any(|(name, _)| *name == ip)
}

/// A device for a block; `None` for a plain one.
pub fn make(board: &'static Board, peripheral: &'static Peripheral) -> Option<Box<dyn Device>> {
    KINDS.iter().find(|(name, _)| *name == peripheral.ip).map(|(_, make)| make(board, peripheral))
}
