//! Pictures: a list of shapes, drawn as SVG (pointing at a shape shows its title) or PNG.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

pub mod flash_map;
mod font;

/// Pixels from one character to the next, at most: the font of the PNG is wider than that of the SVG.
pub const ADVANCE: f64 = font::ADVANCE as f64;

/// Colour of text.
const INK: [u8; 3] = [20, 20, 20];

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A filled rectangle with a thin light edge.
    Area {
        /// Where.
        rect: Rect,
        /// Red, green and blue.
        color: [u8; 3],
        /// What pointing at it shows; empty for nothing.
        title: String,
    },
    /// A line of text.
    Text {
        /// Its left end.
        x: f64,
        /// Its baseline.
        y: f64,
        /// What it says.
        text: String,
    },
}

/// Shapes on a white ground, in the order of drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What is drawn, the first at the bottom.
    pub shapes: Vec<Shape>,
}

/// The text fits into this width.
pub fn fits(text: &str, width: f64) -> bool {
    text.chars().count() as f64 * ADVANCE <= width
}

/// Bytes for people: `512 B`, `221 KB`, `1.9 MB`.
pub fn human(bytes: u64) -> String {
    const KB: u64 = 1024;
    const MB: u64 = 1024 * KB;
    match bytes {
        0..KB => format!("{bytes} B"),
        KB..MB => format!("{} KB", (bytes + KB / 2) / KB),
        _ if bytes.is_multiple_of(MB) => format!("{} MB", bytes / MB),
        _ => format!("{:.1} MB", bytes as f64 / MB as f64),
    }
}

impl Picture {
    /// As SVG, which needs nothing from elsewhere.
    pub fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        for shape in &self.shapes {
            let _ = match shape {
                Shape::Area { rect: Rect { x, y, w, h }, color: [r, g, b], title } => {
                    let title =
                        if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
                    writeln!(
                        out,
                        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"#{r:02x}{g:02x}{b:02x}\" \
                         stroke=\"#ffffff\" stroke-width=\"0.5\">{title}</rect>"
                    )
                }
                Shape::Text { x, y, text } => {
                    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"#141414\">{}</text>", escape(text))
                }
            };
        }
        out + "</svg>\n"
    }

    /// As PNG with 8 bits for each of red, green and blue.
    pub fn png(&self) -> Vec<u8> {
        let (width, height) = (self.width.clamp(1, 8192), self.height.clamp(1, 8192));
        let mut canvas = Canvas { width: width as usize, pixels: vec![255; (width * height * 3) as usize] };
        for shape in &self.shapes {
            match shape {
                Shape::Area { rect, color, .. } => canvas.area(rect, *color),
                Shape::Text { x, y, text } => canvas.text(*x, *y, text),
            }
        }
        encode_png(&canvas.pixels, width, height)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

struct Canvas {
    width: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x >= self.width {
            return;
        }
        let at = (y * self.width + x) * 3;
        if let Some(pixel) = self.pixels.get_mut(at..at + 3) {
            pixel.copy_from_slice(&color);
        }
    }

    fn area(&mut self, rect: &Rect, color: [u8; 3]) {
        let Rect { x, y, w, h } = *rect;
        let (x0, y0, x1, y1) = (x as usize, y as usize, (x + w) as usize, (y + h) as usize);
        let thin = x1.saturating_sub(x0) < 3 || y1.saturating_sub(y0) < 3;
        for y in y0..y1.max(y0 + 1) {
            for x in x0..x1.max(x0 + 1) {
                let edge = !thin && (x == x0 || y == y0);
                self.set(x, y, if edge { [255, 255, 255] } else { color });
            }
        }
    }

    fn text(&mut self, x: f64, y: f64, text: &str) {
        let (mut at, top) = (x as usize, (y as usize).saturating_sub(font::HEIGHT));
        for glyph in text.chars().map(font::glyph) {
            for (dx, dy) in font::pixels(glyph) {
                self.set(at + dx, top + dy, INK);
            }
            at += font::ADVANCE;
        }
    }
}

fn encode_png(pixels: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut raw = Vec::with_capacity(pixels.len() + height as usize);
    for row in pixels.chunks(width as usize * 3) {
        raw.push(0); // no filter
        raw.extend_from_slice(row);
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let packed = encoder.write_all(&raw).and_then(|()| encoder.finish()).unwrap_or_default();

    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend([8, 2, 0, 0, 0]); // 8 bits, RGB
    for (kind, data) in [(b"IHDR", head.as_slice()), (b"IDAT", &packed), (b"IEND", &[])] {
        out.extend((data.len() as u32).to_be_bytes());
        let body = [kind.as_slice(), data].concat();
        out.extend_from_slice(&body);
        out.extend(crc32fast::hash(&body).to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_and_texts_escaped() {
        let shown = [0, 512, 1024, 226_000, 1 << 20, 2_000_000, 4 << 20].map(human);
        assert_eq!(shown, ["0 B", "512 B", "1 KB", "221 KB", "1 MB", "1.9 MB", "4 MB"]);
        let text = Shape::Text { x: 1.0, y: 12.0, text: "<script>".into() };
        let picture = Picture { width: 90, height: 20, shapes: vec![text] };
        assert!(!picture.svg().contains("<script>"));
        assert!(picture.png().starts_with(b"\x89PNG"));
    }

    #[test]
    fn png_shows_text_and_areas() {
        let rect = Rect { x: 0.0, y: 0.0, w: 4.0, h: 4.0 };
        let mut canvas = Canvas { width: 16, pixels: vec![255; 16 * 16 * 3] };
        canvas.area(&rect, [9, 9, 9]);
        canvas.text(8.0, 12.0, "1");
        let at = |x: usize, y: usize| canvas.pixels[(y * 16 + x) * 3];
        assert_eq!((at(2, 2), at(6, 6)), (9, 255));
        assert!((8..16).any(|x| (0..12).any(|y| at(x, y) == INK[0])));
    }
}
