//! Programming without erasing, on every simulated chip by ROM and by stub.

#![allow(clippy::unwrap_used)]

use esp_link::options::{ConnectOptions, StubSource};
use esp_link::{Loader, LoaderError};
use esp_model::chip;
use esp_model::job::Job;
use esp_sim::{Config, SimDevice};

#[test]
fn programming_clears_bits_and_leaves_the_rest_of_the_sector() {
    for chip in chip::all() {
        for stub in [StubSource::None, StubSource::BuiltIn] {
            let device = SimDevice::new(&Config::new(chip, "program"), format!("sim://{}-program", chip.id));
            let start: Vec<u8> = (0..4096u32).map(|i| (i * 7) as u8 | 0x11).collect();
            device.with(|chip, _| chip.flash().load(0x9000, &start));
            let options = ConnectOptions { stub: stub.clone(), ..ConnectOptions::default() };
            let job = Job::new();
            let mut loader = Loader::connect(Box::new(device.open()), &options, &job).unwrap().0;
            loader.attach_flash(&job, None).unwrap();
            // Over the end of a page of the part, with a length that no word divides.
            let bytes: Vec<u8> = (0..91u32).map(|i| (i * 13) as u8).collect();
            loader.program_flash(&job, 0x90f5, &bytes).unwrap();
            let mut wanted = start;
            wanted[0xf5..0xf5 + bytes.len()].iter_mut().zip(&bytes).for_each(|(to, from)| *to &= from);
            let found = device.with(|chip, _| chip.flash().read(0x9000, 4096).unwrap());
            assert!(found == wanted, "{} with {stub:?}", chip.id);
            let error = loader.program_flash(&job, 0xff_fff0, &[0; 32]).unwrap_err();
            assert!(matches!(error, LoaderError::Range(_)), "{error}");
        }
    }
}
