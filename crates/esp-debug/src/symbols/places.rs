//! Places of a program by name: where to stop for a function, a line of a source file, or an address.

use super::Program;
use esp_model::chip::Arch;

/// Addresses that one place may have: a line that was inlined is in many.
const MOST: usize = 16;
/// Length of `ENTRY`, with which functions of the windowed ABI begin.
const ENTRY: u32 = 3;

/// Why a place is not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No such function.
    #[error("there is no function {0:?} in the ELF file")]
    Function(String),
    /// No code for this line, nor behind it.
    #[error("the ELF file has no code at {0:?}")]
    Line(String),
}

impl Program<'_> {
    /// Addresses to stop at for `0x42000000`, `main.c:12` or a function's name. A function is stopped behind its prologue, where
    /// its parameters and its caller are known; a line without code is the next one with some.
    pub fn places(&self, text: &str) -> Result<Vec<u32>, PlaceError> {
        if let Some(address) = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            return Ok(vec![address]);
        }
        if let Some((file, line)) = text.rsplit_once(':')
            && let Ok(line) = line.parse()
        {
            let found = self.addresses_of_line(file, line);
            return if found.is_empty() { Err(PlaceError::Line(text.into())) } else { Ok(found) };
        }
        let functions = self.functions(text);
        if functions.is_empty() {
            return Err(PlaceError::Function(text.into()));
        }
        Ok(functions.into_iter().take(MOST).map(|(address, size)| self.behind_prologue(address, size)).collect())
    }

    /// The second line of a function is where its body begins.
    fn behind_prologue(&self, address: u32, size: u32) -> u32 {
        let end = address.saturating_add(size.max(1));
        let mut lines = self.lines(address, end).into_iter();
        let first = lines.next();
        match lines.find(|(at, ..)| first.as_ref().is_some_and(|(first, ..)| at > first)) {
            Some((at, ..)) => at,
            None if self.arch() == Arch::Xtensa && self.read(address, 1).is_some_and(|byte| byte == [0x36]) => {
                address + ENTRY
            }
            None => address,
        }
    }

    fn addresses_of_line(&self, file: &str, wanted: u32) -> Vec<u32> {
        let ends_so = |path: &str| {
            path.strip_suffix(file).is_some_and(|before| before.is_empty() || before.ends_with(['/', '\\']))
        };
        let rows: Vec<(u32, u32)> = self
            .code()
            .iter()
            .flat_map(|(start, size)| self.lines(*start, start.saturating_add(*size)))
            .filter(|(_, path, line)| *line >= wanted && ends_so(path))
            .map(|(address, _, line)| (line, address))
            .collect();
        let Some(best) = rows.iter().map(|(line, _)| *line).min() else { return Vec::new() };
        let mut found: Vec<u32> = rows.iter().filter(|(line, _)| *line == best).map(|(_, address)| *address).collect();
        found.sort_unstable();
        // One line of one function has several ranges: its first is where it begins.
        found.dedup_by_key(|address| self.symbol(*address).map_or(*address, |(_, offset)| *address - offset));
        found.truncate(MOST);
        found
    }
}
