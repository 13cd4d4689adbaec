//! `esp_binary_optimize`: where a binary's bytes go, and what can be saved.

use esp_model::image::{self, kind, waste};
use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::firmware::common::{Written, signature, write};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct BinaryOptimize;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Image or merged file.
    binary_file: String,
    /// An earlier version, to see what an update would send.
    base_file: Option<String>,
    /// Where to write a smaller file that does the same.
    output_file: Option<String>,
}

/// A run of equal bytes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunFacts {
    /// Where it begins in the file.
    file_offset: u64,
    /// Its length.
    size_bytes: u64,
    /// The byte: 0 or 255.
    value: u8,
}

/// What an update from the base would send.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeltaFacts {
    /// Sectors of 4096 bytes that differ.
    changed_sectors: u64,
    /// Sectors in all.
    sectors: u64,
    /// Bytes of the differing sectors.
    changed_bytes: u64,
    /// The same, compressed.
    compressed_bytes: u64,
}

/// Where the bytes go.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UseFacts {
    /// Code and data.
    content_bytes: u64,
    /// Segments that only move others to an MMU page.
    mmu_padding_bytes: u64,
    /// Headers, checksum, SHA-256.
    header_bytes: u64,
    /// Behind the image: filling, signatures.
    trailing_bytes: u64,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What the file is.
    kind: String,
    /// Its length.
    size_bytes: u64,
    /// Bytes after compression, as they go over the line.
    compressed_bytes: u64,
    /// Bits of information in a byte: near 8 is encrypted or compressed.
    entropy_bits: f64,
    /// Where an image's bytes go.
    image_use: Option<UseFacts>,
    /// The longest runs of 0x00 and 0xFF, 20 at most.
    runs: Vec<RunFacts>,
    /// Bytes in all such runs of 256 and more.
    run_bytes: u64,
    /// Bytes of readable text of 8 characters and more: log messages, asserts, paths.
    text_bytes: u64,
    /// Such texts that are source paths (asserts).
    source_path_bytes: u64,
    /// Compared with the base.
    delta: Option<DeltaFacts>,
    /// What could be done, with the options that matter.
    advice: Vec<String>,
    /// The smaller file, when one was asked for and possible.
    written: Option<Written>,
    /// Why no smaller file was written.
    not_written: Option<String>,
}

impl Tool for BinaryOptimize {
    const NAME: &'static str = "esp_binary_optimize";
    const TITLE: &'static str = "Optimise binary";
    const ABOUT: &'static str = "Find wasted space in a firmware file: MMU padding, 0xFF runs, compressibility, \
         strings, difference to an earlier version. Can write a smaller file; never changes signed or encrypted \
         ones.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let bytes = ctx.files.read_some(&input.binary_file)?;
        let base = input.base_file.as_deref().map(|path| ctx.files.read(path)).transpose()?;
        job.check()?;
        let mut out = measure(&bytes, base.as_deref());
        if let Some(path) = &input.output_file {
            match smaller(&bytes) {
                Ok(short) => out.written = Some(write(ctx, path, short, None)?),
                Err(reason) => out.not_written = Some(reason),
            }
        }
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let padding = out.image_use.as_ref().map_or(0, |used| used.mmu_padding_bytes + used.trailing_bytes);
        let text = format!(
            "{} bytes, {} compressed; {padding} bytes of padding, {} in runs, {} of text",
            out.size_bytes, out.compressed_bytes, out.run_bytes, out.text_bytes
        );
        match (&out.written, &out.not_written) {
            (Some(file), _) => format!("{text}\nwrote {} ({} bytes)", file.path, file.size_bytes),
            (None, Some(reason)) => format!("{text}\nnothing written: {reason}"),
            (None, None) => text,
        }
    }
}

fn measure(bytes: &[u8], base: Option<&[u8]>) -> Out {
    let parsed = image::parse(bytes).ok();
    let image_use = parsed.as_ref().map(|image| {
        let overhead = waste::overhead(image);
        let other = overhead.padding + overhead.headers + overhead.trailer;
        UseFacts {
            content_bytes: bytes.len().saturating_sub(other) as u64,
            mmu_padding_bytes: overhead.padding as u64,
            header_bytes: overhead.headers as u64,
            trailing_bytes: overhead.trailer as u64,
        }
    });
    let mut runs = waste::runs(bytes);
    let run_bytes = runs.iter().map(|run| run.len as u64).sum();
    runs.sort_by_key(|run| std::cmp::Reverse(run.len));
    let (mut text_bytes, mut source_path_bytes) = (0, 0);
    for text in waste::texts(bytes, 8) {
        text_bytes += text.text.len() as u64;
        if waste::interest(&text.text) == Some(waste::Interest::SourcePath) {
            source_path_bytes += text.text.len() as u64;
        }
    }
    let mut out = Out {
        kind: esp_ops::firmware::facts::kind_name(kind::recognise(bytes)),
        size_bytes: bytes.len() as u64,
        compressed_bytes: waste::compressed_len(bytes) as u64,
        entropy_bits: (kind::entropy(bytes) * 100.0).round() / 100.0,
        image_use,
        runs: runs
            .iter()
            .take(20)
            .map(|run| RunFacts { file_offset: run.offset as u64, size_bytes: run.len as u64, value: run.value })
            .collect(),
        run_bytes,
        text_bytes,
        source_path_bytes,
        delta: base.map(|base| delta(base, bytes)),
        advice: Vec::new(),
        written: None,
        not_written: None,
    };
    out.advice = advice(&out);
    out
}

