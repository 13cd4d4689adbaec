//! What a file is that is given as firmware, as far as it decides where in flash it may go.

use super::kind::{self, FlashLayout};
use super::{Header, Image, ParseError, detect};
use crate::chip::{Chip, ImageFormat};

/// Content of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// No firmware at all: a web page, an archive, a pointer.
    Foreign(Foreign),
    /// A linked program, which is no image yet.
    Elf,
    /// Bootloader, partition table and more in one file.
    Merged {
        /// The chip it is for.
        chip: &'static Chip,
        /// The flash address of its first byte.
        base: u32,
        /// Where in the file its first app begins.
        app: Option<u32>,
    },
    /// An app: parts of it are mapped from flash.
    App(&'static Chip),
    /// A second-stage bootloader.
    Bootloader(&'static Chip),
    /// Only segments for RAM: a program for RAM, or a bootloader that does not say so.
    Ram(&'static Chip),
    /// An image of which the end is missing.
    Cut {
        /// The chip it is for.
        chip: &'static Chip,
        /// What is missing.
        why: ParseError,
    },
    /// Anything else: data.
    Other,
}

impl Content {
    /// The chip that it names.
    pub fn chip(&self) -> Option<&'static Chip> {
        match self {
            Self::Merged { chip, .. }
            | Self::App(chip)
            | Self::Bootloader(chip)
            | Self::Ram(chip)
            | Self::Cut { chip, .. } => Some(chip),
            Self::Foreign(_) | Self::Elf | Self::Other => None,
        }
    }
}

/// What is downloaded in place of firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// HTML.
    WebPage,
    /// XML.
    Xml,
    /// JSON: a manifest, or a server's error.
    Json,
    /// Zip.
    Zip,
    /// Gzip.
    Gzip,
    /// 7z, xz, bzip2, rar, tar, zstd or lz4.
    Archive,
    /// A PDF or a picture.
    Document,
    /// A program for a computer.
    Program,
    /// Readable text: source code, a server's short answer.
    Text,
    /// What Git LFS puts in place of a file.
    LfsPointer,
}

impl Foreign {
    /// In words, with an article.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebPage => "a web page (HTML)",
            Self::Xml => "an XML file",
            Self::Json => "a JSON text",
            Self::Zip => "a zip archive",
            Self::Gzip => "a gzip file",
            Self::Archive => "an archive",
            Self::Document => "a document or picture",
            Self::Program => "a program for a computer, not for a chip",
            Self::Text => "plain text",
            Self::LfsPointer => "a Git LFS pointer, not the file itself",
        }
    }

    /// Nobody wants this in flash, not even as data.
    pub fn is_never_meant(self) -> bool {
        self == Self::LfsPointer
    }

    /// How to come to the firmware.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::WebPage | Self::Xml | Self::Json | Self::Document | Self::Text => {
                "download the firmware file itself: the server answered with this instead"
            }
            Self::Gzip => {
                "unpack it (gzip -d) and give the .bin inside: packed files are for updates over the air, a chip does not start one"
            }
            Self::Zip | Self::Archive => "unpack it and give the firmware inside of it",
            Self::Program => "give the firmware file of the build: this is an installer or a tool",
            Self::LfsPointer => "fetch the file with `git lfs pull`, or download it from the release page",
        }
    }

    /// Tells it by the first bytes.
    pub fn of(head: &[u8]) -> Option<Self> {
        const ARCHIVES: [&[u8]; 6] =
            [b"7z\xbc\xaf\x27\x1c", b"\xfd7zXZ\0", b"BZh", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"];
        const DOCUMENTS: [&[u8]; 4] = [b"%PDF-", b"\x89PNG\r\n", b"GIF8", b"\xff\xd8\xff"];
        // Mach-O of either width, PE.
        const PROGRAMS: [&[u8]; 3] = [b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ\x90\0"];
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return Some(Self::Zip);
        }
        if head.starts_with(b"\x1f\x8b\x08") {
            return Some(Self::Gzip);
        }
        let begins = |magics: &[&[u8]]| magics.iter().any(|magic| head.starts_with(magic));
        if begins(&ARCHIVES) || head.get(257..262) == Some(b"ustar") {
            return Some(Self::Archive);
        }
        if begins(&DOCUMENTS) {
            return Some(Self::Document);
        }
        if begins(&PROGRAMS) {
            return Some(Self::Program);
        }
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let text = text.get(..text.len().min(1024)).unwrap_or_default().to_ascii_lowercase();
        if text.starts_with(b"version https://git-lfs") {
            return Some(Self::LfsPointer);
        }
        let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
        if text.starts_with(b"<!doctype html")
            || text.starts_with(b"<html")
            || (text.starts_with(b"<") && has(b"<html"))
        {
            return Some(Self::WebPage);
        }
        if text.starts_with(b"<?xml") {
            return Some(Self::Xml);
        }
        let json = text.starts_with(b"{") && has(b"\":");
        let readable = is_text(&text);
        if json && readable {
            return Some(Self::Json);
        }
        (readable && text.len() >= LEAST_TEXT).then_some(Self::Text)
    }
}

/// Bytes from which on text is told from data that happens to be readable.
const LEAST_TEXT: usize = 10;

/// Nothing but printable characters; UTF-8 may be cut at the end.
fn is_text(bytes: &[u8]) -> bool {
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    whole && bytes.iter().all(|byte| (*byte >= 0x20 && *byte != 0x7f) || byte.is_ascii_whitespace())
}

/// What the ESP-IDF's bootloaders print, also those that carry no description.
const BOOTLOADER_TEXT: &[u8] = b"2nd stage bootloader";

