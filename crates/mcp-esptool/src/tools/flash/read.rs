//! `esp_flash_read`: a region of flash into a file.

use esp_model::job::Job;
use md5::Md5;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ops::args::{Number, PortUrl};
use crate::ops::error::{Code, ToolError};
use crate::ops::flash::resume;
use crate::ops::guard::Risk;
use crate::ops::session::identity::Device;
use crate::tool::Tool;

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
    /// Bytes that a call which was cut off had left in the file already.
    resumed_bytes: u64,
    /// MD5 of the bytes.
    md5: String,
    /// The bytes were compared with a digest from the chip; false where the loader cannot.
    checked: bool,
}

impl Tool for Read {
    const NAME: &'static str = "esp_flash_read";
    const TITLE: &'static str = "Read flash";
    const ABOUT: &'static str =
        "Read a region of flash into a file, checked by MD5. Called again after a cut, it goes on where it was.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let beyond = || ToolError::new(Code::AddressOutOfRange, "address or size is beyond 32 bits");
        let (address, size) = (input.address.as_u32().ok_or_else(beyond)?, input.size.as_u32().ok_or_else(beyond)?);
        if size == 0 {
            return Err(ToolError::new(Code::NothingToDo, "the size is 0"));
        }
        let mut file = ctx.files.partial(&input.output_file)?;
        let (device, taken) = ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            connected.must_read_flash()?;
            Ok((device, resume::read(connected, job, &mut file, address, size)?))
        })?;
        let md5 = file
            .file()
            .and_then(resume::digest::<Md5>)
            .map_err(|error| ToolError::new(Code::FileUnreadable, error.to_string()))?;
        let output_file = file.finish()?.display().to_string();
        let (size_bytes, resumed_bytes, checked) = (size.into(), taken.resumed, taken.checked);
        Ok(Out { device, output_file, address, size_bytes, resumed_bytes, md5, checked })
    }

    fn summary(out: &Out) -> String {
        let checked = if out.checked { "checked by MD5" } else { "not checked: this loader cannot" };
        format!("{}\n{} bytes from {:#x} in {}, {checked}", out.device, out.size_bytes, out.address, out.output_file)
    }
}
