//! eFuses: blocks, fields, codings.

mod table;

pub use table::{
    BitRange, Block, BlockErrors, Coding, Controller, ControllerStyle, EfuseTable, Field, FieldKind, KeyPurpose,
    Overlay,
};
