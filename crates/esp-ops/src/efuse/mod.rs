//! eFuses: what a burn would do, whether it may, and the burn itself.

pub mod facts;
pub mod keys;
pub mod marks;
pub mod pipeline;
pub mod pkcs11;
pub mod refusal;
