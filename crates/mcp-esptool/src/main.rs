//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_esptool::cli::main()
}
