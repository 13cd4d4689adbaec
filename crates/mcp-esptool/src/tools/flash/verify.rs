//! `esp_flash_verify`: are these files in flash?

use esp_model::job::Job;
use esp_ops::args::{FileForFlash, PortUrl};
use esp_ops::error::ToolError;
use esp_ops::flash::files::{self, PieceView};
use esp_ops::flash::region;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Verify;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Files with the address or partition where they should be.
    files: Vec<FileForFlash>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// All files are in flash.
    matches: bool,
    /// Each file.
    files: Vec<Verdict>,
}

/// One file's verdict.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Verdict {
    #[serde(flatten)]
    piece: PieceView,
    /// It is in flash.
    matches: bool,
    /// First sector that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_difference: Option<u32>,
    /// What the difference looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

impl Tool for Verify {
    const NAME: &'static str = "esp_flash_verify";
    const TITLE: &'static str = "Verify flash";
    const ABOUT: &'static str = "Compare files with flash by MD5 on the chip. Names the first sector that differs \
         and how: blank, stuck bits, shifted, other.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let files = region::addressed(ctx, job, input.port.as_ref(), &input.files)?;
        let pieces = files::load(ctx, &files)?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let mut verdicts = Vec::new();
            for piece in &pieces {
                let difference = connected.loader.verify(job, &mut piece.part())?;
                verdicts.push(Verdict {
                    piece: piece.view(),
                    matches: difference.is_none(),
                    first_difference: difference.as_ref().map(|found| found.first_byte.unwrap_or(found.address)),
                    kind: difference.map(|found| found.kind.to_string()),
                });
            }
            Ok(Out { device, matches: verdicts.iter().all(|verdict| verdict.matches), files: verdicts })
        })
    }

    fn summary(out: &Out) -> String {
        let differing: Vec<String> = out.files.iter().filter(|file| !file.matches).map(Verdict::describe).collect();
        match differing.is_empty() {
            true if out.files.len() == 1 => format!("{}\nthe file matches", out.device),
            true => format!("{}\nall {} files match", out.device, out.files.len()),
            false => format!("{}\n{}", out.device, differing.join("; ")),
        }
    }
}

impl Verdict {
    fn describe(&self) -> String {
        let kind = self.kind.as_deref().unwrap_or("other data");
        let at = self.first_difference.unwrap_or(self.piece.address);
        format!("{} differs at {at:#x}: {kind}", self.piece.path)
    }
}
