//! `esp_flash_read`: a region of flash into a file.

use esp_model::job::Job;
use esp_ops::args::{Number, PortUrl, parse_number};
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::{region, resume};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use md5::Md5;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Read;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// First address.
    address: Option<Number>,
    /// Number of bytes.
    size: Option<Number>,
    /// Instead of both: a partition's name, `bootloader`, `all`, or ADDRESS+SIZE.
    region: Option<String>,
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
        "Read a flash region or partition into a file, verified by MD5. Resumes after an interruption.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let given = given(&input)?;
        let mut file = ctx.files.partial(&input.output_file)?;
        let (device, (address, size), taken) = ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            connected.must_read_flash()?;
            let (address, size) = match given {
                Wanted::Bytes(address, size) => (address, size),
                Wanted::Region(text) => {
                    let flash_size = connected.loader.attach_flash(job, None)?;
                    let place = region::Place { text, widen: true, table_offset: None };
                    let found = region::find(connected, job, &place, flash_size)?;
                    (found.address, found.size)
                }
            };
            Ok((device, (address, size), resume::read(connected, job, &mut file, address, size)?))
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

/// What is to be read.
enum Wanted<'a> {
    Bytes(u32, u32),
    Region(&'a str),
}

fn given(input: &In) -> Result<Wanted<'_>, ToolError> {
    let beyond = || ToolError::new(Code::AddressOutOfRange, "address or size is beyond 32 bits");
    match (&input.region, input.address, input.size) {
        (Some(region), None, None) => match region.split_once('+') {
            // Bytes, not whole sectors: nothing is changed.
            Some((address, size)) => {
                let number = |text: &str| parse_number(text).map(Number).and_then(Number::as_u32);
                let both = number(address).zip(number(size)).filter(|(_, size)| *size > 0);
                let bad = || ToolError::new(Code::BadParameter, format!("`{region}` is not ADDRESS+SIZE"));
                both.map(|(address, size)| Wanted::Bytes(address, size)).ok_or_else(bad)
            }
            None => Ok(Wanted::Region(region)),
        },
        (None, Some(_), Some(Number(0))) => Err(ToolError::new(Code::NothingToDo, "the size is 0")),
        (None, Some(address), Some(size)) => {
            Ok(Wanted::Bytes(address.as_u32().ok_or_else(beyond)?, size.as_u32().ok_or_else(beyond)?))
        }
        _ => Err(ToolError::new(Code::MissingParameter, "give address and size, or region")
            .next("name a partition (region=\"nvs\"), all of it (region=\"all\"), or give address and size")),
    }
}
