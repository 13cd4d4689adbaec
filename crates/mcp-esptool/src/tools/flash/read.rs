//! `esp_flash_read`: a region of flash into a file.

use std::io::Write;

use esp_model::image::hex::hex;
use esp_model::job::Job;
use md5::{Digest, Md5};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::{Risk, Tool};
use crate::tools::args::{Number, PortUrl};
use crate::tools::device::Device;
use crate::tools::error::ToolError;

/// The tool.
pub struct Read;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// First address.
    address: Number,
    /// Number of bytes.
    size: Number,
    /// File to write.
    output_file: String,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// The file.
    output_file: String,
    /// First address.
    address: u32,
    /// Bytes read.
    size_bytes: u64,
    /// MD5 of the bytes.
    md5: String,
    /// The bytes were compared with a digest from the chip; false where the loader cannot.
    checked: bool,
}

impl Tool for Read {
    const NAME: &'static str = "esp_flash_read";
    const TITLE: &'static str = "Read flash";
    const ABOUT: &'static str = "Read a region of flash into a file, checked by MD5.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let beyond = || ToolError::new("address_out_of_range", "address or size is beyond 32 bits");
        let (address, size) = (input.address.as_u32().ok_or_else(beyond)?, input.size.as_u32().ok_or_else(beyond)?);
        if size == 0 {
            return Err(ToolError::new("nothing_to_do", "the size is 0"));
        }
        let mut file = ctx.files.create(&input.output_file)?;
        let mut hash = Md5::new();
        let (device, checked) = ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let checked = connected.loader.read_flash(job, address, size, |bytes| {
                hash.update(bytes);
                file.write_all(bytes)
            })?;
            Ok((device, checked))
        })?;
        let path = file.finish()?;
        let md5 = hex(&hash.finalize());
        Ok(Out { device, output_file: path.display().to_string(), address, size_bytes: size.into(), md5, checked })
    }

    fn summary(out: &Out) -> String {
        let checked = if out.checked { "checked by MD5" } else { "not checked: this loader cannot" };
        format!("{}\n{} bytes from {:#x} in {}, {checked}", out.device, out.size_bytes, out.address, out.output_file)
    }
}
