//! Who may do what: the policy, a person's confirmation, and the log of what was planned and done.

pub mod audit;
pub mod confirm;
pub mod policy;
mod risk;

pub use risk::{Operation, Production, Risk};
