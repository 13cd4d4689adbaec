//! eFuses: blocks, fields, codings, what they hold, how they are burned.

pub mod audit;
pub mod bits;
mod burn;
pub mod coding;
pub mod custom;
pub mod lint;
mod plan;
mod request;
pub mod security;
mod state;
mod table;
pub mod text;
pub mod token;
mod value;

pub use burn::{Burn, Stage, Step};
pub use plan::{Change, Plan, SECRET};
pub use request::{BurnError, Request, Voltage};
pub use state::{ActiveCoding, BlockError, Efuses};
pub use table::{
    BitRange, Block, BlockErrors, Coding, Controller, ControllerStyle, EfuseTable, Field, FieldKind, KeyPurpose,
    Overlay, Scale, Sign, Timing,
};
pub use value::{FieldValue, Shown, hex, spi_pin};
