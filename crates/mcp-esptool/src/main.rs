//! The program.

use std::process::ExitCode;

/// musl's own allocator takes several times as long.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mcp_esptool::faces::dispatch(std::env::args_os()).unwrap_or_else(mcp_esptool::cli::main)
}
