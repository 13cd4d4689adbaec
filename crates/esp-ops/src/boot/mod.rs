//! How a device starts: what its flash says, and what its console says.

pub mod capture;
pub mod check;
pub mod evidence;
pub mod findings;
pub mod log;
pub mod next;
pub mod radio;
pub mod text;
pub mod trial;
pub mod unprintable;
