//! Randomness of the operating system, for keys.

use crate::error::{Code, ToolError};

/// Calls `make` with a source of random bytes. Fails when the operating system has none.
pub fn with<T>(make: impl FnOnce(&mut dyn FnMut(&mut [u8])) -> T) -> Result<T, ToolError> {
    let mut failed = None;
    let made = make(&mut |bytes: &mut [u8]| {
        if let Err(error) = getrandom::fill(bytes) {
            failed = Some(error);
        }
    });
    match failed {
        Some(error) => Err(ToolError::new(Code::Internal, format!("no random numbers: {error}"))),
        None => Ok(made),
    }
}