fn delta(base: &[u8], new: &[u8]) -> DeltaFacts {
    let (changed, sectors) = waste::changed_sectors(base, new);
    let old = base.chunks(0x1000).map(Some).chain(std::iter::repeat(None));
    let bytes: Vec<u8> =
        new.chunks(0x1000).zip(old).filter(|(new, old)| *old != Some(*new)).flat_map(|(new, _)| new).copied().collect();
    DeltaFacts {
        changed_sectors: changed as u64,
        sectors: sectors as u64,
        changed_bytes: bytes.len() as u64,
        compressed_bytes: waste::compressed_len(&bytes) as u64,
    }
}

/// Options of ESP-IDF that fit what was measured.
fn advice(out: &Out) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(used) = &out.image_use {
        if used.mmu_padding_bytes > 0x4000 {
            advice.push(format!(
                "{} bytes only move segments to MMU pages: where the chip can have smaller pages, set \
                 CONFIG_MMU_PAGE_SIZE; more code in RAM before them costs nothing",
                used.mmu_padding_bytes
            ));
        }
        if used.trailing_bytes > 0x1000 {
            advice.push(format!("{} bytes stand behind the image: filling or signatures", used.trailing_bytes));
        }
    }
    if out.source_path_bytes > 0x400 {
        advice.push(format!(
            "{} bytes are source paths of asserts: CONFIG_COMPILER_OPTIMIZATION_ASSERTIONS_SILENT drops them",
            out.source_path_bytes
        ));
    }
    if out.text_bytes * 8 > out.size_bytes {
        advice.push(format!("{} bytes are text: a lower CONFIG_LOG_MAXIMUM_LEVEL drops log messages", out.text_bytes));
    }
    if out.image_use.is_some() {
        advice.push(String::from(
            "CONFIG_COMPILER_OPTIMIZATION_SIZE and CONFIG_NEWLIB_NANO_FORMAT save code; esp_size_analysis shows where it is",
        ));
    }
    advice
}

/// The file without filling behind its contents, or why it stays as it is.
fn smaller(bytes: &[u8]) -> Result<&[u8], String> {
    let keep = match (image::parse(bytes), kind::flash_layout(bytes)) {
        (_, Some(layout)) => {
            let parts = esp_ops::firmware::facts::flash_parts(&layout, bytes);
            if parts.iter().any(|(_, part)| esp_ops::firmware::common::is_signed(&part.data)) {
                return Err(String::from("it holds a signed image"));
            }
            let ends = parts.iter().map(|(_, part)| (part.end() - u64::from(layout.base())) as usize);
            ends.max().unwrap_or(0)
        }
        (Ok(image), None) => {
            if signature(&image, bytes).is_some() {
                return Err(String::from("it is signed"));
            }
            image.len()
        }
        (Err(_), None) => {
            return Err(String::from("it is neither an image nor a merged file; it may be encrypted"));
        }
    };
    waste::without_filling(bytes, keep).ok_or_else(|| String::from("there is no filling at its end to take off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock() -> &'static [u8] {
        let chip = esp_ops::firmware::common::chip_named("esp32c6").unwrap();
        let wanted = esp_link::bootloaders::Wanted { mode: image::FlashMode::Dio, crystal_mhz: None, revision: None };
        esp_link::bootloaders::StockBootloader::find(chip, wanted).unwrap().bytes
    }

    #[test]
    fn filling_goes_and_the_image_stays() {
        let mut padded = stock().to_vec();
        padded.resize(0x1_0000, 0xff);
        let short = smaller(&padded).unwrap();
        assert_eq!(short, stock());
        assert!(smaller(stock()).is_err());
        let mut signed = stock().to_vec();
        signed.extend([0; 4]);
        signed.extend((0..64u8).map(|byte| byte | 0x40));
        assert_eq!(smaller(&signed), Err("it is signed".to_owned()));
        assert!(smaller(&[0x5a; 64]).is_err());
    }

    #[test]
    fn an_update_by_sectors_is_measured() {
        let mut new = stock().to_vec();
        new[0x2001] ^= 1;
        let out = measure(&new, Some(stock()));
        let delta = out.delta.unwrap();
        assert_eq!((delta.changed_sectors, delta.changed_bytes), (1, 0x1000));
        assert!(out.compressed_bytes < out.size_bytes);
    }
}
