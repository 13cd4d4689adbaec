//! A large image without its data: what tells what it is. Of a file of any size it holds a few kilobytes.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::AppDesc;
use super::parse::{Image, ParseError, View, detect_in, parse_view};

/// Bytes kept of each segment: the longest description that begins one.
const KEPT: usize = AppDesc::LEN;

/// Headers, the first bytes of each segment, and the checksum of what may be an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    len: usize,
    pieces: BTreeMap<usize, Vec<u8>>,
}

impl Outline {
    /// Collects what reading an image looks at. `read` fills a buffer from an offset; what it asks for lies inside of `len`.
    pub fn read<E>(len: usize, mut read: impl FnMut(usize, &mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut outline = Self { len, pieces: BTreeMap::new() };
        while let Some((at, count)) = outline.lacks() {
            let mut bytes = vec![0; count];
            read(at, &mut bytes)?;
            outline.pieces.insert(at, bytes);
        }
        Ok(outline)
    }

    /// The image; its segments' data are their first bytes, and it has neither digest nor trailer.
    pub fn image(&self) -> Result<Image<'_>, ParseError> {
        parse_view(detect_in(self)?, self, &[])
    }

    /// What reading the image asks for first that is not there.
    fn lacks(&self) -> Option<(usize, usize)> {
        let probe = Probe { outline: self, missing: Cell::new(None) };
        let _ = detect_in(&probe).and_then(|chip| parse_view(chip, &probe, &[]));
        probe.missing.get()
    }

    fn held(&self, at: usize, len: usize) -> Option<&[u8]> {
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        piece.get(at - start..)?.get(..len)
    }
}

impl View for Outline {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.held(at, len)
    }

    fn begin(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.held(at, len.min(KEPT)).filter(|_| at.checked_add(len).is_some_and(|end| end <= self.len))
    }
}

/// Notes what is asked for and not there.
struct Probe<'a> {
    outline: &'a Outline,
    missing: Cell<Option<(usize, usize)>>,
}

impl Probe<'_> {
    fn note<'b>(&self, found: Option<&'b [u8]>, at: usize, len: usize, end: usize) -> Option<&'b [u8]> {
        if found.is_none() && len > 0 && end <= self.outline.len && self.missing.get().is_none() {
            self.missing.set(Some((at, len)));
        }
        found
    }
}

impl View for Probe<'_> {
    fn len(&self) -> usize {
        self.outline.len
    }

    fn get(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.note(self.outline.get(at, len), at, len, at.checked_add(len)?)
    }

    fn begin(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.note(self.outline.begin(at, len), at, len.min(KEPT), at.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, tests::samples};
    use super::*;

    fn outline_of(bytes: &[u8]) -> Outline {
        let read = |at: usize, buf: &mut [u8]| {
            buf.copy_from_slice(&bytes[at..at + buf.len()]);
            Ok::<(), ()>(())
        };
        Outline::read(bytes.len(), read).unwrap()
    }

    #[test]
    fn an_outline_says_what_the_whole_image_says() {
        for bytes in samples() {
            let outline = outline_of(&bytes);
            let (whole, short) = (parse(&bytes).unwrap(), outline.image().unwrap());
            assert_eq!((whole.chip.id, whole.layout, &whole.header), (short.chip.id, short.layout, &short.header));
            assert_eq!((whole.extended.as_ref(), whole.checksum), (short.extended.as_ref(), short.checksum));
            assert_eq!((whole.data_len, whole.len()), (short.data_len, short.len()));
            assert_eq!((whole.app_desc(), whole.boot_desc()), (short.app_desc(), short.boot_desc()));
            let held: usize = outline.pieces.values().map(Vec::len).sum();
            assert!(held < 8192, "{held} bytes are held");
        }
    }

    #[test]
    fn what_is_no_image_is_refused_for_the_same_reason() {
        let bytes = samples().remove(0);
        for end in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
            let cut = &bytes[..end];
            assert_eq!(parse(cut).map(|_| ()).err(), outline_of(cut).image().map(|_| ()).err(), "cut at {end}");
        }
    }

    #[test]
    fn damaged_headers_neither_panic_nor_grow() {
        let mut seed = 1u64;
        let bytes = samples().remove(0);
        for _ in 0..10_000 {
            let mut damaged = bytes.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % damaged.len().min(400);
                damaged[at] = (seed >> 24) as u8;
            }
            let outline = outline_of(&damaged);
            assert_eq!(parse(&damaged).map(|_| ()).err(), outline.image().map(|_| ()).err());
            assert!(outline.pieces.values().map(Vec::len).sum::<usize>() <= 0x2_0000);
        }
    }
}
