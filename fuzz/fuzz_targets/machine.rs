#![no_main]

#[path = "../src/machine.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::machine(data));
