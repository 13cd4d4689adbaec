//! The command lines that build systems already call: `esptool`, `espsecure`, `espefuse` and ESP-IDF's partition
//! tools, as thin edges over the same code as the MCP tools.
//!
//! A face parses a command line, calls `esp-model` and `esp-link`, and prints the texts that other programs look for.
//! Options, exit codes and texts are those of esptool 5.6.0, stated as facts; the differences stand in `docs/faces.md`.

mod command;
mod espefuse;
mod espsecure;
mod esptool;
mod fault;
mod files;
mod grammar;
mod host;
mod idf;
mod links;
mod terminal;
mod text;

use std::process::ExitCode;

pub use command::Face;
pub use espsecure::Hsm;
pub use esptool::config_value;
pub use grammar::words_of_file;
pub use host::Host;
pub use links::make as make_links;

/// The version of esptool whose command line, texts and exit codes the faces reproduce.
pub const ESPTOOL_VERSION: &str = "5.6.0";

/// All faces.
pub static FACES: [&Face; 7] = [
    &esptool::FACE,
    &espefuse::FACE,
    &espsecure::FACE,
    &idf::gen_esp32part::FACE,
    &idf::nvs_partition_gen::FACE,
    &idf::parttool::FACE,
    &idf::otatool::FACE,
];

/// The face of this name; a path, `.py` and `.exe` do not count.
pub fn by_name(program: &str) -> Option<&'static Face> {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let name = name.strip_suffix(".py").unwrap_or(name);
    FACES.into_iter().find(|face| face.name == name)
}

/// Runs a face with the arguments that follow its name.
pub fn run(face: &Face, arguments: Vec<String>, host: &dyn Host) -> ExitCode {
    command::run(face, arguments, host)
}

#[cfg(test)]
mod tests {
    use super::by_name;

    #[test]
    fn program_names_select_faces() {
        for name in ["espsecure", "/usr/bin/espsecure", "espsecure.py", r"C:\tools\espsecure.exe"] {
            assert_eq!(by_name(name).map(|face| face.name), Some("espsecure"), "{name}");
        }
        assert!(by_name("mcp-esptool").is_none());
    }
}
