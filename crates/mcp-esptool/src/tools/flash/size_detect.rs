//! `esp_flash_size_detect`: the size of the flash by three ways that must agree.

use esp_link::LoaderError;
use esp_link::flash::SECTOR;
use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::error::ToolError;
use esp_ops::flash::part;
use esp_ops::guard::Risk;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct SizeDetect;

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// JEDEC id: manufacturer, type, capacity.
    jedec_id: String,
    /// The maker, if its code is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    manufacturer: Option<String>,
    /// Size by the JEDEC id.
    by_jedec: Measured,
    /// Size by the SFDP table.
    by_sfdp: Measured,
    /// Size by looking where addresses begin again.
    by_wrap_around: Measured,
    /// No two ways contradict each other.
    agree: bool,
    /// The size to use, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// A size, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Measured {
    /// The size.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

impl Measured {
    fn of(size: u64) -> Self {
        Self { size_bytes: Some(size), unknown: None }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self { size_bytes: None, unknown: Some(why.into()) }
    }
}

impl Tool for SizeDetect {
    const NAME: &'static str = "esp_flash_size_detect";
    const TITLE: &'static str = "Detect flash size";
    const ABOUT: &'static str = "Detect the flash size by JEDEC id, SFDP table and wrap-around, and compare the three.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let device = Device::read(connected, job)?;
            let id = connected.loader.flash_id(job)?;
            let by_jedec = match id.size() {
                Some(size) => Measured::of(size.into()),
                None => Measured::unknown("the capacity code is not a usual one"),
            };
            let by_sfdp = sfdp(connected, job)?;
            let by_wrap_around = wrap_around(connected, job, by_jedec.size_bytes.or(by_sfdp.size_bytes))?;
            let sizes: Vec<u64> =
                [&by_jedec, &by_sfdp, &by_wrap_around].iter().filter_map(|way| way.size_bytes).collect();
            let agree = sizes.windows(2).all(|pair| pair[0] == pair[1]);
            let size_bytes = if agree { sizes.first() } else { sizes.iter().min() }.copied();
            Ok(Out {
                device,
                jedec_id: id.to_string(),
                manufacturer: id.manufacturer_name().map(str::to_string),
                by_jedec,
                by_sfdp,
                by_wrap_around,
                agree,
                size_bytes,
            })
        })
    }

    fn summary(out: &Out) -> String {
        let size = out.size_bytes.map_or("unknown".into(), |size| format!("{} KB", size / 1024));
        let agree = if out.agree { "" } else { "; the ways contradict each other, the smallest is taken" };
        let maker = out.manufacturer.as_deref().unwrap_or("unknown maker");
        format!("{}\nflash {size}, id {} ({maker}){agree}", out.device, out.jedec_id)
    }
}

/// By the density in the part's own table.
fn sfdp(connected: &mut Connected, job: &Job) -> Result<Measured, ToolError> {
    let basic = part::sfdp(connected, job)?.and_then(|description| description.basic);
    Ok(match basic.map(|table| table.size()) {
        Ok(Some(size)) => Measured::of(size),
        Ok(None) => Measured::unknown("the density word makes no sense"),
        Err(error) => Measured::unknown(error.to_string()),
    })
}

/// At the flash's end addresses begin again at 0: the first sector is seen there once more.
fn wrap_around(connected: &mut Connected, job: &Job, named: Option<u64>) -> Result<Measured, ToolError> {
    let Some(size) = named.and_then(|size| u32::try_from(size).ok()) else {
        return Ok(Measured::unknown("no size to try"));
    };
    let first = match connected.loader.flash_md5(job, 0, SECTOR) {
        Err(LoaderError::Unsupported { .. }) => return Ok(Measured::unknown("this loader cannot compute digests")),
        other => other?,
    };
    let blank = connected.loader.read_flash_bytes(job, 0, SECTOR)?.iter().all(|byte| *byte == 0xff);
    if blank {
        return Ok(Measured::unknown("the first sector is blank, so it would not be recognised"));
    }
    // Smaller sizes too: a fake flash tells a larger one than it has.
    let mut at = (256 << 10).min(size);
    while at < size {
        if connected.loader.flash_md5(job, at, SECTOR)? == first {
            return Ok(Measured::of(at.into()));
        }
        at *= 2;
    }
    match connected.loader.flash_md5(job, size, SECTOR) {
        Ok(found) if found == first => Ok(Measured::of(size.into())),
        Ok(_) => Ok(Measured::unknown(format!("addresses do not begin again at {size:#x}"))),
        Err(error) if error.is_refusal() => Ok(Measured::unknown(format!("the loader does not read at {size:#x}"))),
        Err(error) => Err(error.into()),
    }
}
