//! The app's ELF file as a source of names: address → function, file, line with inlined frames; stack unwinding;
//! values of variables. All lazily: a unit of debug information is read when an address in it is asked for.

mod abort;
mod lines;
mod places;
mod program;
mod types;
mod unwind;
mod variables;
mod xtensa;

#[cfg(test)]
mod tests;

pub use abort::is_abort_machinery;
pub use places::PlaceError;
pub use program::{Program, SourceLocation, SymbolError};
pub use types::StructLayout;
pub use unwind::{FoundBy, Frame, Memory, Unwinder};
pub use variables::{NullMember, Variable};

/// How the DWARF reader sees the file: little endian, borrowed.
type Slice<'a> = gimli::EndianSlice<'a, gimli::LittleEndian>;
