//! What a run is to end at, as the caller writes it.

use esp_debug::symbols::Program;

use crate::error::{Code, ToolError};

/// Bytes that a watchpoint covers where nothing says how many.
const WATCHED: u32 = 4;

/// One end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Breakpoints.
    Places(Vec<u32>),
    /// A watchpoint: kind as the protocol has it, address, bytes.
    Watch(u8, u32, u32),
    /// A condition that only the built-in device knows: what follows `monitor until`.
    Condition(String),
}

/// `main`, `file.c:12`, `0x42000000`, `write:NAME`, `read:0x3fc80000`, `console:TEXT`, `pin:4=1`, `time:+0.5`, `reset`.
pub fn parse(text: &str, program: Option<&Program<'_>>) -> Result<End, ToolError> {
    if text == "reset" {
        return Ok(End::Condition(text.into()));
    }
    if let Some((word, rest)) = text.split_once(':') {
        match word {
            "console" | "time" => return Ok(End::Condition(format!("{word} {rest}"))),
            "pin" => return Ok(End::Condition(format!("pin {}", rest.replace('=', " ")))),
            "write" | "read" | "access" => {
                let kind = match word {
                    "write" => 2,
                    "read" => 3,
                    _ => 4,
                };
                let (address, length) = variable(rest, program)?;
                return Ok(End::Watch(kind, address, length));
            }
            _ => {}
        }
    }
    let Some(program) = program else {
        let digits = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        return digits.map(|address| End::Places(vec![address])).ok_or_else(|| no_elf(text));
    };
    program.places(text).map(End::Places).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))
}

/// Address and size of a variable, or an address.
pub fn variable(text: &str, program: Option<&Program<'_>>) -> Result<(u32, u32), ToolError> {
    if let Some(address) = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        return Ok((address, WATCHED));
    }
    let program = program.ok_or_else(|| no_elf(text))?;
    let found = program.address_of(text).map(|(address, size)| (address, if size == 0 { WATCHED } else { size }));
    found.ok_or_else(|| ToolError::new(Code::BadParameter, format!("the ELF file has no variable `{text}`")))
}

fn no_elf(text: &str) -> ToolError {
    let text = format!("`{text}` is a name, and no ELF file of the running app was found");
    ToolError::new(Code::MissingParameter, text).next("give elf_file, or an address such as 0x42000000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_and_names_need_an_elf_file() {
        assert_eq!(parse("0x42000010", None).unwrap(), End::Places(vec![0x4200_0010]));
        assert_eq!(parse("write:0x3fc80000", None).unwrap(), End::Watch(2, 0x3fc8_0000, 4));
        assert_eq!(parse("pin:4=1", None).unwrap(), End::Condition("pin 4 1".into()));
        assert_eq!(parse("console:a: b", None).unwrap(), End::Condition("console a: b".into()));
        assert_eq!(parse("app_main", None).unwrap_err().code, Code::MissingParameter);
    }
}
