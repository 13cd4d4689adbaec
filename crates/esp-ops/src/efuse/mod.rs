//! eFuses: what a burn would do, whether it may, and the burn itself.

pub mod aspects;
pub mod facts;
pub mod keys;
pub mod marks;
pub mod pipeline;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
#[cfg(not(feature = "pkcs11"))]
#[path = "no_pkcs11.rs"]
pub mod pkcs11;
pub mod read;
pub mod refusal;
pub mod request;
