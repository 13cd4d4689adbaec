#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcp_esptool_fuzz::log_splice(data));
