//! A picture of a build: areas are bytes; memories hold archives, archives hold objects.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::{Sizes, short_name};

mod font;

/// A node of the tree that is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What is written on it.
    pub label: String,
    /// Its bytes; for inner nodes the sum of the children's.
    pub bytes: u64,
    /// Colour group.
    pub group: usize,
    /// Parts, the largest first.
    pub children: Vec<Node>,
}

/// A placed rectangle in pixels.
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

/// A rectangle that is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    /// Where.
    pub rect: Rect,
    /// What is written on it.
    pub label: String,
    /// Its bytes.
    pub bytes: u64,
    /// Colour.
    pub color: [u8; 3],
    /// It frames others.
    pub frame: bool,
}

/// Height of a frame's title in pixels.
const TITLE: f64 = 14.0;

/// The tree of a build: memory, archive, object.
pub fn tree(sizes: &Sizes) -> Node {
    let mut root = Node { label: sizes.chip.clone(), bytes: 0, group: 0, children: Vec::new() };
    for (group, (name, memory)) in sizes.memory.iter().enumerate() {
        let mut of_memory = std::collections::BTreeMap::<&str, std::collections::BTreeMap<&str, u64>>::new();
        for archive in memory.sections.values().flat_map(|section| &section.archives) {
            for (object, bytes) in &archive.1.objects {
                *of_memory.entry(archive.0).or_default().entry(object).or_insert(0) += bytes.bytes;
            }
        }
        let leaf = |(name, bytes): (&str, u64)| Node { label: short_name(name).into(), bytes, group, children: vec![] };
        let archives = of_memory.into_iter().map(|(archive, objects)| {
            inner(short_name(archive).to_owned(), group, objects.into_iter().map(leaf).collect())
        });
        root.children.push(inner(name.clone(), group, archives.collect()));
    }
    inner(root.label, 0, root.children)
}

fn inner(label: String, group: usize, children: Vec<Node>) -> Node {
    Node::inner(label, group, children)
}

/// Colour group of what is not in use.
pub const UNUSED: usize = 8;

impl Node {
    /// A node of parts: sorts them, leaves the empty ones out and adds up their bytes.
    pub fn inner(label: String, group: usize, mut children: Vec<Self>) -> Self {
        children.retain(|child| child.bytes > 0);
        children.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.label.cmp(&b.label)));
        Self { label, bytes: children.iter().map(|child| child.bytes).sum(), group, children }
    }

    /// A node without parts.
    pub fn leaf(label: impl Into<String>, group: usize, bytes: u64) -> Self {
        Self { label: label.into(), bytes, group, children: Vec::new() }
    }

    /// The tree as SVG; each rectangle tells its name and bytes when pointed at.
    pub fn svg(&self, width: u32, height: u32) -> String {
        svg_of(self, width, height)
    }

    /// The tree as PNG with 8 bits for each of red, green and blue.
    pub fn png(&self, width: u32, height: u32) -> Vec<u8> {
        png_of(self, width, height)
    }
}

/// Places the tree on a canvas: squarified (Bruls, Huizing, van Wijk 2000).
pub fn layout(root: &Node, width: u32, height: u32) -> Vec<Tile> {
    let mut tiles = Vec::new();
    place(root, Rect { x: 0.0, y: 0.0, w: f64::from(width), h: f64::from(height) }, 0, &mut tiles);
    tiles
}

fn place(node: &Node, rect: Rect, depth: usize, tiles: &mut Vec<Tile>) {
    if rect.w < 1.0 || rect.h < 1.0 {
        return;
    }
    let frame = !node.children.is_empty();
    let (label, bytes) = (node.label.clone(), node.bytes);
    tiles.push(Tile { rect, label, bytes, color: color(node.group, depth), frame });
    let mut rest = Rect { x: rect.x + 1.0, y: rect.y + 1.0, w: rect.w - 2.0, h: rect.h - 2.0 };
    if frame && rest.h > 2.0 * TITLE && rest.w > 3.0 * TITLE {
        rest = Rect { y: rest.y + TITLE, h: rest.h - TITLE, ..rest };
    }
    let mut left: u64 = node.bytes;
    let mut children = node.children.as_slice();
    while !children.is_empty() && left > 0 && rest.w > 0.0 && rest.h > 0.0 {
        let count = row(children, rest, left);
        let (in_row, others) = children.split_at(count.min(children.len()));
        let sum: u64 = in_row.iter().map(|child| child.bytes).sum();
        let share = sum as f64 / left as f64;
        let wide = rest.w >= rest.h;
        let mut strip = if wide { Rect { w: rest.w * share, ..rest } } else { Rect { h: rest.h * share, ..rest } };
        let (long, thick) = if wide { (strip.h, strip.w) } else { (strip.w, strip.h) };
        for child in in_row {
            let part = long * child.bytes as f64 / sum.max(1) as f64;
            let own = if wide { Rect { h: part, ..strip } } else { Rect { w: part, ..strip } };
            place(child, own, depth + 1, tiles);
            if wide { strip.y += part } else { strip.x += part }
        }
        if wide {
            (rest.x, rest.w) = (rest.x + thick, rest.w - thick);
        } else {
            (rest.y, rest.h) = (rest.y + thick, rest.h - thick);
        }
        left -= sum;
        children = others;
    }
}

