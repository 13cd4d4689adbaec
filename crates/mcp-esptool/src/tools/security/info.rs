//! `esp_security_info`: what the ROM and the eFuses say about security.

use esp_link::Mode;
use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::efuse::aspects::{self, Row};
use esp_ops::efuse::pipeline;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Info;

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// The loader is in secure download mode.
    secure_download: bool,
    /// Flags of the ROM's security info that are set; left out where the ROM has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Vec<String>>,
    /// Purposes of the key blocks by block name.
    key_purposes: std::collections::BTreeMap<String, String>,
    /// Each aspect with its state; `unknown` where it cannot be read.
    aspects: Vec<Row>,
}

impl Tool for Info {
    const NAME: &'static str = "esp_security_info";
    const TITLE: &'static str = "Security state";
    const ABOUT: &'static str = "Read the state of secure boot, flash encryption, keys, JTAG and download mode. \
         esp_security_audit adds attacks and remedies.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let device = Device::read(connected, job)?;
            let flags = connected.loader.security_info(job).ok();
            let secure_download = connected.loader.mode() == Mode::SecureDownload;
            let efuses = if secure_download { None } else { Some(pipeline::read(connected, job)?) };
            let purposes = efuses.iter().flat_map(|efuses| {
                efuses.table.blocks.iter().filter_map(|block| Some((block.name.clone(), efuses.purpose(block)?)))
            });
            let key_purposes = purposes.collect();
            let aspects = aspects::rows(connected, efuses.as_ref(), flags.as_ref());
            let flags = flags.map(|info| info.flag_names().into_iter().map(str::to_string).collect());
            Ok(Out { device, secure_download, flags, key_purposes, aspects })
        })
    }

    fn summary(out: &Out) -> String {
        let states: Vec<_> = out.aspects.iter().map(Row::in_words).collect();
        format!("{}\n{}", out.device, states.join(", "))
    }
}
