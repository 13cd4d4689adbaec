//! A face without the rest of the program: `cargo run -p esp-faces --example face -- esptool version`.

use std::process::ExitCode;

use esp_faces::{Host, Hsm};
use esp_link::options::StubSource;
use esp_link::port::{PortError, PortUrl};
use esp_model::efuse::{Efuses, Request};
use esp_model::mac::Mac;
use esp_model::port::Port;
use esp_model::secure::{PublicKey, Scheme};

/// A program without virtual devices and without a policy.
struct Bare;

impl Host for Bare {
    fn open_virtual(&self, url: &PortUrl) -> Result<Box<dyn Port>, PortError> {
        Err(PortError::Unsupported { url: url.to_string(), what: "no virtual devices here".into() })
    }

    fn stubs(&self) -> StubSource {
        StubSource::BuiltIn
    }

    fn allows_port(&self, _: &PortUrl) -> Result<(), String> {
        Ok(())
    }

    fn burns_unasked(&self, _: Mac) -> bool {
        false
    }

    fn vouches(&self, _: &str) -> bool {
        false
    }

    fn others_have(&self, _: &[Request], _: &Efuses, _: Mac) -> Result<(bool, bool), String> {
        Ok((false, false))
    }

    fn records_burn(&self, _: &[Request], _: &Efuses, _: Mac) -> Result<(), String> {
        Ok(())
    }

    fn hsm_public_key(&self, _: &Hsm) -> Result<PublicKey, String> {
        Err("no PKCS#11 here".into())
    }

    fn hsm_sign(&self, _: &Hsm, _: Scheme, _: &[u8]) -> Result<Vec<u8>, String> {
        Err("no PKCS#11 here".into())
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let face = words.next().and_then(|name| esp_faces::by_name(&name));
    face.map_or(ExitCode::from(2), |face| esp_faces::run(face, words.collect(), &Bare))
}
