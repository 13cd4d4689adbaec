//! `serve --http`, in a program that has it.

use std::io;

use crate::ops::config::Config;
use crate::ops::error::ToolError;

/// Where it listens when it is told no address.
pub const HTTP_ADDRESS: &str = "127.0.0.1:8080";

/// Serves until the program is told to end.
#[cfg(feature = "http")]
pub fn over_http(config: Config, address: &str) -> Result<io::Result<()>, ToolError> {
    let options = crate::http::Options::new(&config, address)?;
    Ok(crate::http::serve(crate::ctx::Ctx::new(config)?, options))
}

/// Says that this program cannot.
#[cfg(not(feature = "http"))]
pub fn over_http(_: Config, _: &str) -> Result<io::Result<()>, ToolError> {
    let text = "this program was built without HTTP (feature `http`)";
    Err(ToolError::new(crate::ops::error::Code::NotInThisBuild, text))
}
