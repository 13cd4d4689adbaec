//! `esp_get_chip_info`: the long form of detection.

use esp_link::Mode;
use esp_model::job::Job;
use esp_ops::args::OnlyPort;
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::chip::{Detected, detect};
use esp_ops::words::counted;
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
    detected: Detected,
    /// Processor architecture.
    architecture: String,
    /// Number in image headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_chip_id: Option<u16>,
    /// Where the bootloader goes.
    bootloader_address: u32,
    /// The pin that selects download mode.
    boot_pin: String,
    /// eFuse words of block 0 as read, lowest first, in hexadecimal.
    efuse_block0: Vec<String>,
    /// Memory regions.
    memory: Vec<Region>,
    /// What this chip's loader can do here.
    loader_can: Vec<String>,
    /// Line rate now.
    baud: u32,
}

/// A memory region.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Region {
    /// Its name.
    name: String,
    /// First address, hexadecimal.
    start: String,
    /// Address behind it, hexadecimal.
    end: String,
}

impl Tool for Info {
    const NAME: &'static str = "esp_get_chip_info";
    const TITLE: &'static str = "Chip information";
    const ABOUT: &'static str = "Report chip details: memory map, eFuse block 0, boot pin, bootloader address, \
         loader commands. Use esp_detect_chip for a quick identification.";
    const RISK: Risk = Risk::Reads;
    type In = OnlyPort;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: OnlyPort) -> Result<Out, ToolError> {
        ctx.with_device(input.port(), job, |connected| {
            let detected = detect(connected, job)?;
            let loader = &mut connected.loader;
            let chip = loader.chip();
            let mut efuse_block0 = Vec::new();
            if let (Some(block), false) = (chip.efuse().block(0), loader.mode() == Mode::SecureDownload) {
                for word in 0..u32::from(block.words) {
                    efuse_block0.push(format!("{:08x}", loader.read_reg(job, block.read + word * 4)?));
                }
            }
            let region = |region: &esp_model::chip::Region| Region {
                name: region.name.clone(),
                start: format!("{:#010x}", region.start),
                end: format!("{:#010x}", region.end),
            };
            let mut can = vec!["write", "erase"];
            let (is_stub, is_secure) = (loader.mode() == Mode::Stub, loader.mode() == Mode::SecureDownload);
            can.extend((is_stub || chip.rom.extended).then_some("compressed writes, MD5"));
            can.extend((!is_secure).then_some("registers, RAM, eFuses"));
            can.extend((is_stub || (chip.rom.extended && !is_secure)).then_some("read flash"));
            can.extend((chip.reset.by_watchdog && !is_secure).then_some("watchdog reset"));
            Ok(Out {
                detected,
                architecture: format!("{:?}", chip.arch).to_lowercase(),
                image_chip_id: chip.chip_id,
                bootloader_address: chip.flash.bootloader_offset,
                boot_pin: chip.boot.pin.clone(),
                efuse_block0,
                memory: chip.memory.iter().map(region).collect(),
                loader_can: can.into_iter().map(str::to_string).collect(),
                baud: loader.port().baud(),
            })
        })
    }

    fn summary(out: &Out) -> String {
        format!(
            "{}\n{}; the loader can: {}",
            out.detected,
            counted(out.memory.len(), "memory region"),
            out.loader_can.join(", ")
        )
    }
}