/// How many children make the next row: as long as the worst side ratio gets better.
fn row(children: &[Node], rest: Rect, left: u64) -> usize {
    let scale = rest.w * rest.h / left as f64;
    let side = rest.w.min(rest.h);
    let (mut sum, mut best, mut count) = (0.0, f64::INFINITY, 0);
    let largest = children.first().map_or(0.0, |child| child.bytes as f64 * scale);
    for child in children {
        let area = child.bytes as f64 * scale;
        sum += area;
        let square = side * side;
        let worst = (square * largest / (sum * sum)).max(sum * sum / (square * area));
        if worst > best {
            break;
        }
        (best, count) = (worst, count + 1);
    }
    count.max(1)
}

/// A colour for each group, lighter inside.
fn color(group: usize, depth: usize) -> [u8; 3] {
    const BASE: [[u8; 3]; UNUSED + 1] = [
        [66, 110, 180],
        [60, 150, 110],
        [190, 120, 50],
        [160, 80, 130],
        [110, 120, 60],
        [80, 130, 150],
        [170, 80, 70],
        [120, 100, 170],
        [205, 205, 205],
    ];
    let base = BASE[group % BASE.len()];
    let lighten = |part: u8| {
        let gap = 255 - u16::from(part);
        part.saturating_add((gap * depth.min(3) as u16 / 6) as u8)
    };
    if depth == 0 { [245, 245, 245] } else { base.map(lighten) }
}

fn text_of(tile: &Tile) -> String {
    format!("{} {}", tile.label, tile.bytes)
}

/// The picture as SVG; each rectangle tells its name and bytes when pointed at.
pub fn svg(sizes: &Sizes, width: u32, height: u32) -> String {
    svg_of(&tree(sizes), width, height)
}

fn svg_of(root: &Node, width: u32, height: u32) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n"
    );
    for tile in layout(root, width, height) {
        let Rect { x, y, w, h } = tile.rect;
        let [r, g, b] = tile.color;
        let name = escape(&tile.label);
        let _ = write!(
            out,
            "<g><title>{name}: {} bytes</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" \
             fill=\"#{r:02x}{g:02x}{b:02x}\" stroke=\"#ffffff\" stroke-width=\"0.5\"/>",
            tile.bytes
        );
        if w > 40.0 && h > TITLE {
            let room = (w / 6.5) as usize;
            let text: String = text_of(&tile).chars().take(room).collect();
            let _ = write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 3.0, y + 11.0, escape(&text));
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The picture as PNG with 8 bits for each of red, green and blue.
pub fn png(sizes: &Sizes, width: u32, height: u32) -> Vec<u8> {
    png_of(&tree(sizes), width, height)
}

fn png_of(root: &Node, width: u32, height: u32) -> Vec<u8> {
    let (width, height) = (width.clamp(1, 8192), height.clamp(1, 8192));
    let mut canvas = Canvas { width: width as usize, pixels: vec![255; (width * height * 3) as usize] };
    for tile in layout(root, width, height) {
        canvas.tile(&tile);
    }
    encode_png(&canvas.pixels, width, height)
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

    fn tile(&mut self, tile: &Tile) {
        let Rect { x, y, w, h } = tile.rect;
        let (x0, y0, x1, y1) = (x as usize, y as usize, (x + w) as usize, (y + h) as usize);
        for y in y0..y1 {
            for x in x0..x1 {
                let edge = x == x0 || y == y0;
                self.set(x, y, if edge { [255, 255, 255] } else { tile.color });
            }
        }
        if x1.saturating_sub(x0) < 24 || y1.saturating_sub(y0) < 12 {
            return;
        }
        let mut at = x0 + 3;
        for glyph in text_of(tile).chars().map(font::glyph) {
            if at + font::ADVANCE > x1 {
                break;
            }
            for (dx, dy) in font::pixels(glyph) {
                self.set(at + dx, y0 + 3 + dy, [20, 20, 20]);
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