/// Tells what a file is by its first bytes and what reading it as an image came to.
pub fn of(head: &[u8], image: Result<&Image<'_>, &ParseError>) -> Content {
    if let Some(foreign) = Foreign::of(head) {
        return Content::Foreign(foreign);
    }
    if head.starts_with(b"\x7fELF") {
        return Content::Elf;
    }
    if let Some(layout) = kind::flash_layout(head) {
        return merged(&layout, head);
    }
    match image {
        Ok(image) => of_image(head, image),
        Err(why) => cut(head, why).unwrap_or(Content::Other),
    }
}

fn merged(layout: &FlashLayout, head: &[u8]) -> Content {
    let table = head.get(layout.table..).unwrap_or_default();
    let table = table.get(..crate::partition::TABLE_LENGTH).unwrap_or(table);
    let table = crate::partition::Table::from_binary(table, true).ok();
    let app = table
        .and_then(|table| table.partitions.iter().find(|one| one.kind == crate::partition::APP).map(|one| one.offset));
    Content::Merged {
        chip: layout.chip,
        base: layout.base(),
        app: app.map(|offset| offset - layout.base().min(offset)),
    }
}

fn of_image(head: &[u8], image: &Image<'_>) -> Content {
    let chip = image.chip;
    if chip.image.format != ImageFormat::Esp32 {
        return Content::Other;
    }
    let mapped = image.segments.iter().any(|segment| chip.image.is_flash(segment.addr));
    let says = || head.windows(BOOTLOADER_TEXT.len()).any(|text| text == BOOTLOADER_TEXT);
    if mapped {
        Content::App(chip)
    } else if image.boot_desc().is_some() || says() {
        Content::Bootloader(chip)
    } else {
        Content::Ram(chip)
    }
}

/// The header names a chip and a possible number of segments, and the file ends before they do. An ESP8266's header
/// names nothing, so that any bytes may look like one.
fn cut(head: &[u8], why: &ParseError) -> Option<Content> {
    let chip = detect(head).ok().filter(|chip| chip.image.format == ImageFormat::Esp32)?;
    let header = Header::decode(head)?;
    let possible = (1..=chip.image.max_segments).contains(&header.segments) && header.mode().is_some();
    let short = match why {
        // No chip has segments as long as that: these bytes only look like a header, unless what follows it was right.
        ParseError::SegmentData { len, index, .. } => *len < 0x100_0000 || *index > 0,
        ParseError::SegmentHeader(_) | ParseError::Checksum => true,
        _ => false,
    };
    (possible && short).then(|| Content::Cut { chip, why: why.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::parse;
    use crate::image::tests::samples;

    fn told(bytes: &[u8]) -> Content {
        let image = parse(bytes);
        of(bytes, image.as_ref())
    }

    #[test]
    fn what_is_downloaded_by_mistake_is_named() {
        for (bytes, wanted) in [
            (&b"\n<!DOCTYPE html><html>"[..], Foreign::WebPage),
            (b"\xef\xbb\xbf<HTML lang=en>", Foreign::WebPage),
            (b"<!-- x -->\n<html>", Foreign::WebPage),
            (b"<?xml version=\"1.0\"?>", Foreign::Xml),
            (b"{\"message\": \"Not Found\"}", Foreign::Json),
            (b"PK\x03\x04rest", Foreign::Zip),
            (b"\x1f\x8b\x08\0", Foreign::Gzip),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", Foreign::LfsPointer),
            (b"404: Not Found", Foreign::Text),
            (b"#include <Arduino.h>\nvoid setup() {}\n", Foreign::Text),
            (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", Foreign::Document),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Foreign::Document),
            (b"MZ\x90\0\x03\0\0\0", Foreign::Program),
            (b"\x28\xb5\x2f\xfd\x24", Foreign::Archive),
            (&[&[b'a'; 257][..], b"ustar\x0000"].concat(), Foreign::Archive),
        ] {
            assert!(matches!(told(bytes), Content::Foreign(found) if found == wanted), "{wanted:?}");
        }
        for bytes in [&b"hello"[..], b"{", b"<", &[0xff; 64], &[0xe9; 64], b""] {
            assert!(matches!(told(bytes), Content::Other), "{bytes:?}");
        }
    }

    #[test]
    fn an_image_whose_line_ends_were_changed_is_no_data() {
        let of_image = |bytes: &&Vec<u8>| {
            parse(bytes).is_ok_and(|image| image.layout == super::super::Layout::Extended && !image.segments.is_empty())
        };
        let samples = samples();
        let sample = samples.iter().find(of_image).expect("an image");
        let mut bytes = sample[..24].to_vec();
        bytes[1] = 2;
        for (address, data) in [(0x3ffb_0000u32, [b'\n'; 64]), (0x4008_0000, [7; 64])] {
            bytes.extend(address.to_le_bytes());
            bytes.extend(64u32.to_le_bytes());
            bytes.extend(data);
        }
        assert!(matches!(told(&bytes), Content::Cut { .. }), "its checksum is missing");
        // Three line ends more move the second segment's header by three bytes.
        let at = 24 + 8;
        let mangled = [&bytes[..at], b"\r\r\r", &bytes[at..]].concat();
        assert!(matches!(parse(&mangled), Err(ParseError::SegmentData { index: 1, len: 0x100_0000.., .. })));
        assert!(matches!(told(&mangled), Content::Cut { .. }));
    }

    #[test]
    fn a_cut_image_is_told_from_data() {
        for bytes in samples() {
            let whole = parse(&bytes).expect("readable");
            if whole.layout != super::super::Layout::Extended {
                continue;
            }
            let cut = bytes.get(..whole.data_len - 20).unwrap_or_default();
            assert!(matches!(told(cut), Content::Cut { .. }), "{:?}", told(cut));
            assert!(!matches!(told(&bytes), Content::Cut { .. } | Content::Other));
        }
    }
}
