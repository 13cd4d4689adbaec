//! What a face needs from the program around it.

use esp_link::options::StubSource;
use esp_link::port::{PortError, PortUrl};
use esp_model::efuse::{Efuses, Request};
use esp_model::mac::Mac;
use esp_model::port::Port;
use esp_model::secure::{PublicKey, Scheme};

use crate::espsecure::Hsm;

/// The program that a face runs in.
pub trait Host {
    /// Opens a virtual device (`sim://`, `qemu://`).
    fn open_virtual(&self, url: &PortUrl) -> Result<Box<dyn Port>, PortError>;

    /// Where stubs come from.
    fn stubs(&self) -> StubSource;

    /// The policy allows to use this port.
    fn allows_port(&self, url: &PortUrl) -> Result<(), String>;

    /// The policy allows to burn eFuses of the device with this base MAC although nobody confirms at the keyboard.
    fn burns_unasked(&self, mac: Mac) -> bool;

    /// The policy vouches for this about the device: `ota_proven`, `flash_voltage`, `flash_wiring`.
    fn vouches(&self, what: &str) -> bool;

    /// Whether another device than the one with this base MAC has the key, or the custom MAC address, of this burn.
    fn others_have(&self, requests: &[Request], efuses: &Efuses, mac: Mac) -> Result<(bool, bool), String>;

    /// Records, before it is burned, which key or custom MAC address the device with this base MAC receives.
    fn records_burn(&self, requests: &[Request], efuses: &Efuses, mac: Mac) -> Result<(), String>;

    /// The public key in a hardware security module.
    fn hsm_public_key(&self, hsm: &Hsm) -> Result<PublicKey, String>;

    /// Signs a digest with the private key in a hardware security module, as a private key of `esp-model` would.
    fn hsm_sign(&self, hsm: &Hsm, scheme: Scheme, digest: &[u8]) -> Result<Vec<u8>, String>;
}
