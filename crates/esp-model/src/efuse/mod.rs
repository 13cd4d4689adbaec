//! eFuses: blocks, fields, codings.

mod table;

pub use table::{BitRange, Block, Coding, EfuseTable, Field, FieldKind};
