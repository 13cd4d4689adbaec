//! A picture of a build: areas are bytes; memories hold archives, archives hold objects.

use super::{Sizes, short_name};
pub use crate::picture::Rect;
use crate::picture::{Picture, Shape, fits, human};

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
const TITLE: f64 = 15.0;

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

    /// The tree as a picture; each rectangle tells its name and bytes when pointed at.
    pub fn picture(&self, width: u32, height: u32) -> Picture {
        let tiles = layout(self, width, height);
        Picture { width, height, shapes: tiles.iter().flat_map(shapes).collect() }
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

/// A rectangle and what is written on it: name and size where both fit, the name alone where it fits, else nothing. A
/// number is never cut.
fn shapes(tile: &Tile) -> Vec<Shape> {
    let Rect { x, y, w, h } = tile.rect;
    let title = format!("{}: {} bytes", tile.label, tile.bytes);
    let mut shapes = vec![Shape::Area { rect: tile.rect, color: tile.color, title }];
    let text = label(tile, w - 6.0).filter(|_| h >= TITLE);
    shapes.extend(text.map(|text| Shape::Text { x: x + 3.0, y: y + 12.0, text }));
    shapes
}

fn label(tile: &Tile, width: f64) -> Option<String> {
    let whole = format!("{} {}", tile.label, human(tile.bytes));
    [whole, tile.label.clone()].into_iter().find(|text| fits(text, width))
}

/// The picture as SVG; each rectangle tells its name and bytes when pointed at.
pub fn svg(sizes: &Sizes, width: u32, height: u32) -> String {
    tree(sizes).picture(width, height).svg()
}

/// The picture as PNG with 8 bits for each of red, green and blue.
pub fn png(sizes: &Sizes, width: u32, height: u32) -> Vec<u8> {
    tree(sizes).picture(width, height).png()
}
