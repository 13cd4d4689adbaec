//! Functions that only carry out an abort: the caller of the first other one is what people want to see.

/// Names of functions between the fault and the panic handler: ESP-IDF (`esp_system`, newlib), the C++ and Rust runtimes.
const MACHINERY: [&str; 33] = [
    "panic_abort",
    "esp_system_abort",
    "abort",
    "__assert",
    "__assert_func",
    "__assert_func_noop",
    "esp_error_check_failed",
    "_esp_error_check_failed",
    "_esp_error_check_failed_without_abort",
    "esp_error_check_failed_print",
    "__stack_chk_fail",
    "vApplicationStackOverflowHook",
    "panicHandler",
    "xt_unhandled_exception",
    "esp_panic_handler",
    "panic_handler",
    "panic_restart",
    "multi_heap_internal_check_block_poisoning",
    "__cxa_throw",
    "__cxa_rethrow",
    "__terminate",
    "std::terminate",
    "__cxxabiv1::__terminate",
    "__cxxabiv1::__verbose_terminate_handler",
    "rust_begin_unwind",
    "rust_panic",
    "__rust_start_panic",
    "core::panicking::panic",
    "core::panicking::panic_fmt",
    "core::panicking::panic_bounds_check",
    "core::result::unwrap_failed",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
];

/// The function does nothing but carry out an abort. Arguments, the hash of a Rust symbol and `.part.0` do not matter.
pub fn is_abort_machinery(function: &str) -> bool {
    let name = function.split('(').next().unwrap_or(function);
    let name = match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    };
    let name = [".part.", ".constprop.", ".isra.", ".cold"]
        .iter()
        .fold(name, |name, end| name.split(end).next().unwrap_or(name));
    MACHINERY.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decorated_names_are_recognised() {
        for name in
            ["abort", "panic_abort", "__assert_func", "core::panicking::panic_fmt::h0123456789abcdef", "abort.cold"]
        {
            assert!(is_abort_machinery(name), "{name}");
        }
        for name in ["app_main", "abort_transfer", "my::panic", "std::terminate_later(int)", ""] {
            assert!(!is_abort_machinery(name), "{name}");
        }
    }
}
